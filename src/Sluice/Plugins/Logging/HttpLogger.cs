using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using Microsoft.Extensions.Logging;
using Sluice.Pipeline;

namespace Sluice.Plugins.Logging;

/// <summary>Sends log entries to an HTTP server.</summary>
internal sealed class HttpLogger : BatchLogger, IPlugin<HttpLogger, JsonObject>
{
    public static PluginInfo Info { get; } = new("http-logger", 410,
        $$"""
        {
          "type": "object",
          "properties": {
            "uri": { "type": "string", "pattern": "^[^\\/]+:\\/\\/([\\da-zA-Z.-]+|\\[[\\da-fA-F:]+\\])(:\\d+)?", "description": "where entries are posted" },
            "auth_header": { "type": "string", "description": "sent as `Authorization`" },
            "timeout": { "type": "integer", "minimum": 1, "default": 3, "description": "seconds for a whole batch" },
            "concat_method": { "type": "string", "default": "json", "enum": ["json", "new_line"], "description": "a batch is a JSON array, or entries on lines of their own" },
            "ssl_verify": { "type": "boolean", "default": false },
            "name": { "type": "string", "default": "http logger" },
            {{LogSchema.Batch}},
            {{LogSchema.Entry}}
          },
          "encrypt_fields": ["auth_header"],
          "required": ["uri"]
        }
        """,
        "Posts an entry for each request to an HTTP server, in batches." + LogSchema.About)
    {
        MetadataSchema = LogSchema.Metadata,
        Example = """
            ```json
            {"http-logger": {"uri": "http://127.0.0.1:8000/logs", "batch_max_size": 100}}
            ```
            """,
    };

    HttpLogger(PluginContext context)
        : base(Info, "http logger", context, Sender(context))
    {
    }

    public static JsonTypeInfo<JsonObject> ConfigType => LogJson.Default.JsonObject;

    public static HttpLogger Create(JsonObject config, PluginContext context) => new(context);

    private protected override string Unmatched => "no-matched";

    static Func<IReadOnlyList<byte[]>, CancellationToken, Task> Sender(PluginContext context)
    {
        var config = context.Config;
        var logger = context.Services.Loggers.CreateLogger<HttpLogger>();
        var uri = (string)config["uri"]!;
        var server = new LogServer(context, [uri],
            LogServer.Options(config, TimeSpan.FromSeconds(SocketTarget.Number(config, "timeout", 3)), verifies: false));
        var single = SocketTarget.Number(config, "batch_max_size", 1000) == 1;
        var lines = (string?)config["concat_method"] == "new_line";
        KeyValuePair<string, string>[] headers = (string?)config["auth_header"] is { } authorization ? [new("Authorization", authorization)]
            : [];
        return (entries, cancellation) =>
        {
            LogWarnings.Sending(logger, uri);
            return lines
                ? server.PostAsync(uri, Joined(entries, "", "\n", ""), "text/plain", headers, cancellation)
                : server.PostAsync(uri, Json(entries, single), "application/json", headers, cancellation);
        };
    }
}
