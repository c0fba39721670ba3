namespace Sluice.Pipeline;

/// <summary>
/// One request's tries on several upstreams (<see cref="ForwardTo.Each"/>), each with a request of its own. What such an upstream is told
/// of the client is only what the request's headers say; nothing is added.
/// </summary>
internal interface IUpstreamTries
{
    /// <summary>Makes the exchange's request that of the next try. Without an upstream the answer ends the request.</summary>
    ValueTask<(ForwardTo.To? Upstream, Answer? Answer)> NextAsync(Exchange exchange);

    /// <summary>A response's head is there, and nothing of it was sent: false, and another upstream is tried.</summary>
    bool Takes(Exchange exchange, int status);

    /// <summary>The beginning of the body of a response that was not taken.</summary>
    void Refused(Exchange exchange, ReadOnlyMemory<byte> body);

    /// <summary>No response came. Null: another upstream is tried; else the answer that the client gets.</summary>
    Answer? Failed(Exchange exchange, Answer answer);

    /// <summary>The client gets this header of the response.</summary>
    bool Passes(string header);
}
