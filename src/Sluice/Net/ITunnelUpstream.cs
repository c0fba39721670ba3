namespace Sluice.Net;

/// <summary>The upstream's end of a tunnel. What goes wrong there is thrown as an <see cref="UpstreamException"/>.</summary>
interface ITunnelUpstream
{
    /// <summary>What the upstream sends.</summary>
    IBodySource Body { get; }

    ValueTask WriteRawAsync(ReadOnlyMemory<byte> bytes);

    /// <summary>The client sends no more.</summary>
    ValueTask ShutdownSendAsync();

    void Abort(UpstreamFailureKind reason);
}
