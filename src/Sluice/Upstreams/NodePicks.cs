namespace Sluice.Upstreams;

/// <summary>
/// The nodes that one request tries, one after the other: <c>Next() … Failed() … Next() … Answered() … Took() … Dispose()</c>. What is told
/// about a node goes to the balancers and to the passive health checks.
/// </summary>
internal sealed class NodePicks : IDisposable
{
    readonly Upstream _upstream;
    readonly NodeSet _nodes;
    readonly string _hashKey;
    HashSet<int>? _tried;
    Node? _current;

    internal NodePicks(Upstream upstream, NodeSet nodes, string hashKey)
    {
        _upstream = upstream;
        _nodes = nodes;
        _hashKey = hashKey;
    }

    /// <summary>Attempts after the first: <c>retries</c>, by default one for each further node.</summary>
    public int Retries => _upstream.Config.Retries ?? Math.Max(0, _nodes.Nodes.Count(static node => node.Config.Weight > 0) - 1);

    /// <summary>The first node, or the one to try after the one before has failed; null when none is left.</summary>
    public Node? Next()
    {
        if (_current is { } failed)
        {
            (_tried ??= []).Add(failed.Index);
            Leave();
        }
        return _current = _nodes.Pick(_tried, _hashKey);
    }

    /// <summary>The node did not answer.</summary>
    /// <param name="timeout">It was given time, and let it pass.</param>
    public void Failed(bool timeout) => _upstream.Checks?.Failed(_current!, timeout);

    public void Answered(int status) => _upstream.Checks?.Answered(_current!, status);

    /// <summary>How long the node took, from before the connection to the end of its answer (of a stream: to its begin).</summary>
    public void Took(TimeSpan roundTrip)
    {
        if (_upstream.Config.Type == "ewma")
        {
            _current?.State.Observe(_upstream.Services.Time, roundTrip);
        }
    }

    public void Dispose() => Leave();

    void Leave()
    {
        if (_upstream.Config.Type == "least_conn")
        {
            _current?.State.Leave();
        }
        _current = null;
    }
}
