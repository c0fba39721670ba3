using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;
using Sluice.Observability;

namespace Sluice.Pipeline;

/// <summary>What plugins share with the gateway; lives as long as the process, through every change of configuration.</summary>
public sealed class PluginServices(TimeProvider time, ILoggerFactory loggers, GatewayMetrics metrics)
{
    readonly ConcurrentDictionary<string, Lazy<object>> _shared = new();

    public TimeProvider Time { get; } = time;

    public ILoggerFactory Loggers { get; } = loggers;

    public GatewayMetrics Metrics { get; } = metrics;

    /// <summary>Runs an exchange through the gateway, for <see cref="InnerRequest"/>.</summary>
    public Func<Exchange, Task> Inner { get; set; } = static _ => throw new InvalidOperationException("there is no gateway here");

    /// <summary>State that survives a change of configuration, such as counters. The key names the plugin first: <c>limit-count/…</c>.</summary>
    public T Shared<T>(string key, Func<T> make) where T : class => (T)_shared.GetOrAdd(key, _ => new(() => make())).Value;
}
