using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using Sluice.Model.Schema;
using Sluice.Pipeline.Streams;

namespace Sluice.Pipeline;

/// <summary>
/// What a plugin is: one file with its documentation, schema, configuration record and phases. The phases are interfaces
/// (<see cref="IRewrite"/>, <see cref="IAccess"/>, …) on the same class; registration is one line in <c>Plugins/Builtin.cs</c>.
/// </summary>
/// <typeparam name="TSelf">The plugin.</typeparam>
/// <typeparam name="TConfig">What users write, bound from the validated JSON by a source-generated context (snake_case).</typeparam>
public interface IPlugin<TSelf, TConfig>
    where TSelf : class, IPlugin<TSelf, TConfig>
    where TConfig : class
{
    static abstract PluginInfo Info { get; }

    static abstract JsonTypeInfo<TConfig> ConfigType { get; }

    /// <summary>Called when a configuration is compiled, once per place where the plugin is configured.</summary>
    static abstract TSelf Create(TConfig config, PluginContext context);

    /// <summary>What the schema cannot say; the error text, or null.</summary>
    static virtual string? Check(TConfig config) => null;
}

/// <summary>A plugin's fixed facts and its documentation.</summary>
/// <param name="Name">APISIX's name.</param>
/// <param name="Priority">APISIX's number: higher runs first.</param>
/// <param name="Schema">JSON schema of the configuration, with defaults. Drives validation, Admin API, reference page.</param>
/// <param name="Summary">Markdown: what it does, in a few sentences. First sentence stands alone.</param>
public sealed record PluginInfo(string Name, int Priority, string Schema, string Summary)
{
    public string Version { get; init; } = "0.1";

    /// <summary>Markdown: an example configuration (JSON) and what one sees.</summary>
    public string Example { get; init; } = "";

    /// <summary>Authenticates consumers: runs before the consumer's own plugins are merged in.</summary>
    public bool IsAuth { get; init; }

    /// <summary>Schema of the plugin's part in a consumer, for auth plugins.</summary>
    public string? ConsumerSchema { get; init; }

    /// <summary>The property of a consumer's part that identifies it: <c>key</c> for key-auth. <see cref="ConsumerIndex"/> finds by it.</summary>
    public string? ConsumerKey { get; init; }

    /// <summary>Schema of <c>/apisix/admin/plugin_metadata/NAME</c>; null: any object.</summary>
    public string? MetadataSchema { get; init; }

    /// <summary>What a route with <c>public-api</c> can make reachable while the plugin is enabled.</summary>
    public IReadOnlyList<PluginApi> Apis { get; init; } = [];
}

/// <summary>An API that a plugin offers.</summary>
/// <param name="UriAttribute">The name in the plugin's <c>plugin_attr</c> that may change the uri.</param>
public sealed record PluginApi(string Method, string Uri, Func<Exchange, ValueTask<Answer>> Handle, string? UriAttribute = null);

/// <summary>For plugins that do nothing on a route and only offer <see cref="PluginInfo.Apis"/>.</summary>
public interface IPluginApi;

/// <summary>What a plugin is given when it is created.</summary>
/// <param name="Scope">Where it is configured: <c>route r1</c>, <c>consumer jack</c>, <c>global_rule 1</c>.</param>
/// <param name="Metadata">The plugin's plugin_metadata, or null.</param>
/// <param name="Attr">The plugin's part of <c>plugin_attr</c> in conf/config.yaml, or null.</param>
public sealed record PluginContext(string Scope, JsonObject? Metadata, JsonObject? Attr, PluginServices Services);

/// <summary>Which of its parts a plugin's script is to check: APISIX's numbers, <c>core.schema.TYPE_CONSUMER</c> and the like.</summary>
public enum PluginPart
{
    Route = 0,
    Consumer = 1,
    Metadata = 2,
}

/// <summary>A plugin as the registry knows it, without its types.</summary>
public sealed class PluginDescriptor
{
    readonly Func<JsonObject, (object? Config, string? Error)> _bind;
    readonly Func<object, PluginContext, object> _create;
    readonly JsonObject? _consumerSource;
    Func<PluginPart, JsonObject, string?>? _script;

    PluginDescriptor(PluginInfo info, Type type, Func<JsonObject, (object?, string?)> bind, Func<object, PluginContext, object> create)
    {
        Info = info;
        _bind = bind;
        _create = create;
        Schema = WithMeta(info.Schema);
        Compiled = JsonSchema.Compile(Schema);
        _consumerSource = info.ConsumerSchema is null ? null : Parse(info.ConsumerSchema);
        ConsumerSchema = _consumerSource is null ? null : JsonSchema.Compile(_consumerSource);
        MetadataSchema = info.MetadataSchema is null ? null : JsonSchema.Compile(Parse(info.MetadataSchema));
        SecretsOfConfig = SecretsOf(Schema);
        SecretsOfConsumer = SecretsOf(_consumerSource);
        SecretsOfMetadata = SecretsOf(info.MetadataSchema is null ? null : Parse(info.MetadataSchema));
        IsForStreams = typeof(IStreamAccess).IsAssignableFrom(type);
        Phases = [.. PhaseNames.Where(phase => phase.Type.IsAssignableFrom(type)).Select(phase => phase.Name)];
    }

    /// <summary>A plugin that is not a class here but a script.</summary>
    public static PluginDescriptor Scripted(
        PluginInfo info, IReadOnlyList<string> phases, Func<PluginPart, JsonObject, string?> check, Func<JsonObject, PluginContext, object> create) =>
        new(info, typeof(object), config => check(PluginPart.Route, config) is { } error ? (null, error) : (config, null), (config, context) => create((JsonObject)config, context))
        {
            Phases = phases,
            _script = check,
        };

