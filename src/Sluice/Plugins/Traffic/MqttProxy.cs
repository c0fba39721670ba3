using System.Buffers.Binary;
using System.Text;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Pipeline;
using Sluice.Pipeline.TcpUdp;

namespace Sluice.Plugins.Traffic;

/// <summary>For stream routes to MQTT brokers: balances by the client's id.</summary>
internal sealed class MqttProxy(MqttProxy.Config config) : IPlugin<MqttProxy, MqttProxy.Config>, IStreamAccess
{
    /// <summary>A client's first packet with user name, password and a will.</summary>
    const int MaxPacket = 256 * 1024;

    public static PluginInfo Info { get; } = new(
        Name: "mqtt-proxy",
        Priority: 1000,
        Schema: """
            {
              "type": "object",
              "properties": {
                "protocol_name": { "type": "string", "default": "MQTT", "description": "what the client must call its protocol" },
                "protocol_level": { "type": "integer", "description": "and its version: 4 for MQTT 3.1.1, 5 for MQTT 5.0" }
              },
              "required": ["protocol_level"]
            }
            """,
        Summary: """
            Reads the CONNECT packet with which an MQTT client begins, closes the connection when it is none or of another version, and sets the variable `$mqtt_client_id`, by
            which an upstream of type `chash` can pick the node. Only for stream routes.
            """)
    {
        Example = """
            A stream route:

            ```
            {"server_port": 9100, "plugins": {"mqtt-proxy": {"protocol_name": "MQTT", "protocol_level": 4}},
             "upstream": {"type": "chash", "key": "mqtt_client_id", "nodes": {"broker-1:1883": 1, "broker-2:1883": 1}}}
            ```

            A client comes to the same broker each time.
            """,
    };

    public sealed record Config(int ProtocolLevel, string ProtocolName = "MQTT");

    public static JsonTypeInfo<Config> ConfigType => MqttProxyJson.Default.Config;

    public static MqttProxy Create(Config config, PluginContext context) => new(config);

    public async ValueTask<string?> AdmitAsync(StreamSession session)
    {
        var head = await session.PeekAsync(2);
        if (head.Length < 2 || head.Span[0] != 0x10)
        {
            return "the client does not begin with an MQTT CONNECT packet";
        }
        var (length, start) = (0, 0);
        for (var bytes = 2; bytes <= 5 && start == 0; bytes++)
        {
            head = await session.PeekAsync(bytes);
            if (head.Length < bytes)
            {
                return "the MQTT packet is not complete";
            }
            start = TryLength(head.Span[1..], out length) ? bytes : 0;
        }
        if (start == 0 || length > MaxPacket)
        {
            return "the MQTT packet is too large";
        }
        var packet = await session.PeekAsync(start + length);
        return packet.Length < start + length ? "the MQTT packet is not complete" : Read(packet.Span[start..], session);
    }

    string? Read(ReadOnlySpan<byte> packet, StreamSession session)
    {
        if (!TakeText(ref packet, out var name) || packet.Length < 4)
        {
            return "the MQTT packet is malformed";
        }
        if (name != config.ProtocolName)
        {
            return $"expect protocol name: {config.ProtocolName}, but got {Printable(name)}";
        }
        var level = packet[0];
        if (level != config.ProtocolLevel)
        {
            return $"expect protocol level: {config.ProtocolLevel}, but got {level}";
        }
        // level, flags, keep alive
        packet = packet[4..];
        if (level == 5)
        {
            if (!TryLength(packet, out var properties, out var bytes) || packet.Length < bytes + properties)
            {
                return "the MQTT packet is malformed";
            }
            packet = packet[(bytes + properties)..];
        }
        if (!TakeText(ref packet, out var client))
        {
            return "the MQTT packet is malformed";
        }
        if (client.Length > 0)
        {
            session.Set("mqtt_client_id", client);
        }
        return null;
    }

    static string Printable(string text) => new([.. text.Take(32).Select(c => char.IsControl(c) ? '?' : c)]);

    static bool TakeText(ref ReadOnlySpan<byte> packet, out string text)
    {
        text = "";
        if (packet.Length < 2)
        {
            return false;
        }
        var length = BinaryPrimitives.ReadUInt16BigEndian(packet);
        if (packet.Length < 2 + length)
        {
            return false;
        }
        text = Encoding.UTF8.GetString(packet.Slice(2, length));
        packet = packet[(2 + length)..];
        return true;
    }

    static bool TryLength(ReadOnlySpan<byte> bytes, out int length) => TryLength(bytes, out length, out _);

    /// <summary>MQTT's variable byte integer: seven bits in each byte, four bytes at most.</summary>
    static bool TryLength(ReadOnlySpan<byte> bytes, out int length, out int taken)
    {
        length = 0;
        for (taken = 0; taken < Math.Min(4, bytes.Length);)
        {
            length |= (bytes[taken] & 127) << (7 * taken);
            if (bytes[taken++] < 128)
            {
                return true;
            }
        }
        return false;
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(MqttProxy.Config))]
sealed partial class MqttProxyJson : JsonSerializerContext;
