using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;
using Sluice.Api;
using Sluice.Model.Json;
using Sluice.Model.Yaml;
using Sluice.Pipeline;
using Sluice.Sources;

namespace Sluice.Admin.Resources;

/// <summary>
/// <c>/apisix/admin/configs</c>: the whole configuration of a gateway in API-driven standalone mode; <c>/configs/validate</c> only checks
/// one, in every mode.
/// </summary>
/// <param name="pushed">Null: the configuration comes otherwise.</param>
sealed class ConfigsApi(LiveConfiguration live, PushedConfiguration? pushed) : IApiRoutes
{
    /// <summary>A whole configuration is larger than a resource.</summary>
    const int MaxBody = 64 << 20;

    public IEnumerable<ApiRoute> Routes => pushed is null
        ? [Validation]
        :
        [
            new("GET", AdminApi.Prefix + "/configs", ApiAccess.Read, call => Get(pushed, call.Request, call.Http.Response)),
            new("PUT", AdminApi.Prefix + "/configs", ApiAccess.Write, async call =>
                await ApiBody.ReadAsync(call.Http, MaxBody) is var (body, tooLarge) && tooLarge is null
                ? Put(pushed, call.Request, call.Http.Response, body) : tooLarge!),
            Validation,
        ];

    ApiRoute Validation => new("POST", AdminApi.Prefix + "/configs/validate", ApiAccess.Write, async call =>
        await ApiBody.ReadAsync(call.Http, MaxBody) is var (body, tooLarge) && tooLarge is null
        ? Validate(new(live.Maker()), call.Request, body) : tooLarge!);

    static JsonAnswer Get(PushedConfiguration pushed, HttpRequest request, HttpResponse response)
    {
        Tell(pushed, response);
        // JSON is YAML
        var type = request.Headers.Accept.ToString().StartsWith("application/yaml", StringComparison.OrdinalIgnoreCase) ? "application/yaml"
            : "application/json";
        return HttpMethods.IsHead(request.Method) ? new JsonAnswer(200)
            : JsonAnswer.Write(200, writer => pushed.Show().WriteTo(writer)) with { ContentType = type };
    }

    static JsonAnswer Put(PushedConfiguration pushed, HttpRequest request, HttpResponse response, byte[] body)
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

    static JsonAnswer Validate(DocumentIntake intake, HttpRequest request, byte[] body)
    {
        if (Parse(request, body, out var value) is { } wrong)
        {
            return wrong;
        }
        var problems = PushedConfiguration.Validate(value, intake);
        return problems.Count == 0 ? new JsonAnswer(200) : JsonAnswer.Write(400, writer =>
        {
            writer.WriteStartObject();
            writer.WriteString("error_msg", "Configuration validation failed");
            writer.WriteStartArray("errors");
            foreach (var (kind, index, message, id) in problems)
            {
                writer.WriteStartObject();
                writer.WriteString("resource_type", kind);
                if (index is { } at)
                {
                    writer.WriteString("resource_id", id ?? "");
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
            if ((isYaml ? YamlReader.Parse(Encoding.UTF8.GetString(body), "request body", _ => null).Root
                : CjsonReader.Parse(body)) is not JsonObject parsed)
            {
                return JsonAnswer.Error(400, isYaml ? "invalid request body: invalid yaml request body"
                    : "invalid request body: expected an object");
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
