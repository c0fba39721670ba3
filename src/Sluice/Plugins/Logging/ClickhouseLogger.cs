using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using Microsoft.Extensions.Logging;
using Sluice.Pipeline;

namespace Sluice.Plugins.Logging;

/// <summary>Sends log entries to ClickHouse.</summary>
internal sealed class ClickhouseLogger : BatchLogger, IPlugin<ClickhouseLogger, JsonObject>
{
    public static PluginInfo Info { get; } = new("clickhouse-logger", 398,
        $$"""
        {
          "type": "object",
          "properties": {
            "endpoint_addr": { {{LogSchema.UriFields}}, "description": "old: `endpoint_addrs` with one address" },
            "endpoint_addrs": { "type": "array", "minItems": 1, "items": {{LogSchema.Uri}}, "description": "each batch goes to one of them, by chance" },
            "user": { "type": "string", "default": "" },
            "password": { "type": "string", "default": "" },
            "database": { "type": "string", "default": "" },
            "logtable": { "type": "string", "default": "", "description": "the table; its columns are the members of an entry" },
            "timeout": { "type": "integer", "minimum": 1, "default": 3, "description": "seconds for a whole batch" },
            "name": { "type": "string", "default": "clickhouse logger" },
            "ssl_verify": { "type": "boolean", "default": true },
            {{LogSchema.Batch}},
            {{LogSchema.Entry}}
          },
          "oneOf": [
            { "required": ["endpoint_addr", "user", "password", "database", "logtable"] },
            { "required": ["endpoint_addrs", "user", "password", "database", "logtable"] }
          ],
          "encrypt_fields": ["password"]
        }
        """,
        "Inserts an entry for each request into a table of ClickHouse, in batches, over its HTTP interface (`INSERT … FORMAT JSONEachRow`)."
        + LogSchema.About)
    {
        MetadataSchema = LogSchema.Metadata,
        Example = """
            ```json
            {"clickhouse-logger": {"endpoint_addrs": ["http://127.0.0.1:8123"], "user": "default", "password": "", "database": "default", "logtable": "requests"}}
            ```
            """,
    };

    ClickhouseLogger(PluginContext context)
        : base(Info, "clickhouse logger", context, Sender(context))
    {
    }

    public static JsonTypeInfo<JsonObject> ConfigType => LogJson.Default.JsonObject;

    public static ClickhouseLogger Create(JsonObject config, PluginContext context) => new(context);

    static Func<IReadOnlyList<byte[]>, CancellationToken, Task> Sender(PluginContext context)
    {
        var config = context.Config;
        var server = LogServer.Of(context,
            LogServer.Options(config, TimeSpan.FromSeconds(SocketTarget.Number(config, "timeout", 3)), verifies: true));
        var insert = $"INSERT INTO {config["logtable"]} FORMAT JSONEachRow ";
        KeyValuePair<string, string>[] headers =
        [
            new("X-ClickHouse-User", (string?)config["user"] ?? ""),
            new("X-ClickHouse-Key", (string?)config["password"] ?? ""),
            new("X-ClickHouse-Database", (string?)config["database"] ?? ""),
        ];
        var logger = context.Services.Loggers.CreateLogger<ClickhouseLogger>();
        return (entries, cancellation) =>
        {
            var uri = server.Any;
            LogWarnings.Sending(logger, uri);
            return server.PostAsync(uri, Joined(entries, insert, " ", ""), "application/json", headers, cancellation);
        };
    }
}
