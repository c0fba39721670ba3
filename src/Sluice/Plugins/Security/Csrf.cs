using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Primitives;
using Sluice.Model.Json;
using Sluice.Pipeline;

namespace Sluice.Plugins.Security;

/// <summary>Refuses requests that other sites make in a browser's name.</summary>
sealed partial class Csrf(Csrf.Config config, PluginContext context) : IPlugin<Csrf, Csrf.Config>, IAccess, IHeaderFilter
{
    public static PluginInfo Info { get; } = new(
        Name: "csrf",
        Priority: 2980,
        Schema: """
            {
              "type": "object",
              "properties": {
                "key": { "description": "use to generate csrf token", "type": "string" },
                "expires": { "description": "expires time(s) for csrf token", "type": "integer", "default": 7200 },
                "name": { "description": "the csrf token name", "type": "string", "default": "apisix-csrf-token" }
              },
              "encrypt_fields": ["key"],
              "required": ["key"]
            }
            """,
        Summary: """
            Refuses requests that other sites make in a browser's name: every answer sets a cookie with a signed token, and requests other than GET, HEAD and
            OPTIONS must bring it back both as the cookie and as a header of the same name, which only scripts of the own site can set. With `expires` 0
            (or less) tokens are valid for ever.
            """)
    {
        Example = """
            ```json
            {"csrf": {"key": "edd1c9f034335f136f87ad84b625c8f1"}}
            ```

            A POST without the token is answered `401 {"error_msg":"no csrf token in headers"}`.
            """,
    };

    public sealed record Config(string Key, double Expires = 7200, string Name = "apisix-csrf-token");

    readonly TimeProvider _time = context.Services.Time;
    readonly ILogger _logger = context.Services.Loggers.CreateLogger<Csrf>();

    public static JsonTypeInfo<Config> ConfigType => CsrfJson.Default.Config;

    public static Csrf Create(Config config, PluginContext context) => new(config, context);

    public ValueTask<Answer?> AccessAsync(Exchange exchange) =>
        new(exchange.Request.Method is "GET" or "HEAD" or "OPTIONS" ? null : Refuse(exchange));

    Answer? Refuse(Exchange exchange)
    {
        var header = exchange.Request.Headers[config.Name] is { Count: > 0 } values ? values[0] : null;
        if (string.IsNullOrEmpty(header))
        {
            return Answer.ErrorMessage(401, "no csrf token in headers");
        }
        if (exchange.Get("cookie_" + config.Name) is not { } cookie)
        {
            return Answer.ErrorMessage(401, "no csrf cookie");
        }
        if (header != cookie)
        {
            return Answer.ErrorMessage(401, "csrf token mismatch");
        }
        if (Fault(cookie) is { } fault)
        {
            LogFault(fault);
            return Answer.ErrorMessage(401, "Failed to verify the csrf token signature");
        }
        return null;
    }

    string? Fault(string token)
    {
        if (NginxBase64.Decode(token) is not { } decoded)
        {
            return "csrf token base64 decode error";
        }
        JsonObject? parts;
        try
        {
            parts = CjsonReader.Parse(decoded) as JsonObject;
        }
        catch (JsonTextException e)
        {
            return $"decode token error: {e.Message}";
        }
        if (parts?["random"] is not JsonValue random)
        {
            return "no random in token";
        }
        if (parts["expires"] is not JsonValue expires || LuaText.Kind(expires) != JsonValueKind.Number)
        {
            return "no expires in token";
        }
        var issued = LuaText.ToDouble(expires);
        if (config.Expires > 0 && _time.GetUtcNow().ToUnixTimeSeconds() - issued > config.Expires)
        {
            return "token has expired";
        }
        var sign = Sign(LuaText.Kind(random) == JsonValueKind.Number ? LuaText.Number(LuaText.ToDouble(random)) : random.ToString(),
            issued);
        return parts["sign"] is JsonValue given
            && CryptographicOperations.FixedTimeEquals(Encoding.UTF8.GetBytes(given.ToString()), Encoding.ASCII.GetBytes(sign))
            ? null : "Invalid signatures";
    }

    /// <param name="random">As Lua prints it: the JSON of another writer says the same number with more digits.</param>
    string Sign(string random, double issued) =>
        Convert.ToHexStringLower(
            SHA256.HashData(Encoding.UTF8.GetBytes($"{{expires:{LuaText.Number(issued)},random:{random},key:{config.Key}}}")));

    public void FilterHeaders(Exchange exchange)
    {
        var now = _time.GetUtcNow();
        var issued = now.ToUnixTimeSeconds();
        var random = LuaText.Number(RandomNumberGenerator.GetInt32(int.MaxValue) / (double)int.MaxValue);
        var token = Convert.ToBase64String(
            Encoding.UTF8.GetBytes($"{{\"random\":{random},\"expires\":{issued},\"sign\":\"{Sign(random, issued)}\"}}"));
        var until = now.AddSeconds(Math.Clamp(config.Expires, -MaxSeconds, MaxSeconds))
            .ToString("ddd, dd-MMM-yy HH:mm:ss 'GMT'", CultureInfo.InvariantCulture);
        exchange.Response.Headers.SetCookie = StringValues.Concat(
            exchange.Response.Headers.SetCookie, HeaderText.Escape($"{config.Name}={token};path=/;SameSite=Lax;Expires={until}"));
    }

    /// <summary>A century, which two digits of a year can still say.</summary>
    const double MaxSeconds = 99 * 365.25 * 86400;

    [LoggerMessage(Level = LogLevel.Error, Message = "{Fault}")]
    partial void LogFault(string fault);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(Csrf.Config))]
sealed partial class CsrfJson : JsonSerializerContext;
