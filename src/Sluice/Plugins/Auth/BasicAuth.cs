using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Pipeline;

namespace Sluice.Plugins.Auth;

/// <summary>Lets only requests with a consumer's user name and password pass.</summary>
sealed class BasicAuth(BasicAuth.Config config) : ConsumerAuth("Basic", config.Realm, config.AnonymousConsumer),
    IPlugin<BasicAuth, BasicAuth.Config>, IReadmit
{
    public static PluginInfo Info { get; } = new(
        Name: "basic-auth",
        Priority: 2520,
        Schema: $$"""
            {
              "type": "object",
              "title": "work with route or service object",
              "properties": {
                "hide_credentials": { "type": "boolean", "default": false, "description": "the upstream does not get the Authorization header" },
                {{RealmSchema("basic")}},
                {{AnonymousSchema}}
              }
            }
            """,
        Summary: """
            Lets only requests pass that carry the user name and password of a consumer (RFC 7617). The consumer's own plugins then apply, and the upstream
            gets `X-Consumer-Username`. White space in names and passwords does not count, as in APISIX. Use TLS: the password crosses the wire readable.
            """)
    {
        IsAuth = true,
        ConsumerKey = "username",
        ConsumerSchema = """
            {
              "type": "object",
              "title": "work with consumer object",
              "properties": {
                "username": { "type": "string", "description": "different from all others; no colon" },
                "password": { "type": "string", "description": "may hold colons: all that follows the first one is password" }
              },
              "encrypt_fields": ["password"],
              "required": ["username", "password"]
            }
            """,
        Example = """
            A consumer:

            ```json
            {"username": "jack", "plugins": {"basic-auth": {"username": "jack", "password": "123456"}}}
            ```

            The route:

            ```json
            {"basic-auth": {"hide_credentials": true}}
            ```

            `curl -u jack:123456 …` passes; without credentials the answer is `401 {"message":"Missing authorization in request"}`.
            """,
    };

    public sealed record Config(bool HideCredentials = false, string Realm = "basic", string? AnonymousConsumer = null);

    public static JsonTypeInfo<Config> ConfigType => BasicAuthJson.Default.Config;

    public static BasicAuth Create(Config config, PluginContext context) => new(config);

    protected override ValueTask<Found> FindAsync(Exchange exchange) => new(Find(exchange));

    static Found Find(Exchange exchange)
    {
        if (Header(exchange, "Authorization") is not { } header)
        {
            return Refused("Missing authorization in request");
        }
        if (BasicCredentials.Read(header, out var error) is not { } credentials)
        {
            return Refused("Invalid authorization in request", error);
        }
        if (exchange.Snapshot.Consumers.Find("basic-auth", credentials.User) is not { } consumer)
        {
            return Refused("Invalid user authorization", "failed to find user: invalid user");
        }
        return (string?)consumer.Credential("basic-auth")!["password"] is { } password && IsSame(password, credentials.Password)
            ? consumer : Refused("Invalid user authorization");
    }

    protected override void Hide(Exchange exchange, bool isAnonymous)
    {
        if (config.HideCredentials)
        {
            exchange.Request.Headers.Remove("Authorization");
        }
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(BasicAuth.Config))]
sealed partial class BasicAuthJson : JsonSerializerContext;
