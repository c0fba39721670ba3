namespace Sluice.Pipeline;

/// <summary>
/// The body filter of one response that says in the body what gRPC says in trailers (grpc-web). No trailers go out besides, and the gateway's own answers have gRPC's form
/// whatever the client's protocol.
/// </summary>
interface ITrailersInBody
{
    /// <summary>Where the response comes from, whose trailers are there when all of its body is.</summary>
    IResponseSource? Source { get; set; }

    /// <summary>A stream breaks off: what is sent in the place of the trailers. Null: the client has half a message, only an abort is left.</summary>
    ReadOnlyMemory<byte>? LastWords(int status, string message);
}
