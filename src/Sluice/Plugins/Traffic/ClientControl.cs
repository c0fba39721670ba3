using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Pipeline;

namespace Sluice.Plugins.Traffic;

/// <summary>Says how large a request's body may be.</summary>
internal sealed class ClientControl : IPlugin<ClientControl, ClientControl.Config>, ILimitsBody
{
    public static PluginInfo Info { get; } = new(
        Name: "client-control",
        Priority: 22000,
        Schema: """
            {
              "type": "object",
              "properties": {
                "max_body_size": { "type": "integer", "minimum": 0, "description": "bytes; 0: no limit" }
              }
            }
            """,
        Summary: "Sets how large the bodies of a route's requests may be, in the place of `client_max_body_size`, which may be less or "
            + "more. Larger ones are answered 413, at once when `Content-Length` tells, else when the limit is passed.")
    {
        Example = """
            ```json
            {"client-control": {"max_body_size": 1048576}}
            ```
            """,
    };

    public sealed record Config(long? MaxBodySize = null);

    readonly Config _config;

    ClientControl(Config config) => _config = config;

    public static JsonTypeInfo<Config> ConfigType => ClientControlJson.Default.Config;

    public static ClientControl Create(Config config, PluginContext context) => new(config);

    public ValueTask<Answer?> RewriteAsync(Exchange exchange)
    {
        if (_config.MaxBodySize is not { } limit)
        {
            return default;
        }
        if (limit > 0 && exchange.Request.ContentLength > limit)
        {
            return new(Answer.Bare(413));
        }
        exchange.LimitBody(limit == 0 ? null : limit);
        return default;
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(ClientControl.Config))]
sealed partial class ClientControlJson : JsonSerializerContext;
