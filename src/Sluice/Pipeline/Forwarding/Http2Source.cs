using System.Buffers;
using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using Microsoft.AspNetCore.Http;
using Sluice.Model;
using Sluice.Net;
using Sluice.Net.Http;
using Sluice.Relay;
using Sluice.Upstreams;

namespace Sluice.Pipeline;

/// <summary>
/// One attempt over HTTP/2, for gRPC (and WebSocket, RFC 8441). Both directions flow at the same time and nothing is held in either;
/// trailers go on as trailers. When the node fails in the middle, a gRPC client learns it from the trailers.
/// </summary>
sealed class Http2Source : UpstreamSource
{
    readonly CancellationTokenSource _cancel;
    readonly IdleDeadline _sendSilence;
    readonly IdleDeadline _readSilence;
    Http2Connections.Lease? _lease;
    HttpRequestMessage? _request;
    HttpResponseMessage? _response;
    ClientBody? _content;
    UpstreamFailureKind? _gaveUp;

    /// <summary>The request asks for a WebSocket.</summary>
    bool _tunnels;

    public Http2Source(Forwarder forwarder, Exchange exchange, Upstream upstream, Node node, RequestBody body)
        : base(forwarder, exchange, upstream, node, body)
    {
        _cancel = CancellationTokenSource.CreateLinkedTokenSource(ClientGone);
        _sendSilence = new IdleDeadline(forwarder.Time, static call => ((Http2Source)call!).GiveUp(UpstreamFailureKind.SendTimeout), this);
        _readSilence = new IdleDeadline(forwarder.Time, static call => ((Http2Source)call!).GiveUp(UpstreamFailureKind.ReadTimeout), this);
    }

    public override int Status => (int)_response!.StatusCode;

    public override bool IsStream => true;

    /// <summary>Both directions flow at the same time; what is held in one may be what the other waits for.</summary>
    public override bool NeverBuffered => true;

    public override IdleDeadline? Silence => _readSilence;

    void GiveUp(UpstreamFailureKind kind)
    {
        _gaveUp ??= kind;
        _cancel.Cancel();
    }

    // -- 1. Ask

    public override async ValueTask AskAsync(bool fresh)
    {
        var tls = Exchange.Upstream.Scheme == "grpcs";
        UpstreamHead.Address(Exchange, Upstream.Config, Node);
        var addresses = await Forwarder.Resolver.ResolveAsync(Node.Config.Host, ClientGone);
        var named = tls && (Exchange.Snapshot.Settings.Http.UpstreamServerName || Upstream.Config.Tls?.Verify == true);
        var endpoint = Upstream.Endpoint(Node, addresses.Next(), tls,
            named ? HostName.Normalize(HostName.WithoutPort(Exchange.Upstream.Host!)) : null);
        Address = endpoint.AddressText;
        Exchange.Upstream.NodeIp = (endpoint.Address as IPEndPoint)?.Address.ToString();
        Exchange.Upstream.UnresolvedHost = Node.HostName;
        _request = Request(endpoint, tls);
        var lease = Forwarder.Http2.Rent(endpoint, Upstream.Limits);
        _lease = lease;
        try
        {
            var answering = lease.SendAsync(_request, ConnectTimeout, _cancel.Token);
            if (_content is not null)
            {
                // the read timeout runs from when the request is out
                await Task.WhenAny(_content.Sent, answering);
            }
            if (!answering.IsCompleted)
            {
                _readSilence.Start(HeadTimeout);
            }
            _response = await answering;
            _readSilence.Stop();
            HeadCame();
            RequestBody.KeepNoMore();
        }
        catch (Exception e)
        {
            throw Failed(e);
        }
        Exchange.Upstream.HeaderSeconds = Elapsed.TotalSeconds;
    }

