using System.Buffers;
using System.Globalization;
using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Primitives;
using Sluice.Model;
using Sluice.Net;
using Sluice.Net.Epoll;
using Sluice.Net.Http;
using Sluice.Net.Http1;
using Sluice.Relay;
using Sluice.Scripting;
using Sluice.Upstreams;
using Sluice.Upstreams.Discovery;

namespace Sluice.Pipeline;

/// <summary>Forwards a request: picks a node, sends, retries on the next one while nothing was answered, relays the answer.</summary>
internal sealed partial class Forwarder(
    PluginServices services, ConnectionPools pools, Http2Connections http2, HostResolver resolver, string temporaryDirectory,
    ILogger<Forwarder> logger)
{
    internal TimeProvider Time => services.Time;

    internal ConnectionPools Pools => pools;

    internal Http2Connections Http2 => http2;

    internal HostResolver Resolver => resolver;

    /// <summary>The gateway's own answer when there is none of an upstream; null when the upstream's has been relayed.</summary>
    public async ValueTask<Answer?> ForwardAsync(Exchange exchange)
    {
        if (StreamPolicy.Of(exchange) is { } policy)
        {
            Apply(exchange, policy);
        }
        if (exchange.Through is { } through)
        {
            return await OpenAsync(exchange, through);
        }
        if (exchange.Chain.CutsEvents || exchange.Snapshot.GlobalRules.CutsEvents)
        {
            exchange.Request.Headers.Remove("Accept-Encoding");
        }
        FilteredRequestBody.Open(exchange);
        return exchange.ForwardTo switch
        {
            ForwardTo.From from => await FromAsync(exchange, from),
            ForwardTo.Each each => await EachAsync(exchange, each.Tries),
            _ => await ForwardOnceAsync(exchange, asksPlugins: true),
        };
    }

    /// <summary>Stands for the answer of an upstream that was not taken.</summary>
    static Answer NotTaken { get; } = new(502);

    /// <summary>How much is read of a response that is not taken.</summary>
    const int MostOfRefused = 64 * 1024;

    /// <summary>One upstream after another, until the response of one is taken.</summary>
    async ValueTask<Answer?> EachAsync(Exchange exchange, IUpstreamTries tries)
    {
        for (var isFirst = true; ; isFirst = false)
        {
            exchange.Failure = null;
            var (upstream, refusal) = await tries.NextAsync(exchange);
            if (upstream is null)
            {
                return refusal;
            }
            exchange.ForwardTo = upstream with { Tries = tries };
            var answer = await ForwardOnceAsync(exchange, isFirst);
            if (ReferenceEquals(answer, NotTaken))
            {
                continue;
            }
            if (answer is null || exchange.Failure?.Source != FailureSource.Upstream)
            {
                return answer;
            }
            if (tries.Failed(exchange, answer) is { } final)
            {
                return final;
            }
        }
    }

    /// <summary>Whether the response is the client's; one that is not is read, so that it can be said why.</summary>
    static async ValueTask<bool> TakesAsync(Exchange exchange, UpstreamSource call, IUpstreamTries tries)
    {
        if (tries.Takes(exchange, call.Status))
        {
            return true;
        }
        exchange.Upstream.AddAttempt(call.Address, call.Status);
        var body = new ArrayBufferWriter<byte>();
        if (call.TakeBody() is { } source)
        {
            call.Silence?.Start(call.ReadTimeout);
            try
            {
                while (body.WrittenCount < MostOfRefused && await source.ReadAsync(body.GetMemory(4096)[..4096]) is > 0 and var read)
                {
                    body.Advance(read);
                    call.Silence?.Touch();
                }
            }
            catch (UpstreamException e) when (e.Kind != UpstreamFailureKind.ClientGone)
            {
                // what came of it is what there is
            }
            call.Silence?.Stop();
            if (!source.Ended)
            {
                call.Abandon();
            }
        }
        tries.Refused(exchange, body.WrittenMemory);
        return false;
    }

    async ValueTask<Answer?> ForwardOnceAsync(Exchange exchange, bool asksPlugins)
    {
        var tries = (exchange.ForwardTo as ForwardTo.To)?.Tries;
        if (UpstreamOf(exchange) is not { } upstream)
        {
            exchange.Failure = new(FailureSource.Gateway, "no_upstream", "the route has no upstream, or the one it names does not exist",
                503);
            LogFailure(exchange.Route!.Id, exchange.Failure.Kind, exchange.Failure.Detail);
            return Answer.OwnError(503, "503 Service Temporarily Unavailable");
        }
        if (exchange.ExtendedConnect is not null && !WebSocketHandshake.IsAllowed(exchange))
        {
            return Answer.OwnError(403, "403 Forbidden: the route has no enable_websocket");
        }
        exchange.Upstream.Scheme = exchange.UpstreamScheme ?? upstream.Config.Scheme;
        if (!upstream.IsFixed && await DiscoverAsync(exchange, upstream) is { } undiscovered)
        {
            return undiscovered;
        }
        var isHttp2 = exchange.Upstream.Scheme is "grpc" or "grpcs";
        using var body = isHttp2 ? RequestBody.Streaming(exchange) : await RequestBody.OpenAsync(exchange, temporaryDirectory, logger);

        using var picks = upstream.Begin(HashKey.Of(exchange, upstream.Config));
        var freshOnly = false;
        Node? node = null;
        for (var attempt = 0; ;)
        {
            node = freshOnly ? node! : picks.Next();
            if (node is null)
            {
                return NoNode(exchange, upstream);
            }
            (exchange.Upstream.NodeIp, exchange.Upstream.NodePort) = (node.Config.Host, node.Port);
            if (asksPlugins && attempt == 0 && !freshOnly && await BeforeProxyAsync(exchange) is { } answer)
            {
                return answer;
            }
            UpstreamSource call = isHttp2 ? new Http2Source(this, exchange, upstream, node, body)
                : new Http1Source(this, exchange, upstream, node, body);
            var answered = false;
            try
            {
                await using (call)
                {
                    await call.AskAsync(freshOnly);
                    answered = true;
                    picks.Answered(call.Status);
                    if (call.IsStream)
                    {
                        picks.Took(call.Elapsed);
                    }
                    if (tries is not null && !await TakesAsync(exchange, call, tries))
                    {
                        return NotTaken;
                    }
                    await call.RelayAsync();
                    if (!call.IsStream)
                    {
                        picks.Took(call.Elapsed);
                    }
                    return null;
                }
            }
            catch (Exception e) when (e is UpstreamException or OperationCanceledException && IsClients(exchange, e, body))
            {
                // who left, or sent what is no request, is the cause of whatever came of it: no node is blamed
                if (!answered)
                {
                    exchange.Upstream.AddAttempt(call.Address, 0);
                }
                if (!exchange.Response.HasStarted)
                {
                    System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(body.ClientFault ?? e);
                }
                exchange.Failure ??= ClientGone;
                exchange.Http.Abort();
                return null;
            }
            catch (UpstreamException e) when (!exchange.Response.HasStarted)
            {
                if (e.StalePooledConnection && !freshOnly && !body.Consumed && IsIdempotent(exchange.UpstreamMethod))
                {
                    freshOnly = true;
                    continue;
                }
                exchange.Upstream.AddAttempt(call.Address, StatusOf(e.Kind));
                if (exchange is { Failure: { } decided, EndReason: { } end }
                    && (StreamReason.IsDecided(end) || decided.Source == FailureSource.Client))
                {
                    exchange.TakeResponseBack();
                    return ErrorAnswer(exchange, decided);
                }
                exchange.Failure = FailureOf(exchange, call, e, node);
                LogUpstreamFailure(exchange.Route!.Id, node.Name, exchange.Failure.Kind, e.Message);
                picks.Failed(timeout: StatusOf(e.Kind) == 504);
                picks.Took(call.Elapsed);
                exchange.TakeResponseBack();
                if (attempt++ >= picks.Retries || exchange.Failure.Kind == "max_duration" || !MayRetry(exchange, call, body)
                    || OutOfTime(exchange, upstream))
                {
                    return ErrorAnswer(exchange, exchange.Failure);
                }
                freshOnly = false;
            }
            catch (UpstreamException e)
            {
                // the head is out: never a second answer, never a clean end
                exchange.Failure ??= FailureOf(exchange, call, e, node);
                if (exchange.Failure.Source != FailureSource.Upstream)
                {
                    LogUnlessDecided(exchange, exchange.Failure.Detail);
                }
                else
                {
                    LogUpstreamFailure(exchange.Route!.Id, node.Name, exchange.Failure.Kind, e.Message);
                }
                return await CutAsync(exchange);
            }
            catch (Exception e) when (e is BodyFilterException or SpoolException)
            {
                return Failed(exchange, e);
            }
        }
    }

    /// <summary>The head is out and the response cannot go on: the protocol's own ending where there is one, else an abort. Null: there is
    /// no answer any more.</summary>
    static async ValueTask<Answer?> CutAsync(Exchange exchange)
    {
        if (!await StreamEnding.TryAsync(exchange, exchange.Failure!.Kind))
        {
            exchange.Http.Abort();
        }
        return null;
    }

    /// <summary>Where the request goes: the route's upstream unless a plugin has said another; null when there is none.</summary>
    static Upstream? UpstreamOf(Exchange exchange)
    {
        switch (exchange.ForwardTo)
        {
            case ForwardTo.To to:
                to.Follower?.Begin();
                return to.Upstream;
            case ForwardTo.Named named:
                return named.Find(exchange);
            default:
                return exchange.Route!.Upstream;
        }
    }

    void Apply(Exchange exchange, StreamPolicy policy)
    {
        // of a stream with a history the upstream has one side of it, each client another
        policy = exchange.Detached is not null ? policy.OfUpstream() : exchange.Through is not null ? policy.OfClient() : policy;
        exchange.Streams = policy;
        if (policy.MaxDuration is { IsOff: false } longest)
        {
            var drawn = longest.Time * (1 - ((policy.Jitter ?? StreamPolicy.DefaultJitter) * Random.Shared.NextDouble()));
            exchange.StreamEndsAt = exchange.StartTimestamp + (long)(drawn.TotalSeconds * Time.TimestampFrequency);
        }
        if (policy.IsOfPlugin && StreamPolicy.WantsEvents(exchange.Request))
        {
            // bytes of ours have no place in a compressed body
            exchange.Request.Headers.Remove("Accept-Encoding");
        }
    }

    /// <summary>A response that a plugin has from elsewhere than an upstream.</summary>
    async ValueTask<Answer?> FromAsync(Exchange exchange, ForwardTo.From from)
    {
        if (await PhaseRunner.AskAsync(exchange, Phase.BeforeProxy, exchange.Snapshot.GlobalRules) is { } answer
            || (answer = await PhaseRunner.AskAsync(exchange, Phase.BeforeProxy, exchange.Chain)) is not null)
        {
            return answer;
        }
        return await OpenAsync(exchange, async exchange => new(await from.Open(exchange, exchange.ClientGone), null));
    }

    /// <summary>Sends what is opened for the request; an answer is sent by who asked.</summary>
    async ValueTask<Answer?> OpenAsync(Exchange exchange, Func<Exchange, ValueTask<Opened>> open)
    {
        try
        {
            var (opened, answer) = await open(exchange);
            if (opened is null)
            {
                return answer;
            }
            await using var source = opened;
            await ResponseSender.SendAsync(exchange, source);
            return null;
        }
        catch (UpstreamException e) when (e.Kind != UpstreamFailureKind.ClientGone)
        {
            exchange.Failure ??= new(FailureSource.Upstream, exchange.EndReason ?? Name(e.Kind), e.Message, StatusOf(e.Kind));
            LogUnlessDecided(exchange, e.Message);
            if (!exchange.Response.HasStarted)
            {
                exchange.TakeResponseBack();
                return ErrorAnswer(exchange, exchange.Failure);
            }
            return await CutAsync(exchange);
        }
        catch (Exception e) when (e is BodyFilterException or SpoolException)
        {
            return Failed(exchange, e);
        }
    }

    /// <summary>The gateway itself cannot go on with the body.</summary>
    Answer? Failed(Exchange exchange, Exception e)
    {
        exchange.Failure = new(FailureSource.Gateway, (e as BodyFilterException)?.Kind ?? "spool_failed", e.Message, 500);
        LogFailure(exchange.Route!.Id, exchange.Failure.Kind, e.Message);
        if (!exchange.Response.HasStarted)
        {
            exchange.TakeResponseBack();
            return Answer.OwnError(500, "500 Internal Server Error");
        }
        exchange.Http.Abort();
        return null;
    }

    /// <summary>Whether the client is the cause of what looks like an upstream's failure: it left, or what it sent was no body.</summary>
    static bool IsClients(Exchange exchange, Exception e, RequestBody body) =>
        body.ClientFault is not null || e is UpstreamException { Kind: UpstreamFailureKind.ClientGone }
        || (exchange.ClientGone.IsCancellationRequested && !exchange.Scope.IgnoreClientAbort);

    static Failure ClientGone { get; } = new(FailureSource.Client, "client_gone", "the client closed the connection", 499);

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
            exchange.Failure = upstream is { Incomplete: not null, Secrets.Count: 0, Config.Tls.ClientCertId: not null }
                ? new(FailureSource.Gateway, "no_client_certificate", e.Message, 502)
                : new(FailureSource.Gateway, "no_valid_upstream_node", e.Message, 503);
            if (upstream.IsFirstDiscoveryFailure())
            {
                LogFailure(exchange.Route!.Id, exchange.Failure.Kind, exchange.Failure.Detail);
            }
            return Answer.OwnError(exchange.Failure.Status,
                exchange.Failure.Status == 502 ? "502 Bad Gateway" : "503 Service Temporarily Unavailable");
        }
    }

    static async ValueTask<Answer?> BeforeProxyAsync(Exchange exchange) =>
        await PhaseRunner.AskAsync(exchange, Phase.BeforeProxy, exchange.Snapshot.GlobalRules)
        ?? await PhaseRunner.AskAsync(exchange, Phase.BeforeProxy, exchange.Chain)
        ?? (exchange.IsPrinted ? Answer.Sent : null);

    Answer NoNode(Exchange exchange, Upstream upstream)
    {
        // one that has none at all is APISIX's "no valid upstream node"
        exchange.Failure ??= new(FailureSource.Gateway, "no_node", "the upstream has no node to try",
            upstream.Nodes.Count == 0 ? 503 : 502);
        LogFailure(exchange.Route!.Id, exchange.Failure.Kind, exchange.Failure.Detail);
        return ErrorAnswer(exchange, exchange.Failure);
    }

    static Answer ErrorAnswer(Exchange exchange, Failure failure)
    {
        var answer = Answer.OwnError(failure.Status, StatusText.WithCode(failure.Status));
        return exchange.Upstream.Statuses is { } statuses ? answer.With("X-APISIX-Upstream-Status", statuses) : answer;
    }

    /// <summary>Whoever decides it says so.</summary>
    void LogUnlessDecided(Exchange exchange, string detail)
    {
        if (!StreamReason.IsDecided(exchange.Failure!.Kind))
        {
            LogFailure(exchange.Route!.Id, exchange.Failure.Kind, detail);
        }
    }

    bool OutOfTime(Exchange exchange, Upstream upstream) =>
        upstream.Config.RetryTimeout > 0 && Time.GetElapsedTime(exchange.StartTimestamp).TotalSeconds > upstream.Config.RetryTimeout;

    /// <summary>nginx's proxy_next_upstream: what was sent of a POST, LOCK or PATCH is not sent again; a body that was passed on cannot
    /// be.</summary>
    static bool MayRetry(Exchange exchange, UpstreamSource call, RequestBody body) =>
        !body.Consumed && (!call.RequestSent || IsIdempotent(exchange.UpstreamMethod));

    static bool IsIdempotent(string method) => method is not ("POST" or "PATCH" or "LOCK");

    static int StatusOf(UpstreamFailureKind kind) =>
        kind is UpstreamFailureKind.ConnectTimeout or UpstreamFailureKind.ReadTimeout or UpstreamFailureKind.SendTimeout ? 504 : 502;

    /// <summary><c>read_timeout</c> of ReadTimeout.</summary>
    static string Name(UpstreamFailureKind kind) => JsonNamingPolicy.SnakeCaseLower.ConvertName(kind.ToString());

    static Failure FailureOf(Exchange exchange, UpstreamSource call, UpstreamException e, Node node)
    {
        var (kind, status) = (call.Reason(e.Kind) ?? Name(e.Kind), StatusOf(e.Kind));
        if (e.Kind == UpstreamFailureKind.ReadTimeout && exchange.Streams?.TimeoutStatus is { } chosen)
        {
            // to an EventSource a 204 says never to come back
            status = chosen == 204 && StreamPolicy.WantsEvents(exchange.Request) ? 504 : chosen;
        }
        return new(kind == "max_duration" ? FailureSource.Gateway : FailureSource.Upstream, kind, $"{node.Name}: {e.Message}", status);
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "route {Route}: {Kind}: {Detail}")]
    partial void LogFailure(string route, string kind, string detail);

    [LoggerMessage(Level = LogLevel.Error, Message = "route {Route}: upstream {Node}: {Kind}: {Detail}")]
    partial void LogUpstreamFailure(string route, string node, string kind, string detail);
}
