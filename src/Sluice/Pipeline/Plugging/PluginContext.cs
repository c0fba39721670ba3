using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using Sluice.Model.Settings;

namespace Sluice.Pipeline;

/// <summary>What a plugin is given when it is created.</summary>
/// <param name="scope">Where it is configured: <c>route r1</c>, <c>consumer jack</c>, <c>global_rule 1</c>.</param>
/// <param name="metadata">The plugin's plugin_metadata, or null.</param>
/// <param name="attr">The plugin's part of <c>plugin_attr</c> in conf/config.yaml, or null.</param>
public sealed class PluginContext(string scope, JsonObject? metadata, JsonObject? attr, PluginServices services)
{
    readonly Lock _lock = new();

    public string Scope => scope;

    public JsonObject? Metadata => metadata;

    public JsonObject? Attr => attr;

    public PluginServices Services => services;

    /// <summary>The configuration as JSON, with the schema's defaults.</summary>
    public JsonObject Config { get; init; } = [];

    /// <summary><c>sluice.streams.defaults</c>; null: there are none.</summary>
    internal StreamPolicy? StreamDefaults { get; init; }

    /// <summary><c>apisix.proxy_cache</c>: where responses are stored.</summary>
    internal ProxyCacheSettings ProxyCache { get; init; } = new(TimeSpan.FromSeconds(10), []);

    /// <summary>The same text for the same configuration, whatever its <c>_meta</c>: for the keys of counters and of shared
    /// things.</summary>
    public string ConfigHash => field ??= Hash(Config);

    /// <summary>Makes the plugins that this plugin runs.</summary>
    public PluginFactory Plugins
    {
        get => field ?? throw new InvalidOperationException("no other plugins are known here");
        internal set;
    }

    /// <summary>Makes the upstreams to which this plugin sends requests.</summary>
    public PluginUpstreams Upstreams
    {
        get => field ?? throw new InvalidOperationException("no upstreams are made here");
        internal set;
    }

    /// <summary>What the plugin owns; null when it owns nothing.</summary>
    internal PluginLife? Life { get; private set; }

    PluginLife OpenLife()
    {
        lock (_lock)
        {
            return Life ??= services.Lives.Open();
        }
    }

    /// <summary>Hands a part over: it is disposed when the last snapshot that uses the plugin has gone.</summary>
    public void Own(IAsyncDisposable part) => OpenLife().Own(part);

    /// <summary>
    /// A thing that plugins have in common, also before and after a change of the configuration: made when nobody has it, disposed when the
    /// last that has it ends. The key names the plugin first: <c>limit-conn/…</c>.
    /// </summary>
    public T Share<T>(string key, Func<T> make)
        where T : class => services.Lives.Share(OpenLife(), key, make);

    /// <summary>The same place and configuration, owning nothing.</summary>
    internal PluginContext Anew(PluginMaker maker, JsonObject config) =>
        maker.Equip(new(scope, metadata, attr, services) { Config = config, StreamDefaults = StreamDefaults, ProxyCache = ProxyCache });

    static string Hash(JsonObject config)
    {
        var own = new JsonObject(config.Where(property => property.Key != "_meta").OrderBy(property => property.Key, StringComparer.Ordinal)
            .Select(property => KeyValuePair.Create(property.Key, property.Value?.DeepClone())));
        return Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(own.ToJsonString())).AsSpan(0, 8));
    }
}

/// <summary>A plugin's configuration cannot be: the message is the error that the user gets.</summary>
public sealed class ConfigException(string message) : FormatException(message);
