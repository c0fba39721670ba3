using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Pipeline;

namespace Sluice.Plugins.Streaming;

/// <summary>Turns response buffering off or on for a route.</summary>
internal sealed class ProxyBuffering(ProxyBuffering.Config config) : IPlugin<ProxyBuffering, ProxyBuffering.Config>, IBufferingRule
{
    public static PluginInfo Info { get; } = new(
        Name: "proxy-buffering",
        Priority: 21991,
        Schema: """
            {
              "type": "object",
              "properties": {
                "disable_proxy_buffering": {
                  "type": "boolean",
                  "default": false,
                  "description": "true: each piece of the answer goes to the client as it comes; false: the answer is buffered"
                }
              }
            }
            """,
        Summary: """
            Turns response buffering off or on for a route. It wins over `conf/nginx.conf` and over the built-in default (off for event
            streams, on for everything else); only the upstream's `X-Accel-Buffering` header wins over it. A route on which
            `proxy-rewrite` says the opposite with `disable_buffering` is refused.
            """)
    {
        Example = """
            ```json
            {"proxy-buffering": {"disable_proxy_buffering": true}}
            ```

            `curl -N` on the route now shows every line the moment the upstream sends it.
            """,
    };

    public sealed record Config(bool DisableProxyBuffering = false);

    public static JsonTypeInfo<Config> ConfigType => ProxyBufferingJson.Default.Config;

    public static ProxyBuffering Create(Config config, PluginContext context) => new(config);

    public bool? ResponseBuffering => !config.DisableProxyBuffering;

    public bool? RequestBuffering => null;
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(ProxyBuffering.Config))]
sealed partial class ProxyBufferingJson : JsonSerializerContext;
