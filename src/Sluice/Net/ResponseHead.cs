namespace Sluice.Net;

/// <summary>How the end of a response's body is found.</summary>
public enum BodyKind
{
    /// <summary>There is no body: HEAD, 1xx, 204, 304, 2xx to CONNECT.</summary>
    None,
    Length,
    Chunked,

    /// <summary>The body ends with the connection.</summary>
    CloseDelimited,

    /// <summary>101: what follows is another protocol.</summary>
    Upgrade,
}

/// <param name="Length">Of <see cref="BodyKind.Length"/>, otherwise 0.</param>
public readonly record struct BodyFraming(BodyKind Kind, long Length = 0);

/// <summary>A response's head, interim or final. Owns its bytes; stays valid when the connection is gone.</summary>
/// <param name="KeepAlive">The upstream keeps the connection for another request once this body ended.</param>
internal sealed record ResponseHead(
    int MajorVersion, int MinorVersion, int Status, string Reason, HeaderFields Headers, BodyFraming Body, bool KeepAlive)
{
    /// <summary>1xx other than 101: another head follows.</summary>
    public bool Interim => Status is >= 100 and < 200 and not 101;
}
