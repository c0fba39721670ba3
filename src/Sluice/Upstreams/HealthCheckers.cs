using Sluice.Model;
using Sluice.Net;
using Sluice.Upstreams.Discovery;

namespace Sluice.Upstreams;

/// <summary>
/// The active checks of the running configuration. A change starts and stops only those whose upstreams changed; nothing runs after
/// <see cref="DisposeAsync"/>.
/// </summary>
internal sealed partial class HealthCheckers(HostResolver resolver, TimeProvider time, ILogger<HealthCheckers> logger) : IAsyncDisposable
{
    readonly Lock _lock = new();
    readonly Dictionary<Upstream, (Task Checking, CancellationTokenSource Stop)> _running = new(ReferenceEqualityComparer.Instance);
    readonly List<Task> _ending = [];
    bool _disposed;

    /// <summary>These are the upstreams from now on.</summary>
    public void Follow(IEnumerable<Upstream> upstreams)
    {
        lock (_lock)
        {
            if (_disposed)
            {
                return;
            }
            var wanted = upstreams.Where(upstream => upstream.Checks?.Config.Active is not null)
                .ToHashSet<Upstream>(ReferenceEqualityComparer.Instance);
            foreach (var gone in _running.Keys.Where(upstream => !wanted.Contains(upstream)).ToArray())
            {
                _running.Remove(gone, out var checker);
                checker.Stop.Cancel();
                foreach (var node in gone.Nodes)
                {
                    gone.Checks!.ForgetStatus(node);
                }
                _ending.RemoveAll(static task => task.IsCompleted);
                _ending.Add(checker.Checking);
            }
            foreach (var upstream in wanted.Where(upstream => !_running.ContainsKey(upstream)))
            {
                var stop = new CancellationTokenSource();
                _running.Add(upstream, (Task.Run(() => CheckAsync(upstream, stop.Token), CancellationToken.None), stop));
                ShowStatus(upstream);
            }
        }
    }

    static void ShowStatus(Upstream upstream)
    {
        foreach (var node in upstream.Nodes)
        {
            upstream.Checks!.ShowStatus(node);
        }
    }

    /// <summary>Round after round: every node that is due, some at a time, then a pause until the next one is.</summary>
    async Task CheckAsync(Upstream upstream, CancellationToken stopping)
    {
        var checks = upstream.Checks!;
        var config = checks.Config.Active!;
        IReadOnlyList<Node> shown = [];
        var probe = new HealthProbe(config, upstream, resolver, time);
        try
        {
            while (true)
            {
                var nodes = await CurrentNodesAsync(upstream, shown, stopping);
                shown = nodes;
                var due = nodes.Where(node => node.Health!.Due <= time.GetTimestamp());
                await Parallel.ForEachAsync(
                    due, new ParallelOptions { MaxDegreeOfParallelism = Math.Max(1, config.Concurrency), CancellationToken = stopping },
                    async (node, stop) =>
                    {
                        Report(checks, config, node, await probe.RunAsync(node, stop));
                        var interval = node.IsHealthy ? config.Healthy.Interval : config.Unhealthy.Interval;
                        node.Health!.Due = time.GetTimestamp() + (long)(interval * time.TimestampFrequency);
                    });
                var next = nodes.Count == 0 ? long.MaxValue : nodes.Min(node => node.Health!.Due);
                var pause = next == long.MaxValue ? TimeSpan.FromSeconds(1) : time.GetElapsedTime(time.GetTimestamp(), next);
                await Task.Delay(TimeSpan.FromMilliseconds(Math.Clamp(Math.Ceiling(pause.TotalMilliseconds), 1, 1000)), time, stopping);
            }
        }
        catch (OperationCanceledException) when (stopping.IsCancellationRequested)
        {
            // the upstream is gone or has changed
        }
        catch (Exception e)
        {
            LogBug(e, upstream.Name);
        }
    }

    /// <summary>Those that a service has lost since the last round are forgotten.</summary>
    static async ValueTask<IReadOnlyList<Node>> CurrentNodesAsync(Upstream upstream, IReadOnlyList<Node> shown, CancellationToken stopping)
    {
        try
        {
            await upstream.RefreshAsync(stopping);
        }
        catch (DiscoveryException)
        {
            // requests say it; the nodes that are known are checked on
        }
        var nodes = upstream.Nodes;
        if (!ReferenceEquals(nodes, shown))
        {
            foreach (var gone in shown.ExceptBy(nodes.Select(node => node.Name), node => node.Name))
            {
                upstream.Checks!.ForgetStatus(gone);
            }
            ShowStatus(upstream);
        }
        return nodes;
    }

    static void Report(HealthChecks checks, ActiveCheckConfig config, Node node, ProbeResult result)
    {
        if (result is { Succeeded: true, Status: { } status })
        {
            checks.ReportStatus(node, config.Healthy, config.Unhealthy, status, "active");
        }
        else if (result.Succeeded)
        {
            checks.ReportSuccess(node, config.Healthy, "active");
        }
        else
        {
            checks.ReportFailure(node, config.Unhealthy, result.IsTimeout, "active");
        }
    }

    public async ValueTask DisposeAsync()
    {
        Task[] all;
        lock (_lock)
        {
            if (_disposed)
            {
                return;
            }
            _disposed = true;
            all = [.. _running.Values.Select(checker => checker.Checking), .. _ending];
            foreach (var (_, stop) in _running.Values)
            {
                stop.Cancel();
            }
        }
        await Task.WhenAll(all);
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "{Upstream}: active health checks ended by an unexpected failure")]
    partial void LogBug(Exception exception, string upstream);
}
