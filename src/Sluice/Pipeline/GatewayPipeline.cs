using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Logging;
using Sluice.Net.Http;
using Sluice.Pipeline.Tls;
using Sluice.Scripting;

namespace Sluice.Pipeline;

/// <summary>
/// What happens to a request, top to bottom:
/// who asks → check → match → global rules → rewrite → merge consumer → access → forward (pick node, before_proxy, retries) →
/// header_filter → body_filter → log.
/// </summary>
internal sealed partial class GatewayPipeline(Forwarder forwarder, ILogger<GatewayPipeline> logger)
{
    public async Task RunAsync(Exchange exchange)
    {
        try
        {
            // forwarding is not within DecideAsync: its frame would live as long as a stream does
            if (await DecideAsync(exchange) is { } answer || (answer = await forwarder.ForwardAsync(exchange)) is not null)
            {
                await ResponseSender.SendAsync(exchange,
                    exchange.Script is null ? answer : await ScriptPhases.EndPrintedAsync(exchange, answer));
            }
        }
        catch (Exception e) when (ClientFault(e, exchange) is { } fault)
        {
            await FailAsync(exchange, fault);
        }
        catch (Exception e)
        {
            LogBug(e, exchange.Request.Method, exchange.Shown(exchange.RawTarget), exchange.Route?.Id);
            await FailAsync(exchange, new(FailureSource.Gateway, "internal_error", e.Message, 500));
        }
        finally
        {
            exchange.End();
            RunLog(exchange);
        }
    }

    /// <summary>Forwards a request that does not end with its client. Nothing is thrown; whoever waits for the response is told.</summary>
    internal async Task RunAsync(DetachedRequest detached)
    {
        var exchange = detached.Exchange;
        try
        {
            detached.Answered(await forwarder.ForwardAsync(exchange));
        }
        catch (Exception e)
        {
            if (!detached.IsStopped && ClientFault(e, exchange) is null)
            {
                LogBug(e, exchange.Request.Method, exchange.Shown(exchange.RawTarget), exchange.Route?.Id);
            }
            detached.Failed(e);
        }
        finally
        {
            exchange.End();
            if (detached.EndedAlone)
            {
                RunLog(exchange);
            }
            else
            {
                exchange.ReleaseItems();
            }
        }
    }

    /// <summary>The answer that the gateway or a plugin gives, or null: the request is forwarded (pick a node, before_proxy, relay the
    /// answer).</summary>
    async ValueTask<Answer?> DecideAsync(Exchange exchange)
    {
        // 1. Who asks, and strict HTTP: what is ambiguous is refused, never forwarded.
        ClientAddress.Find(exchange);
        if (RequestCheck.Refuse(exchange) is { } refusal)
        {
            return refusal;
        }

        // 2. Which nginx block applies, and its limit for bodies.
        exchange.Scope = exchange.Snapshot.Settings.Nginx.Select(
            exchange.Http.Connection.LocalIpAddress!, exchange.Http.Connection.LocalPort, exchange.Host, exchange.Uri);
        if (exchange.Scope.ClientMaxBodySize is { } limit)
        {
            exchange.LimitBody(limit);
        }

        if (TlsCheck.Refuse(exchange, logger) is { } untrusted)
        {
            return untrusted;
        }
        if (NginxReturns.Answer(exchange) is { } returned)
        {
            return returned;
        }

        for (var turn = 0; turn <= MaxTurns; turn++)
        {
            var answer = await MatchAsync(exchange);
            if (!ReferenceEquals(answer, Answer.Again))
            {
                return answer;
            }
            (exchange.Route, exchange.Chain, exchange.Consumer, exchange.MatchPath) = (null, PluginChain.Empty, null, null);
        }
        LogTurns(exchange.Uri);
        return Answer.OwnError(500, "500 Internal Server Error");
    }

    /// <summary>How often scripts may send a request to another path, as many as nginx allows.</summary>
    const int MaxTurns = 10;

