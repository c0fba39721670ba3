using System.Text;
using Sluice.Observability;

namespace Sluice.Tests.Observability;

public class GatewayMetricsTests
{
    readonly LogLines _log = new();

    GatewayMetrics Metrics(int limit = 1000) => new(_log, new GatewayMetricsOptions(SeriesLimit: limit, Hostname: "h", Version: "1"));

    static readonly RouteLabels Route = new("r1", "/x/*", "a.example", "s1");

    static ExchangeSummary Answer(int status = 200, bool stream = false) =>
        new(status, true, TimeSpan.FromMilliseconds(30), TimeSpan.FromMilliseconds(12), 100, 2000, stream);

    static async Task<string[]> Text(GatewayMetrics metrics)
    {
        using var stream = new MemoryStream();
        await metrics.WriteAsync(stream, TestContext.Current.CancellationToken);
        return Encoding.UTF8.GetString(stream.ToArray()).Split('\n');
    }

    const string Traffic =
        """route="r1",service="s1",consumer="jack",node="10.0.0.1",request_type="traditional_http",request_llm_model="",llm_model="" """;

    [Fact]
    public async Task A_request_counts_under_APISIX_names_and_labels()
    {
        var metrics = Metrics();
        metrics.RequestStarted();
        metrics.Connections.Opened();
        metrics.Connections.Opened();
        metrics.Connections.Closed();
        metrics.UpstreamStatus("/apisix/routes/r1", "10.0.0.1", 80, healthy: true);
        metrics.ForRoute(Route).For(new("jack", "10.0.0.1")).Finish(Answer());
        var text = await Text(metrics);
        var labels = Traffic.TrimEnd();
        Assert.Contains(
            """apisix_http_status{code="200",route="r1",matched_uri="/x/*",matched_host="a.example",service="s1",consumer="jack",node="10.0.0.1",request_type="traditional_http",request_llm_model="",llm_model="",response_source="upstream"} 1""", text);
        Assert.Contains($$"""apisix_http_latency_bucket{type="request",{{labels}},le="20"} 0""", text);
        Assert.Contains($$"""apisix_http_latency_bucket{type="request",{{labels}},le="50"} 1""", text);
        Assert.Contains($$"""apisix_http_latency_sum{type="upstream",{{labels}}} 12""", text);
        Assert.Contains($$"""apisix_http_latency_sum{type="apisix",{{labels}}} 18""", text);
        Assert.Contains($$"""apisix_http_latency_bucket{type="apisix",{{labels}},le="60000"} 1""", text);
        Assert.Contains($$"""apisix_bandwidth{type="ingress",{{labels}}} 100""", text);
        Assert.Contains($$"""apisix_bandwidth{type="egress",{{labels}}} 2000""", text);
        Assert.Contains("apisix_http_requests_total 1", text);
        Assert.Contains("# TYPE apisix_http_requests_total gauge", text);
        Assert.Contains("""apisix_nginx_http_current_connections{state="active"} 1""", text);
        Assert.Contains("""apisix_nginx_http_current_connections{state="accepted"} 2""", text);
        Assert.Contains("""apisix_node_info{hostname="h",version="1"} 1""", text);
        Assert.Contains("""apisix_upstream_status{name="/apisix/routes/r1",ip="10.0.0.1",port="80"} 1""", text);
    }

    [Fact]
    public async Task A_stream_counts_apart_from_request_latency()
    {
        var metrics = Metrics();
        var route = metrics.ForRoute(Route);
        route.StreamStarted("sse");
        route.StreamStarted("sse");
        route.FirstByte(TimeSpan.FromSeconds(0.3));
        route.Events(7);
        route.Spooled(4096);
        route.StreamEnded("sse", "client_gone", TimeSpan.FromHours(2));
        route.For(new("jack", "10.0.0.1")).Finish(Answer(stream: true));
        metrics.WatchAccessLogDrops(() => 5);
        var text = await Text(metrics);
        Assert.Contains($$"""apisix_http_latency_count{type="request",{{Traffic.TrimEnd()}}} 0""", text);
        Assert.Contains("""sluice_active_streams{route="r1",kind="sse"} 1""", text);
        Assert.Contains("""sluice_stream_ends_total{route="r1",reason="client_gone"} 1""", text);
        Assert.Contains("""sluice_stream_duration_seconds_bucket{route="r1",le="3600"} 0""", text);
        Assert.Contains("""sluice_stream_duration_seconds_bucket{route="r1",le="21600"} 1""", text);
        Assert.Contains("""sluice_time_to_first_byte_seconds_bucket{route="r1",le="0.5"} 1""", text);
        Assert.Contains("""sluice_stream_events_total{route="r1"} 7""", text);
        Assert.Contains("""sluice_spooled_bytes_total{route="r1"} 4096""", text);
        Assert.Contains("sluice_access_log_dropped_lines_total 5", text);
    }

    [Fact]
    public async Task Above_the_limit_consumers_fold_into_other_with_one_warning()
    {
        var metrics = Metrics(limit: 3);
        for (var i = 0; i < 100; i++)
        {
            metrics.ForRoute(Route).For(new($"c{i}", "n")).Finish(Answer());
        }
        var statuses = (await Text(metrics)).Where(line => line.StartsWith("apisix_http_status{", StringComparison.Ordinal)).ToArray();
        Assert.Equal(4, statuses.Length);
        Assert.Contains(statuses, line => line.Contains("route=\"r1\"") && line.Contains("consumer=\"other\"")
            && line.EndsWith(" 97", StringComparison.Ordinal));
        Assert.Single(_log.Lines);
    }

    [Fact]
    public async Task A_forgotten_route_leaves_no_series_and_makes_room_for_others()
    {
        var metrics = Metrics(limit: 1);
        for (var i = 0; i < 20; i++)
        {
            var labels = Route with { Route = $"r{i}" };
            var route = metrics.ForRoute(labels);
            route.For(new("jack", "n")).Finish(Answer());
            route.StreamStarted("sse");
            route.StreamEnded("sse", "done", TimeSpan.FromSeconds(1));
            Assert.Contains(await Text(metrics), line => line.Contains($"route=\"r{i}\"") && line.Contains("jack"));
            metrics.Forget(labels);
        }
        Assert.DoesNotContain(await Text(metrics), line => line.Contains("route=\"r"));
        Assert.Empty(_log.Lines);
    }

    [Fact]
    public async Task Status_numbers_that_HTTP_does_not_know_share_a_series()
    {
        var metrics = Metrics();
        for (var status = 600; status < 999; status++)
        {
            metrics.ForRoute(Route).For(new()).Finish(Answer(status));
        }
        Assert.Single(await Text(metrics), line => line.StartsWith("apisix_http_status{code=\"other\"", StringComparison.Ordinal));
    }

    [Fact]
    public void A_request_costs_no_allocation_once_its_meters_are_bound()
    {
        var metrics = Metrics();
        var route = metrics.ForRoute(Route);
        Assert.Same(route, metrics.ForRoute(Route with { }));
        route.For(new("jack", "n")).Finish(Answer());
        Assert.Equal(0, Allocation.Of(() => route.For(new("jack", "n")).Finish(Answer())));
    }
}
