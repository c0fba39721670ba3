using System.Buffers;
using System.Globalization;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Primitives;
using Sluice.Net;
using Sluice.Net.Http1;
using Sluice.Relay;
using Sluice.Relay.Queues;

namespace Sluice.Pipeline;

/// <summary>
/// The one way out. Whatever answers a request is handed to this: a source (<see cref="IResponseSource"/>), a whole answer
/// (<see cref="Answer"/>), or a script that writes piece by piece (<see cref="Open"/>). Here alone is decided what goes to the client, in
/// this order:
/// <code>
/// head → error page → buffering → header_filter → framing → body_filter, relay → trailers or the protocol's own ending
/// </code>
/// Where it can it is not asynchronous itself, so that a stream keeps no frame of it.
/// </summary>
internal static class ResponseSender
{
    /// <summary>Sends a response that comes from elsewhere.</summary>
    /// <exception cref="UpstreamException">The source failed. While nothing was sent, <see cref="Exchange.TakeResponseBack"/> makes room
    /// for another response.</exception>
    public static ValueTask SendAsync(Exchange exchange, IResponseSource source) =>
        exchange.Detached is { IsTaken: false } detached ? detached.TakeAsync(source) : SendHereAsync(exchange, source);

    static ValueTask SendHereAsync(Exchange exchange, IResponseSource source)
    {
        exchange.BeginResponse();
        source.WriteHead(exchange);
        if (exchange.Services.Live.IsFull && LiveStream.KindOf(exchange) != StreamKind.Body && exchange.Detached is null)
        {
            source.Abandon();
            return RefuseAsync(exchange);
        }
        if (ComeBack.InsteadOf(exchange, exchange.Response.StatusCode, exchange.Response.Headers.RetryAfter) is { } instead)
        {
            source.Abandon();
            exchange.TakeResponseBack();
            return new(SendAsync(exchange, instead));
        }
        var page = ErrorPages.InterceptAsync(exchange);
        return page.IsCompletedSuccessfully ? SendHeadAsync(exchange, source) : SendAfterAsync(page, exchange, source);
    }

    /// <summary>There are as many streams as there may be: what has begun to be one more is taken back.</summary>
    internal static ValueTask RefuseAsync(Exchange exchange)
    {
        exchange.TakeResponseBack();
        exchange.Failure = new(FailureSource.Gateway, "too_many_streams", "as many streams as sluice.streams.max are under way", 503);
        exchange.StreamRefusal = "max";
        return new(SendAsync(exchange, Answer.ErrorMessage(503, "too many streams")));
    }

    /// <summary>Sends an answer of the gateway's or a plugin's. It passes header and body filters like an upstream's: a 401 gets its CORS
    /// headers too.</summary>
    public static async Task SendAsync(Exchange exchange, Answer answer)
    {
        exchange.AnsweredByGateway = true;
        if (ReferenceEquals(answer, Answer.Sent))
        {
            return;
        }
        if (exchange.AnswerTransform is { } transform)
        {
            answer = transform(exchange, answer);
        }
        var response = exchange.Response;
        answer = ComeBack.InsteadOf(exchange, answer.Status,
            answer.Headers.FirstOrDefault(static header => header.Key == "Retry-After").Value) ?? answer;
        if (answer.Status >= 300 && GrpcStatus.IsAsked(exchange))
        {
            answer = GrpcStatus.Of(answer);
        }
        else if (answer.IsPlainError && await ErrorPages.FindAsync(exchange, answer.Status) is { } page)
        {
            answer = page with { Headers = [.. answer.Headers, .. page.Headers] };
        }
        response.StatusCode = answer.Status;
        if (answer.ContentType is { } type)
        {
            response.ContentType = type;
        }
        foreach (var (name, value) in answer.Headers)
        {
            response.Headers[name] = StringValues.Concat(response.Headers[name], value);
        }
        exchange.TellResponseLength(answer.Body.Length);
        HeaderPhase.Run(exchange);
        if (response.Headers.ContainsKey("grpc-status") && answer.Body.IsEmpty)
        {
            // the head is the whole answer
            return;
        }
        await SendWholeAsync(exchange, exchange.ReplacedBody ?? answer.Body);
    }

    /// <summary>Begins a response whose body somebody writes piece by piece; its status and headers are in the exchange's
    /// response.</summary>
    public static OpenResponse Open(Exchange exchange)
    {
        exchange.AnsweredByGateway = true;
        exchange.TellResponseLength(exchange.Response.ContentLength);
        HeaderPhase.Run(exchange);
        var filters = BodyFilters.Open(exchange, out var waiting);
        if (filters is not null || waiting is not null)
        {
            exchange.Response.ContentLength = null;
        }
        return new(exchange, filters, waiting);
    }

