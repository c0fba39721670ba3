using Microsoft.Extensions.Logging;
using Sluice.Model.Settings;
using Sluice.Observability;
using Sluice.Pipeline;
using Sluice.Relay.Topics;

namespace Sluice.Hosting;

/// <summary>An access log as configured; a reload may change its file and its format while requests go on.</summary>
/// <param name="reader">How a variable of a name is read; null: by its name, for each line.</param>
sealed class AccessLogging(TimeProvider time, ILogger logger, Func<string, Func<IVariables, string?>?>? reader = null) : IAsyncDisposable
{
    sealed record Running(AccessLogWriter Writer, AccessLogFormat Format, string Path);

    static readonly TimeSpan Gather = TimeSpan.FromMilliseconds(20);

    Running? _running;

    public long Dropped => _running?.Writer.Dropped ?? 0;

    public async ValueTask ApplyAsync(AccessLogSettings settings)
    {
        var old = _running;
        if (settings.Path is not { } path)
        {
            _running = null;
            await CloseAsync(old);
            return;
        }
        var format = reader is null ? settings.Format : settings.Format.Bind(reader);
        if (old?.Path == path)
        {
            _running = old with { Format = format };
            return;
        }
        _running = new(new AccessLogWriter(path, logger, time, gather: Gather), format, path);
        await CloseAsync(old);
    }

    /// <summary>After log rotation moved the file away.</summary>
    public void Reopen() => _running?.Writer.Reopen();

    public void Write(IVariables variables)
    {
        if (_running is { } running)
        {
            running.Writer.Write(running.Format, variables, variables is Exchange { Services.Topics.IsUsed: true } ? StreamIds.Hide : null);
        }
    }

    static ValueTask CloseAsync(Running? running) => running?.Writer.DisposeAsync() ?? ValueTask.CompletedTask;

    public ValueTask DisposeAsync() => CloseAsync(_running);
}
