using System.Buffers;

namespace Sluice.Observability;

/// <summary>
/// An access log: renders each request's line where the request ends and leaves the writing to one background task. Lines that find the
/// queue full are dropped and counted (a full disk never stalls a stream); the error log tells how many.
/// </summary>
internal sealed partial class AccessLogWriter : IAsyncDisposable
{
    const int MaxLine = 64 * 1024;

    [ThreadStatic] static ArrayBufferWriter<byte>? t_line;

    readonly LogQueue _queue;
    readonly ILogger _log;

    /// <param name="path">A file, <c>/dev/stdout</c> or <c>/dev/stderr</c>.</param>
    /// <exception cref="IOException">The file cannot be opened; the message names it.</exception>
    public AccessLogWriter(string path, ILogger log, TimeProvider time, int capacity = LogQueue.DefaultCapacity, TimeSpan gather = default)
    {
        _log = log;
        _queue = new LogQueue("access log", path, time, Report, capacity, gather);
    }

    /// <summary>How many lines were never written.</summary>
    public long Dropped => _queue.Dropped;

    public void Write(AccessLogFormat format, IVariables variables, Func<string, string>? hide = null)
    {
        var line = t_line ??= new ArrayBufferWriter<byte>(1024);
        line.ResetWrittenCount();
        format.Render(variables, line);
        if (hide is not null)
        {
            var text = System.Text.Encoding.Latin1.GetString(line.WrittenSpan);
            var shown = hide(text);
            if (!ReferenceEquals(shown, text))
            {
                line.ResetWrittenCount();
                line.Write(System.Text.Encoding.Latin1.GetBytes(shown));
            }
        }
        _queue.TryWrite(line.WrittenSpan);
        if (line.Capacity > MaxLine)
        {
            t_line = null;          // one huge line must not stay with the thread for ever
        }
    }

    /// <summary>After log rotation moved the file away.</summary>
    public void Reopen() => _queue.Reopen();

    public ValueTask DisposeAsync() => _queue.DisposeAsync();

    void Report(string what) => LogTrouble(_log, what);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{What}")]
    static partial void LogTrouble(ILogger log, string what);
}
