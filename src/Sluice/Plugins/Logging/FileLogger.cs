using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using Microsoft.Extensions.Logging;
using Sluice.Observability;
using Sluice.Pipeline;
using Sluice.Relay;

namespace Sluice.Plugins.Logging;

/// <summary>Appends log entries to a file.</summary>
internal sealed class FileLogger : IPlugin<FileLogger, JsonObject>, IAccess, IBodyFilter, ILog
{
    public static PluginInfo Info { get; } = new("file-logger", 399,
        $$"""
        {
          "type": "object",
          "properties": {
            "path": { "type": "string", "description": "the file; needed here or in the metadata. A relative one counts from the directory in which the gateway runs" },
            "match": { "type": "array", "maxItems": 20, "items": { "type": "array" }, "description": "only requests for which one of the expressions holds" },
            {{LogSchema.Entry}}
          }
        }
        """,
        "Appends an entry for each request to a file, a JSON object a line, each in one write. The file is opened anew when logs are "
            + "rotated (USR1). Lines that a slow disk would hold up are dropped and counted in the error log.")
    {
        MetadataSchema = """
            { "type": "object", "properties": { "path": { "type": "string" }, "log_format": { "type": "object" }, "log_format_extra": { "type": "object" } } }
            """,
        Example = """
            ```json
            {"file-logger": {"path": "logs/requests.log"}}
            ```
            """,
    };

    readonly LogRecord _record;
    readonly Output _output;

    FileLogger(PluginContext context)
    {
        var logger = context.Services.Loggers.CreateLogger<FileLogger>();
        _record = new(this, context.Config, context.Metadata, text => LogWarnings.Say(logger, text));
        var path = (string?)context.Config["path"] ?? (string?)context.Metadata?["path"]
            ?? throw new ConfigException("property \"path\" is not set in either the plugin conf or the metadata");
        _output = context.Share($"file-logger/{path}", () => new Output(path, context.Services, logger));
    }

    public static JsonTypeInfo<JsonObject> ConfigType => LogJson.Default.JsonObject;

    public static FileLogger Create(JsonObject config, PluginContext context) => new(context);

    public ValueTask<Answer?> AccessAsync(Exchange exchange)
    {
        _record.Begin(exchange);
        return default;
    }

    public IPieceFilter? OpenBody(Exchange exchange) => _record.OpenBody(exchange);

    public void Log(Exchange exchange)
    {
        if (_record.Of(exchange) is { } entry)
        {
            _output.Write([.. LogRecord.Bytes(entry), (byte)'\n']);
        }
    }

    /// <summary>A file that all uses of its path share; opened with the first entry, and tried again with the next while it cannot
    /// be.</summary>
    sealed class Output : IAsyncDisposable
    {
        readonly Lock _lock = new();
        readonly string _path;
        readonly PluginServices _services;
        readonly ILogger _logger;
        LogQueue? _queue;
        bool _ended;

        public Output(string path, PluginServices services, ILogger logger)
        {
            (_path, _services, _logger) = (path, services, logger);
            services.LogsMoved += Reopen;
        }

        public void Write(byte[] line)
        {
            try
            {
                Open()?.TryWrite(line);
            }
            catch (IOException e)
            {
                LogWarnings.Failed(_logger,
                    $"failed to open file: {_path}, error info: {_path}: {e.Message[(e.Message.LastIndexOf(": ", StringComparison.Ordinal) + 2)..]}");
            }
        }

        LogQueue? Open()
        {
            lock (_lock)
            {
                return _ended ? null
                    : _queue ??= new LogQueue($"file-logger {_path}", _path, _services.Time, text => LogWarnings.Failed(_logger, text));
            }
        }

        void Reopen()
        {
            LogQueue? queue;
            lock (_lock)
            {
                queue = _queue;
            }
            queue?.Reopen();
        }

        public async ValueTask DisposeAsync()
        {
            _services.LogsMoved -= Reopen;
            LogQueue? queue;
            lock (_lock)
            {
                (_ended, queue) = (true, _queue);
            }
            if (queue is not null)
            {
                await queue.DisposeAsync();
            }
        }
    }
}
