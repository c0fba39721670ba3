using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Sluice.Net.Http;

namespace Sluice.Pipeline;

/// <summary>An answer that the gateway or a plugin gives instead of the upstream.</summary>
/// <param name="Status">HTTP status.</param>
/// <param name="Body">Bytes of the body; may be empty.</param>
/// <param name="ContentType">Null: no Content-Type header.</param>
public sealed record Answer(int Status, ReadOnlyMemory<byte> Body = default, string? ContentType = null)
{
    /// <summary>nginx's default_type as APISIX configures it: also its JSON errors carry it.</summary>
    public const string PlainText = "text/plain; charset=utf-8";

    /// <summary>Stands for an answer that a script has sent already, piece by piece.</summary>
    public static Answer Sent { get; } = new(200);

    /// <summary>Stands for no answer: a script has given the request another path, by which it is matched anew.</summary>
    public static Answer Again { get; } = new(500);

    public IReadOnlyList<KeyValuePair<string, string>> Headers { get; init; } = [];

    /// <summary>Why, for the log and for plugins that run the one that answers; the client is not told.</summary>
    public string? Reason { get; init; }

    /// <summary>Nobody wrote this body for this answer: nginx's <c>error_page</c> may put a page in its place.</summary>
    public bool IsPlainError { get; init; }

    /// <summary>APISIX's <c>core.response.exit(status, {message = …})</c>: <c>{"message":"…"}</c> and a newline.</summary>
    public static Answer Message(int status, string message) => Object(status, "message", message);

    /// <summary>The gateway's own errors: <c>{"error_msg":"…"}</c> and a newline.</summary>
    public static Answer ErrorMessage(int status, string message) => Object(status, "error_msg", message);

    /// <summary>The same, of the gateway itself.</summary>
    public static Answer OwnError(int status, string message) => ErrorMessage(status, message) with { IsPlainError = true };

    public static Answer Text(int status, string text, string contentType = PlainText) =>
        new(status, Encoding.UTF8.GetBytes(text), contentType);

    /// <summary>A JSON body and a newline, as APISIX prints Lua tables.</summary>
    public static Answer Json(int status, JsonNode body, string contentType = PlainText) =>
        new(status, Encoding.UTF8.GetBytes(body.ToJsonString() + "\n"), contentType);

    /// <summary>Nothing but a status: from 300 on the page that nginx writes for it, below an empty body.</summary>
    public static Answer Bare(int status)
    {
        if (status is < 300 or 304)
        {
            return new(status);
        }
        var title = StatusText.WithCode(status);
        return Text(
            status,
            $"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n<hr><center>Sluice</center>\r\n</body>\r\n</html>\r\n",
            "text/html; charset=utf-8") with { IsPlainError = true };
    }

    public Answer With(string header, string value) => this with { Headers = [.. Headers, new(header, value)] };

    static Answer Object(int status, string key, string text) =>
        new(status,
            Encoding.UTF8.GetBytes(
                $"{{\"{key}\":\"{JsonEncodedText.Encode(text, System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping)}\"}}\n"), PlainText);
}
