using System.Text.Json.Nodes;
using System.Text.Json.Serialization;

namespace Sluice.Plugins.Logging;

/// <summary>What the schemas of all loggers have in common.</summary>
static class LogSchema
{
    public const string UriFields = """ "type": "string", "pattern": "^[^\\/]+:\\/\\/([\\da-zA-Z.-]+|\\[[\\da-fA-F:]+\\])(:\\d+)?" """;

    /// <summary>An address of a server.</summary>
    public const string Uri = "{" + UriFields + "}";

    public const string Format =
        """
        "log_format": { "type": "object", "description": "the entry instead of the default one: `$name` is a variable, objects nest to a depth of 5" },
        "log_format_extra": { "type": "object", "description": "added to the default entry" }
        """;

    public const string Entry = Format +
        """
        ,
        "include_req_body": { "type": "boolean", "default": false },
        "include_req_body_expr": { "type": "array", "minItems": 1, "items": { "type": "array" } },
        "include_resp_body": { "type": "boolean", "default": false },
        "include_resp_body_expr": { "type": "array", "minItems": 1, "items": { "type": "array" } },
        "max_req_body_bytes": { "type": "integer", "minimum": 1, "default": 524288, "description": "longer bodies are cut in the log" },
        "max_resp_body_bytes": { "type": "integer", "minimum": 1, "default": 524288 }
        """;

    public const string Batch =
        """
        "batch_max_size": { "type": "integer", "minimum": 1, "default": 1000, "description": "so many entries are sent at once; 1: each alone" },
        "inactive_timeout": { "type": "integer", "minimum": 1, "default": 5, "description": "seconds without a new entry after which what waits is sent" },
        "buffer_duration": { "type": "integer", "minimum": 1, "default": 60, "description": "seconds that the oldest entry waits at most" },
        "max_retry_count": { "type": "integer", "minimum": 0, "default": 0 },
        "retry_delay": { "type": "integer", "minimum": 0, "default": 1 }
        """;

    public const string Metadata =
        """
        { "type": "object", "properties": {
            "log_format": { "type": "object" },
            "log_format_extra": { "type": "object" },
            "max_pending_entries": { "type": "integer", "minimum": 1, "default": 8192, "description": "entries beyond are dropped and counted" } } }
        """;

    public const string AboutQueue =
        """
         Entries are made when a response has ended (a stream's with its last event) and never hold a request up: they wait in memory, and those over `max_pending_entries`
        are dropped and counted in the error log.
        """;

    public const string About = AboutQueue +
        """
         Bodies are copied as they pass, up to their limit; of a request that is answered before its body has been read there is none.
        """;
}

[JsonSerializable(typeof(JsonObject))]
sealed partial class LogJson : JsonSerializerContext;