    static readonly (string Name, Type Type)[] PhaseNames =
    [
        ("rewrite", typeof(IRewrite)), ("access", typeof(IAccess)), ("before_proxy", typeof(IBeforeProxy)),
        ("header_filter", typeof(IHeaderFilter)), ("body_filter", typeof(IBodyFilter)), ("body_filter (whole body)", typeof(IWholeBodyFilter)),
        ("events", typeof(IEventFilter)), ("log", typeof(ILog)), ("buffering rule", typeof(IBufferingRule)), ("API", typeof(IPluginApi)), ("preread (stream)", typeof(IStreamAccess)),
    ];

    public PluginInfo Info { get; }

    public string Name => Info.Name;

    /// <summary>The configuration's schema with <c>_meta</c> added, as <c>GET /apisix/admin/schema/plugins/NAME</c> shows it.</summary>
    public JsonObject Schema { get; }

    /// <summary>The phases that the plugin's class takes part in, for the reference.</summary>
    public IReadOnlyList<string> Phases { get; private init; }

    /// <summary>Properties that a store has encrypted: <c>encrypt_fields</c> of the schema.</summary>
    public IReadOnlyList<string> SecretsOfConfig { get; }

    /// <summary>The same for the plugin's part in a consumer.</summary>
    public IReadOnlyList<string> SecretsOfConsumer { get; }

    /// <summary>The same for the plugin's metadata.</summary>
    public IReadOnlyList<string> SecretsOfMetadata { get; }

    static string[] SecretsOf(JsonObject? schema) => [.. (schema?["encrypt_fields"] as JsonArray ?? []).Select(field => field!.GetValue<string>())];

    /// <summary>May stand in stream routes.</summary>
    public bool IsForStreams { get; }

    /// <summary>May stand in routes.</summary>
    public bool IsForHttp => !IsForStreams || Phases.Count > 1;

    JsonSchema Compiled { get; }

    public JsonSchema? ConsumerSchema { get; }

    public JsonSchema? MetadataSchema { get; }

    public static PluginDescriptor Of<TPlugin, TConfig>()
        where TPlugin : class, IPlugin<TPlugin, TConfig>
        where TConfig : class =>
        new(TPlugin.Info, typeof(TPlugin), Bind<TPlugin, TConfig>, (config, context) => TPlugin.Create((TConfig)config, context));

    /// <summary>Validates a configuration and fills the schema's defaults into it; the error, or null.</summary>
    public string? Check(JsonObject config) => Compiled.Validate(config) ?? PluginMeta.Check(config) ?? _bind(config).Error;

    /// <summary>Validates a consumer's part of the configuration (the credential, or an ordinary configuration).</summary>
    public string? CheckForConsumer(JsonObject config) => IsCredential
        ? ConsumerSchema?.Validate(config) ?? _script?.Invoke(PluginPart.Consumer, config)
        : Check(config);

    /// <summary>A Lua file.</summary>
    public bool IsScript => _script is not null;

    /// <summary>What a consumer has of it is a credential, no configuration.</summary>
    public bool IsCredential => ConsumerSchema is not null || Info.IsAuth;

    /// <summary>Validates the plugin's metadata.</summary>
    public string? CheckMetadata(JsonObject metadata) => MetadataSchema?.Validate(metadata) ?? _script?.Invoke(PluginPart.Metadata, metadata);

    /// <summary>Properties of a configuration that its schema does not name: accepted as in APISIX, but without effect.</summary>
    public IEnumerable<string> Unknown(JsonObject config, bool forConsumer)
    {
        var schema = !forConsumer || !IsCredential ? Schema : _consumerSource;
        if (schema is null)
        {
            return [];
        }
        if (schema.ContainsKey("patternProperties") || schema["additionalProperties"] is JsonObject)
        {
            return [];
        }
        var known = Named(schema).ToHashSet();
        return config.Select(property => property.Key).Where(name => name != "_meta" && !known.Contains(name));
    }

    /// <summary>Every property that a schema names, also within its anyOf, oneOf, allOf.</summary>
    static IEnumerable<string> Named(JsonObject schema) =>
        ((schema["properties"] as JsonObject)?.Select(property => property.Key) ?? [])
            .Concat(((string[])["anyOf", "oneOf", "allOf"]).SelectMany(word => schema[word] as JsonArray ?? []).OfType<JsonObject>().SelectMany(Named));

    /// <summary>The running plugin of a checked configuration.</summary>
    public object Create(JsonObject config, PluginContext context)
    {
        var (bound, error) = _bind(config);
        return bound is null ? throw new InvalidOperationException($"{Name}: {error}") : _create(bound, context);
    }

    static (object?, string?) Bind<TPlugin, TConfig>(JsonObject config)
        where TPlugin : class, IPlugin<TPlugin, TConfig>
        where TConfig : class
    {
        try
        {
            var bound = config.Deserialize(TPlugin.ConfigType)!;
            return TPlugin.Check(bound) is { } error ? (null, error) : (bound, null);
        }
        catch (JsonException e)
        {
            return (null, e.Message);
        }
    }

    static JsonObject Parse(string schema) => JsonNode.Parse(schema)!.AsObject();

    static JsonObject WithMeta(string text)
    {
        var schema = Parse(text);
        if (schema["properties"] is not JsonObject properties)
        {
            schema["properties"] = properties = [];
        }
        properties["_meta"] = PluginMeta.Schema.DeepClone();
        return schema;
    }
}
