using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Primitives;
using Sluice.Model;
using Sluice.Model.Json;
using Sluice.Net.Http;

namespace Sluice.Pipeline;

/// <summary>
/// What a configuration does to headers, in APISIX's two forms: <c>{"add": …, "set": …, "remove": […]}</c>, or the old
/// <c>{"Name": "value"}</c>, which sets. Values are templates, or lists of them. Added first, then set, then removed. As in nginx a header
/// without a value is none.
/// </summary>
[JsonConverter(typeof(HeaderChangesConverter))]
public sealed class HeaderChanges
{
    public static HeaderChanges None { get; } = new([], [], []);

    readonly KeyValuePair<string, string[]>[] _add;
    readonly KeyValuePair<string, string[]>[] _set;
    readonly string[] _remove;

    HeaderChanges(IEnumerable<KeyValuePair<string, string[]>> add, IEnumerable<KeyValuePair<string, string[]>> set,
        IEnumerable<string> remove)
    {
        _add = [.. add];
        _set = [.. set];
        _remove = [.. remove];
    }

    /// <summary>Every header that gets a value.</summary>
    public IEnumerable<string> Written => _add.Concat(_set).Select(header => header.Key);

    /// <summary>The changes that a configuration, which has passed its schema, writes down.</summary>
    /// <exception cref="FormatException">What the schemas cannot say, in APISIX's words.</exception>
    public static HeaderChanges Parse(JsonObject headers)
    {
        var isNew = IsNewForm(headers);
        if (!isNew && headers.FirstOrDefault(header => LuaText.Type(header.Value) is not ("string" or "number")).Key is not null)
        {
            throw new FormatException("invalid type as header value");
        }
        HeaderChanges changes = isNew
            ? new(Added(headers["add"]), Pairs(headers["set"] as JsonObject),
                (headers["remove"] as JsonArray)?.Select(name => name!.ToString()) ?? [])
            : new([], Pairs(headers), []);
        foreach (var (name, values) in changes._add.Concat(changes._set))
        {
            if (name.Length == 0)
            {
                throw new FormatException("invalid field length in header");
            }
            if (!HeaderName.IsToken(name))
            {
                throw new FormatException("invalid field character in header");
            }
            if (values.Any(value => value.Any(char.IsControl)))
            {
                throw new FormatException("invalid value character in header");
            }
        }
        return changes;
    }

    /// <param name="expand">Gives a template's value; the result is made safe here.</param>
    public void Apply(IHeaderDictionary headers, Func<string, string> expand)
    {
        foreach (var (name, templates) in _add)
        {
            foreach (var template in templates)
            {
                if (HeaderText.Escape(expand(template)) is { Length: > 0 } value)
                {
                    headers.Append(name, value);
                }
            }
        }
        foreach (var (name, templates) in _set)
        {
            if (templates is [var template])
            {
                Set(headers, name, HeaderText.Escape(expand(template)));
            }
            else
            {
                Set(headers, name, templates.Select(one => HeaderText.Escape(expand(one))).Where(value => value.Length > 0).ToArray());
            }
        }
        foreach (var name in _remove)
        {
            headers.Remove(name);
        }
    }

    static void Set(IHeaderDictionary headers, string name, StringValues values)
    {
        if (StringValues.IsNullOrEmpty(values))
        {
            headers.Remove(name);
        }
        else
        {
            headers[name] = values;
        }
    }

    static bool IsNewForm(JsonObject headers) =>
        headers["add"] is JsonObject or JsonArray || headers["set"] is JsonObject or JsonArray
        || headers["remove"] is JsonObject or JsonArray;

    /// <summary>An object as in proxy-rewrite, or a list of <c>Name: value</c> as in response-rewrite.</summary>
    static IEnumerable<KeyValuePair<string, string[]>> Added(JsonNode? add) => add is JsonArray list
        ? list.Select(line => Split(line!.ToString()))
        : Pairs(add as JsonObject);

    static KeyValuePair<string, string[]> Split(string line)
    {
        var colon = line.IndexOf(':', StringComparison.Ordinal);
        return new(line[..colon].Trim(), [line[(colon + 1)..].Trim()]);
    }

    static IEnumerable<KeyValuePair<string, string[]>> Pairs(JsonObject? map) =>
        map?.Select(header => new KeyValuePair<string, string[]>(header.Key,
            header.Value is JsonArray several ? [.. several.Select(Text)] : [Text(header.Value)])) ?? [];

    static string Text(JsonNode? value) =>
        value is JsonValue text && text.TryGetValue(out string? plain) ? plain : value is null ? ""
        : LuaText.Number(LuaText.ToDouble(value));
}

sealed class HeaderChangesConverter : ParsedConverter<HeaderChanges>
{
    protected override HeaderChanges Parse(JsonNode value) =>
        value is JsonObject headers ? HeaderChanges.Parse(headers) : HeaderChanges.None;
}
