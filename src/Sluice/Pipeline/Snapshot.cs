using Sluice.Model.Settings;
using Sluice.Pipeline.Streams;
using Sluice.Pipeline.Tls;
using Sluice.Upstreams;

namespace Sluice.Pipeline;

/// <summary>
/// A whole configuration, compiled: what a request reads from its first to its last byte. Immutable; a change compiles a new one and
/// swaps one reference, so no request ever sees half a change. Parts whose documents did not change are shared with the previous one.
/// </summary>
public sealed record Snapshot(
    long Version,
    GatewaySettings Settings,
    DocumentSet Documents,
    SharedMap<Route> Routes,
    SharedMap<Upstream> Upstreams,
    RouteUsers Users,
    Router Router,
    ConsumerIndex Consumers,
    PluginChain GlobalRules,
    PluginRegistry Plugins,
    TlsSites Tls,
    StreamRouter StreamRoutes)
{
    /// <summary>The API that an enabled plugin offers there, or null.</summary>
    public PluginApi? Api(string method, string uri)
    {
        foreach (var plugin in Plugins.All)
        {
            foreach (var api in plugin.Info.Apis)
            {
                var own = api.UriAttribute is { } name ? Settings.PluginAttributes.GetValueOrDefault(plugin.Name)?[name]?.ToString() : null;
                if (api.Method == method && uri == (own ?? api.Uri))
                {
                    return api;
                }
            }
        }
        return null;
    }
}
