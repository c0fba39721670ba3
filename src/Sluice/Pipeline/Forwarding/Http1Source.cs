using System.Globalization;
using Microsoft.AspNetCore.Http;
using Sluice.Model;
using Sluice.Net;
using Sluice.Net.Epoll;
using Sluice.Net.Http;
using Sluice.Net.Http1;
using Sluice.Relay;
using Sluice.Upstreams;

namespace Sluice.Pipeline;

/// <summary>An attempt over HTTP/1.1.</summary>
sealed class Http1Source(Forwarder forwarder, Exchange exchange, Upstream upstream, Node node, RequestBody body)
    : UpstreamSource(forwarder, exchange, upstream, node, body), IConnector, IConnectionFollower
{
    volatile UpstreamConnection? _connection;
    volatile CancellationTokenSource? _connecting;
    volatile bool _isClientGone;
    IdleDeadline? _sendSilence, _readSilence;
    Task _sending = Task.CompletedTask;
    CancellationTokenRegistration _clientGone;
    ResponseHead _head = null!;
    string? _wish;
    int _status;
    bool _isStream;

    public override int Status => _status;

    public override bool IsStream => _isStream;

    public override string? BufferingWish => _wish;

    public override IdleDeadline? Silence => _readSilence;

    // -- 1. Ask

    public override async ValueTask AskAsync(bool fresh)
    {
        Started = Forwarder.Time.GetTimestamp();
        FollowClient();
        var tls = Exchange.Upstream.Scheme == "https";
        var addresses = Forwarder.Resolver.Known(Node.Config.Host) ?? await Forwarder.Resolver.ResolveAsync(Node.Config.Host, ClientGone);
        // a certificate that is checked is checked for a name
        var serverName = tls && (Exchange.Snapshot.Settings.Http.UpstreamServerName || Upstream.Config.Tls?.Verify == true || IsOfTries)
            ? ServerName() : null;
        var endpoint = Upstream.Endpoint(Node, addresses.Next(), tls, serverName);
        Address = IsOfTries ? Node.Name : endpoint.AddressText;
        Exchange.Upstream.NodeIp = endpoint.IpText;
        Exchange.Upstream.UnresolvedHost = Node.HostName;
        if (Exchange.Loop is { IsCurrent: false } loop)
        {
            await loop.SwitchTo();
        }
        _connection = await Forwarder.Pools.Here.RentAsync(endpoint, Upstream.Limits, ConnectTimeout, fresh, this);
        if (_isClientGone)
        {
            _connection.Abort(UpstreamFailureKind.ClientGone);
        }
        // as nginx says of a kept connection
        Exchange.Upstream.ConnectSeconds = _connection.Reused ? 0 : Elapsed.TotalSeconds;

        // The request goes out; its body may still be going while the answer comes in.
        var sendTimeout = SendTimeout;
        UpstreamHead.WriteRequest(Exchange, _connection, Upstream.Config, Node, RequestBody.Framing);
        RequestSent = true;
        var sent = _connection.Request.SendHeadAsync();
        if (!sent.IsCompletedSuccessfully)
        {
            SendSilence.Start(sendTimeout);
            await sent;
            SendSilence.Stop();
        }
        _readSilence = _connection.ReadSilence(Forwarder.Time);
        if (RequestBody.IsEmpty)
        {
            _readSilence.Start(HeadTimeout);
            ResponseHead? head;
            while ((head = _connection.TryReadHead(Exchange.Scope.ProxyBufferSize)) is null)
            {
                await _connection.WaitHeadAsync();
            }
            _head = head;
            if (_head.Interim)
            {
                _head = await PassInterimAsync(_connection, _head, _readSilence, Exchange.Scope.ProxyBufferSize);
            }
        }
        else
        {
            // The read timeout runs from when the request is out, or from now on if the answer comes while the body is still going.
            _sending = RequestBody.SendAsync(_connection, SendSilence, sendTimeout);
            var reading = ReadHeadAsync(_connection, _readSilence, Exchange.Scope.ProxyBufferSize).AsTask();
            await Task.WhenAny(_sending, reading);
            _readSilence.Start(HeadTimeout);
            _head = await reading;
        }
        _readSilence.Stop();
        HeadCame();
        _status = _head.Status;
        if (_status == 101 && Exchange.ExtendedConnect is not null
            && _head.Headers.First("Sec-WebSocket-Accept") != WebSocketHandshake.Accept(
                Exchange.Request.Headers.SecWebSocketKey.ToString()))
        {
            throw new UpstreamException(UpstreamFailureKind.BadResponse,
                "101 Switching Protocols whose Sec-WebSocket-Accept is not the key's");
        }
        _wish = _head.Headers.First("X-Accel-Buffering");
        if (Exchange.Keep is not null)
        {
            Exchange.AccelExpires = _head.Headers.First("X-Accel-Expires");
        }
        _isStream = _status == 101 || MediaType.IsStream(_head.Headers.First("Content-Type"));
        Exchange.Upstream.HeaderSeconds = ArrivedAfter.TotalSeconds;
    }

    /// <summary>Ends the attempt when the client leaves. Of an HTTP/1.1 client on an event loop it is the connection that tells: a
    /// registration would be 190 bytes of each stream.</summary>
    void FollowClient()
    {
        if (Exchange.Scope.IgnoreClientAbort)
        {
            return;
        }
        if (Exchange is { Http: Http1Context, Connection: { } client })
        {
            client.Follow(this);
            return;
        }
        _clientGone = ClientGone.UnsafeRegister(static source => ((Http1Source)source!).EndForClient(), this);
    }

    void IConnectionFollower.ClientGone() => EndForClient();

    void EndForClient()
    {
        _isClientGone = true;
        _connection?.Abort(UpstreamFailureKind.ClientGone);
        GiveUpConnecting();
    }

    CancellationTokenSource? IConnector.Connecting
    {
        set
        {
            _connecting = value;
            if (_isClientGone)
            {
                GiveUpConnecting();
            }
        }
    }

    void GiveUpConnecting()
    {
        try
        {
            _connecting?.Cancel();
        }
        catch (ObjectDisposedException)
        {
            // there is a connection by now, or none to come
        }
    }

    IdleDeadline SendSilence => _sendSilence ??=
        new IdleDeadline(Forwarder.Time, static upstream => ((UpstreamConnection)upstream!).Abort(UpstreamFailureKind.SendTimeout),
            _connection);

    /// <summary>Until what is read now came: on a loop, when it heard of it.</summary>
    TimeSpan ArrivedAfter => Exchange.Loop is { IsCurrent: true } loop && Forwarder.Time == TimeProvider.System
        ? Forwarder.Time.GetElapsedTime(Started, Math.Max(Started, loop.Now))
        : Elapsed;

    string ServerName()
    {
        var host = Exchange.UpstreamHost ?? Upstream.Config.PassHost switch
        {
            "node" => Node.HostName,
            "rewrite" => Upstream.Config.UpstreamHost ?? Node.HostName,
            _ => Exchange.Host,
        };
        return HostName.Normalize(HostName.WithoutPort(host));
    }

    async ValueTask<ResponseHead> ReadHeadAsync(UpstreamConnection connection, IdleDeadline silence, int maxHeadBytes) =>
        await PassInterimAsync(connection, await connection.ReadHeadAsync(maxHeadBytes), silence, maxHeadBytes);

    /// <summary>Interim answers go on; gives the final head.</summary>
    async ValueTask<ResponseHead> PassInterimAsync(UpstreamConnection connection, ResponseHead head, IdleDeadline silence, int maxHeadBytes)
    {
        for (; head.Interim; head = await connection.ReadHeadAsync(maxHeadBytes))
        {
            if (InterimCounts)
            {
                silence.Touch();
            }
            // 100 is said by whoever reads the request's body
            if (head.Status > 100 && Exchange.Http.Features.Get<IInterimAnswers>() is { } interim)
            {
                await interim.SendAsync(head.Status, UpstreamHead.InterimHeaders(head));
            }
        }
        return head;
    }

    // -- 2. What is sent of it

    public override ValueTask RelayAsync()
    {
        Exchange.Failure = null;
        Exchange.Upstream.AddAttempt(Address, _head.Status);
        if (_status != 101)
        {
            return ResponseSender.SendAsync(Exchange, this);
        }
        if (!WebSocketHandshake.IsWanted(Exchange))
        {
            throw new UpstreamException(UpstreamFailureKind.BadResponse, "101 Switching Protocols to a request that asked for none");
        }
        return TunnelAsync();
    }

    public override void WriteHead(Exchange exchange) =>
        UpstreamHead.CopyResponse(exchange, _head, (Exchange.ForwardTo as ForwardTo.To)?.Tries);

    public override long? Length => _head.Body.Kind == BodyKind.Length ? _head.Body.Length
        : long.TryParse(_head.Headers.First("Content-Length"), NumberStyles.None, CultureInfo.InvariantCulture, out var declared) ? declared
        : null;

    public override IBodySource? TakeBody()
    {
        var hasBody = _head.Body.Kind != BodyKind.None;
        // its bytes are not kept as long as the body takes
        _head = null!;
        return hasBody ? _connection!.Body : null;
    }

    public override void Abandon() => _connection!.Abort(UpstreamFailureKind.Shutdown);

    public override ValueTask EndedAsync()
    {
        Exchange.Upstream.ResponseSeconds = ArrivedAfter.TotalSeconds;
        return _sending.IsCompletedSuccessfully ? _connection!.DisposeAsync() : ValueTask.CompletedTask;
    }

    public override IEnumerable<KeyValuePair<string, string>> Trailers
    {
        get
        {
            var trailers = _connection!.Trailers;
            for (var i = 0; i < trailers.Count; i++)
            {
                yield return new(trailers.Name(i), trailers.Value(i));
            }
        }
    }

    async ValueTask TunnelAsync()
    {
        var protocol = _head.Headers.First("Upgrade");
        if (Exchange.Services.Live.IsFull)
        {
            Abandon();
            await ResponseSender.RefuseAsync(Exchange);
            return;
        }
        UpstreamHead.CopyResponse(Exchange, _head);
        await RunTunnelAsync(await ResponseSender.UpgradeAsync(Exchange, protocol), _connection!);
    }

    public override async ValueTask DisposeAsync()
    {
        if (Exchange is { Http: Http1Context, Connection: { } client })
        {
            client.Unfollow();
        }
        await _clientGone.DisposeAsync();
        if (!_sending.IsCompleted)
        {
            // answered before the whole request was sent: the rest is nobody's business any more
            _connection?.Abort(UpstreamFailureKind.Shutdown);
            Exchange.Request.BodyReader.CancelPendingRead();
        }
        try
        {
            await _sending;
        }
        catch (Exception e) when (e is UpstreamException or OperationCanceledException)
        {
            // said already, if it mattered, by the side that reads the answer
        }
        _sendSilence?.Dispose();
        if (_connection is not null)
        {
            await _connection.DisposeAsync();
        }
    }
}