    async ValueTask<Answer?> MatchAsync(Exchange exchange)
    {
        // 3. Match. A route whose conditions ask for the body gets it read first; for all others it is not touched.
        var route = exchange.Snapshot.Router.Match(exchange, exchange.Host);
        if (exchange.WantsBody)
        {
            await exchange.ReadBodyVariablesAsync();
            route = exchange.Snapshot.Router.Match(exchange, exchange.Host);
        }
        if (route is not null)
        {
            exchange.Route = route;
            exchange.Chain = route.Chain;
        }

        if (exchange.IsBodyTooLarge && !exchange.Snapshot.GlobalRules.LimitsBody && !exchange.Chain.LimitsBody)
        {
            return BodyTooLarge();
        }

        // 4. Global rules run beside the route's plugins, before them, also when no route matched.
        var global = exchange.Snapshot.GlobalRules;
        if (await RewriteAsync(exchange, global) is { } answer
            || (answer = await PhaseRunner.AskAsync(exchange, Phase.Access, global)) is not null)
        {
            return answer;
        }
        if (exchange.Route is null)
        {
            return exchange.IsBodyTooLarge ? BodyTooLarge() : Answer.OwnError(404, "404 Route Not Found");
        }

        // 5. Rewrite; an auth plugin may have found a consumer, whose plugins are merged in and get their rewrite phase too.
        if ((answer = await RewriteAsync(exchange, exchange.Chain)) is not null)
        {
            return answer;
        }
        if (exchange.Consumer is { } consumer)
        {
            exchange.Chain = exchange.Route.ChainFor(consumer);
            if ((answer = await RewriteAsync(exchange, exchange.Chain, onlyConsumers: true)) is not null)
            {
                return answer;
            }
        }

        if (exchange.IsBodyTooLarge)
        {
            return BodyTooLarge();
        }

        // 6. Access.
        return await PhaseRunner.AskAsync(exchange, Phase.Access, exchange.Chain) ?? (exchange.IsPrinted ? Answer.Sent : null);
    }

    Action<PluginUse, string>? _refused;

    ValueTask<Answer?> RewriteAsync(Exchange exchange, PluginChain chain, bool onlyConsumers = false) =>
        PhaseRunner.AskAsync(exchange, Phase.Rewrite, chain, onlyConsumers,
            _refused ??= (use, reason) => LogRefused(use.Descriptor.Name, reason));

    static Answer BodyTooLarge() => Answer.OwnError(413, "413 Request Entity Too Large");

    /// <summary>Before the first byte an error answer; after it an abort, so that nobody takes the answer for complete.</summary>
    async ValueTask FailAsync(Exchange exchange, Failure failure)
    {
        exchange.Failure ??= failure;
        if (exchange.Response.HasStarted || failure.Kind == "client_gone")
        {
            if (!exchange.Response.HasStarted && !(exchange.Scope.IgnoreClientAbort && exchange.Upstream.Status != 0))
            {
                // nobody gets it; logs and metrics say it
                exchange.Response.StatusCode = 499;
            }
            exchange.Http.Abort();
            return;
        }
        if (failure is { Source: FailureSource.Client, Status: 400 })
        {
            RequestCheck.EndConnection(exchange);
        }
        exchange.DiscardBody();
        try
        {
            await ResponseSender.SendAsync(exchange, Answer.OwnError(failure.Status, StatusText.WithCode(failure.Status)));
        }
        catch (Exception e)
        {
            LogBug(e, exchange.Request.Method, exchange.Shown(exchange.RawTarget), exchange.Route?.Id);
            exchange.Http.Abort();
        }
    }

    /// <summary>What the client did wrong or that it left; null when the fault is not the client's.</summary>
    static Failure? ClientFault(Exception exception, Exchange exchange) => exception switch
    {
        BadHttpRequestException bad => new(FailureSource.Client, KindOf(bad.StatusCode), bad.Message, bad.StatusCode),
        ConnectionResetException or ConnectionAbortedException =>
            new(FailureSource.Client, "client_gone", "the client closed the connection", 499),
        _ when exchange.ClientGone.IsCancellationRequested =>
            new(FailureSource.Client, "client_gone", "the client closed the connection", 499),
        _ => null,
    };

    static string KindOf(int status) => status switch
    {
        408 => "body_timeout",
        413 => "body_too_large",
        _ => "bad_request",
    };

    Action<Exception, PluginUse>? _logFailed;

    void RunLog(Exchange exchange)
    {
        _logFailed ??= (e, use) => LogPhaseFailed(e, use.Descriptor.Name, use.Scope);
        PhaseRunner.Tell(exchange, Phase.Log, exchange.Snapshot.GlobalRules, _logFailed);
        PhaseRunner.Tell(exchange, Phase.Log, exchange.Chain, _logFailed);
        exchange.ReleaseItems();
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "unexpected failure in {Method} {Target}, route: {Route}")]
    partial void LogBug(Exception exception, string method, string target, string? route);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Plugin}: {Reason}")]
    partial void LogRefused(string plugin, string reason);

    [LoggerMessage(Level = LogLevel.Error, Message = "rewrite or internal redirection cycle while processing \"{Uri}\"")]
    partial void LogTurns(string uri);

    [LoggerMessage(Level = LogLevel.Error, Message = "log phase of plugin {Plugin} ({Scope}) failed")]
    partial void LogPhaseFailed(Exception exception, string plugin, string scope);
}
