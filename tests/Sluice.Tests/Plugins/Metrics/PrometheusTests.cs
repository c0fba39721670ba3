using System.Text;
using Sluice.Model;
using Sluice.Tests.Pipeline;

namespace Sluice.Tests.Plugins.Metrics;

public class PrometheusTests
{
    [Fact]
    public async Task Requests_are_counted_with_their_route()
    {
        var test = new PluginTest("""{"prometheus":{}}""");
        await test.GetAsync("/");
        await test.SendAsync("GET", "/", new PluginTest.Upstream(404));
        var text = await TextAsync(test);
        Assert.Contains(
            """apisix_http_status{code="200",route="r1",matched_uri="/*",matched_host="",service="",consumer="",node="",request_type="traditional_http",request_llm_model="",llm_model="",response_source="upstream"} 1""", text, StringComparison.Ordinal);
        Assert.Contains("""apisix_http_status{code="404",route="r1",""", text, StringComparison.Ordinal);
        Assert.Contains(
            """apisix_http_latency_count{type="request",route="r1",service="",consumer="",node="",request_type="traditional_http",request_llm_model="",llm_model=""} 2""", text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_answer_of_the_gateway_is_told_apart()
    {
        var test = new PluginTest("""{"prometheus":{},"redirect":{"uri":"/x"}}""");
        await test.GetAsync("/");
        Assert.Contains("""response_source="apisix"} 1""", await TextAsync(test), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_stream_is_counted_as_one_and_its_lifetime_is_no_latency()
    {
        var test = new PluginTest("""{"prometheus":{}}""");
        await test.SendAsync("GET", "/", PluginTest.Upstream.Events("data: 1\n\n"));
        var text = await TextAsync(test);
        Assert.Contains("""sluice_active_streams{route="r1",kind="sse"} 0""", text, StringComparison.Ordinal);
        Assert.Contains("""sluice_stream_ends_total{route="r1",reason="complete"} 1""", text, StringComparison.Ordinal);
        Assert.Contains(
            """apisix_http_latency_count{type="request",route="r1",service="",consumer="",node="",request_type="traditional_http",request_llm_model="",llm_model=""} 0""", text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Events_are_counted_where_a_plugin_looks_at_them()
    {
        var test = new PluginTest("""{"prometheus":{},"sse":{"filter":{"exclude_events":["ping"]}}}""");
        await test.SendAsync("GET", "/", PluginTest.Upstream.Events("data: 1\n\nda", "ta: 2\n\n: note\n\n", "event: ping\ndata: 3\n\n"));
        Assert.Contains("""sluice_stream_events_total{route="r1"} 2""", await TextAsync(test), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_routes_own_plugin_counts_and_the_global_rules_does_not_again()
    {
        var global = TestExchange.Document(ResourceKind.GlobalRules, "g1", """{"plugins":{"prometheus":{}}}""");
        var both = new PluginTest("""{"prometheus":{}}""", global);
        await both.GetAsync("/");
        Assert.Contains("""response_source="upstream"} 1""", await TextAsync(both), StringComparison.Ordinal);
        var onlyGlobal = new PluginTest("{}", global);
        await onlyGlobal.GetAsync("/");
        Assert.Contains("""response_source="upstream"} 1""", await TextAsync(onlyGlobal), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Names_are_preferred_when_asked_for()
    {
        var service = TestExchange.Document(ResourceKind.Services, "s1",
            """{"name":"my-service","upstream":{"nodes":{"127.0.0.1:1":1}}}""");
        var test = new PluginTest("""{"prometheus":{"prefer_name":true}},"name":"my-route","service_id":"s1","labels":{}""", service);
        await test.GetAsync("/");
        Assert.Contains("route=\"my-route\",matched_uri=\"/*\",matched_host=\"\",service=\"my-service\"", await TextAsync(test),
            StringComparison.Ordinal);
    }

    static async Task<string> TextAsync(PluginTest test)
    {
        var text = new MemoryStream();
        await test.Metrics.WriteAsync(text);
        return Encoding.UTF8.GetString(text.ToArray());
    }
}
