using System.Buffers;
using System.Collections.Concurrent;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using GraphQLParser;
using GraphQLParser.AST;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.WebUtilities;
using Microsoft.Net.Http.Headers;
using Sluice.Model.Expressions;
using Sluice.Model.Json;

namespace Sluice.Pipeline;

/// <summary>
/// The variables that a request's body has: <c>post_arg.a.b</c> and <c>post_arg.list[*].name</c> of JSON and forms, <c>post_arg_x</c> of
/// urlencoded forms,
/// <c>graphql_name</c>, <c>graphql_operation</c> and <c>graphql_root_fields</c>. Several values are one text, separated by commas.
/// </summary>
sealed class BodyVariables
{
    /// <summary>A body beyond that has no variables (APISIX: <c>graphql.max_size</c>).</summary>
    public const int MaxBytes = 1024 * 1024;

    static readonly ConcurrentDictionary<string, JsonPath?> Paths = new();

    /// <summary>Names come from configurations; scripts might make up others without end.</summary>
    const int MaxPaths = 1000;

    readonly Exchange _exchange;
    readonly byte[]? _body;
    readonly JsonNode? _values;
    (string Name, string Operation, string RootFields)? _graphQl;
    bool _isParsed;

    BodyVariables(Exchange exchange, byte[]? body, JsonNode? values) => (_exchange, _body, _values) = (exchange, body, values);

    public static bool Is(string name) =>
        name.StartsWith("post_arg.", StringComparison.Ordinal) || name.StartsWith("post_arg_", StringComparison.Ordinal)
        || name.StartsWith("graphql_", StringComparison.Ordinal);

    /// <summary>Reads the body without taking it: whoever comes next finds it whole.</summary>
    public static async ValueTask<BodyVariables> ReadAsync(Exchange exchange)
    {
        var body = exchange.CanHaveBody ? await BytesAsync(exchange) : null;
        return new(exchange, body, body is null ? null : await ValuesAsync(exchange.Request.ContentType ?? "", body));
    }

    static async ValueTask<byte[]?> BytesAsync(Exchange exchange)
    {
        if (exchange.Request.ContentLength > MaxBytes)
        {
            return null;
        }
        var reader = exchange.Request.BodyReader;
        while (true)
        {
            var read = await reader.ReadAsync(exchange.ClientGone);
            var tooLarge = read.Buffer.Length > MaxBytes;
            var all = read.IsCompleted && !tooLarge ? read.Buffer.ToArray() : null;
            if (read.IsCompleted || tooLarge)
            {
                // neither consumed nor seen: the next to read gets it at once
                reader.AdvanceTo(read.Buffer.Start, read.Buffer.Start);
                return all;
            }
            reader.AdvanceTo(read.Buffer.Start, read.Buffer.End);
        }
    }

    static async ValueTask<JsonNode?> ValuesAsync(string contentType, byte[] body)
    {
        try
        {
            return contentType switch
            {
                _ when Starts("application/json") => CjsonReader.Parse(body),
                _ when Starts("application/x-www-form-urlencoded") => FormOf(Encoding.UTF8.GetString(body)),
                _ when Starts("multipart/form-data") => await MultipartAsync(contentType, body),
                _ => null,
            };
        }
        catch (Exception e) when (e is JsonTextException or InvalidDataException or IOException or FormatException)
        {
            // what is no such body has no such variables
            return null;
        }

        bool Starts(string type) => contentType.StartsWith(type, StringComparison.OrdinalIgnoreCase);
    }

    static JsonObject FormOf(string form)
    {
        var values = new JsonObject();
        foreach (var (name, value) in QueryHelpers.ParseQuery(form))
        {
            values[name] = value[0];
        }
        return values;
    }

    static async Task<JsonObject> MultipartAsync(string contentType, byte[] body)
    {
        var values = new JsonObject();
        if (!MediaTypeHeaderValue.TryParse(contentType, out var type)
            || HeaderUtilities.RemoveQuotes(type.Boundary) is not { Length: > 0 } boundary)
        {
            return values;
        }
        var reader = new MultipartReader(boundary.ToString(), new MemoryStream(body));
        while (await reader.ReadNextSectionAsync() is { } section)
        {
            if (ContentDispositionHeaderValue.TryParse(section.ContentDisposition, out var disposition)
                && HeaderUtilities.RemoveQuotes(disposition.Name) is { Length: > 0 } name)
            {
                using var text = new StreamReader(section.Body, Encoding.UTF8);
                values.TryAdd(name.ToString(), await text.ReadToEndAsync());
            }
        }
        return values;
    }

    public string? Get(string name)
    {
        if (name.StartsWith("post_arg.", StringComparison.Ordinal))
        {
            return Value(name["post_arg.".Length..]);
        }
        if (name.StartsWith("post_arg_", StringComparison.Ordinal))
        {
            return _exchange.Request.ContentType?.StartsWith("application/x-www-form-urlencoded",
                StringComparison.OrdinalIgnoreCase) == true
                ? Text((_values as JsonObject)?[name["post_arg_".Length..]]) : null;
        }
        if (!_isParsed)
        {
            _isParsed = true;
            _graphQl = GraphQl();
        }
        return name switch
        {
            "graphql_name" => _graphQl?.Name,
            "graphql_operation" => _graphQl?.Operation,
            "graphql_root_fields" => _graphQl?.RootFields,
            _ => null,
        };
    }

    string? Value(string path)
    {
        if (_values is null || PathOf(path) is not { } parsed)
        {
            return null;
        }
        var found = parsed.Find(_values).Select(Text).OfType<string>().ToArray();
        return found.Length == 0 ? null : string.Join(',', found);
    }

    static JsonPath? PathOf(string path)
    {
        if (Paths.TryGetValue(path, out var known))
        {
            return known;
        }
        var parsed = JsonPath.Check(path) is null ? JsonPath.Parse(path) : null;
        if (Paths.Count < MaxPaths)
        {
            Paths[path] = parsed;
        }
        return parsed;
    }

    static string? Text(JsonNode? node) => LuaText.Kind(node) switch
    {
        JsonValueKind.String => node!.GetValue<string>(),
        JsonValueKind.Number => LuaText.Number(LuaText.ToDouble(node!)),
        JsonValueKind.True => "true",
        JsonValueKind.False => "false",
        _ => null,
    };

    /// <summary>The first operation of the request's document; null when there is none.</summary>
    (string, string, string)? GraphQl()
    {
        var text = HttpMethods.IsGet(_exchange.Request.Method) ? QueryArguments.Find(_exchange.Args, "query")
            : !HttpMethods.IsPost(_exchange.Request.Method) || _body is null ? null
            : _exchange.Request.ContentType == "application/json" ? Text((_values as JsonObject)?["query"])
            : Encoding.UTF8.GetString(_body);
        if (string.IsNullOrEmpty(text) || text.Length > MaxBytes)
        {
            return null;
        }
        try
        {
            var document = Parser.Parse(text, new ParserOptions { Ignore = IgnoreOptions.All, MaxDepth = 128 });
            if (document.Definitions.FirstOrDefault() is not GraphQLOperationDefinition operation)
            {
                return null;
            }
            var fields = operation.SelectionSet.Selections.OfType<GraphQLField>().Select(field => field.Name.StringValue);
            return (operation.Name?.StringValue ?? "", operation.Operation.ToString().ToLowerInvariant(), string.Join(',', fields));
        }
        catch (Exception e) when (e is GraphQLParser.Exceptions.GraphQLParserException)
        {
            return null;
        }
    }
}
