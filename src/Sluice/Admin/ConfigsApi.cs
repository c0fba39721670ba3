using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;
using Sluice.Model.Json;
using Sluice.Model.Yaml;
using Sluice.Pipeline;
using Sluice.Sources;

namespace Sluice.Admin;

/// <summary>
/// <c>/apisix/admin/configs</c>: the whole configuration of a gateway in API-driven standalone mode; <c>/configs/validate</c> only checks one, in every mode.
/// </summary>
static class ConfigsApi
{
    /// <summary>A whole configuration is larger than a resource.</summary>
    public const int MaxBody = 64 << 20;

    public static JsonAnswer Get(PushedConfiguration pushed, HttpRequest request, HttpResponse response)
    {
        Tell(pushed, response);
        // JSON is YAML
        var type = request.Headers.Accept.ToString().StartsWith("application/yaml", StringComparison.OrdinalIgnoreCase) ? "application/yaml" : "application/json";
        return HttpMethods.IsHead(request.Method) ? new JsonAnswer(200) : JsonAnswer.Write(200, writer => pushed.Show().WriteTo(writer)) with { ContentType = type };
    }

    public static JsonAnswer Put(PushedConfiguration pushed, HttpRequest request, HttpResponse response, byte[] body)
    {
        if (request.Headers["X-Digest"].ToString() is not { Length: > 0 } digest)
        {
            return JsonAnswer.Error(400, "missing digest header");
        }
        if (Parse(request, body, out var value) is { } wrong)
        {
            return wrong;
        }
        var (outcome, error) = pushed.Push(value, digest);
        Tell(pushed, response);
        return outcome switch
        {
            PushOutcome.Applied => new JsonAnswer(202),
            PushOutcome.Unchanged => new JsonAnswer(204),
            _ => JsonAnswer.Error(400, error!),
        };
    }

    public static JsonAnswer Validate(PluginRegistry plugins, HttpRequest request, byte[] body)
    {
        if (Parse(request, body, out var value) is { } wrong)
        {
            return wrong;
        }
        var problems = PushedConfiguration.Validate(value, plugins);
        return problems.Count == 0 ? new JsonAnswer(200) : JsonAnswer.Write(400, writer =>
        {
            writer.WriteStartObject();
            writer.WriteString("error_msg", "Configuration validation failed");
            writer.WriteStartArray("errors");
            foreach (var (kind, index, message) in problems)
            {
                writer.WriteStartObject();
                writer.WriteString("resource_type", kind);
                if (index is { } at)
                {
                    writer.WriteNumber("index", at);
                }
                writer.WriteString("error", message);
                writer.WriteEndObject();
            }
            writer.WriteEndArray();
            writer.WriteEndObject();
        });
    }

    static JsonAnswer? Parse(HttpRequest request, byte[] body, out JsonObject value)
    {
        value = [];
        if (body.Length == 0)
        {
            return JsonAnswer.Error(400, "invalid request body: empty request body");
        }
        try
        {
            var isYaml = request.ContentType?.StartsWith("application/yaml", StringComparison.OrdinalIgnoreCase) == true;
            // nothing of the environment: whoever pushes is not whoever runs the gateway
            if ((isYaml ? YamlReader.Parse(Encoding.UTF8.GetString(body), "request body", _ => null).Root : CjsonReader.Parse(body)) is not JsonObject parsed)
            {
                return JsonAnswer.Error(400, isYaml ? "invalid request body: invalid yaml request body" : "invalid request body: expected an object");
            }
            value = parsed;
            return null;
        }
        catch (Exception e) when (e is JsonTextException or YamlTextException)
        {
            return JsonAnswer.Error(400, $"invalid request body: {e.Message}");
        }
    }

    static void Tell(PushedConfiguration pushed, HttpResponse response)
    {
        if (pushed.Digest is { } digest)
        {
            response.Headers["X-Digest"] = digest;
            response.Headers["X-Last-Modified"] = pushed.LastModified.ToString(CultureInfo.InvariantCulture);
        }
    }
}
