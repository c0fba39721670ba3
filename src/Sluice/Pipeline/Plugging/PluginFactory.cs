using System.Text.Json.Nodes;

namespace Sluice.Pipeline;

/// <summary>Makes plugins for a plugin that runs others (multi-auth, workflow, …). They end with it.</summary>
public sealed class PluginFactory
{
    readonly PluginMaker _maker;
    readonly PluginContext _outer;

    internal PluginFactory(PluginMaker maker, PluginContext outer) => (_maker, _outer) = (maker, outer);

    /// <summary>What there is of a name, enabled or not as the configuration says; null when there is none.</summary>
    public PluginDescriptor? Find(string name) => _maker.Find(name);

    /// <summary>
    /// Checks a configuration (the schema's defaults are filled into it) and makes the plugin. Which phases it has says its
    /// <see cref="PluginUse.Plugin"/>:
    /// <c>use.Plugin is IAccess access</c>.
    /// </summary>
    /// <exception cref="ConfigException">There is no such plugin, or its configuration cannot be; the text is the plugin's own.</exception>
    /// <param name="place">Where within the outer plugin, when there may be several: counters are kept by place.</param>
    public PluginUse Make(string name, JsonObject config, string? place = null)
    {
        var descriptor = Find(name) ?? throw new ConfigException($"unknown plugin [{name}]");
        if (descriptor.Validate(config) is { } error)
        {
            throw new ConfigException(error);
        }
        var use = _maker.Make(descriptor, config, place is null ? _outer.Scope : $"{_outer.Scope}, {place}");
        if (use.Life is { } life)
        {
            _outer.Own(new End(life));
        }
        return use;
    }

    sealed class End(PluginLife life) : IAsyncDisposable
    {
        public ValueTask DisposeAsync() => new(life.EndAsync());
    }
}
