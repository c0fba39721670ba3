namespace Sluice.Pipeline;

/// <summary>One attempt on one node, in the protocol that the upstream's scheme says: ask, then relay what is answered.</summary>
interface IUpstreamCall : IAsyncDisposable
{
    /// <summary>The address tried, as in <c>$upstream_addr</c>.</summary>
    string Address { get; }

    /// <summary>Part of the request may have reached the node.</summary>
    bool RequestSent { get; }

    /// <summary>Of the answer.</summary>
    int Status { get; }

    /// <summary>The answer's length says nothing of its node.</summary>
    bool IsStream { get; }

    TimeSpan Elapsed { get; }

    /// <summary>Sends the request and waits for the answer's head.</summary>
    /// <param name="fresh">Only on a new connection.</param>
    ValueTask AskAsync(bool fresh);

    ValueTask RelayAsync();
}
