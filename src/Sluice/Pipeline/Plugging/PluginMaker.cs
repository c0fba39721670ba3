using System.Collections.Immutable;
using System.Text.Json.Nodes;
using Sluice.Model;
using Sluice.Model.Settings;
using Sluice.Pipeline.References;
using Sluice.Scripting;

namespace Sluice.Pipeline;

/// <summary>Makes running plugins of checked configurations. What it makes may hold it: so it knows nothing of the snapshot that it was
/// made for.</summary>
internal sealed class PluginMaker
{
    readonly PluginServices _services;
    readonly PluginRegistry _registry;
    readonly GatewaySettings _settings;
    readonly ImmutableSortedDictionary<string, Document> _metadata;
    readonly UpstreamDefaults _upstreams;
    readonly StreamPolicy? _streamDefaults;

    /// <param name="metadata">The documents of plugin metadata, by the plugin's name.</param>
    internal PluginMaker(
        PluginServices services, PluginRegistry registry, GatewaySettings settings, ImmutableSortedDictionary<string, Document> metadata,
        UpstreamDefaults upstreams,
        StreamPolicy? streamDefaults = null) =>
        (_services, _registry, _settings, _metadata, _upstreams, _streamDefaults) = (services, registry, settings, metadata, upstreams,
            streamDefaults);

    /// <param name="scope">Where it is configured: <c>route r1</c>.</param>
    /// <param name="seen">Plugins that are there already: they win, and what is made is added.</param>
    public IEnumerable<PluginUse> Make(JsonObject? plugins, string scope, HashSet<string>? seen = null,
        Func<PluginDescriptor, bool>? wanted = null, bool forStreams = false)
    {
        foreach (var (name, value) in plugins ?? [])
        {
            if (value is JsonObject config && (forStreams ? _registry.FindForStreams(name) : _registry.Find(name)) is { } descriptor
                && wanted?.Invoke(descriptor) != false && seen?.Add(name) != false)
            {
                yield return Make(descriptor, config, scope);
            }
        }
    }

    /// <summary><c>_meta.pre_function</c>; a plugin in Lua runs its own, which sees the same configuration.</summary>
    LuaUnit? PreFunction(PluginDescriptor descriptor, JsonObject config, string scope) =>
        PluginMeta.Of(config).PreFunction is { } text && !descriptor.IsScript
        ? LuaUnit.OfPreFunction(_services.Lua, descriptor.Name, $"{scope}, pre_function of plugin {descriptor.Name}", config.DeepClone(),
            text)
        : null;

    /// <summary>The plugins there are.</summary>
    public PluginRegistry Registry => _registry;

    /// <summary>An enabled plugin; null: there is none of this name.</summary>
    public PluginDescriptor? Find(string name) => _registry.Find(name) ?? _registry.FindForStreams(name);

    /// <summary>Checks a configuration, fills the schema's defaults in, and makes the plugin to see whether it can be; the error, or
    /// null.</summary>
    /// <param name="scope">Where it is configured: <c>route r1</c>.</param>
    public string? Check(PluginDescriptor descriptor, JsonObject config, string scope)
    {
        if (descriptor.Validate(config) is { } invalid)
        {
            return invalid;
        }
        var context = ContextOf(descriptor, config, scope);
        try
        {
            descriptor.Create(context.Config, context);
            return null;
        }
        catch (Exception e) when (e is FormatException or InvalidOperationException or ArgumentException)
        {
            // what a secret stands for shows when a request needs it
            return e is ConfigException || !SecretReference.In(context.Config).Any() ? e.Message : null;
        }
        finally
        {
            _ = context.Life?.EndAsync();
        }
    }

    PluginContext ContextOf(PluginDescriptor descriptor, JsonObject config, string scope) => Equip(
        new(scope, _metadata.GetValueOrDefault(descriptor.Name)?.Value, _settings.PluginAttributes.GetValueOrDefault(descriptor.Name),
            _services)
        {
            Config = _services.Secrets.WithEnvironment(config),
            StreamDefaults = _streamDefaults,
            ProxyCache = _settings.ProxyCache,
        });

    /// <summary>Gives a context what makes other things for its plugin.</summary>
    internal PluginContext Equip(PluginContext context)
    {
        (context.Plugins, context.Upstreams) = (new(this, context), new(_upstreams, context));
        return context;
    }

    DeferredPlugin Deferred(PluginDescriptor descriptor, JsonObject config, PluginContext context)
    {
        var plugin = new DeferredPlugin(descriptor, config, context, this);
        context.Own(plugin);
        return plugin;
    }

    /// <summary>A plugin of a checked configuration.</summary>
    public PluginUse Make(PluginDescriptor descriptor, JsonObject config, string scope)
    {
        var context = ContextOf(descriptor, config, scope);
        try
        {
            var plugin = SecretReference.In(context.Config).Any() ? Deferred(descriptor, context.Config, context)
                : descriptor.Create(context.Config, context);
            return new(descriptor, plugin, PluginMeta.Of(config), config, scope) { PreFunction = PreFunction(descriptor, config, scope),
                Life = context.Life };
        }
        catch
        {
            // what it has made until then is nobody's
            _ = context.Life?.EndAsync();
            throw;
        }
    }
}
