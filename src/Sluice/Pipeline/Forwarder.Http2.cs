using System.Buffers;
using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using Microsoft.AspNetCore.Http;
using Sluice.Model;
using Sluice.Net;
using Sluice.Relay;
using Sluice.Upstreams;

namespace Sluice.Pipeline;

public sealed partial class Forwarder
{
    /// <summary>
    /// One attempt over HTTP/2, for gRPC. Both directions flow at the same time and nothing is held in either; trailers go on as trailers.
    /// When the node fails in the middle, a gRPC client learns it from the trailers.
    /// </summary>
    sealed class Http2Call : IUpstreamCall
    {
        const int PieceBytes = 32 * 1024;

        readonly Forwarder _forwarder;
        readonly Exchange _exchange;
        readonly Upstream _upstream;
        readonly Node _node;
        readonly RequestBody _body;
        readonly TimeProvider _time;
        readonly CancellationTokenSource _cancel;
        readonly IdleDeadline _sendSilence;
        readonly IdleDeadline _readSilence;
        readonly long _started;
        Http2Connections.Lease? _lease;
        HttpRequestMessage? _request;
        HttpResponseMessage? _response;
        ClientBody? _content;
        UpstreamFailureKind? _gaveUp;

        public Http2Call(Forwarder forwarder, Exchange exchange, Upstream upstream, Node node, RequestBody body)
        {
            (_forwarder, _exchange, _upstream, _node, _body) = (forwarder, exchange, upstream, node, body);
            _time = forwarder._time;
            _started = _time.GetTimestamp();
            _cancel = CancellationTokenSource.CreateLinkedTokenSource(exchange.Http.RequestAborted);
            _sendSilence = new IdleDeadline(_time, static call => ((Http2Call)call!).GiveUp(UpstreamFailureKind.SendTimeout), this);
            _readSilence = new IdleDeadline(_time, static call => ((Http2Call)call!).GiveUp(UpstreamFailureKind.ReadTimeout), this);
            Address = node.Name;
        }

        public string Address { get; private set; }

        public bool RequestSent { get; private set; }

        public int Status => (int)_response!.StatusCode;

        public bool IsStream => true;

        public TimeSpan Elapsed => _time.GetElapsedTime(_started);

        TimeSpan Timeout(Func<TimeoutConfig, double?> configured, TimeSpan? ofBlock) =>
            _exchange.Route!.Timeout is { } timeout && configured(timeout) is { } seconds ? TimeSpan.FromSeconds(seconds) : ofBlock ?? DefaultTimeout;

        TimeSpan ReadTimeout => Timeout(static timeout => timeout.Read, _exchange.Scope.ProxyReadTimeout);

        void GiveUp(UpstreamFailureKind kind)
        {
            _gaveUp ??= kind;
            _cancel.Cancel();
        }

        // -- 1. Ask

        public async ValueTask AskAsync(bool fresh)
        {
            var tls = _exchange.Upstream.Scheme == "grpcs";
            UpstreamHead.Address(_exchange, _node);
            var addresses = await _forwarder._resolver.ResolveAsync(_node.Config.Host, _exchange.Http.RequestAborted);
            var named = tls && (_exchange.Snapshot.Settings.Http.UpstreamServerName || _upstream.Config.Tls?.Verify == true);
            var endpoint = _upstream.Endpoint(_node, addresses.Next(), tls, named ? HostOnly(_exchange.Upstream.Host!) : null);
            Address = endpoint.AddressText;
            _exchange.Upstream.NodeIp = (endpoint.Address as IPEndPoint)?.Address.ToString();
            _request = Request(endpoint, tls);
            var lease = _forwarder._http2.Rent(endpoint, _upstream.Limits);
            _lease = lease;
            try
            {
                var answering = lease.SendAsync(_request, Timeout(static timeout => timeout.Connect, _exchange.Scope.ProxyConnectTimeout), _cancel.Token);
                if (_content is not null)
                {
                    // the read timeout runs from when the request is out
                    await Task.WhenAny(_content.Sent, answering);
                }
                if (!answering.IsCompleted)
                {
                    _readSilence.Start(ReadTimeout);
                }
                _response = await answering;
                _readSilence.Stop();
            }
            catch (Exception e) when (!IsOurs(e))
            {
                throw Failed(e);
            }
            _exchange.Upstream.HeaderSeconds = Elapsed.TotalSeconds;
        }

