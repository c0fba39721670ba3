using System.Text.Json;
using System.Text.Json.Nodes;
using Sluice.Model;
using Sluice.Model.Json;
using Sluice.Pipeline;

namespace Sluice.Admin.Resources;

/// <summary>
/// Says what would be right where APISIX's error does not: its schema errors name the rule that was broken, seldom the mistake. The error
/// keeps its text; the hint is a second member beside it.
/// </summary>
static class Hints
{
    /// <param name="sent">What was sent.</param>
    /// <param name="error">The <c>error_msg</c>.</param>
    /// <param name="plugins">The plugins that there are; null: no error is about one that is not.</param>
    /// <returns>Null when the error says enough.</returns>
    public static string? For(ResourceKind kind, JsonObject sent, string error, PluginRegistry? plugins)
    {
        if (plugins is not null && error.Contains("unknown plugin [", StringComparison.Ordinal))
        {
            return OfUnknownPlugins(sent, plugins, kind == ResourceKind.StreamRoutes);
        }
        if (error.Contains("rule should be wrapped inside brackets", StringComparison.Ordinal))
        {
            return "\"vars\" is a list of conditions, each a list of its own: [[\"arg_name\", \"==\", \"json\"]]";
        }
        if (!error.Contains("match", StringComparison.Ordinal) && !error.Contains("wrong type", StringComparison.Ordinal)
            && !error.Contains("clause", StringComparison.Ordinal)
            && !error.Contains("string too short", StringComparison.Ordinal))
        {
            return null;
        }
        return (kind == ResourceKind.Routes ? OfRoute(sent, error) : null)
            ?? (kind == ResourceKind.Ssls ? OfSsl(sent) : null)
            ?? (Upstream(kind, sent) is { } upstream ? OfUpstream(upstream) : null)
            ?? OfPlugins(sent, error);
    }

    /// <summary>The error names the first one only.</summary>
    static string? OfUnknownPlugins(JsonObject sent, PluginRegistry plugins, bool forStreams)
    {
        var unknown = (sent["plugins"] as JsonObject ?? []).Select(plugin => plugin.Key).Where(name => !plugins.Has(name, forStreams))
            .Select(
                name => (Name: name, Explanation: ApisixPlugins.Explain(name, forStreams ? plugins.StreamNames : plugins.Names, forStreams)
                    .TrimStart(':', ';', ' '))).ToArray();
        return unknown is [] or [{ Explanation: "" }] ? null
            : "plugins that are not here: "
            + string.Join("; ", unknown.Select(one => one.Explanation.Length == 0 ? one.Name : $"{one.Name}: {one.Explanation}"));
    }

    static JsonObject? Upstream(ResourceKind kind, JsonObject sent) =>
        kind == ResourceKind.Upstreams ? sent : sent["upstream"] as JsonObject;

    static string? OfRoute(JsonObject route, string error)
    {
        if (route["uri"] is null && route["uris"] is null)
        {
            return "a route needs \"uri\", such as \"/api/*\", or \"uris\", such as [\"/a\", \"/b/*\"]";
        }
        if (route["uri"] is not null && route["uris"] is not null)
        {
            return "a route has \"uri\" or \"uris\", not both";
        }
        if (route["methods"] is JsonArray methods && methods.FirstOrDefault(IsLower) is { } method)
        {
            return $"methods are written in capitals: \"{method.GetValue<string>().ToUpperInvariant()}\"";
        }
        if (route["methods"] is JsonValue one)
        {
            return $"\"methods\" is a list: [{one.ToJsonString().ToUpperInvariant()}]";
        }
        return error.Contains("object matches none of the required: [\"plugins\",\"uri\"]", StringComparison.Ordinal)
            ? "a route needs somewhere to send its requests: \"upstream\", \"upstream_id\" or \"service_id\", or \"plugins\" that answer "
                + "them"
            : null;

        static bool IsLower(JsonNode? node) => Text(node) is { } text && text.Any(char.IsAsciiLetterLower);
    }

    static string? OfSsl(JsonObject ssl)
    {
        foreach (var (name, label) in ((string, string)[])[("cert", "CERTIFICATE"), ("key", "PRIVATE KEY")])
        {
            if (ssl[name] is null)
            {
                return $"\"{name}\" is missing: the text of a PEM file, from \"-----BEGIN {label}-----\" on";
            }
            if (Text(ssl[name]) is { } text && !text.StartsWith("-----BEGIN", StringComparison.Ordinal) && !text.StartsWith('$'))
            {
                return $"\"{name}\" is the text of a PEM file, from \"-----BEGIN {label}-----\" on with \\n for its line ends, or a reference such as \"$secret://vault/1/site/{name}\"";
            }
        }
        return Text(ssl["type"]) != "client" && ssl["sni"] is null && ssl["snis"] is null
            ? "\"snis\" is missing: the names that it is for, such as [\"example.com\", \"*.example.com\"]" : null;
    }

    const string NodeForms =
        "\"nodes\" is {\"host:port\": weight}, such as {\"127.0.0.1:8080\": 1}, or a list of {\"host\": \"127.0.0.1\", \"port\": 8080, "
            + "\"weight\": 1}";

    static string? OfUpstream(JsonObject upstream)
    {
        switch (upstream["nodes"])
        {
            case null:
                return upstream["service_name"] is null
                    ? "an upstream needs \"nodes\", such as {\"127.0.0.1:8080\": 1}, or \"service_name\" with \"discovery_type\"" : null;
            case JsonValue:
                return NodeForms;
            case JsonArray list:
                if (list.Any(node => node is not JsonObject))
                {
                    return NodeForms;
                }
                foreach (var node in list.OfType<JsonObject>())
                {
                    if (node["weight"] is null || node["host"] is null)
                    {
                        return $"a node needs \"host\" and \"weight\": {{\"host\": {(node["host"] ?? "127.0.0.1").ToJsonString()}, \"port\": {(node["port"] ?? 8080).ToJsonString()}, \"weight\": 1}}";
                    }
                    if (node["port"] is { } port && LuaText.Type(port) != "number")
                    {
                        return "a node's \"port\" is a number from 1 to 65535; without it, it is the scheme's: 80 or 443";
                    }
                }
                return null;
            case JsonObject map:
                return map.FirstOrDefault(node => LuaText.Type(node.Value) != "number") is { Key: { } address }
                    ? $"behind a node stands its weight, a number: {{\"{address}\": 1}}"
                    : map.FirstOrDefault(node => !NodeAddress.TryParse(node.Key, out _, out _)) is { Key: { } wrong }
                    ? $"\"{wrong}\" is no host:port, such as \"127.0.0.1:8080\"; without a port it is the scheme's: 80 or 443"
                    : null;
            default:
                return null;
        }
    }

    static string? OfPlugins(JsonObject sent, string error) =>
        error.Contains("property \"uri\" validation failed: failed to match pattern \"^\\\\/.*\"", StringComparison.Ordinal)
        ? "a uri begins with a slash: \"/path\""
        : sent["plugins"] is JsonArray { Count: > 0 } ? "\"plugins\" is an object: {\"key-auth\": {}}"
        : null;

    static string? Text(JsonNode? node) =>
        node is JsonValue value && value.GetValueKind() == JsonValueKind.String ? value.GetValue<string>() : null;
}
