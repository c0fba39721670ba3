using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Sluice.Model.Json;
using Sluice.Net.Http;
using Sluice.Pipeline;
using Sluice.Scripting;

namespace Sluice.Plugins.Transform;

/// <summary>Lets Lua functions change the answers that the gateway and its plugins give.</summary>
internal sealed partial class ExitTransformer(ExitTransformer.Config config, PluginContext context)
    : IPlugin<ExitTransformer, ExitTransformer.Config>, IRewrite
{
    public static PluginInfo Info { get; } = new(
        Name: "exit-transformer",
        Priority: 22950,
        Schema: """
            {
              "type": "object",
              "properties": {
                "functions": {
                  "description": "Lua texts; each gets status, body and header (`...`) and returns the new ones",
                  "type": "array",
                  "items": { "type": "string" }
                }
              },
              "required": ["functions"]
            }
            """,
        Summary: """
            Lets Lua functions change the answers that the gateway itself or a plugin gives, never the upstream's: the 401 of an authentication, the 503 of a limit, with a global rule also the 404 where no route
            matches. A function gets the status, the body (a table when it is JSON, nil for the page that a bare status has) and an empty table of headers to set, and returns
            these three; a status without a body is answered with the page for that status. They run in this order; the error of one is in the log (`failed to run lua code: …`), and the answer is what it was
            before that one. What functions cannot do is to wait. What scripts find is in [lua.md](../lua.md).
            """)
    {
        Example = """
            ```json
            {
              "exit-transformer": {
                "functions": ["return (function(code, body, header) if code == 404 then return 405 end return code, body, header end)(...)"]
              }
            }
            ```

            As a global rule: what no route matches is answered 405.
            """,
    };

    public sealed record Config(string[] Functions);

    static readonly string Glue = Encoding.UTF8.GetString(LuaLane.Shipped("exit-transformer.lua")!);

    readonly LuaUnit _unit = LuaUnit.OfFunctions(
        context.Services.Lua, "exit-transformer", $"{context.Scope}, plugin exit-transformer", null, [Glue, .. config.Functions]);

    readonly ILogger _logger = context.Services.Loggers.CreateLogger<ExitTransformer>();

    public static JsonTypeInfo<Config> ConfigType => ExitTransformerJson.Default.Config;

    public static ExitTransformer Create(Config config, PluginContext context) =>
        config.Functions.Select(LuaCheck.Syntax).FirstOrDefault(error => error is not null) is { } error ? throw new ConfigException(error)
        : new(config, context);

    public ValueTask<Answer?> RewriteAsync(Exchange exchange)
    {
        var before = exchange.AnswerTransform;
        exchange.AnswerTransform = before is null ? Transform : (exchange, answer) => Transform(exchange, before(exchange, answer));
        return default;
    }

    Answer Transform(Exchange exchange, Answer answer)
    {
        // the page for a bare status is no body that anybody has given
        var given = answer.IsPlainError && answer.ContentType?.StartsWith("text/html", StringComparison.Ordinal) == true ? default
            : answer.Body;
        var isTable = given.Length > 0 && given.Span[0] is (byte)'{' or (byte)'[';
        var results = exchange.OpenScript().Apply(_unit, LuaPhase.HeaderFilter, "exit-transformer",
        [
            Encoding.ASCII.GetBytes(answer.Status.ToString(CultureInfo.InvariantCulture)),
            given.IsEmpty ? null : given.ToArray(), isTable ? "1"u8.ToArray() : "0"u8.ToArray(),
        ]);
        if (results is null)
        {
            return answer;
        }
        var status = results[0] is { } text && double.TryParse(text, CultureInfo.InvariantCulture, out var number) ? number : answer.Status;
        if (status is < 200 or > 599 || status != Math.Floor(status))
        {
            LogStatus(_unit.Where, status);
            return answer;
        }
        var made = Encoding.ASCII.GetString(results[1] ?? "same"u8.ToArray()) switch
        {
            "none" => Answer.Bare((int)status),
            "set" => answer with
            {
                Status = (int)status, Body = results[2]!, IsPlainError = false,
                    ContentType = given.IsEmpty ? Answer.PlainText : answer.ContentType ?? Answer.PlainText,
            },
            _ when given.IsEmpty && status != answer.Status => Answer.Bare((int)status),
            _ => answer with { Status = (int)status },
        };
        made = made with { Headers = answer.Headers, Reason = answer.Reason };
        return results[3] is { } headers && CjsonReader.Parse(headers) is JsonObject changes ? Set(exchange.Response.Headers, made, changes)
            : made;
    }

    Answer Set(IHeaderDictionary response, Answer answer, JsonObject changes)
    {
        foreach (var (name, value) in changes)
        {
            if (!HeaderName.IsToken(name) || HopByHop.IsFraming(name))
            {
                LogHeader(_unit.Where, name);
                continue;
            }
            var values = (value is JsonArray several ? several.ToArray() : [value]).OfType<JsonValue>().Select(Text).ToArray();
            if (HeaderName.Is(name, "Content-Type"))
            {
                answer = answer with { ContentType = values.FirstOrDefault() };
                continue;
            }
            response.Remove(name);
            answer = answer with
            {
                Headers =
                [
                    .. answer.Headers.Where(header => !HeaderName.Is(header.Key, name)),
                    .. values.Select(text => KeyValuePair.Create(name, text)),
                ],
            };
        }
        return answer;
    }

    static string Text(JsonValue value) =>
        HeaderText.Escape(LuaText.Type(value) == "number" ? LuaText.Number(LuaText.ToDouble(value)) : value.ToString());

    [LoggerMessage(Level = LogLevel.Error,
        Message = "{Where}: a function has returned the status {Status}, which cannot be sent; the answer stays as it was")]
    partial void LogStatus(string where, double status);

    [LoggerMessage(Level = LogLevel.Error,
        Message = "{Where}: a function has set the header {Name}, which is no name or the gateway's own; it is left out")]
    partial void LogHeader(string where, string name);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(ExitTransformer.Config))]
sealed partial class ExitTransformerJson : JsonSerializerContext;
