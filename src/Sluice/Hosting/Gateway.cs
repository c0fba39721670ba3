using System.Net;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Sluice.Admin;
using Sluice.Hosting.Streams;
using Sluice.Model;
using Sluice.Model.Settings;
using Sluice.Net;
using Sluice.Net.Epoll;
using Sluice.Observability;
using Sluice.Pipeline;
using Sluice.Pipeline.Secrets;
using Sluice.Pipeline.Streams;
using Sluice.Plugins;
using Sluice.Scripting;
using Sluice.Sources;
using Sluice.Upstreams;
using Sluice.Sources.Etcd;

namespace Sluice.Hosting;

/// <summary>Where an instance lives and what it takes from its surroundings.</summary>
/// <param name="Prefix">The instance's directory: conf/, logs/, data/, lua/.</param>
public sealed record GatewayOptions(string Prefix)
{
    public TimeProvider Time { get; init; } = TimeProvider.System;

    public Func<string, string?> Environment { get; init; } = System.Environment.GetEnvironmentVariable;

    /// <summary>Gets every line of the error log too; null = only the file.</summary>
    public string? ErrorLogCopy { get; init; }
}

/// <summary>The gateway cannot start; every reason with its place.</summary>
public sealed class GatewayStartException(IReadOnlyList<Problem> problems, Exception? inner = null)
    : Exception(string.Join('\n', problems.Where(problem => problem.Severity == Severity.Error)), inner)
{
    public IReadOnlyList<Problem> Problems { get; } = problems;
}

/// <summary>
/// A running gateway: puts the parts together, opens and closes addresses, reloads. What happens to a request is in
/// <see cref="GatewayPipeline"/>.
/// </summary>
public sealed partial class Gateway : IAsyncDisposable
{
    readonly GatewayOptions _options;
    readonly ErrorLog _errorLog;
    readonly ILoggerFactory _loggers;
    readonly ILogger _log;
    readonly GatewayMetrics _metrics;
    readonly PluginServices _services;
    readonly LiveConfiguration _live;
    readonly AccessLogging _accessLog;
    readonly AccessLogging _streamLog;
    readonly EventLoops? _loops;
    readonly ConnectionPools _pools;
    readonly Http2Connections _http2;
    readonly HostResolver _resolver;
    readonly UpstreamServices _upstreams;
    readonly HealthCheckers _healthCheckers;
    readonly ProxyApplication _proxy;
    readonly StatusApi _status = new();
    readonly SemaphoreSlim _changing = new(1);
    readonly TlsTermination _tls;
    readonly SecretWatch _secrets;
    readonly StreamEndpoints _streams;
    readonly Dictionary<string, HttpEndpoint> _own = [];
    readonly CancellationTokenSource _stopping = new();
    volatile IReadOnlyList<HttpEndpoint> _proxies = [];
    InstanceLock? _instance;
    EmbeddedStore? _store;
    EtcdStore? _etcd;
    ResourceStore? _resources;
    YamlConfiguration? _yaml;
    PushedConfiguration? _pushed;
    SharedMap<Upstream>? _followed;
    bool _stopped;

