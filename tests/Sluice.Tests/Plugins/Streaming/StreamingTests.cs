using System.Text.Json.Nodes;
using Sluice.Model;
using Sluice.Pipeline;

namespace Sluice.Tests.Plugins.Streaming;

public class StreamingTests
{
    const string Duration = " is no duration: write seconds as a number, or \"500ms\", \"15s\", \"5m\", \"2h\", \"1d\"";

    [Theory]
    [InlineData("0", 0)]
    [InlineData("1.5", 1500)]
    [InlineData("\"500ms\"", 500)]
    [InlineData("\"0.5s\"", 500)]
    [InlineData("\"5m\"", 300_000)]
    [InlineData("\"2h\"", 7_200_000)]
    [InlineData("\"1d\"", 86_400_000)]
    public void Durations_are_seconds_or_texts_with_a_unit(string text, double milliseconds) =>
        Assert.Equal(milliseconds, System.Text.Json.JsonSerializer.Deserialize<Duration>(text).Time.TotalMilliseconds);

    [Theory]
    [InlineData("\"64k\"", 65536)]
    [InlineData("\"8m\"", 8 << 20)]
    [InlineData("\"1g\"", 1 << 30)]
    [InlineData("17", 17)]
    public void Sizes_are_bytes_or_texts_with_a_unit(string text, long bytes) =>
        Assert.Equal(bytes, System.Text.Json.JsonSerializer.Deserialize<ByteSize>(text).Bytes);

    [Theory]
    [InlineData("""{"max_duration": "5x"}""", "\"5x\"" + Duration)]
    [InlineData("""{"max_duration": "5"}""", "\"5\"" + Duration)]
    [InlineData("""{"max_duration": "-5s"}""", "\"-5s\"" + Duration)]
    [InlineData("""{"max_duration": -1}""", "-1" + Duration)]
    [InlineData("""{"hold": "event", "hold_bytes": "5x"}""", "\"5x\" is no size: write bytes as a number, or \"64k\", \"8m\", \"1g\"")]
    [InlineData("""{"jitter": 2}""", "property \"jitter\" validation failed: expected 2 to be at most 0.5")]
    [InlineData("""{"heartbeats": 1}""", "additional properties forbidden, found heartbeats")]
    [InlineData("""{"hold": "tail"}""", "property \"hold\" validation failed: matches none of the enum values")]
    [InlineData("""{"hold_bytes": "1k"}""", "hold_bytes has no meaning without hold \"event\"")]
    [InlineData("""{"heartbeat": {"interval": 1, "comment": "a\nb"}}""", "heartbeat.comment must be one line")]
    [InlineData("""{"slow_consumer": {"policy": "latest_per_key"}}""", "slow_consumer.key is required when policy is latest_per_key")]
    [InlineData("""{"slow_consumer": {"key": "id"}}""", "slow_consumer.key has no meaning for policy \"block\"")]
    [InlineData("""{"slow_consumer": {"policy": "latest_per_key", "key": "name"}}""",
        "slow_consumer.key \"name\" is none of \"event\", \"id\", or \"data.\" and a path")]
    [InlineData("""{"slow_consumer": {"policy": "drop_oldest", "queue_bytes": "15k"}}""", "slow_consumer.queue_bytes must be 16k to 64m")]
    [InlineData("""{"slow_consumer": {"policy": "drop_oldest", "queue_events": 65537}}""",
        "property \"slow_consumer\" validation failed: property \"queue_events\" validation failed: expected 65537 to be at most 65536")]
    [InlineData("""{"rate": {"events_per_second": 0}}""", "rate.events_per_second must be a number above 0, or a text with variables")]
    [InlineData("""{"rate": {"bytes_per_second": "fast"}}""", "rate.bytes_per_second must be a number above 0, or a text with variables")]
    [InlineData("""{"rate": {"bytes_per_second": 5, "burst_events": 5}}""",
        "rate.burst_events has no meaning without rate.events_per_second")]
    [InlineData("""{"rate": {}}""", "rate needs events_per_second or bytes_per_second")]
    [InlineData("""{"timeout_status": 100}""", "property \"timeout_status\" validation failed: expected 100 to be at least 200")]
    public void What_cannot_be_is_refused(string config, string error) => Assert.Equal(error, PluginTest.Check("streaming", config));

    [Theory]
    [InlineData("""{"idle_timeout": 60000}""", "{}",
        "plugins.streaming.idle_timeout: 60000 seconds are 16 h 40 min; for milliseconds write \"60000ms\"")]
    [InlineData("""{"hold": "event"}""", """{"enable_websocket": true}""",
        "hold \"event\" has no unit to wait for on a route with enable_websocket")]
    [InlineData("""{"first_event_timeout": 30}""", """{"plugins": {"ai-proxy": {}}}""",
        "first_event_timeout below 60 s cuts models that think")]
    [InlineData("""{"max_duration": 30, "first_byte_timeout": 60}""", "{}", "max_duration (30s) ends before first_byte_timeout (60s) can")]
    public void What_cannot_be_meant_is_warned_of(string config, string resource, string warning) => Assert.Equal(
        [warning], PluginTest.Of("streaming").Info.Warnings!(JsonNode.Parse(config)!.AsObject(), JsonNode.Parse(resource)!.AsObject()));

    [Fact]
    public void A_property_comes_whole_from_the_defaults_or_not_at_all()
    {
        var defaults = Parse("""{"idle_timeout": 5, "heartbeat": {"interval": 15, "comment": "x"}}""");
        var merged = Parse("""{"heartbeat": {"interval": 3}, "max_duration": 9}""").Over(defaults);
        Assert.Equal(5, merged.IdleTimeout!.Value.Time.TotalSeconds);
        Assert.Equal(9, merged.MaxDuration!.Value.Time.TotalSeconds);
        Assert.Equal(new StreamPolicy.HeartbeatPolicy(new Duration(TimeSpan.FromSeconds(3))), merged.Heartbeat);
    }

    static StreamPolicy Parse(string config) => StreamPolicy.Parse(JsonNode.Parse(config)!.AsObject());
}
