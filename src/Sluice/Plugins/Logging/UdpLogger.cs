using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using Sluice.Pipeline;

namespace Sluice.Plugins.Logging;

/// <summary>Sends log entries over UDP.</summary>
internal sealed class UdpLogger : BatchLogger, IPlugin<UdpLogger, JsonObject>
{
    public static PluginInfo Info { get; } = new("udp-logger", 400,
        $$"""
        {
          "type": "object",
          "properties": {
            "host": { "type": "string" },
            "port": { "type": "integer", "minimum": 0 },
            "timeout": { "type": "integer", "minimum": 1, "default": 3, "description": "seconds" },
            "name": { "type": "string", "default": "udp logger" },
            {{LogSchema.Batch}},
            {{LogSchema.Entry}}
          },
          "required": ["host", "port"]
        }
        """,
        "Sends an entry for each request to a UDP server: a JSON object, or an array of them, in a datagram for each batch."
        + LogSchema.About)
    {
        MetadataSchema = LogSchema.Metadata,
        Example = """
            ```json
            {"udp-logger": {"host": "127.0.0.1", "port": 5044, "batch_max_size": 1}}
            ```
            """,
    };

    UdpLogger(PluginContext context)
        : base(Info, "udp logger", context, Sender(context))
    {
    }

    public static JsonTypeInfo<JsonObject> ConfigType => LogJson.Default.JsonObject;

    public static UdpLogger Create(JsonObject config, PluginContext context) => new(context);

    static Func<IReadOnlyList<byte[]>, CancellationToken, Task> Sender(PluginContext context)
    {
        var target = new SocketTarget(context, TimeSpan.FromSeconds(SocketTarget.Number(context.Config, "timeout", 3)), isUdp: true);
        var single = SocketTarget.Number(context.Config, "batch_max_size", 1000) == 1;
        return (entries, cancellation) => target.SendAsync(Json(entries, single), cancellation);
    }
}
