using System.Globalization;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Pipeline;

namespace Sluice.Plugins.Core;

/// <summary>An API that tells how many connections and requests there are.</summary>
internal sealed class NodeStatus : IPlugin<NodeStatus, NodeStatus.Config>, IPluginApi
{
    public static PluginInfo Info { get; } = new(
        Name: "node-status",
        Priority: 1000,
        Schema: """{ "type": "object", "additionalProperties": false }""",
        Summary: """
            Offers `GET /apisix/status`: the counts of connections and requests that nginx's `stub_status` has. It is reached through a route with
            the plugin `public-api`; the plugin itself needs no configuration on a route.
            """)
    {
        Scope = "global",
        Apis = [new("GET", "/apisix/status", exchange => new(Status(exchange)))],
        Example = """
            ```json
            {"uri": "/apisix/status", "plugins": {"public-api": {}}}
            ```

            `{"id":"my-host","status":{"active":"2","accepted":"26","handled":"26","total":"84","reading":"0","writing":"1","waiting":"1"}}`
            """,
    };

    public sealed record Config;

    public static JsonTypeInfo<Config> ConfigType => NodeStatusJson.Default.Config;

    public static NodeStatus Create(Config config, PluginContext context) => new();

    static Answer Status(Exchange exchange)
    {
        var counts = exchange.Services.Metrics.Counts();
        return Answer.Json(200, new JsonObject
        {
            ["id"] = Environment.MachineName,
            ["status"] = new JsonObject
            {
                ["active"] = Text(counts.Active),
                ["accepted"] = Text(counts.Accepted),
                ["handled"] = Text(counts.Accepted),
                ["total"] = Text(counts.Requests),
                ["reading"] = "0",
                ["writing"] = Text(counts.Writing),
                ["waiting"] = Text(counts.Waiting),
            },
        });
    }

    static string Text(long number) => number.ToString(CultureInfo.InvariantCulture);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(NodeStatus.Config))]
sealed partial class NodeStatusJson : JsonSerializerContext;