    Gateway(GatewayOptions options, GatewaySettings settings)
    {
        _options = options;
        Settings = settings;
        var logFile = settings.Logs.ErrorLog == "stderr" ? "/dev/stderr" : settings.Logs.ErrorLog;
        Directory.CreateDirectory(Path.GetDirectoryName(logFile)!);
        Directory.CreateDirectory(settings.Absolute("logs"));
        _errorLog = new ErrorLog(options.ErrorLogCopy is { } copy && copy != logFile ? [logFile, copy] : [logFile], Level(settings), options.Time);
        _loggers = LoggerFactory.Create(logging => logging
            .SetMinimumLevel(LogLevel.Trace).AddProvider(_errorLog)
            .AddFilter("Microsoft", LogLevel.Warning)
            // bad requests and broken connections of clients are in the access log
            .AddFilter("Microsoft.AspNetCore.Server.Kestrel.BadRequests", LogLevel.Critical)
            .AddFilter("Microsoft.AspNetCore.Server.Kestrel.Connections", LogLevel.Critical));
        _log = _loggers.CreateLogger<Gateway>();
        _metrics = new GatewayMetrics(_log, new GatewayMetricsOptions(
            Hostname: Environment.MachineName, Version: typeof(Gateway).Assembly.GetName().Version!.ToString(3)));
        _resolver = new HostResolver(
            new HostResolverOptions(settings.Dns.Servers, settings.Dns.Valid, settings.Dns.Timeout), options.Time, _loggers.CreateLogger<HostResolver>());
        _upstreams = new UpstreamServices(options.Time, _loggers, _metrics) { Resolver = _resolver };
        var temporary = Directory.CreateDirectory(Path.Combine(settings.DataDirectory, "tmp")).FullName;
        _services = new PluginServices(options.Time, _loggers, _metrics)
        {
            TemporaryDirectory = temporary,
            Secrets = new(options.Time, options.Environment, new SecretManagers(options.Time), _loggers.CreateLogger<SecretStore>()),
        };
        _live = new LiveConfiguration(new SnapshotCompiler(_services, Builtin.All, _upstreams));
        _services.Secrets.Documents = () => _live.Current.Documents;
        _tls = new TlsTermination(_live, _loggers.CreateLogger<TlsTermination>());
        _secrets = new SecretWatch(_live, _services.Secrets, options.Time, _loggers.CreateLogger<SecretWatch>());
        _accessLog = new AccessLogging(options.Time, _log, Exchange.Reader);
        _streamLog = new AccessLogging(options.Time, _log);
        _metrics.WatchAccessLogDrops(() => _accessLog.Dropped + _streamLog.Dropped);
        _healthCheckers = new HealthCheckers(_resolver, options.Time, _loggers.CreateLogger<HealthCheckers>());
        _live.Changed += FollowUpstreams;
        _loops = settings.Transport.Epoll && EventLoops.AreSupported ? new EventLoops(settings.Transport.EventLoops, _log) : null;
        _pools = new ConnectionPools(_loops, options.Time);
        _http2 = new Http2Connections(options.Time);
        var forwarder = new Forwarder(_services, _pools, _http2, _resolver, temporary, _loggers.CreateLogger<Forwarder>());
        _proxy = new ProxyApplication(_live, _services, new GatewayPipeline(forwarder, _loggers.CreateLogger<GatewayPipeline>()), _accessLog);
        _services.Inner = _proxy.RunInnerAsync;
        _services.MakeLua = () => new LuaEngine(PluginServices.LuaOptions(settings), options.Time, _loggers.CreateLogger<LuaEngine>(), _resolver);
        _streams = new StreamEndpoints(new StreamPipeline(_services, _resolver, _streamLog.Write, _loggers.CreateLogger<StreamPipeline>()), _live, _tls, _loggers);
    }

    public GatewaySettings Settings { get; private set; }

    /// <summary>The key that this start made because none was configured; to be shown once.</summary>
    public string? GeneratedAdminKey { get; private set; }

    /// <summary>The addresses that take requests, as bound.</summary>
    public IReadOnlyList<IPEndPoint> ProxyEndpoints => [.. _proxies.Select(endpoint => endpoint.Bound)];

    /// <summary>Those of them that speak TLS; none while there is no certificate.</summary>
    public IReadOnlyList<IPEndPoint> TlsEndpoints => [.. _proxies.Where(endpoint => endpoint.Address.Tls).Select(endpoint => endpoint.Bound)];

    /// <summary>The addresses of TCP and UDP, as bound, in the order of the configuration.</summary>
    public IReadOnlyList<IPEndPoint> StreamEndpoints => [.. _streams.Open.Select(endpoint => endpoint.Bound)];

    internal TlsTermination Tls => _tls;

    public IPEndPoint? AdminEndpoint => _own.GetValueOrDefault("admin")?.Bound;

    public IPEndPoint? ControlEndpoint => _own.GetValueOrDefault("control")?.Bound;

    public IPEndPoint? StatusEndpoint => _own.GetValueOrDefault("status")?.Bound;

    public IPEndPoint? MetricsEndpoint => _own.GetValueOrDefault("metrics")?.Bound;

    AdminApi AdminApi => field ??= new(_live, _resources, _loggers.CreateLogger<AdminApi>(), _pushed);

