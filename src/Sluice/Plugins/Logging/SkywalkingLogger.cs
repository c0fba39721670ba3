using System.Buffers.Text;
using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using Microsoft.Extensions.Logging;
using Sluice.Pipeline;

namespace Sluice.Plugins.Logging;

/// <summary>Sends log entries to SkyWalking.</summary>
internal sealed class SkywalkingLogger : BatchLogger, IPlugin<SkywalkingLogger, JsonObject>
{
    public static PluginInfo Info { get; } = new("skywalking-logger", 408,
        $$"""
        {
          "type": "object",
          "properties": {
            "endpoint_addr": {{LogSchema.Uri}},
            "service_name": { "type": "string", "default": "APISIX" },
            "service_instance_name": { "type": "string", "default": "APISIX Instance Name", "description": "`$hostname` is the machine's name" },
            "timeout": { "type": "integer", "minimum": 1, "default": 3, "description": "seconds for a whole batch" },
            "name": { "type": "string", "default": "skywalking logger" },
            {{LogSchema.Batch}},
            {{LogSchema.Entry}}
          },
          "required": ["endpoint_addr"]
        }
        """,
        "Posts an entry for each request to SkyWalking's `/v3/logs`, in batches; a request with the header `sw8` is logged with its trace."
        + LogSchema.About)
    {
        MetadataSchema = LogSchema.Metadata,
        Example = """
            ```json
            {"skywalking-logger": {"endpoint_addr": "http://127.0.0.1:12800", "service_instance_name": "$hostname"}}
            ```
            """,
    };

    readonly string _service;
    readonly string _instance;

    SkywalkingLogger(PluginContext context)
        : base(Info, "skywalking logger", context, Sender(context))
    {
        _service = (string?)context.Config["service_name"] ?? "APISIX";
        _instance = (string?)context.Config["service_instance_name"] ?? "APISIX Instance Name";
        if (_instance == "$hostname")
        {
            _instance = Environment.MachineName;
        }
    }

    public static JsonTypeInfo<JsonObject> ConfigType => LogJson.Default.JsonObject;

    public static SkywalkingLogger Create(JsonObject config, PluginContext context) => new(context);

    private protected override byte[] Waiting(Exchange exchange, JsonObject entry)
    {
        JsonObject log = [];
        if (exchange.Request.Headers["sw8"] is [{ } header, ..])
        {
            if (TraceOf(header) is { } trace)
            {
                log["traceContext"] = trace;
            }
            else
            {
                LogWarnings.Say(Logger, $"failed to parse trace_context header: {header}");
            }
        }
        log["body"] = new JsonObject { ["json"] = new JsonObject { ["json"] = Encoding.UTF8.GetString(LogRecord.Bytes(entry)) } };
        log["service"] = _service;
        log["serviceInstance"] = _instance;
        log["endpoint"] = exchange.Get("uri");
        return LogRecord.Bytes(log);
    }

    /// <summary>sw8: <c>1-TRACEID-SEGMENTID-SPANID-SERVICE-INSTANCE-ENDPOINT-ADDRESS</c>, texts in base64; null: it is no such
    /// header.</summary>
    static JsonObject? TraceOf(string header)
    {
        if (header.Split('-') is not [_, var trace, var segment, var span, _, _, _, _])
        {
            return null;
        }
        return new()
        {
            ["traceId"] = Plain(trace),
            ["traceSegmentId"] = Plain(segment),
            ["spanId"] = long.TryParse(span, NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? JsonValue.Create(number)
                : null,
        };
    }

    static string? Plain(string base64)
    {
        try
        {
            return Encoding.UTF8.GetString(Base64Url.DecodeFromChars(base64.Replace('+', '-').Replace('/', '_')));
        }
        catch (FormatException)
        {
            return null;
        }
    }

    static Func<IReadOnlyList<byte[]>, CancellationToken, Task> Sender(PluginContext context)
    {
        var address = (string)context.Config["endpoint_addr"]!;
        var at = new Uri(address);
        var uri = new Uri(at, "/v3/logs").AbsoluteUri;
        var server = new LogServer(context, [uri],
            LogServer.Options(context.Config, TimeSpan.FromSeconds(SocketTarget.Number(context.Config, "timeout", 3)), verifies: true));
        var logger = context.Services.Loggers.CreateLogger<SkywalkingLogger>();
        return (entries, cancellation) =>
        {
            LogWarnings.Sending(logger, address);
            return server.PostAsync(uri, Json(entries, single: false), "application/json", null, cancellation);
        };
    }
}
