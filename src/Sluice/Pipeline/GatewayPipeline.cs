using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Logging;
using Sluice.Pipeline.Tls;
using Sluice.Scripting;

namespace Sluice.Pipeline;

/// <summary>
/// What happens to a request, top to bottom:
/// who asks → check → match → global rules → rewrite → merge consumer → access → forward (pick node, before_proxy, retries) →
/// header_filter → body_filter → log.
/// </summary>
public sealed partial class GatewayPipeline(Forwarder forwarder, ILogger<GatewayPipeline> logger)
{
    public async Task RunAsync(Exchange exchange)
    {
        try
        {
            // forwarding is not within DecideAsync: its frame would live as long as a stream does
            if (await DecideAsync(exchange) is { } answer || (answer = await forwarder.ForwardAsync(exchange)) is not null)
            {
                await AnswerWriter.WriteAsync(exchange, answer);
            }
        }
        catch (Exception e) when (ClientFault(e, exchange) is { } fault)
        {
            await FailAsync(exchange, fault);
        }
        catch (Exception e)
        {
            LogBug(e, exchange.Request.Method, exchange.RawTarget, exchange.Route?.Id);
            await FailAsync(exchange, new(FailureSource.Gateway, "internal_error", e.Message, 500));
        }
        finally
        {
            exchange.End();
            RunLog(exchange);
        }
    }

    /// <summary>The answer that the gateway or a plugin gives, or null: the request is forwarded (pick a node, before_proxy, relay the answer).</summary>
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
            if (exchange.Request.ContentLength > limit)
            {
                return Answer.OwnError(413, "413 Request Entity Too Large");
            }
            exchange.Http.Features.Get<IHttpMaxRequestBodySizeFeature>()?.MaxRequestBodySize = limit;
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

    static async ValueTask<Answer?> MatchAsync(Exchange exchange)
    {
        // 3. Match.
        if (exchange.Snapshot.Router.Match(exchange, exchange.Host) is { } route)
        {
            exchange.Route = route;
            exchange.Chain = route.Chain;
        }

        // 4. Global rules run beside the route's plugins, before them, also when no route matched.
        var global = exchange.Snapshot.GlobalRules;
        if (await RewriteAsync(exchange, global.Rewrite) is { } answer || (answer = await AccessAsync(exchange, global.Access)) is not null)
        {
            return answer;
        }
        if (exchange.Route is null)
        {
            return Answer.OwnError(404, "404 Route Not Found");
        }

        // 5. Rewrite; an auth plugin may have found a consumer, whose plugins are merged in and get their rewrite phase too.
        if ((answer = await RewriteAsync(exchange, exchange.Chain.Rewrite)) is not null)
        {
            return answer;
        }
        if (exchange.Consumer is { } consumer)
        {
            exchange.Chain = exchange.Route.ChainFor(consumer);
            if ((answer = await RewriteAsync(exchange, exchange.Chain.Rewrite, onlyConsumers: true)) is not null)
            {
                return answer;
            }
        }

        // 6. Access.
        return await AccessAsync(exchange, exchange.Chain.Access);
    }

    static async ValueTask<Answer?> RewriteAsync(Exchange exchange, Step<IRewrite>[] steps, bool onlyConsumers = false)
    {
        foreach (var (phase, use) in steps)
        {
            if ((!onlyConsumers || use.IsConsumers) && use.Applies(exchange)
                && (await use.BeforeAsync(exchange, LuaPhase.Rewrite, "rewrite") ?? await phase.RewriteAsync(exchange)) is { } answer)
            {
                return use.Dress(answer);
            }
        }
        return null;
    }

    static async ValueTask<Answer?> AccessAsync(Exchange exchange, Step<IAccess>[] steps)
    {
        foreach (var (phase, use) in steps)
        {
            if (use.Applies(exchange) && (await use.BeforeAsync(exchange, LuaPhase.Access, "access") ?? await phase.AccessAsync(exchange)) is { } answer)
            {
                return use.Dress(answer);
            }
        }
        return null;
    }

    /// <summary>Before the first byte an error answer; after it an abort, so that nobody takes the answer for complete.</summary>
    async ValueTask FailAsync(Exchange exchange, Failure failure)
    {
        exchange.Failure ??= failure;
        if (exchange.Response.HasStarted || failure.Kind == "client_gone")
        {
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
            await AnswerWriter.WriteAsync(exchange, Answer.OwnError(failure.Status, $"{failure.Status} {Reason(failure.Status)}"));
        }
        catch (Exception e)
        {
            LogBug(e, exchange.Request.Method, exchange.RawTarget, exchange.Route?.Id);
            exchange.Http.Abort();
        }
    }

    static string Reason(int status) => Microsoft.AspNetCore.WebUtilities.ReasonPhrases.GetReasonPhrase(status);

    /// <summary>What the client did wrong or that it left; null when the fault is not the client's.</summary>
    static Failure? ClientFault(Exception exception, Exchange exchange) => exception switch
    {
        BadHttpRequestException bad => new(FailureSource.Client, KindOf(bad.StatusCode), bad.Message, bad.StatusCode),
        ConnectionResetException or ConnectionAbortedException => new(FailureSource.Client, "client_gone", "the client closed the connection", 499),
        _ when exchange.ClientGone.IsCancellationRequested => new(FailureSource.Client, "client_gone", "the client closed the connection", 499),
        _ => null,
    };

    static string KindOf(int status) => status switch
    {
        408 => "body_timeout",
        413 => "body_too_large",
        _ => "bad_request",
    };

    void RunLog(Exchange exchange)
    {
        RunLog(exchange, exchange.Snapshot.GlobalRules.Log);
        RunLog(exchange, exchange.Chain.Log);
    }

    void RunLog(Exchange exchange, Step<ILog>[] steps)
    {
        foreach (var (phase, use) in steps)
        {
            try
            {
                if (use.Applies(exchange))
                {
                    use.Before(exchange, LuaPhase.Log, "log");
                    phase.Log(exchange);
                }
            }
            catch (Exception e)
            {
                LogPhaseFailed(e, use.Descriptor.Name, use.Scope);
            }
        }
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "unexpected failure in {Method} {Target}, route: {Route}")]
    partial void LogBug(Exception exception, string method, string target, string? route);

    [LoggerMessage(Level = LogLevel.Error, Message = "rewrite or internal redirection cycle while processing \"{Uri}\"")]
    partial void LogTurns(string uri);

    [LoggerMessage(Level = LogLevel.Error, Message = "log phase of plugin {Plugin} ({Scope}) failed")]
    partial void LogPhaseFailed(Exception exception, string plugin, string scope);
}
