using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Pipeline;

namespace Sluice.Plugins.Auth;

/// <summary>Lets only requests with a consumer's API key pass.</summary>
sealed class KeyAuth(KeyAuth.Config config) : ConsumerAuth("apikey", config.Realm, config.AnonymousConsumer),
    IPlugin<KeyAuth, KeyAuth.Config>, IReadmit
{
    public static PluginInfo Info { get; } = new(
        Name: "key-auth",
        Priority: 2500,
        Schema: $$"""
            {
              "type": "object",
              "properties": {
                "header": { "type": "string", "default": "apikey", "description": "header that carries the key" },
                "query": { "type": "string", "default": "apikey", "description": "argument of the query string that carries the key, when the header is not there" },
                "hide_credentials": { "type": "boolean", "default": false, "description": "the upstream does not get the key" },
                {{AnonymousSchema}},
                {{RealmSchema("key")}}
              }
            }
            """,
        Summary: """
            Lets only requests pass that carry the API key of a consumer, in a header or in the query string. The consumer's own plugins then
            apply, and the upstream gets `X-Consumer-Username` and, where they exist, `X-Consumer-Custom-ID` (label `custom_id`),
            `X-Consumer-Group-Id` and `X-Credential-Identifier` (the id of the credential that carries the key); what the client sent under these names is removed.
            """)
    {
        IsAuth = true,
        ConsumerKey = "key",
        ConsumerSchema = """
            {
              "type": "object",
              "properties": { "key": { "type": "string", "description": "the consumer's key, different from all others" } },
              "encrypt_fields": ["key"],
              "required": ["key"]
            }
            """,
        Example = """
            A consumer:

            ```json
            {"username": "jack", "plugins": {"key-auth": {"key": "auth-one"}}}
            ```

            The route:

            ```json
            {"key-auth": {"hide_credentials": true}}
            ```

            `curl -H 'apikey: auth-one' …` passes; without a key the answer is `401 {"message":"Missing API key in request"}`.
            """,
    };

    public sealed record Config(
        string Header = "apikey", string Query = "apikey", bool HideCredentials = false, string? AnonymousConsumer = null,
        string Realm = "key");

    public static JsonTypeInfo<Config> ConfigType => KeyAuthJson.Default.Config;

    public static KeyAuth Create(Config config, PluginContext context) => new(config);

    protected override ValueTask<Found> FindAsync(Exchange exchange) => new(Find(exchange));

    Found Find(Exchange exchange)
    {
        var key = Header(exchange, config.Header) is { } header ? Text(header) : QueryArguments.Find(exchange.Args, config.Query);
        if (key is null)
        {
            return Refused("Missing API key in request");
        }
        return exchange.Snapshot.Consumers.Find("key-auth", key) is { } consumer
            ? consumer : Refused("Invalid API key in request", "failed to find consumer: invalid api key");
    }

    protected override void Hide(Exchange exchange, bool isAnonymous)
    {
        if (!config.HideCredentials)
        {
            return;
        }
        var inHeader = exchange.Request.Headers.Remove(config.Header);
        // what is no consumer's key is none of the upstream's business either
        if (!inHeader || isAnonymous)
        {
            HideArgument(exchange);
        }
    }

    void HideArgument(Exchange exchange)
    {
        if (exchange.Args.Length > 0)
        {
            exchange.SetArgs(QueryArguments.Without(exchange.Args, config.Query));
        }
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(KeyAuth.Config))]
sealed partial class KeyAuthJson : JsonSerializerContext;
