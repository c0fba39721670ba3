using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;
using Sluice.Pipeline;

namespace Sluice.Plugins.Transform;

/// <summary>What gzip and brotli have in common: which responses are compressed, and what that does to their headers.</summary>
sealed class Compression(JsonNode? types, int minLength, double httpVersion, bool vary)
{
    public const string Properties = """
        "types": {
          "description": "media types that are compressed, or * for all",
          "anyOf": [ { "type": "array", "minItems": 1, "items": { "type": "string", "minLength": 1 } }, { "enum": ["*"] } ],
          "default": ["text/html"]
        },
        "min_length": { "type": "integer", "minimum": 1, "default": 20, "description": "bytes; responses that are known to be shorter are not compressed" },
        "http_version": { "enum": [1.1, 1.0], "default": 1.1, "description": "the least version that a request must have" }
        """;

    readonly HashSet<string>? _types = types is JsonArray list ? [.. list.Select(type => type!.GetValue<string>())] : types is null
        ? ["text/html"] : null;

    /// <summary>Whether a response is one of those that the configuration means, whatever its client takes.</summary>
    public bool IsFor(Exchange exchange)
    {
        var response = exchange.Response;
        return response.ContentType is { Length: > 0 } type
            && (_types is null || _types.GetAlternateLookup<ReadOnlySpan<char>>()
                .Contains(type.AsSpan(0, type.IndexOf(';', StringComparison.Ordinal) is >= 0 and var end ? end : type.Length)))
            && !(exchange.ResponseLength < minLength)
            && (httpVersion < 1.1 || exchange.Request.Protocol is not "HTTP/1.0");
    }

    public void Vary(Exchange exchange)
    {
        if (vary)
        {
            exchange.Response.Headers.Append("Vary", "Accept-Encoding");
        }
    }

    /// <summary>The body will be another one: what the head says of the old one goes.</summary>
    public static void Begin(Exchange exchange, string encoding)
    {
        var headers = exchange.Response.Headers;
        headers.ContentEncoding = encoding;
        headers.Remove("Content-Length");
        headers.Remove("Accept-Ranges");
        var tag = headers.ETag.ToString();
        var isPlain = tag.LastIndexOf('"') == tag.Length - 1 && tag.Count(c => c == '"') == 2;
        if (isPlain && tag[0] == '"')
        {
            headers.ETag = "W/" + tag;
        }
        else if (tag.Length > 0 && !(isPlain && tag.StartsWith("W/\"", StringComparison.Ordinal)))
        {
            headers.Remove("ETag");
        }
    }

    /// <summary>There is a body that may be compressed, and nobody has done so.</summary>
    public static bool CanCompress(Exchange exchange) =>
        exchange.Response.Headers.ContentEncoding.Count == 0 && !HttpMethods.IsHead(exchange.Request.Method)
        && exchange.Response.StatusCode is >= 200 and not (204 or 206 or 304);

    /// <summary>The weight that <c>Accept-Encoding</c> gives to a coding (RFC 9110, section 12.5.3); null: it does not name it.</summary>
    public static double? Weight(Exchange exchange, string coding)
    {
        foreach (var value in exchange.Request.Headers.AcceptEncoding)
        {
            foreach (var range in value.AsSpan().Split(','))
            {
                var item = value.AsSpan(range).Trim();
                var semicolon = item.IndexOf(';');
                var name = semicolon < 0 ? item : item[..semicolon].TrimEnd();
                if (!name.Equals(coding, StringComparison.OrdinalIgnoreCase))
                {
                    continue;
                }
                var parameter = semicolon < 0 ? default : item[(semicolon + 1)..].Trim();
                return !parameter.StartsWith("q=", StringComparison.OrdinalIgnoreCase) ? 1
                    : double.TryParse(parameter[2..], System.Globalization.NumberStyles.AllowDecimalPoint,
                        System.Globalization.CultureInfo.InvariantCulture, out var weight) ? weight : 0;
            }
        }
        return null;
    }
}
