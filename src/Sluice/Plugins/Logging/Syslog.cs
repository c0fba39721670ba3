using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using Sluice.Pipeline;

namespace Sluice.Plugins.Logging;

/// <summary>Sends log entries to a syslog server.</summary>
internal sealed class Syslog : BatchLogger, IPlugin<Syslog, JsonObject>
{
    public static PluginInfo Info { get; } = new("syslog", 401,
        $$"""
        {
          "type": "object",
          "properties": {
            "host": { "type": "string" },
            "port": { "type": "integer" },
            "sock_type": { "type": "string", "default": "tcp", "enum": ["tcp", "udp"] },
            "timeout": { "type": "integer", "minimum": 1, "default": 3000, "description": "milliseconds" },
            "tls": { "type": "boolean", "default": false },
            "flush_limit": { "type": "integer", "minimum": 1, "default": 4096, "description": "no effect: a batch is sent at once" },
            "drop_limit": { "type": "integer", "default": 1048576, "description": "no effect: `max_pending_entries` bounds what waits" },
            "pool_size": { "type": "integer", "minimum": 5, "default": 5, "description": "no effect: each batch has a connection of its own" },
            "name": { "type": "string", "default": "sys logger" },
            {{LogSchema.Batch}},
            {{LogSchema.Entry}}
          },
          "required": ["host", "port"]
        }
        """,
        "Sends an entry for each request to a syslog server, as RFC 5424 writes messages (facility syslog, severity info)."
        + LogSchema.About)
    {
        MetadataSchema = LogSchema.Metadata,
        Example = """
            ```json
            {"syslog": {"host": "127.0.0.1", "port": 5044, "batch_max_size": 1}}
            ```
            """,
    };

    Syslog(PluginContext context)
        : base(Info, "sys logger", context, Sender(context))
    {
    }

    public static JsonTypeInfo<JsonObject> ConfigType => LogJson.Default.JsonObject;

    public static Syslog Create(JsonObject config, PluginContext context) => new(context);

    private protected override byte[] Waiting(Exchange exchange, JsonObject entry) =>
        [.. Rfc5424.Head(exchange, 46, "-"), .. LogRecord.Bytes(entry), (byte)'\n'];

    static Func<IReadOnlyList<byte[]>, CancellationToken, Task> Sender(PluginContext context)
    {
        var target = new SocketTarget(context, TimeSpan.FromMilliseconds(SocketTarget.Number(context.Config, "timeout", 3000)),
            isUdp: (string?)context.Config["sock_type"] == "udp");
        return (entries, cancellation) => target.SendAsync(Joined(entries, "", "", ""), cancellation);
    }
}
