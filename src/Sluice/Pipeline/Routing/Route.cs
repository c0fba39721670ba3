using System.Runtime.CompilerServices;
using Sluice.Model;
using Sluice.Scripting;
using Sluice.Upstreams;

namespace Sluice.Pipeline;

/// <summary>A route as requests see it: its configuration with everything it refers to resolved and its plugins merged and
/// sorted.</summary>
internal sealed class Route(RouteConfig config, ServiceConfig? service, Upstream? upstream, PluginChain chain, LuaUnit? filter = null)
{
    /// <summary>Weak: a consumer that has changed or gone is not kept alive by the routes that it used.</summary>
    ConditionalWeakTable<Consumer, PluginChain>? _consumerChains;

    public string Id => Config.Id;

    public RouteConfig Config { get; } = config;

    public ServiceConfig? Service { get; } = service;

    /// <summary>The route's <c>filter_func</c>: requests it says no to are not this route's.</summary>
    public LuaUnit? Filter { get; } = filter;

    /// <summary>Null: the route has none, or the one it names is gone. A request is answered 503.</summary>
    public Upstream? Upstream { get; } = upstream;

    /// <summary>Route > plugin config > service.</summary>
    public PluginChain Chain { get; } = chain;

    public bool EnableWebsocket { get; } = config.EnableWebsocket ?? service?.EnableWebsocket ?? false;

    /// <summary>Consumer > consumer group > route > plugin config > service. Made when the consumer first uses the route, then
    /// kept.</summary>
    public PluginChain ChainFor(Consumer consumer)
    {
        if (consumer.Plugins.Count == 0)
        {
            return Chain;
        }
        var chains = _consumerChains ?? Interlocked.CompareExchange(ref _consumerChains, new(), null) ?? _consumerChains;
        return chains.TryGetValue(consumer.Owner, out var known) ? known
            : chains.GetOrAdd(consumer.Owner, static (owner, route) => owner.Over(route.Chain), this);
    }
}
