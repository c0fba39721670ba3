using System.Reflection;
using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Sluice.Model.Json;

namespace Sluice.Api;

/// <summary>An answer that is there as a whole: JSON, mostly.</summary>
/// <param name="ContentType">Null: no body.</param>
sealed record JsonAnswer(int Status, ReadOnlyMemory<byte> Body = default, string? ContentType = null) : IApiAnswer
{
    const string Json = "application/json";

    /// <summary>Tools look for the version of APISIX whose Admin API this is: <c>adc</c> leaves out credentials and stream routes where it
    /// finds none.</summary>
    internal static readonly string Server =
        $"Sluice/{typeof(JsonAnswer).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion.Split('+')[0]} APISIX/3.18.0";

    /// <summary>One <c>Warning</c> header each.</summary>
    public IReadOnlyList<string> Warnings { get; init; } = [];

    public static JsonAnswer Write(int status, Action<Utf8JsonWriter> write) => new(status, JsonBytes.Write(write, "\n"u8), Json);

    /// <summary><c>{"error_msg":"…"}</c></summary>
    public static JsonAnswer Error(int status, string message) => Object(status, ("error_msg", message));

    public static JsonAnswer Object(int status, params ReadOnlySpan<(string Name, string Value)> properties)
    {
        var all = properties.ToArray();
        return Write(status, writer =>
        {
            writer.WriteStartObject();
            foreach (var (name, value) in all)
            {
                writer.WriteString(name, value);
            }
            writer.WriteEndObject();
        });
    }

    public static JsonAnswer Text(int status, string text, string contentType = "text/plain; charset=utf-8") =>
        new(status, Encoding.UTF8.GetBytes(text), contentType);

    public async Task SendAsync(HttpContext http)
    {
        var response = http.Response;
        response.StatusCode = Status;
        response.ContentType = ContentType;
        response.Headers.Server = Server;
        foreach (var warning in Warnings)
        {
            response.Headers.Append("Warning", warning);
        }
        response.ContentLength = Body.Length;
        if (Body.Length > 0)
        {
            await response.Body.WriteAsync(Body, http.RequestAborted);
        }
    }
}
