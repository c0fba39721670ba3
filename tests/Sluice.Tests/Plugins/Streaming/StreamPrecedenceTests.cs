using Sluice.Model;
using Sluice.Model.Settings;
using Sluice.Pipeline;
using Sluice.Plugins;
using Sluice.Tests.Pipeline;

namespace Sluice.Tests.Plugins.Streaming;

/// <summary>Who decides about a stream: consumer, its group, route, plugin config, service, global rule, the gateway's defaults.</summary>
public class StreamPrecedenceTests
{
    static readonly string[] s_places = ["consumer", "group", "route", "plugin_config", "service", "global_rule", "defaults"];

    /// <summary>The seconds that hold when these places say something: each its own number.</summary>
    static double? Holds(params int[] places)
    {
        string Plugin(int place, string more = "") =>
            places.Contains(place) ? $$"""{"streaming":{"idle_timeout":{{place + 1}} } {{more}} }""" : $"{{{more.TrimStart(',')}}}";
        Document[] documents =
        [
            TestExchange.Document(ResourceKind.Consumers, "ann",
                $$"""{"group_id":"g","plugins":{{Plugin(0, ",\"key-auth\":{\"key\":\"k\"}")}} }"""),
            TestExchange.Document(ResourceKind.ConsumerGroups, "g", $$"""{"plugins":{{Plugin(1)}} }"""),
            TestExchange.Document(ResourceKind.Routes, "r",
                $$"""{"uri":"/*","service_id":"s","plugin_config_id":"p","plugins":{{Plugin(2, ",\"key-auth\":{}")}} }"""),
            TestExchange.Document(ResourceKind.PluginConfigs, "p", $$"""{"plugins":{{Plugin(3)}} }"""),
            TestExchange.Document(ResourceKind.Services, "s", $$"""{"plugins":{{Plugin(4)}},"upstream":{"nodes":{"127.0.0.1:1":1} } }"""),
            TestExchange.Document(ResourceKind.GlobalRules, "1", $$"""{"plugins":{{Plugin(5)}} }"""),
        ];
        var settings = SettingsReader.Parse("/", places.Contains(6) ? "sluice: {streams: {defaults: {idle_timeout: 7}}}" : "", null,
            static _ => null).Settings!;
        var snapshot = TestExchange.Compile(documents, Builtin.All, settings: settings);
        var exchange = TestExchange.Of(snapshot, "http://a/x");
        exchange.Route = snapshot.Router.Match(exchange, "a")!;
        exchange.Chain = exchange.Route.ChainFor(snapshot.Consumers.Find("key-auth", "k")!);
        return StreamPolicy.Of(exchange)?.IdleTimeout?.Time.TotalSeconds;
    }

    [Fact]
    public void Of_any_two_places_the_nearer_to_the_client_decides()
    {
        Assert.Null(Holds());
        for (var first = 0; first < s_places.Length; first++)
        {
            Assert.True(first + 1 == Holds(first), s_places[first]);
            for (var second = first + 1; second < s_places.Length; second++)
            {
                Assert.True(first + 1 == Holds(first, second), $"{s_places[first]} before {s_places[second]}: {Holds(first, second)}");
            }
        }
    }
}