    /// <summary>
    /// Sends the head that opens a tunnel: a 101, or over HTTP/2 the 200 of an extended CONNECT. Gives what the client sends and receives
    /// from here on, which is no HTTP any more.
    /// </summary>
    public static async ValueTask<Stream> UpgradeAsync(Exchange exchange, string? protocol)
    {
        exchange.OpensTunnel = true;
        if (exchange.ExtendedConnect is { } connect)
        {
            exchange.Response.StatusCode = StatusCodes.Status200OK;
            // not "= default": an unknown header without values ends Kestrel's enumeration of headers
            exchange.Response.Headers.Remove("Sec-WebSocket-Accept");
            HeaderPhase.Run(exchange);
            return await connect.AcceptAsync();
        }
        exchange.Response.StatusCode = StatusCodes.Status101SwitchingProtocols;
        HeaderPhase.Run(exchange);
        exchange.Response.Headers.Upgrade = protocol;
        return await exchange.Http.Features.Get<IHttpUpgradeFeature>()!.UpgradeAsync();
    }

    static async ValueTask SendAfterAsync(ValueTask page, Exchange exchange, IResponseSource source)
    {
        await page;
        await SendHeadAsync(exchange, source);
    }

    static ValueTask SendHeadAsync(Exchange exchange, IResponseSource source)
    {
        var response = exchange.Response;
        if (exchange.Keep is { } keep)
        {
            exchange.Copy = source.IsFiltered ? null : keep(exchange, source);
        }
        exchange.TrailersInBody?.Source = source;
        ShowStatuses(exchange);
        exchange.TellResponseLength(source.Length);
        exchange.Buffering = BufferingRules.Response(exchange, source.BufferingWish, source.IsStream);
        HeaderPhase.Run(exchange);
        if (exchange.Snapshot.Settings.DebugHeaders)
        {
            response.Headers["X-Sluice-Buffering"] = exchange.Buffering.ToString();
        }
        if (exchange.ReplacedBody is { } replaced)
        {
            source.Abandon();
            exchange.DropCopy();
            return SendWholeAsync(exchange, replaced);
        }
        var mayHaveBody = HeaderPhase.MayHaveBody(response.StatusCode);
        var (length, withBody, readTimeout) = (source.Length, source.HeadMayBeAll, source.ReadTimeout);
        if (source.TakeBody() is not { } body || !mayHaveBody)
        {
            // an answer to HEAD, a 304: the length that a GET would have
            response.ContentLength = mayHaveBody || response.StatusCode == 304 ? length : null;
            exchange.DropCopy();
            return ValueTask.CompletedTask;
        }
        WaitingFilters? waiting = null;
        var filters = source.IsFiltered ? null : BodyFilters.Open(exchange, out waiting);
        var copy = waiting is null && exchange.Copy is { } one && one.Follows(body) ? one : null;
        if (copy is null)
        {
            exchange.DropCopy();
        }
        else if (filters is not null)
        {
            (filters, copy) = (BodyFilters.Behind(copy, filters), null);
        }
        body = waiting is null ? body : new WaitingBody(body, waiting, exchange);
        var isQueued = SlowConsumer.Applies(exchange, exchange.Streams);
        var isCut = Pacing.CutsUnits(exchange);
        var care = StreamCare.Open(
            exchange, body, !isQueued && !isCut && filters is null && body.Framing.Kind == BodyKind.Length, isQueued || isCut, readTimeout);
        if (care?.Stage is { } stage)
        {
            exchange.DropCopy();
            copy = null;
            filters = BodyFilters.With(filters, stage);
        }
        if (isQueued || isCut)
        {
            exchange.DropCopy();
            copy = null;
            filters?.CountNothing();
            waiting?.Counts = null;
        }
        if (isQueued)
        {
            (body, filters) = (SlowConsumer.Open(exchange, body, filters), null);
        }
        if (Pacing.Open(exchange, body, filters, isQueued) is { } paced)
        {
            (body, filters) = (paced, null);
        }
        var keeps = Frame(exchange, body, filters, care?.Edge is not null);
        var verbatim = keeps && care?.Edge is null;
        var scope = exchange.Scope;
        var settings = new RelaySettings(
            scope.ProxyBufferSize, scope.LargestPiece, readTimeout, exchange.Streams?.SendTimeout?.Time ?? scope.SendTimeout)
        {
            Verbatim = verbatim,
            Direct = keeps && exchange.Connection is { IsPlain: true } plain && (verbatim || exchange.Http is Http1Context) ? plain : null,
            HeadWithBody = withBody,
            Edge = care?.Edge,
            Clock = care?.Clock,
        };
        var live = exchange.Services.Live.Add(exchange, source);
        if (copy is not null)
        {
            live.Tap(copy);
        }
        return RelayAsync(exchange, source, live, Relay(exchange, source, body, filters, settings, care, live));
    }

    /// <summary><c>X-APISIX-Upstream-Status</c>: the status of every attempt, when the last one failed or
    /// <c>show_upstream_status_in_response_header</c> says always.</summary>
    static void ShowStatuses(Exchange exchange)
    {
        if (exchange.Upstream.Statuses is { } statuses
            && (exchange.Upstream.Status >= 500 || exchange.Snapshot.Settings.Http.ShowUpstreamStatus))
        {
            exchange.Response.Headers["X-APISIX-Upstream-Status"] = statuses;
        }
    }

