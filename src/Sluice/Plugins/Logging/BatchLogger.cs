using System.Buffers;
using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging;
using Sluice.Observability;
using Sluice.Pipeline;
using Sluice.Relay;

namespace Sluice.Plugins.Logging;

/// <summary>A plugin that sends entries somewhere else in batches: what the loggers share. One queue for all places that have the same
/// configuration.</summary>
/// <typeparam name="T">An entry as it waits to be sent.</typeparam>
internal abstract class BatchLogger<T> : IAccess, IBodyFilter, ILog
    where T : class
{
    readonly BatchQueue<T> _queue;

    /// <param name="label">The plugin in the log: <c>http logger</c>.</param>
    /// <param name="sendsByMetadata">Where entries go is said by the metadata: another metadata is another queue.</param>
    private protected BatchLogger(
        PluginInfo info, string label, PluginContext context, Func<IReadOnlyList<T>, CancellationToken, Task> send,
        bool sendsByMetadata = false)
    {
        var config = context.Config;
        Logger = context.Services.Loggers.CreateLogger(GetType());
        Record = new(this, config, context.Metadata, text => LogWarnings.Say(Logger, text));
        var limit = context.Share($"{info.Name}/limit", static () => new PendingLimit());
        limit.Max = context.Metadata?["max_pending_entries"] is { } max ? (int)max.AsValue().GetValue<double>() : PendingLimit.DefaultMax;
        var options = new BatchOptions((string?)config["name"] ?? label)
        {
            MaxSize = Number("batch_max_size", 1000),
            InactiveTimeout = TimeSpan.FromSeconds(Number("inactive_timeout", 5)),
            BufferDuration = TimeSpan.FromSeconds(Number("buffer_duration", 60)),
            MaxRetries = Number("max_retry_count", 0),
            RetryDelay = TimeSpan.FromSeconds(Number("retry_delay", 1)),
        };
        var key = $"{info.Name}/{context.ConfigHash}{(sendsByMetadata ? context.Metadata?.ToJsonString() : null)}";
        _queue = context.Share(key, () => new BatchQueue<T>(options, send, limit, context.Services.Time, Logger));

        int Number(string name, int otherwise) => config[name] is { } value ? (int)value.AsValue().GetValue<double>() : otherwise;
    }

    private protected ILogger Logger { get; }

    private protected LogRecord Record { get; }

    /// <summary>What stands as <c>route_id</c> when no route matched.</summary>
    private protected virtual string? Unmatched => null;

    public ValueTask<Answer?> AccessAsync(Exchange exchange)
    {
        Record.Begin(exchange);
        return default;
    }

    public IPieceFilter? OpenBody(Exchange exchange) => Record.OpenBody(exchange);

    public void Log(Exchange exchange)
    {
        if (Record.Of(exchange, Unmatched) is { } entry && Waiting(exchange, entry) is { } waiting)
        {
            _queue.TryAdd(waiting);
        }
    }

    /// <summary>The entry as it waits to be sent; null: it cannot be made, and the log says why.</summary>
    private protected abstract T? Waiting(Exchange exchange, JsonObject entry);
}

/// <summary>A logger whose entries wait as the bytes that are sent.</summary>
internal abstract class BatchLogger : BatchLogger<byte[]>
{
    private protected BatchLogger(
        PluginInfo info, string label, PluginContext context, Func<IReadOnlyList<byte[]>, CancellationToken, Task> send,
        bool sendsByMetadata = false)
        : base(info, label, context, send, sendsByMetadata)
    {
    }

    private protected override byte[]? Waiting(Exchange exchange, JsonObject entry) => LogRecord.Bytes(entry);

    /// <summary>One entry as it is, several as a JSON array.</summary>
    private protected static byte[] Json(IReadOnlyList<byte[]> entries, bool single) =>
        single ? entries[0] : Joined(entries, "[", ",", "]");

    private protected static byte[] Joined(IReadOnlyList<byte[]> entries, string first, string between, string last)
    {
        var output = new ArrayBufferWriter<byte>(entries.Sum(entry => entry.Length + 1) + 2);
        output.Write(System.Text.Encoding.UTF8.GetBytes(first));
        for (var i = 0; i < entries.Count; i++)
        {
            output.Write(System.Text.Encoding.UTF8.GetBytes(i == 0 ? "" : between));
            output.Write(entries[i]);
        }
        output.Write(System.Text.Encoding.UTF8.GetBytes(last));
        return output.WrittenSpan.ToArray();
    }
}

/// <summary>What loggers say in the error log.</summary>
static partial class LogWarnings
{
    [LoggerMessage(Level = LogLevel.Warning, Message = "{Text}")]
    public static partial void Say(ILogger logger, string text);

    [LoggerMessage(Message = "{Text}")]
    public static partial void Say(ILogger logger, LogLevel level, string text);

    [LoggerMessage(Level = LogLevel.Error, Message = "{Text}")]
    public static partial void Failed(ILogger logger, string text);

    [LoggerMessage(Level = LogLevel.Information, Message = "sending a batch logs to {Where}")]
    public static partial void Sending(ILogger logger, string where);
}
