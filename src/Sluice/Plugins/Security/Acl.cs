using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using System.Text.RegularExpressions;
using Microsoft.Extensions.Logging;
using Sluice.Model;
using Sluice.Model.Expressions;
using Sluice.Model.Json;
using Sluice.Pipeline;

namespace Sluice.Plugins.Security;

/// <summary>Lets requests pass or not by labels of their consumer, or of a user that a script has found.</summary>
sealed partial class Acl : IPlugin<Acl, Acl.Config>, IAccess, IReadmit
{
    public static PluginInfo Info { get; } = new(
        Name: "acl",
        Priority: 2410,
        Schema: """
            {
              "type": "object",
              "properties": {
                "external_user_label_field": { "type": "string", "default": "groups", "minLength": 1, "description": "JSONPath of the labels in `ctx.external_user`" },
                "external_user_label_field_key": { "type": "string", "minLength": 1, "description": "the label's name in the lists, when it is not `external_user_label_field`" },
                "external_user_label_field_parser": {
                  "type": "string",
                  "enum": ["segmented_text", "json", "table"],
                  "description": "what the value is: text with separators, JSON in a text, or a list; without it, as it looks"
                },
                "external_user_label_field_separator": {
                  "type": "string",
                  "minLength": 1,
                  "description": "The separator(regex) of the segmented_text parser"
                },
                "allow_labels": {
                  "type": "object",
                  "minProperties": 1,
                  "patternProperties": { ".*": { "type": "array", "minItems": 1, "items": { "type": "string" } } },
                  "description": "names of labels and their values: who has one of them passes, nobody else"
                },
                "deny_labels": {
                  "type": "object",
                  "minProperties": 1,
                  "patternProperties": { ".*": { "type": "array", "minItems": 1, "items": { "type": "string" } } },
                  "description": "who has one of these is refused"
                },
                "rejected_code": { "type": "integer", "minimum": 200, "default": 403 },
                "rejected_msg": { "type": "string" }
              },
              "allOf": [
                {
                  "if": {
                    "required": ["external_user_label_field_parser"],
                    "properties": { "external_user_label_field_parser": { "const": "segmented_text" } }
                  },
                  "then": { "required": ["external_user_label_field_separator"] }
                }
              ],
              "anyOf": [ { "required": ["allow_labels"] }, { "required": ["deny_labels"] } ]
            }
            """,
        Summary: """
            Lets requests pass or not by labels of their consumer. A label may have several values: `"a,b"` or `"[\"a\",\"b\"]"`; one that matches is enough.
            Without a consumer the labels are those of `ctx.external_user`, which a script has set.
            """)
    {
        Example = """
            ```json
            {"key-auth": {}, "acl": {"allow_labels": {"team": ["devops", "qa"]}}}
            ```

            A consumer with `"labels": {"team": "web"}` is answered `403 {"message":"The consumer is forbidden."}`.
            """,
    };

    public sealed record Config(
        string ExternalUserLabelField = "groups", string? ExternalUserLabelFieldKey = null, string? ExternalUserLabelFieldParser = null,
        string? ExternalUserLabelFieldSeparator = null, Dictionary<string, string[]>? AllowLabels = null,
        Dictionary<string, string[]>? DenyLabels = null,
        int RejectedCode = 403, string? RejectedMsg = null)
    {
        internal JsonPath Field => field ??= Path(ExternalUserLabelField);

        internal Regex Separator => field ??= Separated(ExternalUserLabelFieldSeparator);
    }

    static readonly Regex s_comma = new(@"\s*,\s*", RegexOptions.CultureInvariant, RegexTimeout);

    static TimeSpan RegexTimeout => TimeSpan.FromMilliseconds(100);

    readonly Config _config;
    readonly JsonPath _field;
    readonly Regex _separator;
    readonly ILogger _logger;

    Acl(Config config, ILogger logger)
    {
        (_config, _logger) = (config, logger);
        (_field, _separator) = (config.Field, config.Separator);
    }

    public static JsonTypeInfo<Config> ConfigType => AclJson.Default.Config;

    public static Acl Create(Config config, PluginContext context) => new(config, context.Services.Loggers.CreateLogger<Acl>());

    static JsonPath Path(string text)
    {
        try
        {
            return JsonPath.Parse(Relative(text));
        }
        catch (FormatException e)
        {
            throw new ConfigException($"invalid external_user_label_field: {e.Message}");
        }
    }

    /// <summary><c>name</c> is short for <c>$.name</c>.</summary>
    static string Relative(string path) => path switch
    {
        ['$', '.', not '.', ..] => path[2..],
        ['$', ..] => path[1..],
        _ => path,
    };

