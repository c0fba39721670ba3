using Microsoft.Extensions.Logging;

namespace Sluice.Scripting;

/// <summary>What the error log says of scripts that fail, in the words that users of nginx search for.</summary>
internal sealed partial class LuaContext
{
    static string FailureOf(LuaPhase phase) => phase switch
    {
        LuaPhase.Init => "failed to load Lua code",
        LuaPhase.HeaderFilter => "failed to run header_filter_by_lua*",
        LuaPhase.BodyFilter => "failed to run body_filter_by_lua*",
        LuaPhase.EventFilter => "failed to run event_filter",
        LuaPhase.Log => "failed to run log_by_lua*",
        _ => "lua entry thread aborted: runtime error",
    };

    /// <summary>For the end of a line of the error log: whose script, and whose request.</summary>
    internal string Place => Client is { } client ? $", {Where}, client: {client}" : Where.Length == 0 ? "" : $", {Where}";

    string? Client => Exchange?.Get("remote_addr");

    internal void LogThreadFailure(string error) => LogFailure("lua user thread aborted: runtime error", error, "thread");

    void LogFailure(string what, string error, string phase) =>
        LogError(Engine.Log, what, error, phase == "timer" ? "" : $", in {phase}", Place);

    [LoggerMessage(Level = LogLevel.Error, Message = "lua subrequests cycle while processing \"{Uri}\"{Place}")]
    internal static partial void LogCycle(ILogger logger, string uri, string place);

    [LoggerMessage(Level = LogLevel.Error, Message = "{What}: {Error}{Phase}{Place}")]
    static partial void LogError(ILogger logger, string what, string error, string phase, string place);
}