    // -- Start

    /// <summary>Reads the configuration, opens the store or the YAML file, binds every address; returns when requests are answered.</summary>
    /// <exception cref="GatewayStartException">With every reason and its place; nothing is left running.</exception>
    public static async Task<Gateway> StartAsync(GatewayOptions options, CancellationToken cancellation = default)
    {
        var (settings, problems) = SettingsReader.Load(options.Prefix, options.Environment);
        if (settings is null)
        {
            throw new GatewayStartException(problems);
        }
        var gateway = Create(options, settings);
        try
        {
            settings = gateway.EnsureAdminKey(settings);
            gateway.LogProblems(problems);
            await gateway._accessLog.ApplyAsync(settings.Logs.Access);
            await gateway._streamLog.ApplyAsync(settings.Logs.StreamAccess);
            await gateway.LoadResourcesAsync(settings, cancellation);
            gateway.LetIn(settings);
            await gateway._secrets.StartAsync();
            await gateway.BindAsync(settings, cancellation);
            gateway._status.NotReady = gateway._pushed is { Digest: null } ? "no configuration was put to /apisix/admin/configs yet" : null;
            gateway.LogStarted(options.Prefix, string.Join(", ", gateway.ProxyEndpoints));
            return gateway;
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            await gateway.DisposeAsync();
            throw e as GatewayStartException ?? new GatewayStartException([Problem.Error(PlaceOf(e, options.Prefix), e.Message)], e);
        }
    }

    static Gateway Create(GatewayOptions options, GatewaySettings settings)
    {
        try
        {
            return new Gateway(options, settings);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // no directory for its logs or temporary files
            throw new GatewayStartException([Problem.Error(options.Prefix, e.Message)], e);
        }
    }

    static string PlaceOf(Exception e, string prefix) => e switch
    {
        EndpointException => "conf/config.yaml",
        StoreException => "data",
        _ => prefix,
    };

    /// <summary>Who may use the Admin API from now on.</summary>
    void LetIn(GatewaySettings settings) => AdminApi.Access = settings.Admin is { } admin ? AdminAccess.Of(admin) : AdminAccess.Closed;

    static LogSeverity Level(GatewaySettings settings) => ErrorLog.ParseLevel(settings.Logs.ErrorLevel) ?? LogSeverity.Warn;

    GatewaySettings EnsureAdminKey(GatewaySettings settings)
    {
        if (settings.Admin is not { KeyRequired: true, Keys.Count: 0 })
        {
            return settings;
        }
        GeneratedAdminKey = AdminKey.Create(Path.Combine(_options.Prefix, "conf", "config.yaml"), text =>
            SettingsReader.Parse(_options.Prefix, text, null, _options.Environment).Settings?.Admin?.Keys.Count > 0);
        return Settings = SettingsReader.Load(_options.Prefix, _options.Environment).Settings!;
    }

    async Task LoadResourcesAsync(GatewaySettings settings, CancellationToken cancellation)
    {
        if (settings.ConfigProvider == ConfigProvider.Yaml)
        {
            _instance = InstanceLock.Acquire(_options.Prefix, settings.DataDirectory);
            Apply(settings);
            if (settings.IsPushed)
            {
                _pushed = new PushedConfiguration(_live, _options.Time);
                _pushed.Started += () => _status.NotReady = null;
                return;
            }
            _yaml = new YamlConfiguration(
                new YamlSource(_options.Prefix, _options.Time, _loggers.CreateLogger<YamlSource>(), _options.Environment), _live, _loggers.CreateLogger<YamlConfiguration>());
            ThrowOnError(_yaml.Load());
            _yaml.Start();
            return;
        }
        Apply(settings);
        if (settings.Etcd is { } etcd)
        {
            _instance = InstanceLock.Acquire(_options.Prefix, settings.DataDirectory);
            await LoadFromEtcdAsync(settings, etcd, cancellation);
            return;
        }
        _store = EmbeddedStore.Open(_options.Prefix, directory: settings.DataDirectory);
        _resources = new ResourceStore(_store, _live, _options.Time, _loggers.CreateLogger<ResourceStore>());
        await _resources.LoadAsync(cancellation);
    }

