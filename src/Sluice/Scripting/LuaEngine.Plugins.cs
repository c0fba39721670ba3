using System.Text;
using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging;
using Sluice.Model.Json;

namespace Sluice.Scripting;

/// <summary>Custom plugins: Lua files <c>apisix/plugins/NAME.lua</c>.</summary>
public sealed partial class LuaEngine
{
    /// <summary>Whether this can be the name of a file of its own.</summary>
    public static bool IsPluginName(string name) => name.Length > 0 && name.All(static c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_');

    /// <summary>Whether there is such a file, and LuaJIT to run it.</summary>
    public bool HasPlugin(string name) => Missing is null && LuaHost.FilesOf(Options, $"apisix.plugins.{name}").Any(File.Exists);

    /// <summary>What a plugin says of itself (priority, version, schemas, phases), or why it cannot be loaded.</summary>
    public (JsonObject? Facts, string? Error) LoadPlugin(string name)
    {
        // in a piece of its own: if it has to be stopped, the new one still begins
        LogStopped(Call("destroy", stack =>
        {
            stack.PushUtf8(name);
            return 1;
        }, static _ => null));
        JsonObject? facts = null;
        var error = Call("plugin", stack =>
        {
            stack.PushUtf8(name);
            return 1;
        }, stack =>
        {
            if (stack.IsNil(1))
            {
                return stack.Utf8(2);
            }
            facts = CjsonReader.Parse(stack.Bytes(1)) as JsonObject;
            return null;
        });
        return (facts, error);
    }

    /// <summary>What the plugin's <c>check_schema</c> has against a configuration.</summary>
    /// <param name="part">0: a route's, otherwise APISIX's <c>TYPE_CONSUMER</c> or <c>TYPE_METADATA</c>.</param>
    public string? CheckPlugin(string name, int part, JsonObject configuration) => Call("plugin_check", stack =>
    {
        stack.PushUtf8(name);
        stack.Push((double)part);
        stack.Push(Encoding.UTF8.GetBytes(configuration.ToJsonString()).AsSpan());
        return 3;
    }, static stack => stack.IsNil(1) ? null : stack.Utf8(1));

    /// <summary>Fresh states from here on, with every file read anew; requests that are under way end in the old ones.</summary>
    public void Renew()
    {
        lock (_making)
        {
            for (var i = 0; i < _lanes.Length; i++)
            {
                if (_lanes[i] is not { } lane)
                {
                    continue;
                }
                using (var context = new LuaContext(lane, null))
                using (lane.Enter())
                {
                    LogStopped(lane.Call("destroy", context, static (_, _) => 0, static _ => null));
                }
                lane.Retire();
                Volatile.Write(ref _lanes[i], null);
            }
        }
    }

    void LogStopped(string? error)
    {
        if (error is not null)
        {
            LogDestroy(Log, error);
        }
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "destroy of a Lua plugin: {Error}")]
    static partial void LogDestroy(ILogger logger, string error);

    string? Call(string entry, Func<LuaStack, int> push, Func<LuaStack, string?> read)
    {
        var lane = At(0);
        using var context = new LuaContext(lane, null);
        using (lane.Enter())
        {
            return lane.Call(entry, context, (stack, _) => push(stack), read);
        }
    }
}