        static string HostOnly(string host)
        {
            var colon = host.LastIndexOf(':');
            return colon > 0 && !host.EndsWith(']') ? host[..colon] : host;
        }

        HttpRequestMessage Request(UpstreamEndpoint endpoint, bool tls)
        {
            var target = _exchange.Upstream.Uri is { Length: > 0 } uri ? uri : "/";
            var request = new HttpRequestMessage(
                new HttpMethod(_exchange.UpstreamMethod),
                new Uri($"{(tls ? "https" : "http")}://{endpoint.AddressText}{target}", new UriCreationOptions { DangerousDisablePathAndQueryCanonicalization = true }));
            if (!_body.IsEmpty)
            {
                request.Content = _content = new ClientBody(this);
            }
            UpstreamHead.WriteHeaders(_exchange, new HeaderWriter(request));
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
        sealed class ClientBody(Http2Call call) : HttpContent
        {
            readonly TaskCompletionSource _sent = new(TaskCreationOptions.RunContinuationsAsynchronously);
            Task _sending = Task.CompletedTask;

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
                if (call._body.Consumed || !_sending.IsCompleted)
                {
                    // asked for again on another connection: what was sent is gone
                    throw new IOException("the upstream closed the connection while the request was on its way");
                }
                call.RequestSent = true;
                try
                {
                    await (_sending = call.SendBodyAsync(stream, cancellationToken));
                }
                finally
                {
                    _sent.TrySetResult();
                }
            }

            protected override bool TryComputeLength(out long length)
            {
                length = 0;
                return false;
            }
        }

        async Task SendBodyAsync(Stream stream, CancellationToken cancellation)
        {
            using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellation, _cancel.Token);
            await _body.CopyToAsync(stream, _sendSilence, Timeout(static timeout => timeout.Send, _exchange.Scope.ProxySendTimeout), either.Token);
        }

        bool IsOurs(Exception error) => error is UpstreamException || (error is OperationCanceledException && _exchange.Http.RequestAborted.IsCancellationRequested);

        UpstreamException Failed(Exception error)
        {
            if (_body.ClientFault is not null)
            {
                return new UpstreamException(UpstreamFailureKind.ClientGone, null, error);
            }
            return _gaveUp is { } kind ? new UpstreamException(kind, Address, error) : Http2Connections.Failure(error, Address);
        }

        // -- 2. Relay

