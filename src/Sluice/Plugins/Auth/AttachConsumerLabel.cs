using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Net.Http;
using Sluice.Pipeline;

namespace Sluice.Plugins.Auth;

/// <summary>Tells the upstream labels of the request's consumer.</summary>
sealed class AttachConsumerLabel(AttachConsumerLabel.Config config) : IPlugin<AttachConsumerLabel, AttachConsumerLabel.Config>, IBeforeProxy
{
    public static PluginInfo Info { get; } = new(
        Name: "attach-consumer-label",
        Priority: 2399,
        Schema: """
            {
              "type": "object",
              "properties": {
                "headers": {
                  "type": "object",
                  "additionalProperties": { "type": "string", "pattern": "^\\$.*" },
                  "minProperties": 1,
                  "description": "name of a header, and a dollar sign with the name of a label"
                }
              },
              "required": ["headers"]
            }
            """,
        Summary: """
            Tells the upstream labels of the request's consumer, in headers of the request. What the client sent under these names is removed, also when there is
            no consumer or no such label.
            """)
    {
        Example = """
            ```json
            {"key-auth": {}, "attach-consumer-label": {"headers": {"X-Department": "$department"}}}
            ```

            Requests of a consumer with `"labels": {"department": "devops"}` reach the upstream with `X-Department: devops`.
            """,
    };

    public sealed record Config(Dictionary<string, string> Headers);

    readonly KeyValuePair<string, string>[] _labels = [.. config.Headers.Select(pair => KeyValuePair.Create(pair.Key, pair.Value[1..]))];

    public static JsonTypeInfo<Config> ConfigType => AttachConsumerLabelJson.Default.Config;

    public static AttachConsumerLabel Create(Config config, PluginContext context) =>
        config.Headers.Keys.FirstOrDefault(name => !HeaderName.IsToken(name)) is { } wrong
            ? throw new ConfigException($"property \"headers\" validation failed: \"{wrong}\" is no header's name")
            : new(config);

    public ValueTask<Answer?> BeforeProxyAsync(Exchange exchange)
    {
        var headers = exchange.Request.Headers;
        foreach (var (header, label) in _labels)
        {
            headers.Remove(header);
            if (exchange.Consumer?.Labels?[label]?.ToString() is { } value)
            {
                headers[header] = HeaderText.Escape(value);
            }
        }
        return default;
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(AttachConsumerLabel.Config))]
sealed partial class AttachConsumerLabelJson : JsonSerializerContext;
