using Sluice.Model;
using Sluice.Net.Http;
using Sluice.Upstreams;

namespace Sluice.Pipeline.TcpUdp;

/// <summary>A stream route as sessions see it.</summary>
internal sealed class StreamRoute(StreamRouteConfig config, Upstream? upstream, PluginChain chain, string? upstreamId = null)
{
    readonly string? _sni = HostName.Normalize(config.Sni);

    public StreamRouteConfig Config { get; } = config;

    /// <summary>Null: it has none, or the one it names is gone.</summary>
    public Upstream? Upstream { get; } = upstream;

    /// <summary>The upstream that it or its service names, whether there is one or not.</summary>
    public string? UpstreamId { get; } = upstreamId;

    public PluginChain Chain { get; } = chain;

    /// <summary>How much it asks for: routes that ask for more are asked first.</summary>
    internal int Rank => (_sni is null ? 0 : _sni.StartsWith('*') ? 8 : 16) + (Config.ServerPort is null ? 0 : 4)
        + (Config.ServerAddr is null ? 0 : 2) + (Config.RemoteAddr is null ? 0 : 1);

    public bool Matches(StreamSession session) =>
        (Config.ServerPort is not { } port || port == session.Local.Port)
        && (Config.ServerAddr?.Contains(session.Local.Address) ?? true)
        && (Config.RemoteAddr?.Contains(session.Remote.Address) ?? true)
        && (_sni is null
            || (session.ServerName is { } name
                && (_sni.StartsWith('*') ? name.EndsWith(_sni[1..], StringComparison.Ordinal) : name == _sni)));
}

/// <summary>Finds the stream route of a session: of those whose conditions all hold the one with the most (an exact SNI before a wildcard),
/// then by id.</summary>
internal sealed class StreamRouter(IEnumerable<StreamRoute> routes)
{
    public IReadOnlyList<StreamRoute> Routes { get; } =
        [.. routes.OrderByDescending(route => route.Rank).ThenBy(route => route.Config.Id, StringComparer.Ordinal)];

    public StreamRoute? Match(StreamSession session)
    {
        foreach (var route in Routes)
        {
            if (route.Matches(session))
            {
                return route;
            }
        }
        return null;
    }
}
