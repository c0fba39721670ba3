using Sluice.Model;
using Sluice.Net;

namespace Sluice.Upstreams;

/// <summary>A node of an upstream, as picked for an attempt.</summary>
/// <param name="Index">Position in the upstream's list of nodes.</param>
internal sealed record Node(int Index, NodeConfig Config, int Port)
{
    /// <summary><c>host:port</c> as configured; also what <c>pass_host: node</c> sends when the port is not the scheme's.</summary>
    public string Name { get; } = NameOf(Config, Port);

    /// <summary>Host header for <c>pass_host: node</c>: without the port where the configuration names none, or the scheme's own.</summary>
    public string HostHeader(string scheme) =>
        Config.Port is not null && Port != PortOf(scheme) ? Config.Domain is { } domain ? $"{domain}:{Port}" : Name
        : HostName.Contains(':', StringComparison.Ordinal) ? $"[{HostName.Trim('[', ']')}]" : HostName;

    static int PortOf(string scheme) => scheme is "https" or "grpcs" ? 443 : 80;

    /// <summary>As written: what the node's certificate is for.</summary>
    public string HostName => Config.Domain ?? Config.Host;

    /// <summary>What balancers know of it. The same object for the same address, however often the upstream's configuration
    /// changes.</summary>
    public NodeState State { get; init; } = new();

    /// <summary>What health checks know of it; null when there are none.</summary>
    public NodeHealth? Health { get; init; }

    /// <summary>What the last request to it connected to: mostly what the next one does.</summary>
    internal UpstreamEndpoint? LastEndpoint { get; set; }

    public bool IsHealthy => Health?.IsHealthy != false;

    public static string NameOf(NodeConfig config, int port) =>
        config.Host.Contains(':', StringComparison.Ordinal) ? $"[{config.Host.Trim('[', ']')}]:{port}" : $"{config.Host}:{port}";
}

/// <summary>What balancers know of a node; outlives changes of its upstream.</summary>
internal sealed class NodeState
{
    /// <summary>What is ten seconds old counts for a third (APISIX's ewma).</summary>
    const double DecaySeconds = 10;

    readonly Lock _lock = new();
    double _ewma;
    long _touched;
    int _active;

    /// <summary>Requests under way, counted for <c>least_conn</c>.</summary>
    public int Active => Volatile.Read(ref _active);

    public void Enter() => Interlocked.Increment(ref _active);

    public void Leave() => Interlocked.Decrement(ref _active);

    /// <summary>The average of round trips, in seconds, faded since the last one.</summary>
    public double Score(TimeProvider time)
    {
        lock (_lock) { return Decayed(time, roundTrip: 0); }
    }

    public void Observe(TimeProvider time, TimeSpan roundTrip)
    {
        lock (_lock)
        {
            _ewma = Decayed(time, roundTrip.TotalSeconds);
            _touched = time.GetTimestamp();
        }
    }

    double Decayed(TimeProvider time, double roundTrip)
    {
        var weight = _touched == 0 ? 0.0 : Math.Exp(-time.GetElapsedTime(_touched).TotalSeconds / DecaySeconds);
        return (_ewma * weight) + (roundTrip * (1 - weight));
    }
}
