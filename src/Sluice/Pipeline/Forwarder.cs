using System.Globalization;
using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Primitives;
using Sluice.Model;
using Sluice.Net;
using Sluice.Net.Epoll;
using Sluice.Net.Http1;
using Sluice.Relay;
using Sluice.Scripting;
using Sluice.Upstreams;
using Sluice.Upstreams.Discovery;

namespace Sluice.Pipeline;

/// <summary>Forwards a request: picks a node, sends, retries on the next one while nothing was answered, relays the answer.</summary>
public sealed partial class Forwarder(
    PluginServices services, ConnectionPools pools, Http2Connections http2, HostResolver resolver, string temporaryDirectory, ILogger<Forwarder> logger)
{
    readonly TimeProvider _time = services.Time;
    readonly ConnectionPools _pools = pools;
    readonly Http2Connections _http2 = http2;
    readonly HostResolver _resolver = resolver;
    readonly string _temporaryDirectory = temporaryDirectory;

    static readonly TimeSpan DefaultTimeout = TimeSpan.FromSeconds(60);

    /// <summary>The gateway's own answer when there is none of an upstream; null when the upstream's has been relayed.</summary>
    public async ValueTask<Answer?> ForwardAsync(Exchange exchange)
    {
        if (exchange.Route!.Upstream is not { } upstream)
        {
            exchange.Failure = new(FailureSource.Gateway, "no_upstream", "the route has no upstream, or the one it names does not exist", 503);
            LogFailure(exchange.Route.Id, exchange.Failure.Kind, exchange.Failure.Detail);
            return Answer.OwnError(503, "503 Service Temporarily Unavailable");
        }
        exchange.Upstream.Scheme = exchange.UpstreamScheme ?? upstream.Config.Scheme;
        if (await DiscoverAsync(exchange, upstream) is { } undiscovered)
        {
            return undiscovered;
        }
        var isHttp2 = exchange.Upstream.Scheme is "grpc" or "grpcs";
        using var body = isHttp2 ? RequestBody.Streaming(exchange) : await RequestBody.OpenAsync(exchange, _temporaryDirectory);

        using var picks = upstream.Begin(HashKey.Of(exchange, upstream.Config));
        var freshOnly = false;
        Node? node = null;
        for (var attempt = 0; ;)
        {
            node = freshOnly ? node! : picks.Next();
            if (node is null)
            {
                return NoNode(exchange);
            }
            if (attempt == 0 && !freshOnly && await BeforeProxyAsync(exchange, node) is { } answer)
            {
                return answer;
            }
            IUpstreamCall call = isHttp2 ? new Http2Call(this, exchange, upstream, node, body) : new Call(this, exchange, upstream, node, body);
            try
            {
                await using (call)
                {
                    await call.AskAsync(freshOnly);
                    picks.Answered(call.Status);
                    if (call.IsStream)
                    {
                        picks.Took(call.Elapsed);
                    }
                    await call.RelayAsync();
                    if (!call.IsStream)
                    {
                        picks.Took(call.Elapsed);
                    }
                    return null;
                }
            }
            catch (UpstreamException e) when (!exchange.Response.HasStarted)
            {
                if (body.ClientFault is { } fault)
                {
                    System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(fault);
                }
                if (e.Kind == UpstreamFailureKind.ClientGone)
                {
                    throw;
                }
                if (e.StalePooledConnection && !freshOnly && (body.IsEmpty || (!body.Consumed && IsIdempotent(exchange.UpstreamMethod))))
                {
                    freshOnly = true;
                    continue;
                }
                exchange.Upstream.AddAttempt(call.Address, StatusOf(e.Kind));
                exchange.Failure = FailureOf(e, node);
                LogUpstreamFailure(exchange.Route.Id, node.Name, exchange.Failure.Kind, e.Message);
                picks.Failed(timeout: StatusOf(e.Kind) == 504);
                picks.Took(call.Elapsed);
                if (attempt++ >= picks.Retries || !MayRetry(exchange, call, body) || OutOfTime(exchange, upstream))
                {
                    return ErrorAnswer(exchange, exchange.Failure);
                }
                freshOnly = false;
                exchange.StartAnswerAgain();
            }
            catch (UpstreamException e)
            {
                // the head is out: never a second answer, never a clean end
                exchange.Failure ??= FailureOf(e, node);
                if (e.Kind != UpstreamFailureKind.ClientGone)
                {
                    LogUpstreamFailure(exchange.Route.Id, node.Name, exchange.Failure.Kind, e.Message);
                }
                exchange.Http.Abort();
                return null;
            }
            catch (Exception e) when (e is BodyFilterException or SpoolException)
            {
                exchange.Failure = new(FailureSource.Gateway, e is SpoolException ? "spool_failed" : "body_filter_failed", e.Message, 500);
                LogFailure(exchange.Route.Id, exchange.Failure.Kind, e.Message);
                if (!exchange.Response.HasStarted)
                {
                    exchange.StartAnswerAgain();
                    return Answer.OwnError(500, "500 Internal Server Error");
                }
                exchange.Http.Abort();
                return null;
            }
        }
    }

    /// <summary>Brings the nodes of an upstream with service discovery up to date; the answer when there are none.</summary>
    async ValueTask<Answer?> DiscoverAsync(Exchange exchange, Upstream upstream)
    {
        try
        {
            await upstream.RefreshAsync(exchange.ClientGone);
            return null;
        }
        catch (DiscoveryException e)
        {
            exchange.Failure = new(FailureSource.Gateway, "no_valid_upstream_node", e.Message, 503);
            LogFailure(exchange.Route!.Id, exchange.Failure.Kind, exchange.Failure.Detail);
            return Answer.OwnError(503, "503 Service Temporarily Unavailable");
        }
    }

    static async ValueTask<Answer?> BeforeProxyAsync(Exchange exchange, Node node)
    {
        exchange.Upstream.NodeIp = node.Config.Host;
        exchange.Upstream.NodePort = node.Port;
        return await RunAsync(exchange, exchange.Snapshot.GlobalRules.BeforeProxy) ?? await RunAsync(exchange, exchange.Chain.BeforeProxy);
    }

    static async ValueTask<Answer?> RunAsync(Exchange exchange, Step<IBeforeProxy>[] steps)
    {
        foreach (var (phase, use) in steps)
        {
            if (use.Applies(exchange) && (await use.BeforeAsync(exchange, LuaPhase.BeforeProxy, "before_proxy") ?? await phase.BeforeProxyAsync(exchange)) is { } answer)
            {
                return use.Dress(answer);
            }
        }
        return null;
    }

    Answer NoNode(Exchange exchange)
    {
        exchange.Failure ??= new(FailureSource.Gateway, "no_node", "the upstream has no node to try", 502);
        LogFailure(exchange.Route!.Id, exchange.Failure.Kind, exchange.Failure.Detail);
        return ErrorAnswer(exchange, exchange.Failure);
    }

    static Answer ErrorAnswer(Exchange exchange, Failure failure)
    {
        var answer = Answer.OwnError(failure.Status, $"{failure.Status} {Microsoft.AspNetCore.WebUtilities.ReasonPhrases.GetReasonPhrase(failure.Status)}");
        return exchange.Upstream.Statuses is { } statuses ? answer.With("X-APISIX-Upstream-Status", statuses) : answer;
    }

    bool OutOfTime(Exchange exchange, Upstream upstream) =>
        upstream.Config.RetryTimeout > 0 && _time.GetElapsedTime(exchange.StartTimestamp).TotalSeconds > upstream.Config.RetryTimeout;

    /// <summary>nginx's proxy_next_upstream: what was sent of a POST, LOCK or PATCH is not sent again; a body that was passed on cannot be.</summary>
    static bool MayRetry(Exchange exchange, IUpstreamCall call, RequestBody body) =>
        !body.Consumed && (!call.RequestSent || IsIdempotent(exchange.UpstreamMethod));

    static bool IsIdempotent(string method) => method is not ("POST" or "PATCH" or "LOCK");

    static int StatusOf(UpstreamFailureKind kind) =>
        kind is UpstreamFailureKind.ConnectTimeout or UpstreamFailureKind.ReadTimeout or UpstreamFailureKind.SendTimeout ? 504 : 502;

    /// <summary><c>read_timeout</c> of ReadTimeout.</summary>
    static string Name(UpstreamFailureKind kind) => JsonNamingPolicy.SnakeCaseLower.ConvertName(kind.ToString());

    static Failure FailureOf(UpstreamException e, Node node) => e.Kind == UpstreamFailureKind.ClientGone
        ? new(FailureSource.Client, "client_gone", "the client closed the connection", 499)
        : new(FailureSource.Upstream, Name(e.Kind), $"{node.Name}: {e.Message}", StatusOf(e.Kind));

    /// <summary>One attempt on one node.</summary>
    sealed class Call(Forwarder forwarder, Exchange exchange, Upstream upstream, Node node, RequestBody body) : IUpstreamCall, IRelayOwner
    {
        readonly TimeProvider _time = forwarder._time;
        UpstreamConnection? _connection;
        IdleDeadline? _sendSilence, _readSilence;
        Task _sending = Task.CompletedTask;
        CancellationTokenRegistration _clientGone;
        ResponseHead _head = null!;
        int _status;
        bool _isStream;
        long _started;

        /// <summary>The address tried, as in <c>$upstream_addr</c>.</summary>
        public string Address { get; private set; } = node.Name;

        public bool RequestSent { get; private set; }

        TimeSpan Timeout(Func<TimeoutConfig, double?> configured, TimeSpan? ofBlock) =>
            exchange.Route!.Timeout is { } timeout && configured(timeout) is { } seconds ? TimeSpan.FromSeconds(seconds) : ofBlock ?? DefaultTimeout;

        TimeSpan ReadTimeout => Timeout(static timeout => timeout.Read, exchange.Scope.ProxyReadTimeout);

        // -- 1. Ask

        public async ValueTask AskAsync(bool fresh)
        {
            _started = _time.GetTimestamp();
            var tls = exchange.Upstream.Scheme == "https";
            var addresses = await forwarder._resolver.ResolveAsync(node.Config.Host, exchange.ClientGone);
            // a certificate that is checked is checked for a name
            var serverName = tls && (exchange.Snapshot.Settings.Http.UpstreamServerName || upstream.Config.Tls?.Verify == true) ? ServerName() : null;
            var endpoint = upstream.Endpoint(node, addresses.Next(), tls, serverName);
            Address = endpoint.AddressText;
            exchange.Upstream.NodeIp = endpoint.IpText;
            if (exchange.Loop is { IsCurrent: false } loop)
            {
                await loop.SwitchTo();
            }
            _connection = await forwarder._pools.Here.RentAsync(
                endpoint, upstream.Limits, Timeout(static timeout => timeout.Connect, exchange.Scope.ProxyConnectTimeout), fresh, exchange.ClientGone);
            // as nginx says of a kept connection
            exchange.Upstream.ConnectSeconds = _connection.Reused ? 0 : Elapsed.TotalSeconds;
            _clientGone = exchange.ClientGone.UnsafeRegister(static upstream => ((UpstreamConnection)upstream!).Abort(UpstreamFailureKind.ClientGone), _connection);

            // The request goes out; its body may still be going while the answer comes in.
            var sendTimeout = Timeout(static timeout => timeout.Send, exchange.Scope.ProxySendTimeout);
            UpstreamHead.WriteRequest(exchange, _connection, node, body.Framing);
            RequestSent = true;
            var sent = _connection.SendHeadAsync();
            if (!sent.IsCompletedSuccessfully)
            {
                SendSilence.Start(sendTimeout);
                await sent;
                SendSilence.Stop();
            }
            _readSilence = _connection.ReadSilence(_time);
            if (body.IsEmpty)
            {
                _readSilence.Start(ReadTimeout);
                ResponseHead? head;
                while ((head = _connection.TryReadHead(exchange.Scope.ProxyBufferSize)) is null)
                {
                    await _connection.WaitHeadAsync();
                }
                _head = head;
                if (_head.Interim)
                {
                    _head = await PassInterimAsync(_connection, _head, _readSilence, exchange.Scope.ProxyBufferSize);
                }
            }
            else
            {
                // The read timeout runs from when the request is out, or from now on if the answer comes while the body is still going.
                _sending = body.SendAsync(_connection, SendSilence, sendTimeout);
                var reading = ReadHeadAsync(_connection, _readSilence, exchange.Scope.ProxyBufferSize).AsTask();
                await Task.WhenAny(_sending, reading);
                _readSilence.Start(ReadTimeout);
                _head = await reading;
            }
            _readSilence.Stop();
            _status = _head.Status;
            _isStream = _status == 101 || BufferingRules.IsStream(_head.Headers.First("Content-Type"));
            exchange.Upstream.HeaderSeconds = ArrivedAfter.TotalSeconds;
        }

        IdleDeadline SendSilence => _sendSilence ??=
            new IdleDeadline(_time, static upstream => ((UpstreamConnection)upstream!).Abort(UpstreamFailureKind.SendTimeout), _connection);

        public int Status => _status;

        /// <summary>Its length says nothing of its node.</summary>
        public bool IsStream => _isStream;

        public TimeSpan Elapsed => _time.GetElapsedTime(_started);

        /// <summary>Until what is read now came: on a loop, when it heard of it.</summary>
        TimeSpan ArrivedAfter => exchange.Loop is { IsCurrent: true } loop && _time == TimeProvider.System
            ? _time.GetElapsedTime(_started, Math.Max(_started, loop.Now))
            : Elapsed;

        string ServerName()
        {
            var host = exchange.UpstreamHost ?? upstream.Config.PassHost switch
            {
                "node" => node.HostName,
                "rewrite" => upstream.Config.UpstreamHost ?? node.HostName,
                _ => exchange.Host,
            };
            var colon = host.LastIndexOf(':');
            return colon > 0 && !host.EndsWith(']') ? host[..colon] : host;
        }

        async ValueTask<ResponseHead> ReadHeadAsync(UpstreamConnection connection, IdleDeadline silence, int maxHeadBytes) =>
            await PassInterimAsync(connection, await connection.ReadHeadAsync(maxHeadBytes), silence, maxHeadBytes);

        /// <summary>Interim answers go on; gives the final head.</summary>
        async ValueTask<ResponseHead> PassInterimAsync(UpstreamConnection connection, ResponseHead head, IdleDeadline silence, int maxHeadBytes)
        {
            for (; head.Interim; head = await connection.ReadHeadAsync(maxHeadBytes))
            {
                silence.Touch();
                // 100 is said by whoever reads the request's body
                if (head.Status > 100 && exchange.Http.Features.Get<IInterimAnswers>() is { } interim)
                {
                    await interim.SendAsync(head.Status, UpstreamHead.InterimHeaders(head));
                }
            }
            return head;
        }

        // -- 2. Relay

        /// <summary>Decides how the answer goes on; where it can, not asynchronous itself, so that a stream keeps no frame of it.</summary>
        public ValueTask RelayAsync()
        {
            exchange.Failure = null;
            exchange.Upstream.AddAttempt(Address, _head.Status);
            if (_head.Status == 101 && !UpstreamHead.WantsUpgrade(exchange))
            {
                throw new UpstreamException(UpstreamFailureKind.BadResponse, "101 Switching Protocols to a request that asked for none");
            }
            UpstreamHead.CopyResponse(exchange, _head);
            if (_head.Status == 101)
            {
                return TunnelAsync();
            }
            var page = ErrorPages.InterceptAsync(exchange);
            return page.IsCompletedSuccessfully ? RelayHeadAsync() : RelayAfterAsync(page);
        }

        async ValueTask RelayAfterAsync(ValueTask page)
        {
            await page;
            await RelayHeadAsync();
        }

        ValueTask RelayHeadAsync()
        {
            UpstreamHead.ShowStatus(exchange, _head.Status);
            exchange.Buffering = BufferingRules.Response(exchange, _head.Headers.First("X-Accel-Buffering"), _isStream);
            HeaderPhase.Run(exchange);
            if (exchange.Snapshot.Settings.DebugHeaders)
            {
                exchange.Response.Headers["X-Sluice-Buffering"] = exchange.Buffering.ToString();
            }
            if (exchange.ReplacedBody is { } replaced)
            {
                return ReplaceAsync(replaced);
            }
            var length = DeclaredLength();
            if (_head.Body.Kind == BodyKind.None || !HeaderPhase.MayHaveBody(exchange.Response.StatusCode))
            {
                // an answer to HEAD, a 304: the length that a GET would have
                exchange.Response.ContentLength = HeaderPhase.MayHaveBody(exchange.Response.StatusCode) || exchange.Response.StatusCode == 304 ? length : null;
                return Finish();
            }
            var filters = BodyFilters.Open(exchange);
            exchange.Response.ContentLength = filters is null && _head.Body.Kind == BodyKind.Length ? length : null;
            if (exchange.Response.ContentLength is null && !exchange.Scope.ChunkedTransferEncoding && exchange.Request.Protocol == "HTTP/1.1")
            {
                // chunked_transfer_encoding off. Kestrel chunks what says nothing about its framing; a Transfer-Encoding without values says something
                // and is not written, and the end of the connection is the end of the answer.
                exchange.Response.Headers.TransferEncoding = new StringValues([null, null]);
                exchange.Response.Headers.Connection = "close";
            }
            var verbatim = filters is null && _head.Body.Kind == BodyKind.Chunked && exchange.Scope.ChunkedTransferEncoding && exchange.Request.Protocol == "HTTP/1.1"
                && !InnerRequest.Is(exchange);
            if (verbatim)
            {
                // said by us, Kestrel leaves the framing to us
                exchange.Response.Headers.TransferEncoding = "chunked";
            }
            var headFirst = _head.Body.Kind == BodyKind.Chunked;
            // its bytes are not kept as long as the body takes
            _head = null!;
            return RelayBodyAsync(filters, verbatim, headFirst);
        }

        async ValueTask RelayBodyAsync(BodyFilters? filters, bool verbatim, bool headFirst)
        {
            var scope = exchange.Scope;
            var settings = new RelaySettings(scope.ProxyBufferSize, scope.LargestPiece, ReadTimeout, scope.SendTimeout)
            {
                Verbatim = verbatim,
                Direct = verbatim && exchange.Connection is { IsPlain: true } plain ? plain : null,
            };
            using var relay = new BodyRelay(_connection!, exchange.Response.BodyWriter, filters, settings, _time, _readSilence!, this);
            try
            {
                if (exchange.Buffering!.On)
                {
                    await relay.AbsorbAsync(headFirst);
                }
                else
                {
                    _ = await relay.StreamAsync(headFirst);
                }
            }
            finally
            {
                exchange.BodyBytesSent += relay.BytesSent;
                exchange.Upstream.BytesReceived += relay.BytesReceived;
                exchange.FirstByteTimestamp = relay.FirstByteTimestamp;
                exchange.SpooledBytes += _spool?.FileBytes ?? 0;
            }
            if (!verbatim)
            {
                CopyTrailers();
            }
            await Finish();
        }

        BodySpool? _spool;

        public void ClientStalled()
        {
            exchange.Failure ??= new(FailureSource.Client, "send_timeout", "the client took nothing for the whole send_timeout", 408);
            exchange.Http.Abort();
        }

        public BodySpool OpenSpool()
        {
            var scope = exchange.Scope;
            return _spool = new(new(scope.ProxyBuffersNumber, scope.ProxyBuffersSize, scope.ProxyMaxTempFileSize, scope.ProxyTempPath ?? forwarder._temporaryDirectory));
        }

        public ValueTask UpstreamFreeAsync()
        {
            exchange.Upstream.ResponseSeconds = ArrivedAfter.TotalSeconds;
            return _sending.IsCompletedSuccessfully ? _connection!.DisposeAsync() : ValueTask.CompletedTask;
        }

        void CopyTrailers()
        {
            var trailers = _connection!.Trailers;
            for (var i = 0; i < trailers.Count && exchange.Response.SupportsTrailers(); i++)
            {
                exchange.Response.AppendTrailer(trailers.Name(i), trailers.Value(i));
            }
        }

        /// <summary>A header filter put a body of its own in place: the upstream's is not read.</summary>
        async ValueTask ReplaceAsync(ReadOnlyMemory<byte> replaced)
        {
            _connection!.Abort(UpstreamFailureKind.Shutdown);
            await AnswerWriter.WriteBodyAsync(exchange, replaced);
            await Finish();
        }

        /// <summary>Content-Length of an answer without a body.</summary>
        long? DeclaredLength() => _head.Body.Kind == BodyKind.Length ? _head.Body.Length
            : long.TryParse(_head.Headers.First("Content-Length"), NumberStyles.None, CultureInfo.InvariantCulture, out var declared) ? declared : null;

        ValueTask Finish()
        {
            exchange.Upstream.ResponseSeconds ??= _time.GetElapsedTime(_started).TotalSeconds;
            return ValueTask.CompletedTask;
        }

        // -- Upgrade

        async ValueTask TunnelAsync()
        {
            HeaderPhase.Run(exchange);
            exchange.Response.Headers.Upgrade = _head.Headers.First("Upgrade");
            var client = await exchange.Http.Features.Get<IHttpUpgradeFeature>()!.UpgradeAsync();
            using var silence = new IdleDeadline(_time, static upstream => ((UpstreamConnection)upstream!).Abort(UpstreamFailureKind.ReadTimeout), _connection);
            silence.Start(ReadTimeout);
            var tunnel = new Tunnel(client, _connection!, silence);
            try
            {
                await tunnel.RunAsync();
            }
            finally
            {
                exchange.BodyBytesSent += tunnel.BytesToClient;
                exchange.BodyBytesReceived += tunnel.BytesToUpstream;
                exchange.Upstream.BytesReceived += tunnel.BytesToClient;
                await Finish();
            }
        }

        public async ValueTask DisposeAsync()
        {
            await _clientGone.DisposeAsync();
            if (!_sending.IsCompleted)
            {
                // answered before the whole request was sent: the rest is nobody's business any more
                _connection?.Abort(UpstreamFailureKind.Shutdown);
                exchange.Request.BodyReader.CancelPendingRead();
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

    [LoggerMessage(Level = LogLevel.Error, Message = "route {Route}: {Kind}: {Detail}")]
    partial void LogFailure(string route, string kind, string detail);

    [LoggerMessage(Level = LogLevel.Error, Message = "route {Route}: upstream {Node}: {Kind}: {Detail}")]
    partial void LogUpstreamFailure(string route, string node, string kind, string detail);
}
