using System.Net;
using Microsoft.Extensions.Logging;
using Sluice.Model;
using Sluice.Model.Settings;
using Sluice.Net;
using Sluice.Net.Epoll;
using Sluice.Observability;
using Sluice.Pipeline;
using Sluice.Plugins;
using Sluice.Sources;

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
/// A running gateway: <see cref="GatewayParts"/>, a source of resources, addresses; it starts, reloads and stops them. What happens to a
/// request is in
/// <see cref="GatewayPipeline"/>.
/// </summary>
public sealed partial class Gateway : IAsyncDisposable
{
    readonly GatewayOptions _options;
    readonly ErrorLog _errorLog;
    readonly ILoggerFactory _loggers;
    readonly ILogger _log;
    readonly EventLoops? _loops;
    readonly GatewayParts _parts;
    readonly SemaphoreSlim _changing = new(1);
    readonly CancellationTokenSource _stopping = new();
    readonly Addresses _addresses;
    IConfigurationSource? _source;
    OwnInterfaces? _own;
    InstanceLock? _instance;
    bool _stopped;

    Gateway(GatewayOptions options, GatewaySettings settings)
    {
        _options = options;
        Settings = settings;
        var logFile = settings.Logs.ErrorLog == "stderr" ? "/dev/stderr" : settings.Logs.ErrorLog;
        Directory.CreateDirectory(Path.GetDirectoryName(logFile)!);
        Directory.CreateDirectory(settings.Absolute("logs"));
        _errorLog = new ErrorLog(options.ErrorLogCopy is { } copy && copy != logFile ? [logFile, copy] : [logFile], Level(settings),
            options.Time);
        _loggers = LoggerFactory.Create(logging => logging
            .SetMinimumLevel(LogLevel.Trace).AddProvider(_errorLog)
            .AddFilter("Microsoft", LogLevel.Warning)
            // bad requests and broken connections of clients are in the access log
            .AddFilter("Microsoft.AspNetCore.Server.Kestrel.BadRequests", LogLevel.Critical)
            .AddFilter("Microsoft.AspNetCore.Server.Kestrel.Connections", LogLevel.Critical));
        _log = _loggers.CreateLogger<Gateway>();
        _loops = settings.Transport.Epoll && EventLoops.AreSupported ? new EventLoops(settings.Transport.EventLoops, _log) : null;
        _parts = new GatewayParts(settings, options, _loggers,
            Directory.CreateDirectory(Path.Combine(settings.DataDirectory, "tmp")).FullName, _loops);
        _parts.FollowUpstreams();
        if (_loops is { } loops)
        {
            _parts.Metrics.WatchTimers(() => loops.All.Sum(static loop => loop.Timers));
        }
        _addresses = new Addresses(_parts, _loops, _stopping.Token);
    }

    internal GatewaySettings Settings { get; private set; }

    /// <summary>The key that this start made because none was configured; to be shown once.</summary>
    public string? GeneratedAdminKey { get; private set; }

    /// <summary>The addresses that take requests, as bound.</summary>
    public IReadOnlyList<IPEndPoint> ProxyEndpoints => [.. _addresses.Proxies.Select(endpoint => endpoint.Bound)];

    /// <summary>Those of them that speak TLS; none while there is no certificate.</summary>
    public IReadOnlyList<IPEndPoint> TlsEndpoints =>
        [.. _addresses.Proxies.Where(endpoint => endpoint.Address.Tls).Select(endpoint => endpoint.Bound)];

    /// <summary>The addresses of TCP and UDP, as bound, in the order of the configuration.</summary>
    public IReadOnlyList<IPEndPoint> StreamEndpoints => [.. _addresses.TcpUdp.Select(endpoint => endpoint.Bound)];

    internal TlsTermination Tls => _parts.Tls;

    public IPEndPoint? AdminEndpoint => _addresses.Own("admin");

    public IPEndPoint? ControlEndpoint => _addresses.Own("control");

    public IPEndPoint? StatusEndpoint => _addresses.Own("status");

    public IPEndPoint? MetricsEndpoint => _addresses.Own("metrics");

    // -- Start

    /// <summary>Reads the configuration, opens the store or the YAML file, binds every address; returns when requests are
    /// answered.</summary>
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
            await gateway.StartAsync(problems, cancellation);
            return gateway;
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            await gateway.DisposeAsync();
            throw e as GatewayStartException ?? new GatewayStartException([ProblemOf(e, options.Prefix)], e);
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

    static Problem ProblemOf(Exception e, string prefix) => e switch
    {
        EndpointException endpoint => Problem.Error(endpoint.Place, e.Message),
        ConfigurationSourceException source => source.Problem,
        StoreException => Problem.Error("data", e.Message),
        _ => Problem.Error(prefix, e.Message),
    };