    HttpRequestMessage Request(UpstreamEndpoint endpoint, bool tls)
    {
        var target = Exchange.Upstream.Uri is { Length: > 0 } uri ? uri : "/";
        _tunnels = WebSocketHandshake.IsWanted(Exchange)
            && Exchange.Request.Headers.Upgrade.ToString().Equals("websocket", StringComparison.OrdinalIgnoreCase);
        var request = new HttpRequestMessage(
            _tunnels ? HttpMethod.Connect : new HttpMethod(Exchange.UpstreamMethod),
            new Uri($"{(tls ? "https" : "http")}://{endpoint.AddressText}{target}",
                new UriCreationOptions { DangerousDisablePathAndQueryCanonicalization = true }));
        if (!RequestBody.IsEmpty)
        {
            request.Content = _content = new ClientBody(this);
        }
        UpstreamHead.WriteHeaders(Exchange, new HeaderWriter(request));
        if (_tunnels)
        {
            request.Headers.Protocol = "websocket";
            request.Headers.Remove("Sec-WebSocket-Key");
            return request;
        }
        // says of HTTP/2 what Connection: TE says of HTTP/1.1: whoever cannot pass trailers on would have stopped here
        request.Headers.TryAddWithoutValidation("TE", "trailers");
        return request;
    }

    readonly struct HeaderWriter(HttpRequestMessage request) : UpstreamHead.IWriter
    {
        public void AddHeader(string name, string value)
        {
            if (name.Equals("Host", StringComparison.OrdinalIgnoreCase))
            {
                request.Headers.Host = value;
            }
            else if (!request.Headers.TryAddWithoutValidation(name, value))
            {
                request.Content?.Headers.TryAddWithoutValidation(name, value);
            }
        }
    }

    /// <summary>The client's body, on its way piece by piece.</summary>
    sealed class ClientBody(Http2Source call) : HttpContent
    {
        readonly TaskCompletionSource _sent = new(TaskCreationOptions.RunContinuationsAsynchronously);
        Task _sending = Task.CompletedTask;
        CancellationTokenSource _stop = new();

        /// <summary>All of it has gone out, or it never will.</summary>
        public Task Sent => _sent.Task;

        /// <summary>Nobody reads the client's body any more.</summary>
        public async Task EndedAsync()
        {
            try
            {
                await _sending;
            }
            catch (Exception)
            {
                // said already, if it mattered, by the side that reads the answer
            }
        }

        protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context) =>
            SerializeToStreamAsync(stream, context, CancellationToken.None);

        protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context, CancellationToken cancellationToken)
        {
            if (call.RequestSent)
            {
                // asked for again on another connection: the one before went away without having looked at it (GOAWAY, RFC 9113, section
                // 6.8)
                await _stop.CancelAsync();
                await EndedAsync();
                if (call.RequestBody.Consumed)
                {
                    throw new IOException(
                        "the upstream closed the connection while the request was on its way, and it is too large to be sent again");
                }
                _stop.Dispose();
                _stop = new();
            }
            call.RequestSent = true;
            try
            {
                await (_sending = call.SendBodyAsync(stream, cancellationToken, _stop.Token));
            }
            finally
            {
                _sent.TrySetResult();
            }
        }

        protected override void Dispose(bool disposing)
        {
            _stop.Dispose();
            base.Dispose(disposing);
        }

        protected override bool TryComputeLength(out long length)
        {
            length = 0;
            return false;
        }
    }

    async Task SendBodyAsync(Stream stream, CancellationToken cancellation, CancellationToken stop)
    {
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellation, stop, _cancel.Token);
        using var client = WatchClient(() => GiveUp(UpstreamFailureKind.ReadTimeout));
        await RequestBody.CopyToAsync(stream, _sendSilence, SendTimeout, client, ClientIdle ?? TimeSpan.Zero, either.Token);
    }

    UpstreamException Failed(Exception error) =>
        RequestBody.ClientFault is not null || ClientGone.IsCancellationRequested
        ? new UpstreamException(UpstreamFailureKind.ClientGone, null, error)
        : error as UpstreamException
        ?? (_gaveUp is { } kind ? new UpstreamException(kind, Address, error) : Http2Connections.Failure(error, Address));

    // -- 2. What is sent of it

    public override ValueTask RelayAsync()
    {
        Exchange.Failure = null;
        Exchange.Upstream.AddAttempt(Address, Status);
        return _tunnels && Status is >= 200 and < 300 ? TunnelAsync() : base.RelayAsync();
    }

    async ValueTask TunnelAsync()
    {
        WriteHead(Exchange);
        if (Exchange.ExtendedConnect is null)
        {
            Exchange.Response.Headers.SecWebSocketAccept = WebSocketHandshake.Accept(Exchange.Request.Headers.SecWebSocketKey.ToString());
        }
        await RunTunnelAsync(await ResponseSender.UpgradeAsync(Exchange, "websocket"), new TunnelStream(this));
    }

    /// <summary>The node's end of a tunnel over one stream of HTTP/2.</summary>
    sealed class TunnelStream(Http2Source source) : ITunnelUpstream
    {
        readonly Body _body = new(source);

        public IBodySource Body => _body;

        public async ValueTask WriteRawAsync(ReadOnlyMemory<byte> bytes)
        {
            try
            {
                await _body.Stream.WriteAsync(bytes, source._cancel.Token);
                await _body.Stream.FlushAsync(source._cancel.Token);
            }
            catch (Exception e)
            {
                throw source.Failed(e);
            }
        }

        /// <summary>.NET's client cannot end one direction only; whoever closes the socket has nothing more to say.</summary>
        public ValueTask ShutdownSendAsync()
        {
            _body.End();
            return default;
        }

        public void Abort(UpstreamFailureKind reason) => source.GiveUp(reason);
    }

    public override void WriteHead(Exchange exchange)
    {
        exchange.Response.StatusCode = Status;
        Copy(_response!.Headers);
        Copy(_response.Content.Headers);
    }

    /// <summary>The status in the head is all there is, and must stay one head.</summary>
    public override bool HeadMayBeAll => _response!.Headers.Contains("grpc-status");

    public override IBodySource TakeBody() => new Body(this);

    public override void Abandon() => GiveUp(UpstreamFailureKind.Shutdown);

    public override ValueTask EndedAsync()
    {
        Exchange.Upstream.ResponseSeconds = Elapsed.TotalSeconds;
        return ValueTask.CompletedTask;
    }

    public override IEnumerable<KeyValuePair<string, string>> Trailers
    {
        get
        {
            foreach (var (name, values) in _response!.TrailingHeaders.NonValidated)
            {
                foreach (var value in values)
                {
                    yield return new(name, value);
                }
            }
        }
    }

    void Copy(HttpHeaders headers)
    {
        foreach (var (name, values) in headers.NonValidated)
        {
            if (UpstreamHead.StaysHere(name))
            {
                continue;
            }
            if (UpstreamHead.IsContentType(name))
            {
                Exchange.Response.ContentType = values.ToString();
                continue;
            }
            foreach (var value in values)
            {
                Exchange.Response.Headers.Append(name, value);
            }
        }
    }

    /// <summary>The response's body; waiting for it holds no buffer.</summary>
    sealed class Body(Http2Source source) : IBodySource
    {
        volatile bool _isOver;

        public Stream Stream => field ??= source._response!.Content.ReadAsStream(source._cancel.Token);

        public BodyFraming Framing => new(BodyKind.CloseDelimited);

        public bool Ended { get; private set; }

        /// <summary>Nobody wants the rest: for who reads, this is the end.</summary>
        public void End()
        {
            _isOver = true;
            source.GiveUp(UpstreamFailureKind.Shutdown);
        }

        public ValueTask WaitReadableAsync()
        {
            try
            {
                var waiting = Stream.ReadAsync(Memory<byte>.Empty, source._cancel.Token);
                if (!waiting.IsCompletedSuccessfully)
                {
                    return AwaitAsync(waiting);
                }
                _ = waiting.Result;
                return default;
            }
            catch (Exception e)
            {
                throw source.Failed(e);
            }
        }

        async ValueTask AwaitAsync(ValueTask<int> waiting)
        {
            try
            {
                await waiting;
            }
            catch (Exception) when (_isOver)
            {
                // the read says it
            }
            catch (Exception e)
            {
                throw source.Failed(e);
            }
        }

        public async ValueTask<int> ReadAsync(Memory<byte> destination)
        {
            try
            {
                var read = await Stream.ReadAsync(destination, source._cancel.Token);
                Ended = read == 0;
                return read;
            }
            catch (Exception) when (_isOver)
            {
                Ended = true;
                return 0;
            }
            catch (Exception e)
            {
                throw source.Failed(e);
            }
        }

        public void Abort(UpstreamFailureKind reason) => source.GiveUp(reason);
    }

    public override async ValueTask DisposeAsync()
    {
        // answered before the whole request was sent: the rest is nobody's business any more
        await _cancel.CancelAsync();
        if (_content is not null)
        {
            await _content.EndedAsync();
        }
        _response?.Dispose();
        _request?.Dispose();
        _lease?.Dispose();
        _sendSilence.Dispose();
        _readSilence.Dispose();
        _cancel.Dispose();
    }
}
