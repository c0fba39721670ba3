using System.Collections.Immutable;
using Sluice.Model.Settings;
using Sluice.Pipeline.References;
using Sluice.Pipeline.TcpUdp;
using Sluice.Pipeline.Tls;
using Sluice.Upstreams;

namespace Sluice.Pipeline;

/// <summary>
/// A whole configuration, compiled: what a request reads from its first to its last byte. Immutable; a change compiles a new one and
/// swaps one reference, so no request ever sees half a change. Parts whose documents did not change are shared with the previous one.
/// </summary>
internal sealed record Snapshot(
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
    /// <summary>The requests and sessions that run under it.</summary>
    internal UseCount Uses { get; } = new();

    /// <summary><c>sluice.streams.defaults</c>; null: nothing is ever added to a stream that no plugin speaks for.</summary>
    public StreamPolicy? StreamDefaults { get; init; }

    /// <summary>Keys of the upstreams whose certificates refer to secrets: few, if any.</summary>
    public ImmutableHashSet<string> WithSecrets { get; init; } = [];

    /// <summary>Ids of the upstreams that plugins of consumers and global rules name.</summary>
    internal ImmutableHashSet<string> NamedElsewhere { get; init; } = [];

    public bool HasSecrets => Consumers.HasSecrets || WithSecrets.Count > 0;

    /// <summary>The secrets that have to be known before a request comes.</summary>
    public IEnumerable<string> SecretReferences =>
        Consumers.References.Concat(WithSecrets.SelectMany(key => Upstreams[key].Secrets.Keys)).Distinct();

    /// <summary>Whether everything was compiled with the values that are known now.</summary>
    public bool HasCurrentSecrets(SecretStore secrets) =>
        !Consumers.WithOtherSecrets(secrets).Any()
        && WithSecrets.SelectMany(key => Upstreams[key].Secrets).All(pair => secrets.Known(pair.Key) == pair.Value);

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