    async Task StartAsync(IReadOnlyList<Problem> problems, CancellationToken cancellation)
    {
        var settings = EnsureAdminKey(Settings);
        LogProblems([.. problems, .. PluginNames.Check(settings, Builtin.All, _parts.Services.IsScript)]);
        Descriptors.ThrowIfTooFew();
        await _parts.AccessLog.ApplyAsync(settings.Logs.Access);
        await _parts.StreamLog.ApplyAsync(settings.Logs.StreamAccess);
        if (settings.ConfigProvider != ConfigProvider.Embedded)
        {
            // the embedded store has one itself
            _instance = InstanceLock.Acquire(_options.Prefix, settings.DataDirectory);
        }
        ThrowOnError(_parts.Live.Apply(settings));
        _source = _parts.CreateSource(settings, _options);
        _own = new OwnInterfaces(_parts, _source);
        ThrowOnError(await _source.StartAsync(cancellation));
        if (_source.Writer is { } resources)
        {
            _parts.Metrics.WatchLeftOut(() => resources.LeftOut.Count());
        }
        _own.LetIn(settings);
        await _parts.Secrets.StartAsync();
        await _addresses.OpenOwnAsync(_own, settings, cancellation);
        _addresses.CloseOthers(settings, await _addresses.OpenMissingAsync(settings, cancellation));
        _parts.Live.Changed += _ => OpenTlsWhenNeeded();
        _own.Status.Started(() => _source.NotReady);
        LogStarted(_options.Prefix, string.Join(", ", ProxyEndpoints));
        if (Descriptors.Warning() is { } few)
        {
            LogFewDescriptors(few);
        }
    }

    static LogSeverity Level(GatewaySettings settings) => ErrorLog.ParseLevel(settings.Logs.ErrorLevel) ?? LogSeverity.Warn;

    internal static string ConfigFile(string prefix) => Path.Combine(prefix, "conf", "config.yaml");

    internal static Func<string, bool> KeyIsRead(string prefix, Func<string, string?> environment) =>
        text => SettingsReader.Parse(prefix, text, null, environment).Settings?.Admin?.Keys.Count > 0;

    GatewaySettings EnsureAdminKey(GatewaySettings settings)
    {
        if (settings.Admin is not { KeyRequired: true, Keys.Count: 0 })
        {
            return settings;
        }
        try
        {
            GeneratedAdminKey = AdminKey.Create(ConfigFile(_options.Prefix), KeyIsRead(_options.Prefix, _options.Environment));
        }
        catch (InvalidOperationException e)
        {
            throw new GatewayStartException([Problem.Error("conf/config.yaml", e.Message)], e);
        }
        return Settings = SettingsReader.Load(_options.Prefix, _options.Environment).Settings!;
    }

    void ThrowOnError(IReadOnlyList<Problem> problems)
    {
        if (problems.Any(problem => problem.Severity == Severity.Error))
        {
            throw new GatewayStartException(problems);
        }
        LogProblems(problems);
    }

    /// <summary>The first certificate opens the addresses of ssl.listen.</summary>
    void OpenTlsWhenNeeded()
    {
        if (!_stopped && _addresses.LacksTls)
        {
            _ = Task.Run(OpenTlsAsync);
        }
    }

    async Task OpenTlsAsync()
    {
        await _changing.WaitAsync();
        try
        {
            await _addresses.OpenTlsAsync(Settings);
        }
        finally
        {
            _changing.Release();
        }
    }

    // -- Reload

