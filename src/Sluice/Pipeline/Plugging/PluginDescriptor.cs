using System.Runtime.CompilerServices;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using Sluice.Api;
using Sluice.Model.Schema;
using Sluice.Pipeline.TcpUdp;

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

    /// <summary>
    /// Called when a document comes in, to see whether its configuration can be, and when it is compiled, for each place where the plugin
    /// stands. What can be parsed of a configuration is parsed in its record, once.
    /// </summary>
    /// <exception cref="ConfigException">What neither the schema nor the record's converters can say: the text is the error that the user
    /// gets.</exception>
    static abstract TSelf Create(TConfig config, PluginContext context);
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

    /// <summary>What <see cref="ConsumerSchema"/> cannot say; the error text, or null.</summary>
    public Func<JsonObject, string?>? CheckConsumer { get; init; }

    /// <summary>The property of a consumer's part that identifies it: <c>key</c> for key-auth. <see cref="ConsumerIndex"/> finds by
    /// it.</summary>
    public string? ConsumerKey { get; init; }

    /// <summary>Schema of <c>/apisix/admin/plugin_metadata/NAME</c>; null: any object.</summary>
    public string? MetadataSchema { get; init; }

    /// <summary>Whether the plugin does something in a phase with a configuration; null: it does in all that its class has.</summary>
    public Func<JsonObject, Phase, bool>? TakesPart { get; init; }

    /// <summary>Where it belongs, for tools: <c>global</c> when it does nothing of its own on a route; null for all others.</summary>
    public string? Scope { get; init; }

    /// <summary>A property by which uses of the plugin share something (<c>group</c>): those with the same value must be configured the
    /// same.</summary>
    public string? SharedBy { get; init; }

    /// <summary>What of <c>plugin_attr</c> the plugin knows: <c>https_port</c>, <c>export_addr.ip</c>.</summary>
    public IReadOnlyList<string> Attributes { get; init; } = [];

    /// <summary>Names what is accepted and cannot be meant, of a checked configuration and the resource in which it stands.</summary>
    public Func<JsonObject, JsonObject, IEnumerable<string>>? Warnings { get; init; }

    /// <summary>What a route with <c>public-api</c> can make reachable while the plugin is enabled.</summary>
    public IReadOnlyList<PluginApi> Apis { get; init; } = [];

    /// <summary>
    /// Endpoints that the plugin adds to the gateway's own interfaces while it is enabled: on the Admin API those below
    /// <c>/apisix/admin/</c>, on the
    /// Control API the others. Null when it adds none.
    /// </summary>
    public Func<PluginServices, IEnumerable<ApiRoute>>? Endpoints { get; init; }
}

/// <summary>An API that a plugin offers.</summary>
/// <param name="UriAttribute">The name in the plugin's <c>plugin_attr</c> that may change the uri.</param>
public sealed record PluginApi(string Method, string Uri, Func<Exchange, ValueTask<Answer>> Handle, string? UriAttribute = null);

