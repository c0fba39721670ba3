using Sluice.Upstreams;

namespace Sluice.Pipeline;

/// <summary>Where a request goes instead of its route's upstream; a plugin says so before it is forwarded.</summary>
public abstract record ForwardTo
{
    /// <summary>The response comes from what this opens: a cache, a topic, an answer that is streamed.</summary>
    public sealed record From(Func<Exchange, CancellationToken, ValueTask<IResponseSource>> Open) : ForwardTo;

    /// <summary>The request goes to an upstream that a plugin has made (<see cref="PluginUpstreams.Make"/>), with its timeouts, retries and
    /// health.</summary>
    public sealed record To : ForwardTo
    {
        internal To(Upstream upstream) => Upstream = upstream;

        internal Upstream Upstream { get; }

        /// <summary>Told when a request goes there; null when nobody waits for it.</summary>
        internal UpstreamFollower? Follower { get; init; }

        /// <summary>Whose try it is; null when there is only this one.</summary>
        internal IUpstreamTries? Tries { get; init; }
    }

    /// <summary>The request goes to one upstream after another, each asked in its own way, until a response is taken.</summary>
    internal sealed record Each(IUpstreamTries Tries) : ForwardTo;

    /// <summary>The request goes to an upstream of the configuration.</summary>
    public sealed record Named(string Id) : ForwardTo
    {
        readonly string _key = $"upstreams/{Id}";

        /// <summary>The upstream as it is in the request's snapshot; null when it is gone.</summary>
        internal Upstream? Find(Exchange exchange) => exchange.Snapshot.Upstreams.GetValueOrDefault(_key);
    }
}
