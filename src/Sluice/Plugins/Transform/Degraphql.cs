using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using GraphQLParser;
using GraphQLParser.Exceptions;
using Microsoft.AspNetCore.Http;
using Sluice.Model.Json;
using Sluice.Pipeline;

namespace Sluice.Plugins.Transform;

/// <summary>Makes a GraphQL query of a plain request.</summary>
internal sealed class Degraphql : IPlugin<Degraphql, Degraphql.Config>, IAccess, INeedsRequestBody
{
    public static PluginInfo Info { get; } = new(
        Name: "degraphql",
        Priority: 509,
        Schema: """
            {
              "type": "object",
              "properties": {
                "max_req_body_size": { "type": "integer", "minimum": 1, "default": 67108864, "description": "bytes; larger bodies are refused" },
                "query": { "type": "string", "minLength": 1, "maxLength": 1024, "description": "the GraphQL document" },
                "variables": { "type": "array", "items": { "type": "string" }, "minItems": 1, "description": "names of the query's variables: arguments of a GET, members of a POST's JSON" },
                "operation_name": { "type": "string", "minLength": 1, "maxLength": 1024, "description": "which operation of the document; needed when there are several" }
              },
              "required": ["query"]
            }
            """,
        Summary: """
            Makes a GraphQL query of a plain request, for a GraphQL server that shall look like a REST API. A GET gets `query`, `variables` and `operationName` in its query string, a POST in a JSON body;
            other methods are answered 405. The path is the route's: `proxy-rewrite` may change it. **It needs the whole request body** of a POST.
            """)
    {
        Example = """
            ```json
            {"degraphql": {"query": "query ($name: String!) { user(name: $name) { email } }", "variables": ["name"]}}
            ```

            `GET /user?name=jack` becomes that query with `{"name":"jack"}`.
            """,
    };

    public sealed record Config(string Query, int MaxReqBodySize = 64 * 1024 * 1024, string[]? Variables = null,
        string? OperationName = null);

    readonly Config _config;

    Degraphql(Config config) => _config = config;

    public static JsonTypeInfo<Config> ConfigType => DegraphqlJson.Default.Config;

    static string? Refusal(Config config)
    {
        try
        {
            var document = Parser.Parse(config.Query, new ParserOptions { Ignore = IgnoreOptions.All, MaxDepth = 128 });
            return document.Definitions.Count > 1 && config.OperationName is null
                ? "operation_name is required if multiple operations are present in the query" : null;
        }
        catch (GraphQLSyntaxErrorException e)
        {
            return $"failed to parse query: Syntax error near line {e.Location.Line}";
        }
        catch (GraphQLParserException e)
        {
            return $"failed to parse query: {e.Message}";
        }
    }

    public static Degraphql Create(Config config, PluginContext context) =>
        Refusal(config) is { } error ? throw new ConfigException(error) : new(config);

    public int MaxRequestBodyBytes => _config.MaxReqBodySize;

    public async ValueTask<Answer?> AccessAsync(Exchange exchange)
    {
        var isPost = HttpMethods.IsPost(exchange.UpstreamMethod);
        if (!isPost && !HttpMethods.IsGet(exchange.UpstreamMethod))
        {
            return Answer.Bare(405);
        }
        JsonObject? variables = null;
        if (_config.Variables is { } names)
        {
            if (isPost)
            {
                var (members, refusal) = await MembersAsync(exchange);
                if (members is null)
                {
                    return refusal;
                }
                variables = new(names.Where(members.ContainsKey).Select(name => KeyValuePair.Create(name, members[name]?.DeepClone())));
            }
            else
            {
                variables = new(names.Select(name => KeyValuePair.Create(name, (JsonNode?)Argument(exchange.Args, name)))
                    .Where(pair => pair.Value is not null));
            }
        }
        if (isPost)
        {
            var json = new JsonObject { ["query"] = _config.Query };
            if (variables is not null)
            {
                json["variables"] = variables;
            }
            if (_config.OperationName is not null)
            {
                json["operationName"] = _config.OperationName;
            }
            exchange.Body.Replace(System.Text.Encoding.UTF8.GetBytes(JsonBytes.Text(json)), "application/json");
            return null;
        }
        var args = $"query={Uri.EscapeDataString(_config.Query)}"
            + (variables is null ? "" : $"&variables={Uri.EscapeDataString(JsonBytes.Text(variables))}")
            + (_config.OperationName is { } operation ? $"&operationName={Uri.EscapeDataString(operation)}" : "");
        exchange.SetArgs(args);
        if (exchange.UpstreamUri is { } uri)
        {
            exchange.UpstreamUri = $"{uri.Split('?')[0]}?{args}";
        }
        return null;
    }

    static string? Argument(string args, string name) => QueryArguments.Find(args, name);

    /// <summary>The members of a POST's JSON, or the answer when there are none.</summary>
    async ValueTask<(JsonObject? Members, Answer? Refusal)> MembersAsync(Exchange exchange)
    {
        try
        {
            var body = await exchange.Body.ReadAsync(_config.MaxReqBodySize);
            return !body.IsEmpty && CjsonReader.Parse(body.Span) is JsonObject members ? (members, null) : (null, Answer.Bare(400));
        }
        catch (JsonTextException)
        {
            return (null, Answer.Bare(400));
        }
        catch (BadHttpRequestException e) when (e.StatusCode == StatusCodes.Status413PayloadTooLarge)
        {
            exchange.Response.Headers.Connection = "close";
            return (null, Answer.Bare(503));
        }
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(Degraphql.Config))]
sealed partial class DegraphqlJson : JsonSerializerContext;
