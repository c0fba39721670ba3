using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Model.Json;
using Sluice.Pipeline;

namespace Sluice.Plugins.Traffic;

/// <summary>Answers in the place of an upstream that is not there yet.</summary>
internal sealed class Mocking : IPlugin<Mocking, Mocking.Config>, IAccess
{
    public static PluginInfo Info { get; } = new(
        Name: "mocking",
        Priority: 10900,
        Schema: """
            {
              "type": "object",
              "properties": {
                "delay": { "type": "integer", "default": 0, "description": "seconds that the answer is held up" },
                "response_status": { "type": "integer", "default": 200, "minimum": 100 },
                "content_type": { "type": "string", "default": "application/json;charset=utf8", "description": "application/json, application/xml, text/xml, text/plain or text/html, with parameters" },
                "response_example": { "type": "string", "description": "the body; may hold variables" },
                "response_schema": { "type": "object", "description": "JSON schema of an object: the body is one with random values, or those in example" },
                "with_mock_header": { "type": "boolean", "default": true, "description": "adds x-mock-by" },
                "response_headers": {
                  "type": "object",
                  "minProperties": 1,
                  "patternProperties": { "^[^:]+$": { "oneOf": [ { "type": "string" }, { "type": "number" } ] } },
                  "description": "more headers; texts may hold variables"
                }
              },
              "anyOf": [ { "required": ["response_example"] }, { "required": ["response_schema"] } ]
            }
            """,
        Summary: "Answers requests itself, with a body that is written down (`response_example`) or made up by a JSON schema "
            + "(`response_schema`): for an API whose upstream is not there yet.")
    {
        Example = """
            ```json
            {"mocking": {"response_schema": {"type": "object", "properties": {"id": {"type": "integer"}, "name": {"type": "string", "example": "jack"}}}}}
            ```

            Answers `{"id":4711,"name":"jack"}`, the number another one each time.
            """,
    };

    public sealed record Config(
        int Delay = 0, int ResponseStatus = 200, string ContentType = "application/json;charset=utf8", string? ResponseExample = null,
        JsonObject? ResponseSchema = null,
        bool WithMockHeader = true, JsonObject? ResponseHeaders = null);

    readonly Config _config;
    readonly bool _isXml;

    Mocking(Config config)
    {
        _config = config;
        _isXml = TypeOf(config) is "application/xml" or "text/xml";
    }

    public static JsonTypeInfo<Config> ConfigType => MockingJson.Default.Config;

    public static Mocking Create(Config config, PluginContext context) => TypeOf(config) switch
    {
        "application/xml" or "application/json" or "text/plain" or "text/html" or "text/xml" => new(config),
        _ => throw new ConfigException("unsupported content type!"),
    };

    static string TypeOf(Config config) => config.ContentType.Split(';')[0];

    public async ValueTask<Answer?> AccessAsync(Exchange exchange)
    {
        if (_config.Delay > 0)
        {
            await Task.Delay(TimeSpan.FromSeconds(_config.Delay), exchange.Services.Time, exchange.ClientGone);
        }
        var answer = Answer.Text(_config.ResponseStatus, Template.Expand(_config.ResponseExample ?? MadeUp(), exchange),
            _config.ContentType);
        if (_config.WithMockHeader)
        {
            answer = answer.With("x-mock-by", "APISIX/3.18.0");
        }
        foreach (var (name, value) in _config.ResponseHeaders ?? [])
        {
            answer = answer.With(name, LuaText.Type(value) == "string" ? Template.ExpandHeader((string)value!, exchange)
                : LuaText.Number(LuaText.ToDouble(value!)));
        }
        return answer;
    }

    string MadeUp()
    {
        var made = MakeObject(_config.ResponseSchema!);
        if (!_isXml)
        {
            return TypeOf(_config) == "text/html" ? "" : JsonBytes.Text(made);
        }
        var xml = new StringBuilder("<data>\n");
        foreach (var (name, value) in made)
        {
            WriteXml(xml, name, value, "  ");
        }
        return xml.Append("</data>").ToString();
    }

    static JsonNode? Make(JsonNode? schema)
    {
        if (schema is not JsonObject property)
        {
            return null;
        }
        var example = property["example"];
        var kind = LuaText.Type(example);
        return (LuaText.Type(property["type"]) == "string" ? ((string)property["type"]!).ToLowerInvariant() : "") switch
        {
            "array" => property["items"] is { } items
                ? new JsonArray([.. Enumerable.Range(0, Random.Shared.Next(1, 4)).Select(_ => Make(items))]) : null,
            "object" => MakeObject(property),
            "string" => kind == "string" ? (string)example!
                : new string([.. Enumerable.Range(0, Random.Shared.Next(1, 11)).Select(_ => (char)Random.Shared.Next('a', 'z' + 1))]),
            "number" => kind == "number" ? example!.DeepClone() : Math.Round(Random.Shared.NextDouble() * 10000, 10),
            "integer" => kind == "number" ? (long)Math.Floor(LuaText.ToDouble(example!)) : Random.Shared.Next(1, 10001),
            "boolean" => kind == "boolean" ? (bool)example! : Random.Shared.Next(2) == 1,
            _ => null,
        };
    }

    static JsonObject MakeObject(JsonObject schema)
    {
        var made = new JsonObject();
        foreach (var (name, property) in schema["properties"] as JsonObject ?? [])
        {
            if (Make(property) is { } value)
            {
                made[name] = value;
            }
        }
        return made;
    }

    static void WriteXml(StringBuilder xml, string name, JsonNode? value, string indent)
    {
        switch (value)
        {
            case JsonArray several:
                foreach (var one in several)
                {
                    WriteXml(xml, name, one, indent);
                }
                break;
            case JsonObject inner:
                xml.Append(indent).Append(CultureInfo.InvariantCulture, $"<{name}>\n");
                foreach (var (key, one) in inner)
                {
                    WriteXml(xml, key, one, indent + "  ");
                }
                xml.Append(indent).Append(CultureInfo.InvariantCulture, $"</{name}>\n");
                break;
            case not null:
                xml.Append(indent).Append(CultureInfo.InvariantCulture,
                    $"<{name}>{System.Security.SecurityElement.Escape(value.ToString())}</{name}>\n");
                break;
        }
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(Mocking.Config))]
sealed partial class MockingJson : JsonSerializerContext;
