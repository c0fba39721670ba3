using System.Collections.Immutable;
using Microsoft.Extensions.Logging;
using Sluice.Model;
using Sluice.Model.Settings;
using Sluice.Net;
using Sluice.Net.Epoll;
using Sluice.Observability;
using Sluice.Pipeline;
using Sluice.Pipeline.References;
using Sluice.Pipeline.TcpUdp;
using Sluice.Plugins;
using Sluice.Scripting;
using Sluice.Sources;
using Sluice.Sources.Etcd;
using Sluice.Upstreams;

namespace Sluice.Hosting;

/// <summary>
/// What a gateway is made of, put together once: configuration, plugins, upstreams, the pipeline, the logs of requests. It has no addresses
/// and opens nothing by itself, so that <c>sluice test</c>, tests and programs that embed the gateway have the same parts as one that runs.
/// </summary>
sealed class GatewayParts : IAsyncDisposable
{
    readonly Lock _following = new();
    SharedMap<Upstream>? _followed;
    ImmutableHashSet<Upstream> _followedBeside = [];

    /// <param name="loops">Who serves connections; null: the framework's sockets.</param>
    /// <param name="temporary">Where bodies go that are too large for memory.</param>
    public GatewayParts(GatewaySettings settings, GatewayOptions options, ILoggerFactory loggers, string temporary,
        EventLoops? loops = null)
    {
        (Time, Loggers) = (options.Time, loggers);
        var log = loggers.CreateLogger<Gateway>();
        Metrics = new GatewayMetrics(log, new GatewayMetricsOptions(
            Hostname: Environment.MachineName, Version: typeof(Gateway).Assembly.GetName().Version!.ToString(3)));
        Resolver = new HostResolver(
            new HostResolverOptions(settings.Dns.Servers, settings.Dns.Valid, settings.Dns.Timeout), Time,
            loggers.CreateLogger<HostResolver>());
        Http = new OutgoingHttp(Time, Resolver);
        Upstreams = new UpstreamServices(Time, loggers, Metrics) { Resolver = Resolver, Http = Http };
        Services = new PluginServices(Time, loggers, Metrics)
        {
            TemporaryDirectory = temporary,
            Http = Http,
            Secrets = new(Time, options.Environment, new SecretManagers(Time, Http), loggers.CreateLogger<SecretStore>()),
            MakeLua = () => new LuaEngine(PluginServices.LuaOptions(settings), Time, loggers.CreateLogger<LuaEngine>(), Resolver),
        };
        Live = new LiveConfiguration(new SnapshotCompiler(Services, Builtin.All, Upstreams));
        Services.Secrets.Documents = () => Live.Current.Documents;
        Secrets = new SecretWatch(Live, Services.Secrets, Time, loggers.CreateLogger<SecretWatch>());
        Leases = new LeaseWatch(Live, Services.Live, Time, loggers.CreateLogger<LeaseWatch>());
        Drain = new StreamDrain(Services.Live, Time, loggers.CreateLogger<StreamDrain>());
        Tls = new TlsTermination(Live, loggers.CreateLogger<TlsTermination>());
        AccessLog = new AccessLogging(Time, log, Exchange.Reader);
        StreamLog = new AccessLogging(Time, log);
        Metrics.WatchAccessLogDrops(() => AccessLog.Dropped + StreamLog.Dropped);
        Metrics.WatchStreams(() =>
        {
            foreach (var stream in Services.Live.List())
            {
                stream.Tell();
                stream.TellWaiting();
            }
        });
        Live.Changed += FollowStreams;
        HealthCheckers = new HealthCheckers(Resolver, Time, loggers.CreateLogger<HealthCheckers>());
        Pools = new ConnectionPools(loops, Time);
        Http2 = new Http2Connections(Time);
        var forwarder = new Forwarder(Services, Pools, Http2, Resolver, temporary, loggers.CreateLogger<Forwarder>());
        Proxy = new ProxyApplication(Live, Services, new GatewayPipeline(forwarder, loggers.CreateLogger<GatewayPipeline>()), AccessLog);
        Services.Inner = Proxy.RunInnerAsync;
        Services.Alone = Proxy.RunAloneAsync;
        Live.Changed += snapshot => (Services.Topics.MaxMemory, Services.Topics.MaxDetached, Services.Queues.Max) =
            (snapshot.Settings.TailMemory, snapshot.Settings.MaxDetached, snapshot.Settings.QueueMemory);
        Metrics.WatchTopics(() => Services.Topics.DetachedByRoute, () => Services.Topics.Memory);
        TcpUdp = new StreamPipeline(Services, Resolver, StreamLog.Write, loggers.CreateLogger<StreamPipeline>());
    }