    static Regex Separated(string? separator)
    {
        try
        {
            return separator is null ? s_comma
                : new($@"\s*{PcrePattern.Translate(separator).Text}\s*", RegexOptions.CultureInvariant, RegexTimeout);
        }
        catch (Exception e) when (e is FormatException or ArgumentException)
        {
            throw new ConfigException($"invalid external_user_label_field_separator: {e.Message}");
        }
    }

    /// <summary>Others are known to a script, which is not run again.</summary>
    public bool CanReadmit(Exchange exchange) => exchange.Consumer is not null;

    public async ValueTask<Answer?> AccessAsync(Exchange exchange)
    {
        Func<string, IEnumerable<string>> valuesOf;
        if (exchange.Consumer is { } consumer)
        {
            valuesOf = label => consumer.Labels?[label] is { } value ? Values(value) : [];
        }
        else if (await ScriptFields.GetAsync(exchange, "external_user") is { } user)
        {
            var values = ValuesOf(user);
            valuesOf = label => label == (_config.ExternalUserLabelFieldKey ?? _config.ExternalUserLabelField) ? values : [];
        }
        else
        {
            return Answer.Message(401, "Missing authentication.");
        }
        return (_config.DenyLabels is { } deny && HasOne(deny)) || (_config.AllowLabels is { } allow && !HasOne(allow))
            ? Answer.Message(_config.RejectedCode, _config.RejectedMsg ?? "The consumer is forbidden.") : null;

        bool HasOne(Dictionary<string, string[]> wanted) => wanted.Any(label => valuesOf(label.Key).Any(label.Value.Contains));
    }

    string[] ValuesOf(JsonNode user)
    {
        var found = _field.Find(user).ToArray();
        return _config.ExternalUserLabelFieldParser is not { } parser ? [.. found.SelectMany(Values)]
            : found.Length > 1
            ? [.. found.SelectMany(value => LuaText.Kind(value) == JsonValueKind.String ? Values(value, parser) : Values(value))]
            : [.. found.SelectMany(value => Values(value, parser))];
    }

    /// <summary>As the value looks.</summary>
    IEnumerable<string> Values(JsonNode? value)
    {
        if (LuaText.Type(value) == "table")
        {
            return Values(value, "table");
        }
        if (LuaText.Kind(value) != JsonValueKind.String)
        {
            LogUnsupported(LuaText.Type(value));
            return [];
        }
        var text = value!.GetValue<string>();
        return text.StartsWith('[') ? Values(value, "json")
            : text.Contains(',', StringComparison.Ordinal) ? Split(text, s_comma)
            : [text];
    }

    IEnumerable<string> Values(JsonNode? value, string parser)
    {
        var type = LuaText.Type(value);
        switch (parser)
        {
            case "table":
                if (type != "table")
                {
                    LogValue($"the parser is specified as table, but the type of value is not table: {type}");
                }
                return Texts(value);
            case "segmented_text":
                return type == "string" ? Split(value!.GetValue<string>(), _separator) : [];
            default:
                if (type != "string")
                {
                    LogValue("the parser is specified as json array, but the value type is not string");
                    return [];
                }
                return Parse(value!.GetValue<string>());
        }
    }

    IEnumerable<string> Parse(string text)
    {
        if (!text.StartsWith('['))
        {
            LogValue("the parser is specified as json array, but the value do not has prefix '['");
            return [];
        }
        try
        {
            return Texts(CjsonReader.Parse(Encoding.UTF8.GetBytes(text)));
        }
        catch (JsonTextException e)
        {
            LogValue($"failed to decode labels [{text}] as array, err: {e.Message}");
            return [];
        }
    }

    string[] Split(string text, Regex separator)
    {
        try
        {
            return separator.Split(text);
        }
        catch (RegexMatchTimeoutException)
        {
            LogValue($"failed to split labels [{text}], err: it takes too long");
            return [];
        }
    }

    static IEnumerable<string> Texts(JsonNode? list) =>
        (list as JsonArray ?? []).Where(item => LuaText.Kind(item) == JsonValueKind.String).Select(item => item!.GetValue<string>());

    [LoggerMessage(Level = LogLevel.Warning, Message = "{What}")]
    partial void LogValue(string what);

    [LoggerMessage(Level = LogLevel.Error, Message = "unsupported type of label value: {Type}")]
    partial void LogUnsupported(string type);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(Acl.Config))]
sealed partial class AclJson : JsonSerializerContext;
