using System.Net;
using System.Text.Json.Nodes;
using Sluice.Model;
using Sluice.Pipeline;
using Sluice.Pipeline.TcpUdp;
using Sluice.Tests.Pipeline;

namespace Sluice.Tests.Plugins.Traffic;

public class MqttProxyTests
{
    static async Task<(string? Refusal, string? Client)> AdmitAsync(int level, byte[] sent)
    {
        var descriptor = PluginTest.Of("mqtt-proxy");
        var services = TestExchange.Services();
        var plugin = (IStreamAccess)descriptor.Create(new JsonObject { ["protocol_level"] = level },
            new PluginContext("stream_route 1", null, null, services));
        var session = new StreamSession(TestExchange.Compile([]), services, false, new(IPAddress.Loopback, 1), new(IPAddress.Loopback, 2),
            null,
            count => new(sent.AsMemory(0, Math.Min(count, sent.Length))));
        return (await plugin.AdmitAsync(session), session.Get("mqtt_client_id"));
    }

    static byte[] Mqtt(byte level, string client, byte[] properties, string name = "MQTT")
    {
        byte[] body = [0, (byte)name.Length, .. name.Select(c => (byte)c), level, 2, 0, 60, .. properties, 0, (byte)client.Length,
            .. client.Select(c => (byte)c)];
        return [0x10, (byte)((body.Length & 127) | 128), (byte)(body.Length >> 7), .. body];
    }

    [Fact]
    public async Task The_clients_id_is_read_in_both_versions()
    {
        Assert.Equal((null, "jack"), await AdmitAsync(4, Mqtt(4, "jack", [])));
        Assert.Equal((null, "jack"), await AdmitAsync(5, Mqtt(5, "jack", [5, 0x11, 0, 0, 0, 10])));
        Assert.Equal((null, null), await AdmitAsync(4, Mqtt(4, "", [])));
    }

    [Fact]
    public async Task What_is_no_CONNECT_of_this_version_is_refused()
    {
        Assert.Equal("expect protocol level: 4, but got 5", (await AdmitAsync(4, Mqtt(5, "jack", [0]))).Refusal);
        Assert.Equal("expect protocol name: MQTT, but got MQIsdp", (await AdmitAsync(3, Mqtt(3, "jack", [], "MQIsdp"))).Refusal);
        Assert.Contains("does not begin with an MQTT CONNECT", (await AdmitAsync(4, "GET / HTTP/1.1"u8.ToArray())).Refusal,
            StringComparison.Ordinal);
        var whole = Mqtt(4, "jack", []);
        for (var length = 0; length < whole.Length; length++)
        {
            Assert.NotNull((await AdmitAsync(4, whole[..length])).Refusal);
        }
        Assert.Equal("the MQTT packet is too large", (await AdmitAsync(4, [0x10, 0xff, 0xff, 0xff, 0x7f])).Refusal);
    }
}

public class StreamRouterTests
{
    static string? Match(string client, string server, string? sni, params (string Id, string Route)[] routes)
    {
        var snapshot = TestExchange.Compile(
            routes.Select(route => TestExchange.Document(ResourceKind.StreamRoutes, route.Id,
                $$"""{{{route.Route}} "upstream":{"nodes":{"127.0.0.1:1":1} } }""")));
        return snapshot.StreamRoutes.Match(
            new StreamSession(snapshot, TestExchange.Services(), false, IPEndPoint.Parse(client), IPEndPoint.Parse(server), sni,
                _ => default))?.Config.Id;
    }

    [Theory]
    [InlineData("10.0.0.1:1", "192.0.2.1:9100", null, "port")]
    [InlineData("10.0.0.1:1", "192.0.2.1:9101", null, "client")]
    [InlineData("11.0.0.1:1", "192.0.2.1:9101", null, "any")]
    [InlineData("11.0.0.1:1", "192.0.2.1:9101", "x.a.test", "exact")]
    [InlineData("11.0.0.1:1", "192.0.2.1:9101", "y.a.test", "wildcard")]
    [InlineData("11.0.0.1:1", "192.0.2.1:9101", "z.y.a.test", "wildcard")]
    [InlineData("11.0.0.1:1", "192.0.2.1:9101", "a.test", "any")]
    public void The_route_that_asks_for_most_wins(string client, string server, string? sni, string expected) =>
        Assert.Equal(expected, Match(client, server, sni,
        ("any", ""), ("client", "\"remote_addr\":\"10.0.0.0/8\","), ("port", "\"server_port\":9100,"),
        ("wildcard", "\"sni\":\"*.a.test\","), ("exact", "\"sni\":\"x.a.test\",")));
}