    /// <summary>How the client finds the end of the body. True: chunks go on as chunks, with the framing in which they come unless they get
    /// one of ours.</summary>
    static bool Frame(Exchange exchange, IBodySource body, BodyFilters? filters, bool ours)
    {
        var response = exchange.Response;
        var isHttp11 = exchange.Request.Protocol == "HTTP/1.1";
        response.ContentLength = filters is null && body.Framing is { Kind: BodyKind.Length, Length: var length } ? length : null;
        if (response.ContentLength is null && isHttp11 && !exchange.Scope.ChunkedTransferEncoding)
        {
            // chunked_transfer_encoding off. Kestrel chunks what says nothing about its framing; a Transfer-Encoding without values says
            // something and is not written, and the end of the connection is the end of the answer.
            response.Headers.TransferEncoding = new StringValues([null, null]);
            response.Headers.Connection = "close";
        }
        if (filters is not null || body is not IFramedBody framed || !isHttp11 || !exchange.Scope.ChunkedTransferEncoding
            || InnerRequest.Is(exchange) || exchange.Detached is not null)
        {
            return false;
        }
        if (ours)
        {
            return true;
        }
        framed.KeepsFraming = true;
        // said by us, the client's connection leaves the framing to us
        response.Headers.TransferEncoding = "chunked";
        return true;
    }

    /// <summary>The relay of a body, in the list of live streams. Apart from <see cref="RelayAsync"/>: what it takes is not kept for as
    /// long as the stream lasts.</summary>
    static BodyRelay Relay(
        Exchange exchange, IResponseSource source, IBodySource body, BodyFilters? filters, in RelaySettings settings, StreamCare? care,
        LiveStream live)
    {
        var time = exchange.Services.Time;
        var silence = source.Silence ?? new(time, static _ => { });
        for (IBodySource? part = body; part is not null;)
        {
            switch (part)
            {
                case PacedBody paced:
                    paced.Measure(silence, settings.Clock, settings.ReadTimeout);
                    part = paced.Source;
                    break;
                case QueuedBody queued:
                    queued.Measure(settings.Clock, silence, settings.ReadTimeout);
                    part = queued.Source;
                    break;
                case WaitingBody waiting:
                    waiting.Measure(silence, settings);
                    part = null;
                    break;
                default:
                    part = null;
                    break;
            }
        }
        var relay = new BodyRelay(body, exchange.Response.BodyWriter, filters, settings, time, silence, live);
        live.Body = relay;
        care?.Start(live, relay);
        return relay;
    }

    static async ValueTask RelayAsync(Exchange exchange, IResponseSource source, LiveStream live, BodyRelay relay)
    {
        using var listed = live;
        using var running = relay;
        try
        {
            if (exchange.Buffering!.On && !source.NeverBuffered && relay.Mode != "queue")
            {
                await relay.AbsorbAsync();
            }
            else
            {
                _ = await relay.StreamAsync();
            }
        }
        finally
        {
            await relay.QuietAsync();
            if (relay.Mode == "queue")
            {
                SlowConsumer.Close(exchange);
            }
            exchange.BodyBytesSent += relay.BytesSent;
            exchange.Upstream.BytesReceived += relay.BytesReceived;
            exchange.FirstByteTimestamp = relay.FirstByteTimestamp;
            exchange.SpooledBytes += live.SpooledBytes;
        }
        exchange.Copy?.Passed(exchange);
        if (exchange.EndReason is { } reason && reason == exchange.StreamEndReason)
        {
            // a budget: the stream ends properly whether there is a place for words or not
            _ = await StreamEnding.TryAsync(exchange, reason);
        }
        else if (!relay.IsVerbatim && exchange.TrailersInBody is not { IsForGrpc: true } && exchange.Response.SupportsTrailers())
        {
            source.WriteTrailers(exchange.Response);
        }
    }

    /// <summary>Sends a body that is there as a whole, through the body filters.</summary>
    static async ValueTask SendWholeAsync(Exchange exchange, ReadOnlyMemory<byte> body)
    {
        var response = exchange.Response;
        var filters = BodyFilters.Open(exchange, out var waiting);
        if (waiting is not null)
        {
            var passed = new ArrayBufferWriter<byte>();
            await waiting.FilterAsync(body, true, passed, exchange.ClientGone);
            body = passed.WrittenMemory;
        }
        if (filters is not null)
        {
            var filtered = new ArrayBufferWriter<byte>();
            filters.Filter(body, true, filtered);
            body = filtered.WrittenMemory;
        }
        if (HeaderPhase.MayHaveBody(response.StatusCode))
        {
            response.ContentLength = body.Length;
            if (!HttpMethods.IsHead(exchange.Request.Method) && body.Length > 0)
            {
                exchange.BodyBytesSent += body.Length;
                await response.BodyWriter.WriteAsync(body);
            }
        }
    }
}
