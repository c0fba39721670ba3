using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Pipeline;

namespace Sluice.Plugins.Core;

/// <summary>Answers a route with an API that another plugin offers.</summary>
internal sealed class PublicApi(PublicApi.Config config) : IPlugin<PublicApi, PublicApi.Config>, IAccess
{
    public static PluginInfo Info { get; } = new(
        Name: "public-api",
        Priority: 501,
        Schema: """
            {
              "type": "object",
              "properties": {
                "uri": { "type": "string", "description": "the API's path; by default the request's" }
              }
            }
            """,
        Summary: """
            Makes the API of a plugin reachable on a route, so that other plugins can protect it. Plugins offer `/apisix/batch-requests`
            (`batch-requests`), `/apisix/status` (`node-status`) and `/apisix/prometheus/metrics` (`prometheus`); they are not reachable without a route of this kind. No API at
            this path and method: 404.
            """)
    {
        Example = """
            A route on `/status` that answers with the API of `node-status`, only for clients with a key:

            ```json
            {"uri": "/status", "plugins": {"public-api": {"uri": "/apisix/status"}, "key-auth": {}}}
            ```
            """,
    };

    public sealed record Config(string? Uri = null);

    public static JsonTypeInfo<Config> ConfigType => PublicApiJson.Default.Config;

    public static PublicApi Create(Config config, PluginContext context) => new(config);

    public async ValueTask<Answer?> AccessAsync(Exchange exchange) =>
        exchange.Snapshot.Api(exchange.Request.Method, config.Uri ?? exchange.Uri) is { } api ? await api.Handle(exchange)
        : Answer.Bare(404);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(PublicApi.Config))]
sealed partial class PublicApiJson : JsonSerializerContext;
