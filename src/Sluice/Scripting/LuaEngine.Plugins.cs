using System.Collections.Concurrent;
using System.Text;
using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging;
using Sluice.Model.Json;
using Sluice.Scripting.Api;

namespace Sluice.Scripting;

/// <summary>Custom plugins: Lua files <c>apisix/plugins/NAME.lua</c>.</summary>
internal sealed partial class LuaEngine
{
    /// <summary>Whether this can be the name of a file of its own.</summary>
    public static bool IsPluginName(string name) =>
        name.Length > 0 && name.All(static c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_');

    /// <summary>Whether there is such a file, and LuaJIT to run it.</summary>
    public bool HasPlugin(string name) => Missing is null && LoaderApi.FilesOf(Options, $"apisix.plugins.{name}").Any(File.Exists);

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
    /// <param name="part">0: a route's, otherwise APISIX's <c>TYPE_CONSUMER</c> or <c>TYPE_METADATA</c>.</param>
    public string? CheckPlugin(string name, int part, JsonObject configuration) => Call("plugin_check", stack =>
    {
        stack.PushUtf8(name);
        stack.Push((double)part);
        stack.Push(Encoding.UTF8.GetBytes(configuration.ToJsonString()).AsSpan());
        return 3;
    }, static stack => stack.IsNil(1) ? null : stack.Utf8(1));

    /// <summary>Where plugins are loaded and asked while a change of configuration is tried.</summary>
    LuaLane? _next;

    /// <summary>
    /// A fresh state, with every file read anew, in which plugins are loaded from here on. Requests stay in the old states until <see
    /// cref="Commit"/>, or for good when the new configuration turns out not to work (<see cref="Withdraw"/>).
    /// </summary>
    public void Renew(LuaOptions options)
    {
        lock (_making)
        {
            _renewal++;
            options = options with { Lanes = _lanes.Length };
            if (Array.TrueForAll(_lanes, static lane => lane is null))
            {
                Options = options;
                return;
            }
            var next = new LuaLane(this, 0, options);
            WatchUnlisted(next);
            Volatile.Write(ref _next, next);
        }
    }

    /// <summary>All that comes from here on finds fresh states; requests that are under way end in the old ones.</summary>
    public void Commit()
    {
        lock (_making)
        {
            if (_next is not { } next)
            {
                return;
            }
            Options = next.Options;
            ForgetVariables();
            Volatile.Write(ref _next, null);
            for (var i = 0; i < _lanes.Length; i++)
            {
                Put(i, i == 0 ? next : null);
            }
            Closed(next);
        }
    }

    /// <summary>Everything stays as it is.</summary>
    public void Withdraw()
    {
        lock (_making)
        {
            if (_next is { } next)
            {
                Volatile.Write(ref _next, null);
                End(next);
            }
        }
    }

    void Put(int index, LuaLane? fresh)
    {
        var old = _lanes[index];
        if (old is not null)
        {
            WatchUnlisted(old);
        }
        Volatile.Write(ref _lanes[index], fresh);
        if (old is not null)
        {
            End(old);
        }
    }

    /// <summary>Its plugins are told; whoever is in it goes on to his end.</summary>
    void End(LuaLane lane)
    {
        using (var context = new LuaContext(lane, null))
        using (lane.Enter())
        {
            if (lane.Call("destroy", context, static (_, _) => 0, static _ => null) is { } error)
            {
                LogDestroy(Log, error);
            }
        }
        lane.Retire();
    }

    // -- core.ctx.register_var

    readonly ConcurrentDictionary<string, (string Plugin, int Renewal)> _variables = new(StringComparer.Ordinal);
    volatile bool _hasVariables;
    int _renewal;

    /// <summary>More are not known outside of Lua.</summary>
    const int MaxVariables = 1024;

    /// <param name="plugin">Who registers it, when it is loaded; empty: a function.</param>
    internal void Register(string variable, string plugin)
    {
        if (_variables.Count < MaxVariables)
        {
            _variables[variable] = (plugin, _renewal);
            _hasVariables = true;
        }
    }

    /// <summary>
    /// Those that nobody has registered in this renewal or the one before. The others stay: requests that are under way still read them.
    /// </summary>
    void ForgetVariables()
    {
        foreach (var (name, (_, renewal)) in _variables)
        {
            if (renewal < _renewal - 1)
            {
                _variables.TryRemove(name, out _);
            }
        }
    }

    /// <summary>Whether a script has registered a variable of this name.</summary>
    public bool HasVariable(string name) => _hasVariables && _variables.ContainsKey(name);

    internal string? OwnerOf(string variable) => _variables.TryGetValue(variable, out var known) ? known.Plugin : null;

    // -- core.id

    readonly Lock _naming = new();
    string? _id;

    /// <summary>The instance's own name, the same from one start to the next: <c>conf/apisix.uid</c>, where APISIX keeps it too.</summary>
    internal string Id
    {
        get
        {
            lock (_naming)
            {
                return _id ??= ReadId();
            }
        }
    }

    string ReadId()
    {
        var file = Path.Combine(Options.Prefix, "conf", "apisix.uid");
        try
        {
            if (File.Exists(file) && File.ReadAllText(file).TrimEnd() is { Length: > 0 } known)
            {
                return known;
            }
            var id = Options.InstanceId.Length > 0 ? Options.InstanceId : Guid.NewGuid().ToString();
            File.WriteAllText(file, id);
            return id;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            LogNotKept(Log, file, e.Message);
            return Options.InstanceId.Length > 0 ? Options.InstanceId : Guid.NewGuid().ToString();
        }
    }

    [LoggerMessage(Level = LogLevel.Warning,
        Message = "core.id: {File} cannot be read or written, the next start may have another id: {Error}")]
    static partial void LogNotKept(ILogger logger, string file, string error);

    [LoggerMessage(Level = LogLevel.Error, Message = "destroy of a Lua plugin: {Error}")]
    static partial void LogDestroy(ILogger logger, string error);

    string? Call(string entry, Func<LuaStack, int> push, Func<LuaStack, string?> read)
    {
        using var context = (Volatile.Read(ref _next) is { } next ? LuaContext.TryIn(next) : null) ?? LuaContext.In(this, 0);
        using (context.Lane.Enter())
        {
            return context.Lane.Call(entry, context, (stack, _) => push(stack), read);
        }
    }
}
