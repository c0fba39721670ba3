using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Pipeline;

namespace Sluice.Plugins.Auth;

/// <summary>Lets only requests with a consumer's API key pass.</summary>
public sealed class KeyAuth(KeyAuth.Config config) : IPlugin<KeyAuth, KeyAuth.Config>, IRewrite
{
    public static PluginInfo Info { get; } = new(
        Name: "key-auth",
        Priority: 2500,
        Schema: """
            {
              "type": "object",
              "properties": {
                "header": { "type": "string", "default": "apikey", "description": "header that carries the key" },
                "query": { "type": "string", "default": "apikey", "description": "argument of the query string that carries the key, when the header is not there" },
                "hide_credentials": { "type": "boolean", "default": false, "description": "the upstream does not get the key" },
                "anonymous_consumer": { "type": "string", "minLength": 1, "description": "consumer that requests without a valid key count as" },
                "realm": { "type": "string", "default": "key", "description": "realm in WWW-Authenticate" }
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
        string Header = "apikey", string Query = "apikey", bool HideCredentials = false, string? AnonymousConsumer = null, string Realm = "key");

    public static JsonTypeInfo<Config> ConfigType => KeyAuthJson.Default.Config;

    public static KeyAuth Create(Config config, PluginContext context) => new(config);

    public ValueTask<Answer?> RewriteAsync(Exchange exchange)
    {
        var (consumer, error) = Identify(exchange);
        if (consumer is null)
        {
            if (config.AnonymousConsumer is not { } name)
            {
                return new(Answer.Message(401, error).With("WWW-Authenticate", HeaderText.Escape($"apikey realm=\"{config.Realm}\"")));
            }
            if (!exchange.Snapshot.Consumers.All.TryGetValue(name, out consumer))
            {
                return new(Answer.Message(401, "Invalid user authorization"));
            }
        }
        exchange.Attach(consumer);
        return default;
    }

    (Consumer? Consumer, string Error) Identify(Exchange exchange)
    {
        var header = exchange.Request.Headers[config.Header];
        var key = header.Count > 0 ? header[0] : QueryArguments.Find(exchange.Args, config.Query);
        if (key is null)
        {
            return (null, "Missing API key in request");
        }
        if (exchange.Snapshot.Consumers.Find("key-auth", key) is not { } consumer)
        {
            return (null, "Invalid API key in request");
        }
        if (config.HideCredentials)
        {
            if (header.Count > 0)
            {
                exchange.Request.Headers.Remove(config.Header);
            }
            else
            {
                exchange.SetArgs(QueryArguments.Without(exchange.Args, config.Query));
            }
        }
        return (consumer, "");
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(KeyAuth.Config))]
sealed partial class KeyAuthJson : JsonSerializerContext;