        public async ValueTask RelayAsync()
        {
            var answer = _exchange.Response;
            _exchange.Failure = null;
            _exchange.Upstream.AddAttempt(Address, Status);
            answer.StatusCode = Status;
            Copy(_response!.Headers);
            Copy(_response.Content.Headers);
            await ErrorPages.InterceptAsync(_exchange);
            UpstreamHead.ShowStatus(_exchange, Status);
            _exchange.Buffering = BufferingRules.Response(_exchange, null, isStream: true);
            HeaderPhase.Run(_exchange);
            if (_exchange.ReplacedBody is { } replaced)
            {
                await AnswerWriter.WriteBodyAsync(_exchange, replaced);
                _exchange.Upstream.ResponseSeconds = Elapsed.TotalSeconds;
                return;
            }
            try
            {
                await RelayBodyAsync();
                CopyTrailers();
            }
            catch (UpstreamException e) when (e.Kind != UpstreamFailureKind.ClientGone && answer.HasStarted && GrpcStatus.IsAsked(_exchange.Request) && answer.SupportsTrailers())
            {
                // gRPC's own words for an end that is none
                _exchange.Failure = FailureOf(e, _node);
                _forwarder.LogUpstreamFailure(_exchange.Route!.Id, _node.Name, _exchange.Failure.Kind, e.Message);
                answer.AppendTrailer("grpc-status", GrpcStatus.Of(_exchange.Failure.Status).ToString(CultureInfo.InvariantCulture));
                answer.AppendTrailer("grpc-message", GrpcStatus.Encode($"upstream: {e.Kind.Text()}"));
            }
            _exchange.Upstream.ResponseSeconds = Elapsed.TotalSeconds;
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
                    _exchange.Response.ContentType = values.ToString();
                    continue;
                }
                foreach (var value in values)
                {
                    _exchange.Response.Headers.Append(name, value);
                }
            }
        }

        async ValueTask RelayBodyAsync()
        {
            var client = _exchange.Response.BodyWriter;
            var filters = BodyFilters.Open(_exchange);
            var filtered = filters is null ? null : new ArrayBufferWriter<byte>();
            using var clientSilence = new IdleDeadline(_time, static exchange => ClientTakesNothing((Exchange)exchange!), _exchange);
            var buffer = ArrayPool<byte>.Shared.Rent(PieceBytes);
            try
            {
                await using var stream = await _response!.Content.ReadAsStreamAsync(_cancel.Token);
                while (await ReadAsync(stream, buffer) is > 0 and var read)
                {
                    filters?.Filter(buffer.AsMemory(0, read), false, filtered!);
                    await WriteAsync(filtered?.WrittenMemory ?? buffer.AsMemory(0, read));
                    filtered?.ResetWrittenCount();
                    if (filters?.Ended == true)
                    {
                        break;
                    }
                }
                if (filters is not null)
                {
                    filters.Filter(default, true, filtered!);
                    await WriteAsync(filtered!.WrittenMemory);
                }
            }
            finally
            {
                ArrayPool<byte>.Shared.Return(buffer);
            }

            async ValueTask WriteAsync(ReadOnlyMemory<byte> piece)
            {
                if (!piece.IsEmpty)
                {
                    clientSilence.Start(_exchange.Scope.SendTimeout);
                    await client.WriteAsync(piece);
                    clientSilence.Stop();
                    _exchange.BodyBytesSent += piece.Length;
                }
            }
        }

        static void ClientTakesNothing(Exchange exchange)
        {
            exchange.Failure ??= new(FailureSource.Client, "send_timeout", "the client took nothing for the whole send_timeout", 408);
            exchange.Http.Abort();
        }

        async ValueTask<int> ReadAsync(Stream stream, byte[] buffer)
        {
            try
            {
                _readSilence.Start(ReadTimeout);
                var reading = stream.ReadAsync(buffer, _cancel.Token);
                // The body keeps us waiting: the client gets the head at once. A head with the status in it is all there is, and must stay one.
                if (!reading.IsCompleted && !_exchange.Response.HasStarted && !_exchange.Response.Headers.ContainsKey("grpc-status"))
                {
                    await _exchange.Response.BodyWriter.FlushAsync();
                }
                var read = await reading;
                _readSilence.Stop();
                if (read > 0 && _exchange.FirstByteTimestamp == 0)
                {
                    _exchange.FirstByteTimestamp = _time.GetTimestamp();
                }
                _exchange.Upstream.BytesReceived += read;
                return read;
            }
            catch (Exception e) when (!IsOurs(e))
            {
                throw Failed(e);
            }
        }

        void CopyTrailers()
        {
            if (!_exchange.Response.SupportsTrailers())
            {
                return;
            }
            foreach (var (name, values) in _response!.TrailingHeaders.NonValidated)
            {
                foreach (var value in values)
                {
                    _exchange.Response.AppendTrailer(name, value);
                }
            }
        }

        public async ValueTask DisposeAsync()
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
}
