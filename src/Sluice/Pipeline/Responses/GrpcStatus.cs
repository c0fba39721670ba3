using System.Globalization;
using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.WebUtilities;
using Sluice.Net.Http;

namespace Sluice.Pipeline;

/// <summary>
/// What gRPC clients are told when the gateway or a plugin answers: a status of 200 and, in the head of an answer without a body,
/// <c>grpc-status</c>
/// and <c>grpc-message</c> ("Trailers-Only").
/// </summary>
static class GrpcStatus
{
    public const int Unavailable = 14;

    /// <summary>The client is told in gRPC's words what went wrong.</summary>
    public static bool IsAsked(Exchange exchange) => exchange.TrailersInBody is { } own ? own.IsForGrpc : IsAsked(exchange.Request);

    /// <summary><c>application/grpc</c>, <c>application/grpc+proto</c>; not grpc-web, which is plain HTTP with its own ways.</summary>
    public static bool IsAsked(HttpRequest request) =>
        request.ContentType is { } type && type.StartsWith("application/grpc", StringComparison.OrdinalIgnoreCase)
        && (type.Length == 16 || type[16] is '+' or ';')
        && request.Protocol is "HTTP/2" or "HTTP/3";

    /// <summary>gRPC's table "HTTP to gRPC Status Code Mapping".</summary>
    public static int Of(int status) => status switch
    {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 or 502 or 503 or 504 => Unavailable,
        _ => 2,
    };

    public static Answer Of(Answer answer) => (answer with { Status = 200, Body = default, ContentType = "application/grpc" })
        .With("grpc-status", Of(answer.Status).ToString(CultureInfo.InvariantCulture))
        .With("grpc-message", Encode(MessageOf(answer)));

    /// <summary>What <c>{"error_msg":…}</c> or <c>{"message":…}</c> says; otherwise the status's name.</summary>
    static string MessageOf(Answer answer)
    {
        if (answer.Body.Length is > 0 and < 4096 && answer.Body.Span[0] == '{')
        {
            try
            {
                using var body = JsonDocument.Parse(answer.Body);
                foreach (var name in (string[])["error_msg", "message"])
                {
                    if (body.RootElement.TryGetProperty(name, out var message) && message.ValueKind == JsonValueKind.String)
                    {
                        return message.GetString()!;
                    }
                }
            }
            catch (JsonException)
            {
                // then it is a text like any other
            }
        }
        return StatusText.WithCode(answer.Status);
    }

    /// <summary>Percent-encoding as gRPC asks for it: everything but printable ASCII.</summary>
    public static string Encode(string message)
    {
        var encoded = new StringBuilder();
        foreach (var part in Encoding.UTF8.GetBytes(message))
        {
            if (part is >= 0x20 and <= 0x7E and not (byte)'%')
            {
                encoded.Append((char)part);
            }
            else
            {
                encoded.Append(CultureInfo.InvariantCulture, $"%{part:X2}");
            }
        }
        return encoded.ToString();
    }
}
