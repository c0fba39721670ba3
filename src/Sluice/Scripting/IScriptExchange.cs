using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;
using Sluice.Observability;

namespace Sluice.Scripting;

/// <summary>The request that a script works on, and its answer. Texts of the wire are Latin-1: one char is one byte.</summary>
internal interface IScriptExchange : IVariables, IDisposable
{
    HttpContext Http { get; }

    IScriptConsumers Consumers { get; }

    /// <summary>Decoded path, UTF-16.</summary>
    string Uri { get; set; }

    string Args { get; set; }

    string Method { get; set; }

    string RawTarget { get; }

    /// <summary>The client has sent no such header: the gateway has added it.</summary>
    bool IsAdded(string header);

    /// <summary>A script's request to the gateway itself.</summary>
    bool IsSubrequest { get; }

    /// <summary>The route that was matched, as it is stored; null when none was.</summary>
    JsonObject? MatchedRoute { get; }

    /// <summary>Seconds since 1970 when the request's head was there.</summary>
    double StartTime { get; }

    /// <summary>Sets a variable.</summary>
    void Set(string name, string? value);

    /// <summary>Changes a header of the request, for everything that follows.</summary>
    void HeaderChanged(string name);

    /// <summary>The whole body of the request; read once, it still goes to the upstream.</summary>
    ValueTask<ScriptBody> ReadBodyAsync();

    /// <summary>The body as it comes in; null when there is none.</summary>
    Stream? OpenBody();

    /// <summary>
    /// The client's connection as it is, behind the request's head; the answer is the script's own business then. Or why not.
    /// </summary>
    /// <param name="bodyBegun">Somebody reads the request's body, or has read it.</param>
    (Stream? Connection, string? Error) TakeConnection(bool bodyBegun);

    /// <summary>A script has sent so many bytes over the connection that it took.</summary>
    void Sent(int bytes);

    /// <summary>Another body instead of the client's.</summary>
    void ReplaceBody(ReadOnlyMemory<byte> body);

    /// <summary>Another body, of unknown length.</summary>
    void ReplaceBody(Stream body);

    /// <summary>The answer's head has been sent, or is being sent.</summary>
    bool Answered { get; }

    /// <summary>The answer has been sent, its end included.</summary>
    bool Finished { get; }

    /// <summary>Sends the head, if that has not happened, and a piece; returns when the client takes more.</summary>
    ValueTask SendAsync(ReadOnlyMemory<byte> piece);

    /// <summary>The last piece: the client sees the end of the answer.</summary>
    ValueTask FinishAsync(ReadOnlyMemory<byte> piece);

    /// <summary>False: too many requests to the gateway itself are inside each other, or under way at once.</summary>
    bool MayCapture { get; }

    /// <summary>Makes a request to the gateway itself; null when it failed.</summary>
    Task<(int Status, IHeaderDictionary Headers, ReadOnlyMemory<byte> Body)?> CaptureAsync(string method, string target,
        IHeaderDictionary headers, ReadOnlyMemory<byte> body, SubrequestOptions options);
}

/// <summary>What a subrequest has of the variables that its request has set.</summary>
internal enum VariableSharing
{
    /// <summary>None.</summary>
    Own,

    /// <summary>Their values; what it sets stays its own.</summary>
    Copied,

    /// <summary>The variables themselves.</summary>
    Shared,
}

/// <param name="Set">Variables that it has besides.</param>
internal sealed record SubrequestOptions(VariableSharing Sharing, IReadOnlyList<(string Name, string Value)> Set)
{
    /// <summary>Where its scripts run; null: in any lane.</summary>
    public Func<IScriptExchange, LuaContext>? Open { get; init; }
}

/// <summary>A request's body that was read: in memory, or in a file that lives as long as the request.</summary>
internal readonly record struct ScriptBody(ReadOnlyMemory<byte> Bytes, string? File = null);
