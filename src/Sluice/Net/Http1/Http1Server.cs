using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Hosting.Server;
using Sluice.Net.Epoll;
using Sluice.Observability;

namespace Sluice.Net.Http1;

/// <summary>
/// Serves HTTP/1: as the last middleware of Kestrel's connections, or straight from an event loop, where a connection costs nothing but itself.
/// </summary>
/// <param name="http2">Who goes on with a connection that begins with HTTP/2's preface; null: nobody looks for it.</param>
public sealed class Http1Server<TContext>(
    Http1Settings settings, IHttpApplication<TContext> application, Func<ConnectionContext, Task>? http2, ConnectionMeters meters) : IConnectionServer, IHttp1Server
    where TContext : notnull
{
    readonly Lock _lock = new();
    readonly HashSet<ConnectionContext> _served = [];
    TaskCompletionSource? _empty;
    Action<ConnectionContext>? _ended;

    /// <summary>A connection that somebody else keeps track of.</summary>
    public Task RunAsync(ConnectionContext connection) => new Http1Connection(connection, settings).RunAsync(application, http2, ended: null);

    public void Serve(EpollConnection connection)
    {
        lock (_lock)
        {
            _served.Add(connection);
        }
        meters.Opened();
        _ = new Http1Connection(connection, settings).RunAsync(application, http2, _ended ??= Ended);
    }

    void Ended(ConnectionContext connection)
    {
        meters.Closed();
        lock (_lock)
        {
            if (_served.Remove(connection) && _served.Count == 0)
            {
                _empty?.TrySetResult();
            }
        }
    }

    /// <summary>Connections end after the request that they are at.</summary>
    public void Stop() => settings.Stop();

    /// <summary>Completes when the last connection of a loop has ended; those that are there when it takes too long are aborted.</summary>
    public async Task EndAsync(CancellationToken tooLong)
    {
        Task empty;
        lock (_lock)
        {
            _empty ??= new(TaskCreationOptions.RunContinuationsAsynchronously);
            if (_served.Count == 0)
            {
                return;
            }
            empty = _empty.Task;
        }
        using var registration = tooLong.UnsafeRegister(static server => ((Http1Server<TContext>)server!).AbortAll(), this);
        await empty;
    }

    public void Dispose() => settings.Dispose();

    void AbortAll()
    {
        ConnectionContext[] all;
        lock (_lock)
        {
            all = [.. _served];
        }
        foreach (var connection in all)
        {
            connection.Abort(new ConnectionAbortedException("the gateway stops"));
        }
    }
}

/// <summary>What an address asks of its server.</summary>
public interface IHttp1Server : IDisposable
{
    /// <summary>Connections end after the request that they are at.</summary>
    void Stop();

    /// <summary>Completes when the last one has ended.</summary>
    Task EndAsync(CancellationToken tooLong);
}
