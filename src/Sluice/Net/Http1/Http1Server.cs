using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Hosting.Server;
using Sluice.Net.Epoll;
using Sluice.Observability;

namespace Sluice.Net.Http1;

/// <summary>
/// Serves HTTP/1: as the last middleware of Kestrel's connections, or straight from an event loop, where a connection costs nothing but
/// itself.
/// </summary>
/// <param name="http2">Who goes on with a connection that begins with HTTP/2's preface; null: nobody looks for it.</param>
internal sealed class Http1Server<TContext>(
    Http1Settings settings, IHttpApplication<TContext> application, Func<ConnectionContext, Task>? http2, ConnectionMeters meters)
    : IConnectionServer, IHttp1Server
    where TContext : notnull
{
    readonly Lock _lock = new();
    readonly HashSet<Http1Connection> _served = [];
    TaskCompletionSource? _empty;
    Action<Http1Connection>? _ended;

    /// <summary>A connection that somebody else keeps track of.</summary>
    public Task RunAsync(ConnectionContext connection) =>
        new Http1Connection(connection, settings).RunAsync(application, http2, ended: null);

    public void Serve(EpollConnection connection)
    {
        var served = new Http1Connection(connection, settings);
        lock (_lock)
        {
            _served.Add(served);
        }
        meters.Opened();
        _ = served.RunAsync(application, http2, _ended ??= Ended);
    }

    void Ended(Http1Connection connection)
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
    public void Stop()
    {
        settings.Stop();
        foreach (var connection in Served())
        {
            connection.Stop();
        }
    }

    Http1Connection[] Served()
    {
        lock (_lock) { return [.. _served]; }
    }

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
        foreach (var connection in Served())
        {
            connection.Connection.Abort(new ConnectionAbortedException("the gateway stops"));
        }
    }
}

/// <summary>What an address asks of its server.</summary>
internal interface IHttp1Server : IDisposable
{
    /// <summary>Serves a connection until it ends.</summary>
    Task RunAsync(ConnectionContext connection);

    /// <summary>Connections end after the request that they are at.</summary>
    void Stop();

    /// <summary>Completes when the last one has ended.</summary>
    Task EndAsync(CancellationToken tooLong);
}
