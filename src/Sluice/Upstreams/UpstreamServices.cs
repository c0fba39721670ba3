using Microsoft.Extensions.Logging.Abstractions;
using Sluice.Net;
using Sluice.Observability;
using Sluice.Upstreams.Discovery;

namespace Sluice.Upstreams;

/// <summary>What upstreams share with the gateway; lives as long as the process.</summary>
internal sealed record UpstreamServices(TimeProvider Time, ILoggerFactory Loggers, GatewayMetrics Metrics)
{
    public Discoveries Discoveries => field ??= new(Time, Loggers, Http);

    /// <summary>For discoveries that ask over HTTP.</summary>
    public OutgoingHttp Http { get => field ??= new(Time); init; }

    /// <summary>For nodes whose addresses are checked one by one; null: a host name is one node.</summary>
    public HostResolver? Resolver { get; init; }

    /// <summary>Upstreams that are not in the configuration by themselves: plugins have made them.</summary>
    public AddedUpstreams Added { get; } = new();

    /// <summary>For balancers that draw lots.</summary>
    public Random Random { get; init; } = Random.Shared;

    /// <summary>For upstreams that nobody watches (a check of configuration, tests).</summary>
    public static UpstreamServices Alone(TimeProvider? time = null, Random? random = null) =>
        new(time ?? TimeProvider.System, NullLoggerFactory.Instance,
            new GatewayMetrics(NullLogger.Instance)) { Random = random ?? Random.Shared };
}
