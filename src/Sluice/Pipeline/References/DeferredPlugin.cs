using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging;

namespace Sluice.Pipeline.References;

/// <summary>
/// A plugin whose configuration refers to secrets: made when the first request needs it, and anew when a secret has changed. While a secret
/// cannot be had, requests are answered 503.
/// </summary>
sealed partial class DeferredPlugin(PluginDescriptor descriptor, JsonObject config, PluginContext context, PluginMaker maker)
    : IAsyncDisposable
{
    readonly ILogger _log = context.Services.Loggers.CreateLogger<DeferredPlugin>();
    readonly Lock _making = new();
    Made? _made;

    /// <summary>Kept by the requests that use it: what the plugin owns goes with the last.</summary>
    sealed record Made(JsonNode Config, object Plugin, PluginLife? Life);

    /// <summary>
    /// What the plugin decides without a request: rules do not depend on secrets. Where the plugin cannot be made without them, that it
    /// needs the request's body is still known.
    /// </summary>
    public object? Rules => _rules.Value;

    readonly Lazy<object?> _rules = new(() =>
    {
        var tried = context.Anew(maker, config.DeepClone().AsObject());
        try
        {
            return descriptor.Create(tried.Config, tried);
        }
        catch (Exception e) when (e is FormatException or InvalidOperationException or ArgumentException)
        {
            return descriptor.Is<INeedsRequestBody>() ? new NeedsRequestBody() : null;
        }
        finally
        {
            _ = tried.Life?.EndAsync();
        }
    });

    sealed class NeedsRequestBody : IBufferingRule
    {
        public bool? ResponseBuffering => null;

        public bool? RequestBuffering => true;
    }

    /// <summary>Makes the plugin for a request, and runs it if it has something to do in the phase.</summary>
    public async ValueTask<Answer?> AskAsync<T>(Exchange exchange, Phase<T> phase, PluginUse use)
        where T : class
    {
        var (plugin, why) = Of(exchange.Find(this)) is { } known ? (known, null) : await GetAsync(exchange.Items);
        if (why is null)
        {
            return use.Has(phase) && plugin is T contract ? await phase.Ask!(contract, exchange) : null;
        }
        LogUnresolved(_log, context.Scope, descriptor.Name, why);
        exchange.Failure = new(FailureSource.Gateway, "secret_unresolved", why, 503);
        return Answer.OwnError(503,
            $"503 Service Temporarily Unavailable: the configuration of plugin {descriptor.Name} refers to a secret that cannot be resolved");
    }

    /// <summary>The same plugin through all phases of a request; null: it was never made for this one.</summary>
    public object? Of(Exchange exchange) => Of(exchange.Find(this));

    static object? Of(object? item) => (item as Made)?.Plugin;

    /// <summary>The plugin with the secrets that there are now, or why it cannot be.</summary>
    /// <param name="items">Whoever holds them has the plugin until his end.</param>
    public async ValueTask<(object? Plugin, string? Why)> GetAsync(Dictionary<object, object> items)
    {
        try
        {
            var made = await MakeAsync();
            items[this] = made;
            return (made.Plugin, null);
        }
        catch (SecretException e)
        {
            return (null, e.Message);
        }
    }

    async ValueTask<Made> MakeAsync()
    {
        var resolved = await context.Services.Secrets.ResolveAsync(config);
        lock (_making)
        {
            if (_made is { } made && JsonNode.DeepEquals(made.Config, resolved))
            {
                return made;
            }
            return _made = Make(resolved.DeepClone().AsObject());
        }
    }

    Made Make(JsonObject resolved)
    {
        var own = context.Anew(maker, resolved);
        try
        {
            return descriptor.Validate(resolved) is { } error ? throw new ConfigException(error)
                : new(resolved, descriptor.Create(resolved, own), own.Life);
        }
        catch (Exception e)
        {
            _ = own.Life?.EndAsync();
            if (e is ConfigException)
            {
                throw new SecretException($"with its secrets the configuration is invalid: {e.Message}");
            }
            throw;
        }
    }

    public ValueTask DisposeAsync() => _made?.Life is { } life ? new(life.EndAsync()) : default;

    [LoggerMessage(Level = LogLevel.Error, Message = "{Scope}: plugin {Plugin}: {What}")]
    static partial void LogUnresolved(ILogger log, string scope, string plugin, string what);
}
