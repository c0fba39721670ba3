using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging;
using Sluice.Pipeline.Streams;
using Sluice.Relay;

namespace Sluice.Pipeline.Secrets;

/// <summary>
/// A plugin whose configuration refers to secrets: made when the first request needs it, and anew when a secret has changed. While a secret cannot be
/// had, requests are answered 503.
/// </summary>
sealed partial class DeferredPlugin(PluginDescriptor descriptor, JsonObject config, PluginContext context)
    : IRewrite, IAccess, IBeforeProxy, IHeaderFilter, IBodyFilter, IEventFilter, IWholeBodyFilter, ILog, IStreamAccess, IStreamEnd
{
    readonly ILogger _log = context.Services.Loggers.CreateLogger<DeferredPlugin>();
    Made? _made;

    sealed record Made(JsonNode Config, object Plugin);

    public async ValueTask<Answer?> RewriteAsync(Exchange exchange)
    {
        var (plugin, refusal) = await GetAsync(exchange);
        return refusal ?? (plugin is IRewrite phase ? await phase.RewriteAsync(exchange) : null);
    }

    public async ValueTask<Answer?> AccessAsync(Exchange exchange)
    {
        var (plugin, refusal) = await GetAsync(exchange);
        return refusal ?? (plugin is IAccess phase ? await phase.AccessAsync(exchange) : null);
    }

    public async ValueTask<Answer?> BeforeProxyAsync(Exchange exchange)
    {
        var (plugin, refusal) = await GetAsync(exchange);
        return refusal ?? (plugin is IBeforeProxy phase ? await phase.BeforeProxyAsync(exchange) : null);
    }

    public async ValueTask<string?> AdmitAsync(StreamSession session)
    {
        try
        {
            var plugin = await MakeAsync();
            session.Items[this] = plugin;
            return plugin is IStreamAccess phase ? await phase.AdmitAsync(session) : null;
        }
        catch (SecretException e)
        {
            return e.Message;
        }
    }

    public void Ended(StreamSession session) => (session.Items.GetValueOrDefault(this) as IStreamEnd)?.Ended(session);

    public void FilterHeaders(Exchange exchange) => (Of(exchange) as IHeaderFilter)?.FilterHeaders(exchange);

    public IPieceFilter? OpenBody(Exchange exchange) => (Of(exchange) as IBodyFilter)?.OpenBody(exchange);

    public IEventStep? OpenEvents(Exchange exchange) => (Of(exchange) as IEventFilter)?.OpenEvents(exchange);

    public bool WantsWholeBody(Exchange exchange) => (Of(exchange) as IWholeBodyFilter)?.WantsWholeBody(exchange) == true;

    public ReadOnlyMemory<byte> FilterBody(Exchange exchange, ReadOnlyMemory<byte> body) => ((IWholeBodyFilter)Of(exchange)!).FilterBody(exchange, body);

    public void Log(Exchange exchange) => (Of(exchange) as ILog)?.Log(exchange);

    /// <summary>The same plugin through all phases of a request; null: it was never made for this one.</summary>
    object? Of(Exchange exchange) => exchange.Items.GetValueOrDefault(this);

    async ValueTask<(object? Plugin, Answer? Refusal)> GetAsync(Exchange exchange)
    {
        if (Of(exchange) is { } known)
        {
            return (known, null);
        }
        try
        {
            var plugin = await MakeAsync();
            exchange.Items[this] = plugin;
            return (plugin, null);
        }
        catch (SecretException e)
        {
            LogUnresolved(_log, context.Scope, descriptor.Name, e.Message);
            exchange.Failure = new(FailureSource.Gateway, "secret_unresolved", e.Message, 503);
            return (null, Answer.OwnError(503, $"503 Service Temporarily Unavailable: the configuration of plugin {descriptor.Name} refers to a secret that cannot be resolved"));
        }
    }

    async ValueTask<object> MakeAsync()
    {
        var resolved = await context.Services.Secrets.ResolveAsync(config);
        var made = _made;
        if (made is null || !JsonNode.DeepEquals(made.Config, resolved))
        {
            _made = made = new(resolved.DeepClone(), Create(resolved.AsObject()));
        }
        return made.Plugin;
    }

    object Create(JsonObject resolved) => descriptor.Check(resolved) is { } error
        ? throw new SecretException($"with its secrets the configuration is invalid: {error}")
        : descriptor.Create(resolved, context);

    [LoggerMessage(Level = LogLevel.Error, Message = "{Scope}: plugin {Plugin}: {What}")]
    static partial void LogUnresolved(ILogger log, string scope, string plugin, string what);
}
