using System.Buffers;
using System.Globalization;
using System.Text;

namespace Sluice.Observability;

/// <summary>nginx's levels, the gravest first.</summary>
internal enum LogSeverity
{
    Stderr,
    Emerg,
    Alert,
    Crit,
    Error,
    Warn,
    Notice,
    Info,
    Debug,
}

/// <summary>A message with one of nginx's levels, of which the framework has fewer: for <see cref="ILogger.Log"/> as its state.</summary>
internal readonly record struct SevereText(LogSeverity Severity, string Text)
{
    public static void Log(ILogger logger, LogSeverity severity, string text) =>
        logger.Log(LevelOf(severity), 0, new SevereText(severity, text), null, static (line, _) => line.Text);

    public static LogLevel LevelOf(LogSeverity severity) => severity switch
    {
        <= LogSeverity.Crit => LogLevel.Critical,
        LogSeverity.Error => LogLevel.Error,
        LogSeverity.Warn => LogLevel.Warning,
        LogSeverity.Notice or LogSeverity.Info => LogLevel.Information,
        _ => LogLevel.Debug,
    };
}

/// <summary>
/// The error log in nginx's shape, one line per event: <c>2026/11/23 23:33:30 [error] 1234#0: message, exception: …</c>.
/// Lines go through a bounded queue; what finds it full is dropped and counted. Keeping secrets out is up to those who log.
/// </summary>
/// <remarks>The level is this class's own and may change at run time: give the logger factory the minimum level Trace.</remarks>
internal sealed class ErrorLog : ILoggerProvider, IAsyncDisposable
{
    static readonly string[] Names = ["stderr", "emerg", "alert", "crit", "error", "warn", "notice", "info", "debug"];

    [ThreadStatic] static StringBuilder? t_text;

    readonly LogQueue[] _queues;
    readonly TimeProvider _time;
    volatile int _level;

    /// <param name="paths">Files, <c>/dev/stdout</c>, <c>/dev/stderr</c>: each gets every line.</param>
    /// <exception cref="IOException">A file cannot be opened; the message names it.</exception>
    public ErrorLog(IEnumerable<string> paths, LogSeverity level, TimeProvider time, int capacity = LogQueue.DefaultCapacity)
    {
        _time = time;
        _level = (int)level;
        _queues = [.. paths.Select(path => new LogQueue($"error log {path}", path, time, Report, capacity))];
    }

    /// <summary>Events less grave are not written.</summary>
    public LogSeverity Level
    {
        get => (LogSeverity)_level;
        set => _level = (int)value;
    }

    public long Dropped => _queues.Sum(queue => queue.Dropped);

    /// <summary>nginx's names: debug, info, notice, warn, error, crit, alert, emerg.</summary>
    public static LogSeverity? ParseLevel(string name) => Array.IndexOf(Names, name) is > 0 and var index ? (LogSeverity)index : null;

    public ILogger CreateLogger(string categoryName) => new Logger(this);

    /// <summary>After log rotation moved the files away.</summary>
    public void Reopen()
    {
        foreach (var queue in _queues)
        {
            queue.Reopen();
        }
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var queue in _queues)
        {
            await queue.DisposeAsync();
        }
    }

    public void Dispose() => DisposeAsync().AsTask().GetAwaiter().GetResult();

    void Write(LogSeverity level, string message, Exception? exception)
    {
        var text = (t_text ??= new StringBuilder()).Clear();
        text.Append(_time.GetLocalNow().ToString("yyyy/MM/dd HH:mm:ss", CultureInfo.InvariantCulture))
            .Append(" [").Append(Names[(int)level]).Append("] ").Append(Environment.ProcessId).Append("#0: ");
        AppendEscaped(text, message);
        if (exception is not null)
        {
            text.Append(", exception: ");
            AppendEscaped(text,
                string.Join(" | ", exception.ToString()
                    .Split('\n', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries)));
        }
        text.Append('\n');
        var line = text.ToString();
        var bytes = ArrayPool<byte>.Shared.Rent(Encoding.UTF8.GetMaxByteCount(line.Length));
        var length = Encoding.UTF8.GetBytes(line, bytes);
        foreach (var queue in _queues)
        {
            queue.TryWrite(bytes.AsSpan(0, length));
        }
        ArrayPool<byte>.Shared.Return(bytes);
        if (text.Capacity > 16 * 1024)
        {
            t_text = null;
        }
    }

    // a queue's own trouble goes to the other queues, and to standard error if there is none: never back into a queue that fails
    void Report(string what)
    {
        if (_queues is { Length: > 1 })
        {
            Write(LogSeverity.Warn, what, null);
        }
        else
        {
            try
            {
                Console.Error.WriteLine(what);
            }
            catch (IOException)
            {
                // the same full disk, or nobody is there
            }
        }
    }

    static void AppendEscaped(StringBuilder text, string value)
    {
        foreach (var c in value)
        {
            if (!char.IsControl(c))
            {
                text.Append(c);
                continue;
            }
            _ = c switch
            {
                '\n' => text.Append("\\n"),
                '\r' => text.Append("\\r"),
                '\t' => text.Append("\\t"),
                _ => text.Append(CultureInfo.InvariantCulture, $"\\x{(int)c:X2}"),
            };
        }
    }

    static LogSeverity SeverityOf(LogLevel level) => level switch
    {
        LogLevel.Trace or LogLevel.Debug => LogSeverity.Debug,
        LogLevel.Information => LogSeverity.Info,
        LogLevel.Warning => LogSeverity.Warn,
        LogLevel.Error => LogSeverity.Error,
        _ => LogSeverity.Crit,
    };

    sealed class Logger(ErrorLog log) : ILogger
    {
        public bool IsEnabled(LogLevel logLevel) => logLevel switch
        {
            LogLevel.None => false,
            LogLevel.Information => log.Level >= LogSeverity.Notice,
            LogLevel.Critical => true,
            _ => log.Level >= SeverityOf(logLevel),
        };

        public IDisposable? BeginScope<TState>(TState state) where TState : notnull => null;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception,
            Func<TState, Exception?, string> formatter)
        {
            var severity = state is SevereText exact ? exact.Severity : SeverityOf(logLevel);
            // what is critical to the gateway is written at any level
            if (severity <= log.Level || (state is not SevereText && logLevel == LogLevel.Critical))
            {
                log.Write(severity, formatter(state, exception), exception);
            }
        }
    }
}
