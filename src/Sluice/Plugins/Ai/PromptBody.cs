using System.Text;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;
using Sluice.Model.Json;
using Sluice.Pipeline;

namespace Sluice.Plugins.Ai;

/// <summary>The request's body as the plugins for prompts read and write it.</summary>
static class PromptBody
{
    /// <summary>The schema of the limit that they all have.</summary>
    public const string LimitSchema =
        """ "max_req_body_size": { "type": "integer", "minimum": 1, "default": 67108864, "description": "bytes; larger bodies are refused" } """;

    /// <summary>The body's JSON object, or the answer when there is none.</summary>
    public static async ValueTask<(JsonObject? Body, Answer? Refusal)> ReadAsync(Exchange exchange, int limit)
    {
        ReadOnlyMemory<byte> bytes;
        try
        {
            bytes = await exchange.Body.ReadAsync(limit);
        }
        catch (BadHttpRequestException e) when (e.StatusCode == StatusCodes.Status413PayloadTooLarge)
        {
            exchange.Response.Headers.Connection = "close";
            return (null, Answer.Message(400, $"could not get body: {TooLarge(exchange, limit)}"));
        }
        if (bytes.IsEmpty)
        {
            return (null, Answer.Message(400, "could not get body: request body is empty"));
        }
        try
        {
            return CjsonReader.Parse(bytes.Span) is JsonObject body ? (body, null)
                : (null, Answer.Message(400, "could not parse JSON request body: expected an object"));
        }
        catch (JsonTextException e)
        {
            return (null, Answer.Message(400, $"could not parse JSON request body: {e.Message}"));
        }
    }

    /// <summary>APISIX's words for a body over a limit.</summary>
    public static string TooLarge(Exchange exchange, int limit) => exchange.Request.ContentLength is { } size
        ? $"request size {size} is greater than the maximum size {limit} allowed"
        : $"request size is greater than the maximum size {limit} allowed";

    /// <summary>This goes on in the place of what the client sent.</summary>
    public static void Replace(Exchange exchange, JsonObject body) => exchange.Body.Replace(Encoding.UTF8.GetBytes(JsonBytes.Text(body)));
}
