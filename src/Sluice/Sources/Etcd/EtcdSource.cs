using Microsoft.Extensions.Logging;
using Sluice.Model;
using Sluice.Model.Settings;
using Sluice.Observability;
using Sluice.Pipeline;

namespace Sluice.Sources.Etcd;

/// <summary>Resources from etcd; while etcd is away at a start, from the local copy.</summary>
internal sealed partial class EtcdSource : IConfigurationSource
{
    readonly EtcdSettings _settings;
    readonly TimeProvider _time;
    readonly ILogger _log;
    readonly LocalCopy _copy;
    readonly EtcdStore _store;
    readonly ResourceStore _resources;

    public EtcdSource(EtcdSettings settings, string dataDirectory, LiveConfiguration live, TimeProvider time, ILoggerFactory loggers,
        GatewayMetrics metrics)
    {
        (_settings, _time, _log) = (settings, time, loggers.CreateLogger<EtcdSource>());
        _copy = new LocalCopy(dataDirectory, settings.Prefix, time, loggers.CreateLogger<LocalCopy>());
        _store = new EtcdStore(settings, time, loggers.CreateLogger<EtcdStore>());
        _resources = new ResourceStore(_store, live, time, loggers.CreateLogger<ResourceStore>(), settings.Prefix, _copy);
        metrics.WatchEtcd(() => (_store.Health.Problem is null, _resources.Revision));
    }

    public ResourceStore Writer => _resources;

    public string? Warning => _store.Health is { Problem: { } problem } health
        ? $"{problem}; since {health.Since:yyyy-MM-ddTHH:mm:ssZ} the configuration of revision {_resources.Revision} is served"
        : _resources.LeftOutWarning;

    public async Task<IReadOnlyList<Problem>> StartAsync(CancellationToken cancel)
    {
        for (var retries = _settings.StartupRetry; ; retries--)
        {
            try
            {
                await _resources.LoadAsync(cancel);
                break;
            }
            catch (EtcdUnavailableException) when (retries > 0)
            {
                await Task.Delay(TimeSpan.FromSeconds(1), _time, cancel);
            }
            catch (EtcdUnavailableException e)
            {
                if (_copy.Read(out var damage) is not { } range)
                {
                    throw new ConfigurationSourceException(
                        Problem.Error("conf/config.yaml (deployment.etcd.host)", damage is null
                            ? $"{e.Message}, and there is no copy of its configuration from an earlier start"
                            : $"{e.Message}, and the copy of its configuration from an earlier start is damaged ({damage})"), e);
                }
                LogServingCopy(range.Revision, e.Message);
                await _resources.LoadAsync(range, isCopy: true, cancel);
                break;
            }
            catch (StoreException e)
            {
                throw new ConfigurationSourceException(Problem.Error("conf/config.yaml (deployment.etcd)", e.Message), e);
            }
        }
        _resources.Follow();
        return [];
    }

    public async Task<IReadOnlyList<Problem>> ReloadAsync()
    {
        await _resources.LookAgainAsync();
        return [];
    }

    public async ValueTask DisposeAsync()
    {
        await _resources.DisposeAsync();
        _store.Dispose();
    }

    [LoggerMessage(Level = LogLevel.Warning,
        Message = "{Problem}: starting with the local copy of its configuration, of revision {Revision}")]
    partial void LogServingCopy(long revision, string problem);
}
