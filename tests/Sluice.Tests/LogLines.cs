using Microsoft.Extensions.Logging;

namespace Sluice.Tests;

/// <summary>A logger whose lines a test can look at: <c>Warning the message</c>.</summary>
public sealed class LogLines : ILogger
{
    readonly Lock _lock = new();
    readonly List<string> _lines = [];

    public string[] Lines
    {
        get { lock (_lock) { return [.. _lines]; } }
    }

    public bool IsEnabled(LogLevel logLevel) => true;

    public IDisposable? BeginScope<TState>(TState state) where TState : notnull => null;

    public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception,
        Func<TState, Exception?, string> formatter)
    {
        lock (_lock) { _lines.Add($"{logLevel} {formatter(state, exception)}"); }
    }
}
