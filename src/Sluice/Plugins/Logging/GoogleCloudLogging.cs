using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using Microsoft.Extensions.Logging;
using Sluice.Net;
using Sluice.Pipeline;

namespace Sluice.Plugins.Logging;

/// <summary>Sends log entries to Google Cloud Logging.</summary>
internal sealed class GoogleCloudLogging : BatchLogger, IPlugin<GoogleCloudLogging, JsonObject>
{
    public static PluginInfo Info { get; } = new("google-cloud-logging", 407,
        $$"""
        {
          "type": "object",
          "properties": {
            "auth_config": {
              "type": "object",
              "properties": {
                "client_email": { "type": "string" },
                "private_key": { "type": "string" },
                "project_id": { "type": "string" },
                "token_uri": { "type": "string", "default": "https://oauth2.googleapis.com/token" },
                "scope": {
                  "type": "array", "items": { "type": "string" }, "minItems": 1, "uniqueItems": true,
                  "default": [
                    "https://www.googleapis.com/auth/logging.read", "https://www.googleapis.com/auth/logging.write",
                    "https://www.googleapis.com/auth/logging.admin", "https://www.googleapis.com/auth/cloud-platform"
                  ]
                },
                "scopes": { "type": "array", "items": { "type": "string" }, "minItems": 1, "uniqueItems": true, "description": "instead of `scope`" },
                "entries_uri": { "type": "string", "default": "https://logging.googleapis.com/v2/entries:write" }
              },
              "required": ["client_email", "private_key", "project_id", "token_uri"]
            },
            "auth_file": { "type": "string", "description": "a JSON file with what `auth_config` has" },
            "ssl_verify": { "type": "boolean", "default": true },
            "resource": {
              "type": "object", "properties": { "type": { "type": "string" }, "labels": { "type": "object" } }, "default": { "type": "global" }, "required": ["type"]
            },
            "log_id": { "type": "string", "default": "apisix.apache.org%2Flogs" },
            "name": { "type": "string", "default": "google-cloud-logging" },
            {{LogSchema.Batch}},
            {{LogSchema.Format}}
          },
          "oneOf": [{ "required": ["auth_config"] }, { "required": ["auth_file"] }],
          "encrypt_fields": ["auth_config.private_key"]
        }
        """,
        "Writes an entry for each request to Google Cloud Logging, in batches, as a service account. Bodies are not logged."
        + LogSchema.AboutQueue)
    {
        MetadataSchema = LogSchema.Metadata,
        Example = """
            ```json
            {"google-cloud-logging": {"auth_config": {"client_email": "logs@my-project.iam.gserviceaccount.com", "private_key": "-----BEGIN PRIVATE KEY-----…", "project_id": "my-project", "token_uri": "https://oauth2.googleapis.com/token"}}}
            ```
            """,
    };

    readonly JsonObject _resource;
    readonly string _logId;
    readonly Accounts _accounts;

    GoogleCloudLogging(PluginContext context, Accounts accounts)
        : base(Info, "google-cloud-logging", context, new Writer(context, accounts).SendAsync)
    {
        _accounts = accounts;
        _resource = context.Config["resource"] as JsonObject ?? new() { ["type"] = "global" };
        _logId = (string?)context.Config["log_id"] ?? "apisix.apache.org%2Flogs";
    }

    public static JsonTypeInfo<JsonObject> ConfigType => LogJson.Default.JsonObject;

    public static GoogleCloudLogging Create(JsonObject config, PluginContext context) => new(context, new Accounts(context));

    private protected override byte[]? Waiting(Exchange exchange, JsonObject entry)
    {
        if (_accounts.Known is not { } account)
        {
            return null;
        }
        var google = Record.IsCustom ? new JsonObject { ["jsonPayload"] = entry } : About(exchange, entry);
        google["labels"] = new JsonObject { ["source"] = "apache-apisix-google-cloud-logging" };
        google["timestamp"] = Rfc5424.Now(exchange);
        google["resource"] = _resource.DeepClone();
        google["insertId"] = exchange.Get("request_id");
        google["logName"] = $"projects/{account.Project}/logs/{_logId}";
        return LogRecord.Bytes(google);
    }

    JsonObject About(Exchange exchange, JsonObject entry)
    {
        var (request, response) = (entry["request"]!, entry["response"]!);
        var payload = new JsonObject { ["route_id"] = entry["route_id"]?.DeepClone(), ["service_id"] = entry["service_id"]?.DeepClone() };
        Record.AddExtra(exchange, payload);
        return new()
        {
            ["httpRequest"] = new JsonObject
            {
                ["requestMethod"] = request["method"]?.DeepClone(),
                ["requestUrl"] = request["url"]?.DeepClone(),
                ["requestSize"] = request["size"]?.DeepClone(),
                ["status"] = response["status"]?.DeepClone(),
                ["responseSize"] = response["size"]?.DeepClone(),
                ["userAgent"] = request["headers"]?["user-agent"]?.DeepClone(),
                ["remoteIp"] = entry["client_ip"]?.DeepClone(),
                ["serverIp"] = entry["upstream"]?.DeepClone(),
                ["latency"] = string.Create(CultureInfo.InvariantCulture, $"{exchange.ElapsedMs / 1000:F3}s"),
            },
            ["jsonPayload"] = payload,
        };
    }

    /// <summary>The account, which may be in a file that is not there yet: it is read when the first entry needs it, and again with the
    /// next while it cannot be.</summary>
    sealed class Accounts
    {
        readonly PluginContext _context;
        readonly ILogger _logger;
        volatile GoogleAccount? _known;

        /// <exception cref="ConfigException">What stands in the configuration itself is not good.</exception>
        public Accounts(PluginContext context)
        {
            (_context, _logger) = (context, context.Services.Loggers.CreateLogger<GoogleCloudLogging>());
            _known = context.Config.ContainsKey("auth_config") ? new GoogleAccount(context) : null;
        }

        /// <summary>Null: it cannot be read, and the log says why.</summary>
        public GoogleAccount? Known
        {
            get
            {
                try
                {
                    return _known ??= new GoogleAccount(_context);
                }
                catch (ConfigException e)
                {
                    LogWarnings.Failed(_logger, $"failed to fetch google-cloud-logging.oauth object: {e.Message}");
                    return null;
                }
            }
        }
    }

    sealed class Writer(PluginContext context, Accounts accounts)
    {
        readonly LogServer _server = new(context, [], LogServer.Options(context.Config, TimeSpan.FromSeconds(60), verifies: true));
        readonly ILogger _logger = context.Services.Loggers.CreateLogger<GoogleCloudLogging>();

        public async Task SendAsync(IReadOnlyList<byte[]> entries, CancellationToken cancellation)
        {
            // an entry was made with it
            var account = accounts.Known!;
            LogWarnings.Sending(_logger, account.EntriesUri);
            var authorization = await account.AuthorizationAsync(cancellation);
            try
            {
                using var response = await _server.SendAsync(
                    "POST", account.EntriesUri, Joined(entries, "{\"entries\":[", ",", "],\"partialSuccess\":false}"), "application/json",
                    [new("Authorization", authorization)], cancellation);
                if (response.Status != 200)
                {
                    throw new IOException(response.Text);
                }
            }
            catch (OutgoingException e)
            {
                throw new IOException($"failed to write log to google, {e.Message}", e);
            }
        }
    }
}
