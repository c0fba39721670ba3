using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using Sluice.Pipeline;

namespace Sluice.Plugins.Logging;

/// <summary>Sends log entries over TCP.</summary>
internal sealed class TcpLogger : BatchLogger, IPlugin<TcpLogger, JsonObject>
{
    public static PluginInfo Info { get; } = new("tcp-logger", 405,
        $$"""
        {
          "type": "object",
          "properties": {
            "host": { "type": "string" },
            "port": { "type": "integer", "minimum": 0 },
            "tls": { "type": "boolean", "default": false },
            "tls_options": { "type": "string", "description": "the server name that TLS asks for" },
            "timeout": { "type": "integer", "minimum": 1, "default": 1000, "description": "milliseconds" },
            "name": { "type": "string", "default": "tcp logger" },
            {{LogSchema.Batch}},
            {{LogSchema.Entry}}
          },
          "required": ["host", "port"]
        }
        """,
        "Sends an entry for each request to a TCP server: a JSON object, or an array of them, on a connection for each batch."
        + LogSchema.About)
    {
        MetadataSchema = LogSchema.Metadata,
        Example = """
            ```json
            {"tcp-logger": {"host": "127.0.0.1", "port": 5044, "batch_max_size": 1}}
            ```
            """,
    };

    TcpLogger(PluginContext context)
        : base(Info, "tcp logger", context, Sender(context))
    {
    }

    public static JsonTypeInfo<JsonObject> ConfigType => LogJson.Default.JsonObject;

    public static TcpLogger Create(JsonObject config, PluginContext context) => new(context);

    static Func<IReadOnlyList<byte[]>, CancellationToken, Task> Sender(PluginContext context)
    {
        var target = new SocketTarget(context, TimeSpan.FromMilliseconds(SocketTarget.Number(context.Config, "timeout", 1000)),
            isUdp: false);
        var single = SocketTarget.Number(context.Config, "batch_max_size", 1000) == 1;
        return (entries, cancellation) => target.SendAsync(Json(entries, single), cancellation);
    }
}
