using System.Collections.Immutable;
using System.Text.Json.Nodes;
using Sluice.Model;
using Sluice.Model.Settings;
using Sluice.Pipeline.Secrets;
using Sluice.Scripting;

namespace Sluice.Pipeline;

/// <summary>Makes running plugins of checked configurations. What it makes may hold it: so it knows nothing of the snapshot that it was made for.</summary>
/// <param name="metadata">The documents of plugin metadata, by the plugin's name.</param>
public sealed class PluginMaker(
    PluginServices services, PluginRegistry registry, GatewaySettings settings, ImmutableSortedDictionary<string, Document> metadata)
{
    /// <param name="scope">Where it is configured: <c>route r1</c>.</param>
    /// <param name="seen">Plugins that are there already: they win, and what is made is added.</param>
    public IEnumerable<PluginUse> Make(JsonObject? plugins, string scope, HashSet<string>? seen = null, Func<PluginDescriptor, bool>? wanted = null, bool forStreams = false)
    {
        foreach (var (name, value) in plugins ?? [])
        {
            if (value is JsonObject config && (forStreams ? registry.FindForStreams(name) : registry.Find(name)) is { } descriptor && wanted?.Invoke(descriptor) != false && seen?.Add(name) != false)
            {
                var context = new PluginContext(scope, metadata.GetValueOrDefault(name)?.Value, settings.PluginAttributes.GetValueOrDefault(name), services);
                yield return new PluginUse(descriptor, Make(descriptor, config, context), PluginMeta.Of(config), config, scope) { PreFunction = PreFunction(descriptor, config, scope) };
            }
        }
    }

    /// <summary><c>_meta.pre_function</c>; a plugin in Lua runs its own, which sees the same configuration.</summary>
    LuaUnit? PreFunction(PluginDescriptor descriptor, JsonObject config, string scope) => PluginMeta.Of(config).PreFunction is { } text && !descriptor.IsScript
        ? LuaUnit.OfPreFunction(services.Lua, descriptor.Name, $"{scope}, pre_function of plugin {descriptor.Name}", config.DeepClone(), text)
        : null;

    object Make(PluginDescriptor descriptor, JsonObject config, PluginContext context)
    {
        var known = services.Secrets.WithEnvironment(config);
        return SecretReference.In(known).Any() ? new DeferredPlugin(descriptor, known, context) : descriptor.Create(known, context);
    }
}
