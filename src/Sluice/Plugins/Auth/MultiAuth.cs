using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Microsoft.Extensions.Logging;
using Sluice.Model.Json;
using Sluice.Pipeline;

namespace Sluice.Plugins.Auth;

/// <summary>Lets requests pass that one of several auth plugins lets pass.</summary>
sealed partial class MultiAuth : IPlugin<MultiAuth, MultiAuth.Config>, IRewrite
{
    public static PluginInfo Info { get; } = new(
        Name: "multi-auth",
        Priority: 2600,
        Schema: """
            {
              "type": "object",
              "title": "work with route or service object",
              "properties": {
                "auth_plugins": {
                  "type": "array",
                  "minItems": 2,
                  "description": "objects with an auth plugin's name and its configuration; they are asked in this order"
                }
              },
              "required": ["auth_plugins"]
            }
            """,
        Summary: """
            Lets requests pass that one of several auth plugins lets pass: they are asked in their order until one finds a consumer. Why the others did not
            is in the log when none does, and the answer then is one for all.
            """)
    {
        IsAuth = true,
        Example = """
            ```json
            {"multi-auth": {"auth_plugins": [{"basic-auth": {}}, {"key-auth": {"query": "apikey", "header": "apikey"}}]}}
            ```

            Both `curl -u jack:123456 …` and `curl -H 'apikey: auth-one' …` pass; anything else is answered `401 {"message":"Authorization Failed"}`.
            """,
    };

    public sealed record Config(JsonArray AuthPlugins);

    readonly (string Name, IRewrite Plugin)[] _plugins;
    readonly ILogger _logger;

    MultiAuth(IEnumerable<(string Name, IRewrite Plugin)> plugins, ILogger logger) => (_plugins, _logger) = ([.. plugins], logger);

    public static JsonTypeInfo<Config> ConfigType => MultiAuthJson.Default.Config;

    public static MultiAuth Create(Config config, PluginContext context) =>
        new(config.AuthPlugins.SelectMany(one => Inner(one, context)).ToArray(), context.Services.Loggers.CreateLogger<MultiAuth>());

    static IEnumerable<(string Name, IRewrite Plugin)> Inner(JsonNode? one, PluginContext context)
    {
        if (one is not JsonObject map)
        {
            throw new ConfigException("property \"auth_plugins\" validation failed: each item must be an object: {\"key-auth\": {}}");
        }
        foreach (var (name, config) in map)
        {
            if (context.Plugins.Find(name) is not { } plugin)
            {
                throw new ConfigException($"{name} plugin did not found");
            }
            if (!plugin.Info.IsAuth || !plugin.Knows(Phase.Rewrite))
            {
                throw new ConfigException($"{name} plugin is not supported");
            }
            if (config is not JsonObject own)
            {
                throw new ConfigException($"plugin {name} check schema failed: wrong type: expected object, got {LuaText.Type(config)}");
            }
            yield return (name, Make(name, own, context));
        }
    }

    static IRewrite Make(string name, JsonObject config, PluginContext context)
    {
        try
        {
            return (IRewrite)context.Plugins.Make(name, config.DeepClone().AsObject()).Plugin;
        }
        catch (ConfigException e)
        {
            throw new ConfigException($"plugin {name} check schema failed: {e.Message}");
        }
    }

    public async ValueTask<Answer?> RewriteAsync(Exchange exchange)
    {
        List<(string Name, Answer Answer)> refusals = [];
        foreach (var (name, plugin) in _plugins)
        {
            if (await plugin.RewriteAsync(exchange) is not { } answer)
            {
                return null;
            }
            if (ReferenceEquals(answer, Answer.Sent) || ReferenceEquals(answer, Answer.Again))
            {
                return answer;
            }
            refusals.Add((name, answer));
        }
        foreach (var (name, answer) in refusals)
        {
            LogRefused(name, answer.Status, answer.Reason ?? MessageOf(answer));
        }
        // as the last one asks for: the client can only try what it is told
        return Answer.Message(401,
            "Authorization Failed") with { Headers = [.. refusals[^1].Answer.Headers.Where(header => header.Key == "WWW-Authenticate")] };
    }

    static string? MessageOf(Answer answer)
    {
        try
        {
            return JsonNode.Parse(answer.Body.Span) is JsonObject body ? body["message"]?.ToString() : null;
        }
        catch (JsonException)
        {
            return null;
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Plugin} failed to authenticate the request, code: {Code}. error: {Reason}")]
    partial void LogRefused(string plugin, int code, string? reason);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(MultiAuth.Config))]
sealed partial class MultiAuthJson : JsonSerializerContext;
