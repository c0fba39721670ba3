using Sluice.Model;

namespace Sluice.Upstreams;

/// <summary>
/// What an upstream's <c>checks</c> make of reports about its nodes: those of clients' requests (passive) and those of probes (active). A
/// node that turns is logged and shows in <c>apisix_upstream_status</c>.
/// </summary>
internal sealed partial class HealthChecks(Upstream upstream, ChecksConfig config)
{
    readonly ILogger _logger = upstream.Services.Loggers.CreateLogger<HealthChecks>();

    public ChecksConfig Config => config;

    /// <summary>The port that probes go to and that the status names.</summary>
    public int PortOf(Node node) => config.Active?.Port ?? node.Port;

    /// <summary>A client's request got no answer.</summary>
    internal void Failed(Node node, bool timeout)
    {
        if (config.Passive is { } passive)
        {
            ReportFailure(node, passive.Unhealthy, timeout, "passive");
        }
    }

    /// <summary>A client's request got an answer.</summary>
    internal void Answered(Node node, int status)
    {
        if (config.Passive is { Type: not "tcp" } passive)
        {
            ReportStatus(node, passive.Healthy, passive.Unhealthy, status, "passive");
        }
    }

    internal void ReportSuccess(Node node, HealthyConfig healthy, string how) => Report(node, HealthReport.Success, healthy.Successes, how);

    internal void ReportFailure(Node node, UnhealthyConfig unhealthy, bool timeout, string how) =>
        Report(node, timeout ? HealthReport.Timeout : HealthReport.TcpFailure, timeout ? unhealthy.Timeouts : unhealthy.TcpFailures, how);

    /// <summary>A status that is in neither list says nothing.</summary>
    internal void ReportStatus(Node node, HealthyConfig healthy, UnhealthyConfig unhealthy, int status, string how)
    {
        if (healthy.HttpStatuses.Contains(status))
        {
            ReportSuccess(node, healthy, how);
        }
        else if (unhealthy.HttpStatuses.Contains(status))
        {
            Report(node, HealthReport.HttpFailure, unhealthy.HttpFailures, how);
        }
    }

    void Report(Node node, HealthReport report, int limit, string how)
    {
        if (node.Health?.Report(report, limit) != true)
        {
            return;
        }
        ShowStatus(node);
        if (node.IsHealthy)
        {
            LogHealthy(upstream.Name, node.Name, how);
        }
        else
        {
            LogUnhealthy(upstream.Name, node.Name, how, report);
        }
    }

    internal void ShowStatus(Node node) =>
        upstream.Services.Metrics.UpstreamStatus(upstream.Name, node.Config.Host, PortOf(node), node.IsHealthy);

    internal void ForgetStatus(Node node) => upstream.Services.Metrics.ForgetUpstreamStatus(upstream.Name, node.Config.Host, PortOf(node));

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Upstream}: node {Node} is healthy again ({How} check)")]
    partial void LogHealthy(string upstream, string node, string how);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Upstream}: node {Node} is unhealthy now ({How} check, {Report})")]
    partial void LogUnhealthy(string upstream, string node, string how, HealthReport report);
}
