using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Pipeline;

namespace Sluice.Plugins.Streaming;

/// <summary>Turns request buffering off or on for a route.</summary>
internal sealed class ProxyControl(ProxyControl.Config config) : IPlugin<ProxyControl, ProxyControl.Config>, IBufferingRule
{
    public static PluginInfo Info { get; } = new(
        Name: "proxy-control",
        Priority: 21990,
        Schema: """
            {
              "type": "object",
              "properties": {
                "request_buffering": {
                  "type": "boolean",
                  "default": true,
                  "description": "true: the whole body of a request is received before the upstream gets any of it; false: it is passed on as it comes"
                }
              }
            }
            """,
        Summary: """
            Turns request buffering off or on for a route, like `proxy_request_buffering` in `conf/nginx.conf`, over which it wins. With
            buffering off an upload reaches the upstream while the client still sends, and a slow upstream slows the client.
            """)
    {
        Example = """
            ```json
            {"proxy-control": {"request_buffering": false}}
            ```

            A body that the upstream has begun to see cannot be sent to another node: such a request is not retried.
            """,
    };

    public sealed record Config(bool RequestBuffering = true);

    public static JsonTypeInfo<Config> ConfigType => ProxyControlJson.Default.Config;

    public static ProxyControl Create(Config config, PluginContext context) => new(config);

    public bool? ResponseBuffering => null;

    public bool? RequestBuffering => config.RequestBuffering;
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(ProxyControl.Config))]
sealed partial class ProxyControlJson : JsonSerializerContext;
