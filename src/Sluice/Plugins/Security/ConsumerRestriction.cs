using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Pipeline;

namespace Sluice.Plugins.Security;

/// <summary>Lets requests pass or not by their consumer, its group, their route or their service.</summary>
sealed class ConsumerRestriction(ConsumerRestriction.Config config) : IPlugin<ConsumerRestriction, ConsumerRestriction.Config>, IAccess,
    IReadmit
{
    public static PluginInfo Info { get; } = new(
        Name: "consumer-restriction",
        Priority: 2400,
        Schema: """
            {
              "type": "object",
              "properties": {
                "type": {
                  "type": "string",
                  "enum": ["consumer_name", "service_id", "route_id", "consumer_group_id"],
                  "default": "consumer_name",
                  "description": "what the lists are about"
                },
                "blacklist": { "type": "array", "minItems": 1, "items": { "type": "string" }, "description": "these are refused" },
                "whitelist": { "type": "array", "minItems": 1, "items": { "type": "string" }, "description": "only these pass" },
                "allowed_by_methods": {
                  "type": "array",
                  "description": "with which methods somebody may come who is not in the whitelist; who is not listed may come with any",
                  "items": {
                    "type": "object",
                    "properties": {
                      "user": { "type": "string" },
                      "methods": {
                        "type": "array",
                        "minItems": 1,
                        "items": {
                          "description": "HTTP method",
                          "type": "string",
                          "enum": ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE", "PURGE"]
                        }
                      }
                    }
                  }
                },
                "rejected_code": { "type": "integer", "minimum": 200, "default": 403 },
                "rejected_msg": { "type": "string" }
              },
              "anyOf": [
                { "required": ["blacklist"] },
                { "required": ["whitelist"] },
                { "required": ["allowed_by_methods"] }
              ]
            }
            """,
        Summary: """
            Lets requests pass or not by their consumer, its group, their route or their service, or by consumer and method. On a route it needs an auth plugin
            beside it; on a consumer it says which routes or services (`type`) that consumer may use.
            """)
    {
        Example = """
            ```json
            {"key-auth": {}, "consumer-restriction": {"whitelist": ["jack"]}}
            ```

            Everybody but jack is answered `403 {"message":"The consumer_name is forbidden."}`.
            """,
    };

    public sealed record Config(
        string Type = "consumer_name", string[]? Blacklist = null, string[]? Whitelist = null, JsonNode? AllowedByMethods = null,
        int RejectedCode = 403,
        string? RejectedMsg = null);

    public sealed record MethodsOf(string? User = null, string[]? Methods = null);

    // an empty object is an empty list to APISIX
    readonly MethodsOf[] _methods = config.AllowedByMethods is JsonArray list
        ? list.Deserialize(ConsumerRestrictionJson.Default.MethodsOfArray)! : [];

    public static JsonTypeInfo<Config> ConfigType => ConsumerRestrictionJson.Default.Config;

    public static ConsumerRestriction Create(Config config, PluginContext context) => new(config);

    public ValueTask<Answer?> AccessAsync(Exchange exchange)
    {
        var value = config.Type switch
        {
            "service_id" => exchange.Route?.Config.ServiceId,
            "route_id" => exchange.Route?.Id,
            "consumer_group_id" => exchange.Consumer?.GroupId,
            _ => exchange.Consumer?.Username,
        };
        return new(
            value is null ? Answer.Message(401, $"The request is rejected, please check the {config.Type} for this request")
            : IsRefused(value, exchange.Request.Method)
            ? Answer.Message(config.RejectedCode, config.RejectedMsg ?? $"The {config.Type} is forbidden.")
            : null);
    }

    bool IsRefused(string value, string method)
    {
        if (config.Blacklist?.Contains(value) == true)
        {
            return true;
        }
        if (config.Whitelist is { } only)
        {
            return !only.Contains(value);
        }
        return Array.Find(_methods, allowed => allowed.User == value) is { } own && own.Methods?.Contains(method) != true;
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(ConsumerRestriction.Config))]
[JsonSerializable(typeof(ConsumerRestriction.MethodsOf[]))]
sealed partial class ConsumerRestrictionJson : JsonSerializerContext;
