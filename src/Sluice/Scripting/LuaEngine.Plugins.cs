using System.Text;
using System.Text.Json.Nodes;
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
    public string? CheckPlugin(string name, JsonObject configuration) => Call("plugin_check", stack =>
    {
        stack.PushUtf8(name);
        stack.Push(0.0);
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
                    lane.Call("destroy", context, static (_, _) => 0, static _ => null);
                }
                lane.Retire();
                Volatile.Write(ref _lanes[i], null);
            }
        }
    }

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