    /// <summary>What of the configuration counts for all streams, and which routes there are to count for.</summary>
    void FollowStreams(Snapshot snapshot)
    {
        var (streams, settings) = (Services.Live, snapshot.Settings.Live);
        streams.Started = settings.AccessLogStart ? AccessLog.Write : null;
        streams.Max = settings.Max > 0 ? settings.Max : Math.Max((Descriptors.Limit / 2) - 1000, Descriptors.Limit / 4);
        var routes = snapshot.Documents[ResourceKind.Routes];
        HashSet<string>? names = null;
        Metrics.ForgetRoutes(label => routes.ContainsKey(label)
            || (names ??= [.. routes.Values.Select(static route => route.Value["name"]?.ToString()).OfType<string>()]).Contains(label));
    }

    public TimeProvider Time { get; }

    public ILoggerFactory Loggers { get; }

    public GatewayMetrics Metrics { get; }

    public HostResolver Resolver { get; }

    public OutgoingHttp Http { get; }

    public UpstreamServices Upstreams { get; }

    public PluginServices Services { get; }

    public LiveConfiguration Live { get; }

    public SecretWatch Secrets { get; }

    public LeaseWatch Leases { get; }

    public StreamDrain Drain { get; }

    public TlsTermination Tls { get; }

    public AccessLogging AccessLog { get; }

    public AccessLogging StreamLog { get; }

    public HealthCheckers HealthCheckers { get; }

    public ConnectionPools Pools { get; }

    public Http2Connections Http2 { get; }

    /// <summary>Takes requests.</summary>
    public ProxyApplication Proxy { get; }

    /// <summary>Takes TCP connections and UDP sessions.</summary>
    public StreamPipeline TcpUdp { get; }

    /// <summary>The source of resources that the settings name; it does nothing before it is started.</summary>
    public IConfigurationSource CreateSource(GatewaySettings settings, GatewayOptions options) => settings switch
    {
        { IsStandalone: true, IsPushed: true } => new PushedConfiguration(Live, Time),
        { IsStandalone: true } => new YamlConfiguration(
            new YamlSource(settings.Prefix, Time, Loggers.CreateLogger<YamlSource>(), options.Environment,
                YamlSource.NameOf(settings.ConfigProvider)), Live, Loggers.CreateLogger<YamlConfiguration>()),
        { Etcd: { } etcd } => new EtcdSource(etcd, settings.DataDirectory, Live, Time, Loggers, Metrics),
        _ => new EmbeddedSource(settings, Live, Time, Loggers),
    };

    /// <summary>From now on upstreams are discovered and checked as the running configuration says.</summary>
    public void FollowUpstreams()
    {
        Live.Changed += snapshot =>
        {
            Upstreams.Discoveries.Apply(snapshot.Settings.Discovery);
            Follow(snapshot.Upstreams);
        };
        Upstreams.Added.Changed += () => Follow(null);
    }

    void Follow(SharedMap<Upstream>? upstreams)
    {
        lock (_following)
        {
            var added = Upstreams.Added.All;
            upstreams ??= _followed;
            if (upstreams is null || (upstreams == _followed && added == _followedBeside))
            {
                return;
            }
            (_followed, _followedBeside) = (upstreams, added);
            Upstreams.Discoveries.Follow([.. upstreams.Values, .. added]);
            HealthCheckers.Follow([.. upstreams.Values, .. added]);
        }
    }

    public async ValueTask DisposeAsync()
    {
        await Services.Lives.EndAllAsync();
        await HealthCheckers.DisposeAsync();
        await Upstreams.Discoveries.DisposeAsync();
        Secrets.Dispose();
        await Leases.DisposeAsync();
        Pools.Dispose();
        Http2.Dispose();
        Services.Dispose();
        Http.Dispose();
        await AccessLog.DisposeAsync();
        await StreamLog.DisposeAsync();
    }
}
