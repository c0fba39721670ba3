using Sluice.Model;
using Sluice.Upstreams;

namespace Sluice.Pipeline.Streams;

/// <summary>A stream route as sessions see it.</summary>
public sealed class StreamRoute(StreamRouteConfig config, Upstream? upstream, PluginChain chain, string? upstreamId = null)
{
    readonly CidrSet? _remote = config.RemoteAddr is { } range ? CidrSet.Parse([range]) : null;
    readonly CidrSet? _server = config.ServerAddr is { } range ? CidrSet.Parse([range]) : null;
    readonly string? _sni = config.Sni?.ToLowerInvariant();

    public StreamRouteConfig Config { get; } = config;

    /// <summary>Null: it has none, or the one it names is gone.</summary>
    public Upstream? Upstream { get; } = upstream;

    /// <summary>The upstream that it or its service names, whether there is one or not.</summary>
    public string? UpstreamId { get; } = upstreamId;

    public PluginChain Chain { get; } = chain;

    /// <summary>How much it asks for: routes that ask for more are asked first.</summary>
    internal int Rank => (_sni is null ? 0 : _sni.StartsWith('*') ? 8 : 16) + (Config.ServerPort is null ? 0 : 4) + (_server is null ? 0 : 2) + (_remote is null ? 0 : 1);

    public bool Matches(StreamSession session) =>
        (Config.ServerPort is not { } port || port == session.Local.Port)
        && (_server?.Contains(session.Local.Address) ?? true)
        && (_remote?.Contains(session.Remote.Address) ?? true)
        && (_sni is null || (session.ServerName is { } name && (_sni.StartsWith('*') ? name.EndsWith(_sni[1..], StringComparison.Ordinal) : name == _sni)));
}

/// <summary>Finds the stream route of a session: of those whose conditions all hold the one with the most (an exact SNI before a wildcard), then by id.</summary>
public sealed class StreamRouter(IEnumerable<StreamRoute> routes)
{
    public IReadOnlyList<StreamRoute> Routes { get; } = [.. routes.OrderByDescending(route => route.Rank).ThenBy(route => route.Config.Id, StringComparer.Ordinal)];

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
