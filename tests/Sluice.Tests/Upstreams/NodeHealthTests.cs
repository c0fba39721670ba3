using Sluice.Upstreams;

namespace Sluice.Tests.Upstreams;

public class NodeHealthTests
{
    readonly NodeHealth _health = new();

    [Fact]
    public void So_many_failures_in_a_row_make_a_node_unhealthy()
    {
        Assert.False(_health.Report(HealthReport.HttpFailure, 3));
        Assert.Equal(HealthState.MostlyHealthy, _health.State);
        Assert.False(_health.Report(HealthReport.HttpFailure, 3));
        Assert.True(_health.Report(HealthReport.HttpFailure, 3));
        Assert.Equal((HealthState.Unhealthy, false, 3), (_health.State, _health.IsHealthy, _health.Count(HealthReport.HttpFailure)));

        // what is known already is not counted
        Assert.False(_health.Report(HealthReport.HttpFailure, 3));
        Assert.Equal(3, _health.Count(HealthReport.HttpFailure));
    }

    [Fact]
    public void Kinds_of_failure_are_counted_apart()
    {
        _health.Report(HealthReport.TcpFailure, 2);
        _health.Report(HealthReport.Timeout, 2);
        Assert.Equal((HealthState.MostlyHealthy, 1, 1),
            (_health.State, _health.Count(HealthReport.TcpFailure), _health.Count(HealthReport.Timeout)));
        Assert.True(_health.Report(HealthReport.TcpFailure, 2));
    }

    [Fact]
    public void Successes_bring_a_node_back()
    {
        _health.Report(HealthReport.TcpFailure, 1);
        Assert.False(_health.Report(HealthReport.Success, 2));
        Assert.Equal((HealthState.MostlyUnhealthy, false), (_health.State, _health.IsHealthy));
        Assert.True(_health.Report(HealthReport.Success, 2));
        Assert.Equal((HealthState.Healthy, 2, 0),
            (_health.State, _health.Count(HealthReport.Success), _health.Count(HealthReport.TcpFailure)));
    }

    [Fact]
    public void A_success_forgets_failures_and_a_failure_successes()
    {
        _health.Report(HealthReport.HttpFailure, 3);
        _health.Report(HealthReport.HttpFailure, 3);
        _health.Report(HealthReport.Success, 5);
        Assert.Equal((HealthState.MostlyHealthy, 0, 1),
            (_health.State, _health.Count(HealthReport.HttpFailure), _health.Count(HealthReport.Success)));
        _health.Report(HealthReport.HttpFailure, 3);
        Assert.Equal((1, 0), (_health.Count(HealthReport.HttpFailure), _health.Count(HealthReport.Success)));
    }

    [Fact]
    public void A_limit_of_zero_turns_a_kind_of_report_off()
    {
        Assert.False(_health.Report(HealthReport.Timeout, 0));
        Assert.Equal((HealthState.Healthy, 0), (_health.State, _health.Count(HealthReport.Timeout)));
    }
}