/// <summary>For plugins that do nothing on a route and only offer <see cref="PluginInfo.Apis"/>.</summary>
public interface IPluginApi;

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
    readonly Func<JsonObject, object> _bind;

    /// <summary>What was read of a configuration stays with it: whoever checks it and whoever makes a plugin of it have the same.</summary>
    readonly ConditionalWeakTable<JsonObject, object> _bound = [];

    readonly Func<object, PluginContext, object> _create;
    readonly JsonObject? _consumerSource;
    Func<PluginPart, JsonObject, string?>? _script;

    PluginDescriptor(PluginInfo info, Type type, Func<JsonObject, object> bind, Func<object, PluginContext, object> create)
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
        RulesStreams = typeof(IStreamRule).IsAssignableFrom(type);
        PluginType = type;
        Phases = [.. Phase.All.Where(phase => phase.Contract.IsAssignableFrom(type)).Select(phase => phase.Name)];
    }

    internal Type PluginType { get; }

    /// <summary>Whether the plugin's class has a contract.</summary>
    internal bool Is<T>() => typeof(T).IsAssignableFrom(PluginType);

    /// <summary>Whether the plugin has a phase at all.</summary>
    internal bool Knows(Phase phase) => phase.Contract.IsAssignableFrom(PluginType) || (IsScript && Phases.Contains(phase.Name));

    /// <summary>Whether the plugin does something in a phase with this configuration.</summary>
    internal bool TakesPart(Phase phase, JsonObject config) => Knows(phase) && Info.TakesPart?.Invoke(config, phase) != false;

    /// <summary>The same of all phases, a bit each.</summary>
    internal uint PhasesOf(JsonObject config) =>
        Phase.All.Where(phase => TakesPart(phase, config)).Aggregate(0u, (all, phase) => all | (1u << phase.Index));

    /// <summary>A plugin that is not a class here but a script.</summary>
    public static PluginDescriptor Scripted(
        PluginInfo info, IReadOnlyList<string> phases, Func<PluginPart, JsonObject, string?> check,
        Func<JsonObject, PluginContext, object> create) =>
        new(info, typeof(object), config => check(PluginPart.Route, config) is { } error ? throw new ConfigException(error) : config,
            (config, context) => create((JsonObject)config, context))
        {
            Phases = phases,
            _script = check,
        };

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

    static string[] SecretsOf(JsonObject? schema) =>
        [.. (schema?["encrypt_fields"] as JsonArray ?? []).Select(field => field!.GetValue<string>())];

    /// <summary>May stand in stream routes.</summary>
    public bool IsForStreams { get; }

    /// <summary>Its configuration can stand in <c>sluice.streams.defaults</c>.</summary>
    public bool RulesStreams { get; }

    /// <summary>May stand in routes.</summary>
    public bool IsForHttp => !IsForStreams || Phases.Count > 1;

    JsonSchema Compiled { get; }

    internal JsonSchema? ConsumerSchema { get; }

    internal JsonSchema? MetadataSchema { get; }

    public static PluginDescriptor Of<TPlugin, TConfig>()
        where TPlugin : class, IPlugin<TPlugin, TConfig>
        where TConfig : class =>
        new(TPlugin.Info, typeof(TPlugin), Bind<TPlugin, TConfig>, (config, context) => TPlugin.Create((TConfig)config, context));

    /// <summary>What the schema and <c>_meta</c> say of a configuration, into which the defaults are filled; the error, or null. All else
    /// says <see cref="Create"/>.</summary>
    public string? Validate(JsonObject config) => Compiled.Validate(config) ?? PluginMeta.Check(config);

    /// <summary>Validates a credential, a consumer's part of the configuration; the error, or null.</summary>
    public string? CheckCredential(JsonObject config) =>
        ConsumerSchema?.Validate(config) ?? Info.CheckConsumer?.Invoke(config) ?? _script?.Invoke(PluginPart.Consumer, config);

    /// <summary>A Lua file.</summary>
    public bool IsScript => _script is not null;

    /// <summary>What a consumer has of it is a credential, no configuration.</summary>
    public bool IsCredential => ConsumerSchema is not null || Info.IsAuth;

    /// <summary>Validates the plugin's metadata.</summary>
    public string? CheckMetadata(JsonObject metadata) =>
        MetadataSchema?.Validate(metadata) ?? _script?.Invoke(PluginPart.Metadata, metadata);

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

    /// <summary>Properties of metadata that the plugin does not know.</summary>
    public IEnumerable<string> UnknownMetadata(JsonObject metadata)
    {
        if (IsScript)
        {
            return [];
        }
        var known = Info.MetadataSchema is { } schema ? Named(Parse(schema)).ToHashSet() : [];
        return metadata.Select(property => property.Key)
            .Where(name => name is not ("id" or "create_time" or "update_time" or "_meta") && !known.Contains(name));
    }

    /// <summary>Settings in <c>plugin_attr</c> that have no effect: <c>metrics.http_status.expire</c>.</summary>
    public IEnumerable<string> UnknownAttributes(JsonObject attributes) => IsScript ? [] : Leaves(attributes, "").Where(leaf =>
        !Info.Attributes.Contains(leaf) && !Info.Apis.Any(api => api.UriAttribute == leaf));

    static IEnumerable<string> Leaves(JsonObject map, string path) => map.SelectMany(pair =>
        pair.Value is JsonObject { Count: > 0 } inner ? Leaves(inner, $"{path}{pair.Key}.") : [path + pair.Key]);

    /// <summary>Every property that a schema names, also within its anyOf, oneOf, allOf, then, else.</summary>
    static IEnumerable<string> Named(JsonObject schema) =>
        ((schema["properties"] as JsonObject)?.Select(property => property.Key) ?? [])
            .Concat(((string[])["anyOf", "oneOf", "allOf"]).SelectMany(word => schema[word] as JsonArray ?? []).OfType<JsonObject>()
                .SelectMany(Named))
            .Concat(((string[])["then", "else"]).Select(word => schema[word]).OfType<JsonObject>().SelectMany(Named));

    /// <summary>The plugin of a configuration that has passed <see cref="Validate"/>.</summary>
    /// <exception cref="ConfigException">It cannot be; the text is the error that the user gets.</exception>
    public object Create(JsonObject config, PluginContext context) => _create(_bound.GetValue(config, one => _bind(one)), context);

    static object Bind<TPlugin, TConfig>(JsonObject config)
        where TPlugin : class, IPlugin<TPlugin, TConfig>
        where TConfig : class
    {
        try
        {
            return config.Deserialize(TPlugin.ConfigType)!;
        }
        catch (Exception e) when (e is JsonException or FormatException)
        {
            throw new ConfigException(e.Message);
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
        schema["$comment"] = "this is a mark for our injected plugin schema";
        return schema;
    }
}