    /// <summary>
    /// Reads conf/ again and changes over without dropping a connection: new addresses are opened first, those that are gone stop accepting
    /// and end when their last request has. With any error everything stays as it is.
    /// </summary>
    public async Task<IReadOnlyList<Problem>> ReloadAsync()
    {
        await _changing.WaitAsync();
        try
        {
            var (settings, problems) = SettingsReader.Load(_options.Prefix, _options.Environment);
            var result = settings is null ? problems
                : [.. problems, .. PluginNames.Check(settings, Builtin.All, _parts.Services.IsScript), .. await ChangeOverAsync(settings)];
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
        if (LogsThatCannotBe(settings) is { Count: > 0 } unwritable)
        {
            return unwritable;
        }
        List<Problem> problems = [.. UnchangeableByReload(settings)];
        OpenedAddresses opened;
        try
        {
            opened = await _addresses.OpenMissingAsync(settings, _stopping.Token);
        }
        catch (EndpointException e)
        {
            return [Problem.Error(e.Place, e.Message)];
        }
        problems.AddRange(_parts.Live.Apply(settings));
        if (problems.Exists(problem => problem.Severity == Severity.Error))
        {
            await opened.GiveUpAsync();
            return problems;
        }
        Settings = settings;
        _addresses.CloseOthers(settings, opened);
        _own!.LetIn(settings);
        _errorLog.Level = Level(settings);
        await _parts.AccessLog.ApplyAsync(settings.Logs.Access);
        await _parts.StreamLog.ApplyAsync(settings.Logs.StreamAccess);
        OpenTlsWhenNeeded();
        return [.. problems, .. await _source!.ReloadAsync()];
    }

    /// <summary>Logs by other names than now: known before anything is changed over.</summary>
    List<Problem> LogsThatCannotBe(GatewaySettings settings) =>
    [
        .. new[]
        {
            (Now: Settings.Logs.Access.Path, Next: settings.Logs.Access.Path, Key: "nginx_config.http.access_log"),
            (Now: Settings.Logs.StreamAccess.Path, Next: settings.Logs.StreamAccess.Path, Key: "nginx_config.stream.access_log"),
        }
        .Where(log => log.Next is not null && log.Next != log.Now)
        .Select(log => (log.Key, Reason: LogFile.WhyNot(log.Next!)))
        .Where(log => log.Reason is not null)
        .Select(log => Problem.Error($"conf/config.yaml ({log.Key})", log.Reason!)),
    ];

    /// <summary>Opens the logs by their names again, after log rotation moved the files away.</summary>
    public void ReopenLogs()
    {
        _errorLog.Reopen();
        _parts.AccessLog.Reopen();
        _parts.StreamLog.Reopen();
        _parts.Services.ReopenLogs();
    }

    /// <summary>Tells the error log of a side file that could not be written: a gateway goes on without it.</summary>
    internal void LogSideFile(string file, string reason) => LogNotWritten(file, reason);

    IEnumerable<Problem> UnchangeableByReload(GatewaySettings settings)
    {
        if (!OwnInterfaces.Addresses(Settings).ToHashSet().SetEquals(OwnInterfaces.Addresses(settings)))
        {
            yield return Problem.Warning("conf/config.yaml",
                "addresses of the Admin API, Control API, status and metrics change at the next restart");
        }
        if (Settings.DataDirectory != settings.DataDirectory)
        {
            yield return Problem.Warning("conf/config.yaml (sluice.data_dir)", "the directory changes at the next restart");
        }
        if (Settings.Etcd is { } now && settings.Etcd is { } wanted
            && (now with { Hosts = wanted.Hosts } != wanted || !now.Hosts.SequenceEqual(wanted.Hosts)))
        {
            yield return Problem.Warning("conf/config.yaml (deployment.etcd)", "changes at the next restart");
        }
        if (Settings.Transport != settings.Transport)
        {
            yield return Problem.Warning("conf/config.yaml",
                "sluice.transport and nginx_config.worker_processes change at the next restart");
        }
    }

    // -- Stop

    /// <summary>
    /// Graceful: accepts nothing new and lets requests end, up to <c>sluice.shutdown_timeout</c>; quick: aborts them. A quick stop during a
    /// graceful one makes that quick.
    /// </summary>
    public async Task StopAsync(bool graceful)
    {
        _own!.Status.NotReady = "shutting down";
        if (!graceful)
        {
            await _stopping.CancelAsync();
        }
        else if (Settings.Drain.Wait > TimeSpan.Zero)
        {
            await Task.Delay(Settings.Drain.Wait, _options.Time, _stopping.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
        using var tooLong = CancellationTokenSource.CreateLinkedTokenSource(_stopping.Token);
        using var limit = _options.Time.CreateTimer(
            _ =>
            {
                WarnOfCutStreams();
                tooLong.Cancel();
            },
            null, Settings.ShutdownTimeout, Timeout.InfiniteTimeSpan);
        var draining = graceful ? _parts.Drain.RunAsync(Settings.Drain, Settings.ShutdownTimeout, tooLong.Token) : Task.CompletedTask;
        await _addresses.StopAsync(tooLong.Token);
        await tooLong.CancelAsync();
        await draining;
        await DisposeAsync();
    }

    /// <summary>The responses that are under way.</summary>
    internal LiveStreams Live => _parts.Services.Live;

    void WarnOfCutStreams()
    {
        if (Live.Count is > 0 and var count && !_stopping.IsCancellationRequested)
        {
            LogCutStreams(count, Settings.ShutdownTimeout.TotalSeconds);
        }
    }

    public async ValueTask DisposeAsync()
    {
        if (_stopped)
        {
            return;
        }
        _stopped = true;
        await _stopping.CancelAsync();
        await _addresses.DisposeAsync();
        if (_source is not null)
        {
            await _source.DisposeAsync();
        }
        await _parts.DisposeAsync();
        _loops?.Dispose();
        LogStopped();
        _loggers.Dispose();
        await _errorLog.DisposeAsync();
        _instance?.Dispose();
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

    [LoggerMessage(Level = LogLevel.Information, Message = "stopped")]
    partial void LogStopped();

    [LoggerMessage(Level = LogLevel.Warning,
        Message = "shutdown_timeout ({Seconds} s) is over: {Count} responses that are under way are cut")]
    partial void LogCutStreams(long count, double seconds);

    [LoggerMessage(Level = LogLevel.Information, Message = "reloaded")]
    partial void LogReloaded();

    [LoggerMessage(Level = LogLevel.Error, Message = "reload refused: the configuration has errors, the old one keeps running")]
    partial void LogReloadRefused();

    [LoggerMessage(Level = LogLevel.Error, Message = "{Place}: {What}")]
    partial void LogConfigurationError(string place, string what);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Place}: {What}")]
    partial void LogConfigurationWarning(string place, string what);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{What}")]
    partial void LogFewDescriptors(string what);

    [LoggerMessage(Level = LogLevel.Error, Message = "{File} cannot be written: {Reason}")]
    partial void LogNotWritten(string file, string reason);
}