    async Task LoadFromEtcdAsync(GatewaySettings settings, EtcdSettings etcd, CancellationToken cancellation)
    {
        var copy = new LocalCopy(settings.DataDirectory, etcd.Prefix, _options.Time, _loggers.CreateLogger<LocalCopy>());
        _etcd = new EtcdStore(etcd, _options.Time, _loggers.CreateLogger<EtcdStore>());
        var resources = _resources = new ResourceStore(_etcd, _live, _options.Time, _loggers.CreateLogger<ResourceStore>(), etcd.Prefix, copy);
        _metrics.WatchEtcd(() => (_etcd.Health.Problem is null, resources.Revision));
        _status.Warning = () => _etcd.Health is { Problem: { } problem } health
            ? $"{problem}; since {health.Since:yyyy-MM-ddTHH:mm:ssZ} the configuration of revision {resources.Revision} is served"
            : null;
        for (var retries = etcd.StartupRetry; ; retries--)
        {
            try
            {
                await resources.LoadAsync(cancellation);
                break;
            }
            catch (EtcdUnavailableException) when (retries > 0)
            {
                await Task.Delay(TimeSpan.FromSeconds(1), _options.Time, cancellation);
            }
            catch (EtcdUnavailableException e)
            {
                if (copy.Read() is not { } range)
                {
                    throw new GatewayStartException([Problem.Error("conf/config.yaml (deployment.etcd.host)", $"{e.Message}, and there is no copy of its configuration from an earlier start")], e);
                }
                LogServingCopy(range.Revision, e.Message);
                await resources.LoadAsync(range, cancellation);
                break;
            }
            catch (StoreException e)
            {
                throw new GatewayStartException([Problem.Error("conf/config.yaml (deployment.etcd)", e.Message)], e);
            }
        }
        resources.Follow();
    }

    void FollowUpstreams(Snapshot snapshot)
    {
        _upstreams.Discoveries.Apply(snapshot.Settings.Discovery);
        if (snapshot.Upstreams != _followed)
        {
            _followed = snapshot.Upstreams;
            _upstreams.Discoveries.Follow(snapshot.Upstreams.Values);
            _healthCheckers.Follow(snapshot.Upstreams.Values);
        }
    }

    void Apply(GatewaySettings settings) => ThrowOnError(_live.Apply(settings));

    void ThrowOnError(IReadOnlyList<Problem> problems)
    {
        if (problems.Any(problem => problem.Severity == Severity.Error))
        {
            throw new GatewayStartException(problems);
        }
        LogProblems(problems);
    }

    // -- Addresses

    async Task BindAsync(GatewaySettings settings, CancellationToken cancellation)
    {
        foreach (var (name, address, handler) in OwnInterfaces(settings))
        {
            _own[name] = await HttpEndpoint.StartAsync(address, new HandlerApplication(handler), loops: null, _loggers, static limits => limits.MaxRequestBodySize = 2 * 1024 * 1024, cancellation);
        }
        _proxies = await OpenAsync(ProxyAddresses(settings), settings, cancellation);
        _streams.CloseOthers(settings.Streams, _streams.OpenMissing(settings.Streams), _stopping.Token);
        _live.Changed += _ => OpenTlsWhenNeeded();
    }

    /// <summary>The first certificate opens the addresses of ssl.listen.</summary>
    void OpenTlsWhenNeeded()
    {
        if (!_live.Current.Tls.IsEmpty && _live.Current.Settings.Listens.Any(listen => listen.Tls) && !_proxies.Any(endpoint => endpoint.Address.Tls) && !_stopped)
        {
            _ = Task.Run(OpenTlsAsync);
        }
    }

    async Task OpenTlsAsync()
    {
        await _changing.WaitAsync();
        try
        {
            var missing = ProxyAddresses(Settings).Where(address => address.Tls && !_proxies.Any(running => running.Address == address)).ToList();
            _proxies = [.. _proxies, .. await OpenAsync(missing, Settings, _stopping.Token)];
        }
        catch (Exception e) when (e is EndpointException or OperationCanceledException)
        {
            LogConfigurationError("apisix.ssl.listen", e.Message);
        }
        finally
        {
            _changing.Release();
        }
    }

