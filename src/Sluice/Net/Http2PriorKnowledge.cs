using System.IO.Pipelines;
using System.Net;
using System.Threading.Channels;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Http.Features;

namespace Sluice.Net;

/// <summary>
/// HTTP/2 without TLS on the same port as HTTP/1.1 (h2c with prior knowledge, RFC 9113, section 3.3). Kestrel takes one protocol per
/// plaintext endpoint, so a connection that begins with HTTP/2's preface is handed over to a second, invisible endpoint of the same server.
/// </summary>
internal sealed class Http2PriorKnowledge : IConnectionListenerFactory, IConnectionListenerFactorySelector
{
    readonly Channel<ConnectionContext> _handedOver = Channel.CreateBounded<ConnectionContext>(512);

    /// <summary>Where Kestrel has to listen for HTTP/2 only.</summary>
    public EndPoint EndPoint { get; } = new HandoverEndPoint();

    public bool CanBind(EndPoint endpoint) => endpoint is HandoverEndPoint;

    public ValueTask<IConnectionListener> BindAsync(EndPoint endpoint, CancellationToken cancellationToken = default) =>
        new(new Listener(this));

    /// <summary>Serves a connection that begins with HTTP/2's preface, nothing of which was taken; returns when it has ended.</summary>
    public async Task HandOverAsync(ConnectionContext connection)
    {
        connection.Features.Set<IConnectionCounts>(new ConnectionCounts());
        var handed = new HandedOver(connection);
        await _handedOver.Writer.WriteAsync(handed, connection.ConnectionClosed);
        await handed.Served;
    }

    sealed class HandoverEndPoint : EndPoint
    {
        public override string ToString() => "http://h2c";
    }

    sealed class Listener(Http2PriorKnowledge owner) : IConnectionListener
    {
        readonly CancellationTokenSource _unbound = new();

        public EndPoint EndPoint => owner.EndPoint;

        public async ValueTask<ConnectionContext?> AcceptAsync(CancellationToken cancellationToken = default)
        {
            try
            {
                return await owner._handedOver.Reader.ReadAsync(_unbound.Token);
            }
            catch (OperationCanceledException)
            {
                return null;
            }
        }

        public async ValueTask UnbindAsync(CancellationToken cancellationToken = default) => await _unbound.CancelAsync();

        public async ValueTask DisposeAsync() => await _unbound.CancelAsync();
    }

    /// <summary>The same connection for its second server; the first one waits until that has let go of it.</summary>
    sealed class HandedOver(ConnectionContext inner) : ConnectionContext
    {
        readonly TaskCompletionSource _served = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public Task Served => _served.Task;

        public override string ConnectionId { get => inner.ConnectionId; set => inner.ConnectionId = value; }

        public override IFeatureCollection Features => inner.Features;

        public override IDictionary<object, object?> Items { get => inner.Items; set => inner.Items = value; }

        public override IDuplexPipe Transport { get => inner.Transport; set => inner.Transport = value; }

        public override CancellationToken ConnectionClosed { get => inner.ConnectionClosed; set => inner.ConnectionClosed = value; }

        public override EndPoint? LocalEndPoint { get => inner.LocalEndPoint; set => inner.LocalEndPoint = value; }

        public override EndPoint? RemoteEndPoint { get => inner.RemoteEndPoint; set => inner.RemoteEndPoint = value; }

        public override void Abort(ConnectionAbortedException abortReason) => inner.Abort(abortReason);

        public override void Abort() => inner.Abort();

        public override ValueTask DisposeAsync()
        {
            _served.TrySetResult();
            return base.DisposeAsync();
        }
    }
}
