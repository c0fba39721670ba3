using System.Text.Json.Nodes;

namespace Sluice.Scripting;

/// <summary>
/// Functions or a plugin's configuration as scripts see them: loaded into a lane when the lane first needs it, and out of all lanes when
/// nobody holds the unit any more.
/// </summary>
internal sealed class LuaUnit
{
    readonly LuaEngine _engine;

    LuaUnit(LuaEngine engine, string kind, string name, string where, JsonNode? configuration, IReadOnlyList<string> functions)
    {
        _engine = engine;
        Kind = kind;
        Name = name;
        Where = where;
        Configuration = configuration;
        Functions = functions;
        Id = engine.NextUnit();
    }

    /// <summary>Functions as texts that return a function.</summary>
    public static LuaUnit OfFunctions(LuaEngine engine, string name, string where, JsonNode? configuration,
        IReadOnlyList<string> functions) =>
        new(engine, "functions", name, where, configuration, functions);

    /// <summary><c>_meta.pre_function</c> of a plugin: what it returns counts for nothing.</summary>
    public static LuaUnit OfPreFunction(LuaEngine engine, string name, string where, JsonNode? configuration, string text) =>
        new(engine, "before", name, where, configuration, [text]);

    /// <summary>A custom plugin at one place where it is configured.</summary>
    public static LuaUnit OfPlugin(LuaEngine engine, string name, string where, JsonNode? configuration, JsonObject? metadata) =>
        new(engine, "plugin", name, where, configuration, [metadata?.ToJsonString() ?? ""]);

    /// <summary>A route's <c>script</c>: a text that returns a table of phases.</summary>
    public static LuaUnit OfScript(LuaEngine engine, string where, string text) => new(engine, "script", "script", where, null, [text]);

    public int Id { get; }

    internal string Kind { get; }

    public string Name { get; }

    /// <summary>For the error log: <c>route r1, plugin serverless-pre-function</c>.</summary>
    public string Where { get; }

    internal JsonNode? Configuration { get; }

    internal IReadOnlyList<string> Functions { get; }

    ~LuaUnit()
    {
        foreach (var lane in _engine.Made)
        {
            lane.Forget(Id);
        }
    }
}

/// <summary>In which phase a script runs: what it may do depends on it.</summary>
internal enum LuaPhase
{
    Rewrite = 1,
    Access,
    BeforeProxy,
    HeaderFilter,
    BodyFilter,
    Log,
    Timer,
    Init,
    EventFilter,
}

internal enum LuaEnd
{
    /// <summary>The script has nothing against going on.</summary>
    Continue,

    /// <summary>It called <c>ngx.exit</c> or has begun to answer.</summary>
    Answered,

    /// <summary>The request shall be matched anew: <c>ngx.exec</c>.</summary>
    Again,

    /// <summary>It failed; the error is in the log.</summary>
    Failed,
}

/// <param name="Status">For <see cref="LuaEnd.Answered"/>: the status it exited with, 0 when it has printed its answer and ended.</param>
internal readonly record struct LuaOutcome(LuaEnd End, int Status = 0);