    /// <summary>All of them or none.</summary>
    async Task<List<HttpEndpoint>> OpenAsync(IEnumerable<EndpointAddress> addresses, GatewaySettings settings, CancellationToken cancellation)
    {
        List<HttpEndpoint> opened = [];
        try
        {
            foreach (var address in addresses)
            {
                try
                {
                    opened.Add(await HttpEndpoint.StartAsync(address, _proxy, _loops, _loggers, limits => Limit(limits, settings), cancellation, new(_services.Time, _metrics.Connections, _tls)));
                }
                catch (EndpointException) when (address.Optional)
                {
                    LogNotListening(address.ToString());
                }
            }
            return opened;
        }
        catch
        {
            foreach (var endpoint in opened)
            {
                await endpoint.DisposeAsync();
            }
            throw;
        }
    }

    /// <summary>What holds before a request is there, so that only the http level of nginx's blocks can say it.</summary>
    internal static void Limit(KestrelServerLimits limits, GatewaySettings settings)
    {
        var http = settings.Nginx.Http;
        limits.KeepAliveTimeout = http.KeepaliveTimeout > TimeSpan.Zero ? http.KeepaliveTimeout : TimeSpan.FromTicks(1);
        limits.RequestHeadersTimeout = http.ClientHeaderTimeout > TimeSpan.Zero ? http.ClientHeaderTimeout : Timeout.InfiniteTimeSpan;
    }

    List<EndpointAddress> ProxyAddresses(GatewaySettings settings)
    {
        var hasCertificate = settings.Tls?.CertificateFile is not null || !_live.Current.Tls.IsEmpty;
        return [.. settings.Listens.Where(listen => !listen.Tls || hasCertificate).Select(listen => new EndpointAddress(listen.EndPoint, listen.Http2, listen.Tls)
        {
            Optional = listen.Optional,
            DualMode = !listen.Ipv6Only,
            ProxyProtocol = listen.ProxyProtocol,
            Http3 = listen.Http3 && CanSpeakHttp3(listen.Place),
        })];
    }

    bool CanSpeakHttp3(string place)
    {
        if (System.Net.Quic.QuicListener.IsSupported)
        {
            return true;
        }
        LogConfigurationError(place, "HTTP/3 cannot be spoken here: this machine has no libmsquic (version 2) or an OpenSSL without QUIC's TLS 1.3; HTTP/1.1 and HTTP/2 are served");
        return false;
    }

    IEnumerable<(string Name, EndpointAddress Address, RequestDelegate Handler)> OwnInterfaces(GatewaySettings settings)
    {
        if (settings.Admin is { } admin)
        {
            yield return ("admin", new(admin.Listen), AdminApi.HandleAsync);
        }
        if (settings.Control is { } control)
        {
            yield return ("control", new(control), new ControlApi(_live, _services, _upstreams.Discoveries, _loggers.CreateLogger<ControlApi>()).HandleAsync);
        }
        yield return ("status", new(settings.Status), _status.HandleAsync);
        if (MetricsApi.Address(settings.PluginAttributes.GetValueOrDefault("prometheus")) is { } metrics)
        {
            yield return ("metrics", new(metrics.Listen), new MetricsApi(_metrics, metrics.Uri).HandleAsync);
        }
    }

    // -- Reload

    /// <summary>
    /// Reads conf/ again and changes over without dropping a connection: new addresses are opened first, those that are gone stop accepting and end
    /// when their last request has. With any error everything stays as it is.
    /// </summary>
    public async Task<IReadOnlyList<Problem>> ReloadAsync()
    {
        await _changing.WaitAsync();
        try
        {
            var (settings, problems) = SettingsReader.Load(_options.Prefix, _options.Environment);
            var result = settings is null ? problems : [.. problems, .. await ChangeOverAsync(settings)];
            LogProblems(result);
            if (result.Any(problem => problem.Severity == Severity.Error))
            {
                LogReloadRefused();
            }
            else
            {
                LogReloaded();
            }
            return result;
        }
        finally
        {
            _changing.Release();
        }
    }

