namespace Sluice.Pipeline;

/// <summary>The body filter of one response that says in the body what gRPC says in trailers, for a client that reads none.</summary>
interface ITrailersInBody
{
    /// <summary>
    /// The client knows gRPC's statuses (grpc-web): the gateway's own answers have gRPC's form whatever the client's protocol, and no
    /// trailers go out besides. False: it is any client of HTTP.
    /// </summary>
    bool IsForGrpc { get; }

    /// <summary>Where the response comes from, whose trailers are there when all of its body is.</summary>
    IResponseSource? Source { get; set; }

    /// <summary>A stream breaks off: what a client that knows gRPC is sent in the place of the trailers. Null: it has half a message, only
    /// an abort is left.</summary>
    ReadOnlyMemory<byte>? LastWords(int status, string message);
}