    async Task<IReadOnlyList<Problem>> ChangeOverAsync(GatewaySettings settings)
    {
        if (settings.ConfigProvider != Settings.ConfigProvider || settings.IsPushed != Settings.IsPushed)
        {
            return [Problem.Error("conf/config.yaml (deployment)", "the configuration provider cannot be changed by a reload: restart")];
        }
        List<Problem> problems = [.. UnchangeableByReload(settings)];
        var wanted = ProxyAddresses(settings);
        var added = wanted.Where(address => !_proxies.Any(running => running.Address == address)).ToList();
        List<HttpEndpoint> opened;
        try
        {
            opened = await OpenAsync(added, settings, _stopping.Token);
        }
        catch (EndpointException e)
        {
            return [Problem.Error("conf/config.yaml", e.Message)];
        }
        IReadOnlyList<IStreamEndpoint> streams = [];
        try
        {
            streams = _streams.OpenMissing(settings.Streams);
            problems.AddRange(_live.Apply(settings));
        }
        catch (EndpointException e)
        {
            problems.Add(Problem.Error("conf/config.yaml", e.Message));
        }
        if (problems.Exists(problem => problem.Severity == Severity.Error))
        {
            foreach (var endpoint in opened.Concat<IAsyncDisposable>(streams))
            {
                await endpoint.DisposeAsync();
            }
            return problems;
        }
        _streams.CloseOthers(settings.Streams, streams, _stopping.Token);
        Settings = settings;
        LetIn(settings);
        _errorLog.Level = Level(settings);
        await _accessLog.ApplyAsync(settings.Logs.Access);
        await _streamLog.ApplyAsync(settings.Logs.StreamAccess);
        var (staying, going) = (_proxies.Where(running => wanted.Contains(running.Address)).ToList(), _proxies.Where(running => !wanted.Contains(running.Address)).ToList());
        staying.ForEach(running => Limit(running.Limits, settings));
        _proxies = [.. staying, .. opened];
        going.ForEach(gone => _ = DrainAsync(gone));
        OpenTlsWhenNeeded();
        if (_yaml is not null)
        {
            problems.AddRange(_yaml.Load());
        }
        return problems;
    }

    /// <summary>Opens the logs by their names again, after log rotation moved the files away.</summary>
    public void ReopenLogs()
    {
        _errorLog.Reopen();
        _accessLog.Reopen();
        _streamLog.Reopen();
    }

    IEnumerable<Problem> UnchangeableByReload(GatewaySettings settings)
    {
        var running = OwnInterfaces(Settings).Select(own => (own.Name, own.Address)).ToHashSet();
        if (!running.SetEquals(OwnInterfaces(settings).Select(own => (own.Name, own.Address))))
        {
            yield return Problem.Warning("conf/config.yaml", "addresses of the Admin API, Control API, status and metrics change at the next restart");
        }
        if (Settings.DataDirectory != settings.DataDirectory)
        {
            yield return Problem.Warning("conf/config.yaml (sluice.data_dir)", "the directory changes at the next restart");
        }
        if (Settings.Etcd is { } now && settings.Etcd is { } wanted && (now with { Hosts = wanted.Hosts } != wanted || !now.Hosts.SequenceEqual(wanted.Hosts)))
        {
            yield return Problem.Warning("conf/config.yaml (deployment.etcd)", "changes at the next restart");
        }
        if (Settings.Transport != settings.Transport)
        {
            yield return Problem.Warning("conf/config.yaml", "sluice.transport and nginx_config.worker_processes change at the next restart");
        }
    }

    async Task DrainAsync(HttpEndpoint endpoint)
    {
        try
        {
            await endpoint.StopAsync(_stopping.Token);
            await endpoint.DisposeAsync();
        }
        catch (Exception e)
        {
            LogDrainFailed(e, endpoint.Address.ToString());
        }
    }

    // -- Stop

    /// <summary>
    /// Graceful: accepts nothing new and lets requests end, up to <c>sluice.shutdown_timeout</c>; quick: aborts them. A quick stop during a graceful
    /// one makes that quick.
    /// </summary>
    public async Task StopAsync(bool graceful)
    {
        _status.NotReady = "shutting down";
        if (!graceful)
        {
            await _stopping.CancelAsync();
        }
        using var tooLong = CancellationTokenSource.CreateLinkedTokenSource(_stopping.Token);
        using var limit = _options.Time.CreateTimer(static source => ((CancellationTokenSource)source!).Cancel(), tooLong, Settings.ShutdownTimeout, Timeout.InfiniteTimeSpan);
        await Task.WhenAll(_proxies.Select(endpoint => endpoint.StopAsync(tooLong.Token)).Append(_streams.StopAsync(tooLong.Token)));
        await DisposeAsync();
    }

    public async ValueTask DisposeAsync()
    {
        if (_stopped)
        {
            return;
        }
        _stopped = true;
        await _stopping.CancelAsync();
        foreach (var endpoint in _proxies.Concat(_own.Values))
        {
            await endpoint.DisposeAsync();
        }
        await _streams.DisposeAsync();
        if (_yaml is not null)
        {
            await _yaml.DisposeAsync();
        }
        if (_resources is not null)
        {
            await _resources.DisposeAsync();
        }
        if (_store is not null)
        {
            await _store.DisposeAsync();
        }
        await _healthCheckers.DisposeAsync();
        await _upstreams.Discoveries.DisposeAsync();
        _etcd?.Dispose();
        _secrets.Dispose();
        _services.Secrets.Dispose();
        _pools.Dispose();
        _http2.Dispose();
        _loops?.Dispose();
        _services.Dispose();
        await _accessLog.DisposeAsync();
        await _streamLog.DisposeAsync();
        LogStopped();
        _loggers.Dispose();
        await _errorLog.DisposeAsync();
        _instance?.Dispose();
    }

    // -- Check

    /// <summary>Everything that <see cref="StartAsync"/> would complain about short of binding: settings, nginx.conf, apisix.yaml.</summary>
    public static IReadOnlyList<Problem> Check(string prefix, Func<string, string?> environment)
    {
        var (settings, problems) = SettingsReader.Load(prefix, environment);
        if (settings?.ConfigProvider != ConfigProvider.Yaml || settings.IsPushed)
        {
            return problems;
        }
        var nowhere = NullLoggerFactory.Instance;
        using var services = new PluginServices(TimeProvider.System, nowhere, new GatewayMetrics(NullLogger.Instance))
        {
            Secrets = new(TimeProvider.System, environment, new SecretManagers(TimeProvider.System), NullLogger<SecretStore>.Instance),
        };
        services.MakeLua = () => new LuaEngine(PluginServices.LuaOptions(settings), TimeProvider.System);
        var live = new LiveConfiguration(new SnapshotCompiler(services, Builtin.All));
        live.Apply(settings);
        var yaml = new YamlConfiguration(
            new YamlSource(prefix, TimeProvider.System, NullLogger<YamlSource>.Instance, environment), live, NullLogger<YamlConfiguration>.Instance);
        return [.. problems, .. yaml.Load()];
    }

    void LogProblems(IEnumerable<Problem> problems)
    {
        foreach (var problem in problems)
        {
            if (problem.Severity == Severity.Error)
            {
                LogConfigurationError(problem.Place, problem.Message);
            }
            else
            {
                LogConfigurationWarning(problem.Place, problem.Message);
            }
        }
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "started, prefix: {Prefix}, listening on {Addresses}")]
    partial void LogStarted(string prefix, string addresses);

    [LoggerMessage(Level = LogLevel.Information, Message = "not listening on {Address}: this machine does not have it")]
    partial void LogNotListening(string address);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Problem}: starting with the local copy of its configuration, of revision {Revision}")]
    partial void LogServingCopy(long revision, string problem);

    [LoggerMessage(Level = LogLevel.Information, Message = "stopped")]
    partial void LogStopped();

    [LoggerMessage(Level = LogLevel.Information, Message = "reloaded")]
    partial void LogReloaded();

    [LoggerMessage(Level = LogLevel.Error, Message = "reload refused: the configuration has errors, the old one keeps running")]
    partial void LogReloadRefused();

    [LoggerMessage(Level = LogLevel.Error, Message = "{Place}: {What}")]
    partial void LogConfigurationError(string place, string what);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Place}: {What}")]
    partial void LogConfigurationWarning(string place, string what);

    [LoggerMessage(Level = LogLevel.Error, Message = "closing {Address} failed")]
    partial void LogDrainFailed(Exception exception, string address);
}
