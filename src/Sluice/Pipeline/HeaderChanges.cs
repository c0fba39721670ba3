using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Primitives;
using Sluice.Model.Json;

namespace Sluice.Pipeline;

/// <summary>
/// What a configuration does to headers, in APISIX's two forms: <c>{"add": …, "set": …, "remove": […]}</c>, or the old
/// <c>{"Name": "value"}</c>, which sets. Values are templates. Added first, then set, then removed.
/// </summary>
public sealed class HeaderChanges
{
    public static HeaderChanges None { get; } = new([], [], []);

    readonly KeyValuePair<string, string>[] _add;
    readonly KeyValuePair<string, string>[] _set;
    readonly string[] _remove;

    HeaderChanges(IEnumerable<KeyValuePair<string, string>> add, IEnumerable<KeyValuePair<string, string>> set, IEnumerable<string> remove)
    {
        _add = [.. add];
        _set = [.. set];
        _remove = [.. remove];
    }

    /// <summary>Every header that gets a value.</summary>
    public IEnumerable<string> Written => _add.Concat(_set).Select(header => header.Key);

    /// <summary>Of a configuration that passed the schema and <see cref="Check"/>.</summary>
    public static HeaderChanges Of(JsonObject? headers) => headers is null ? None : IsNewForm(headers)
        ? new(Added(headers["add"]), Pairs(headers["set"] as JsonObject), (headers["remove"] as JsonArray)?.Select(name => name!.ToString()) ?? [])
        : new([], Pairs(headers), []);

    /// <summary>What the schemas cannot say, in APISIX's words; or null.</summary>
    public static string? Check(JsonObject? headers)
    {
        if (headers is null)
        {
            return null;
        }
        if (!IsNewForm(headers) && headers.FirstOrDefault(header => LuaText.Type(header.Value) is not ("string" or "number")).Key is not null)
        {
            return "invalid type as header value";
        }
        var changes = Of(headers);
        foreach (var (name, value) in changes._add.Concat(changes._set))
        {
            if (name.Length == 0)
            {
                return "invalid field length in header";
            }
            if (!HeaderText.IsName(name))
            {
                return "invalid field character in header";
            }
            if (value.Any(char.IsControl))
            {
                return "invalid value character in header";
            }
        }
        return null;
    }

    /// <param name="expand">Gives a template's value; the result is made safe here.</param>
    public void Apply(IHeaderDictionary headers, Func<string, string> expand)
    {
        foreach (var (name, template) in _add)
        {
            headers.Append(name, HeaderText.Escape(expand(template)));
        }
        foreach (var (name, template) in _set)
        {
            headers[name] = HeaderText.Escape(expand(template));
        }
        foreach (var name in _remove)
        {
            headers.Remove(name);
        }
    }

    static bool IsNewForm(JsonObject headers) =>
        headers["add"] is JsonObject or JsonArray || headers["set"] is JsonObject or JsonArray || headers["remove"] is JsonObject or JsonArray;

    /// <summary>An object as in proxy-rewrite, or a list of <c>Name: value</c> as in response-rewrite.</summary>
    static IEnumerable<KeyValuePair<string, string>> Added(JsonNode? add) => add is JsonArray list
        ? list.Select(line => Split(line!.ToString()))
        : Pairs(add as JsonObject);

    static KeyValuePair<string, string> Split(string line)
    {
        var colon = line.IndexOf(':', StringComparison.Ordinal);
        return new(line[..colon].Trim(), line[(colon + 1)..].Trim());
    }

    static IEnumerable<KeyValuePair<string, string>> Pairs(JsonObject? map) =>
        map?.Select(header => new KeyValuePair<string, string>(header.Key, Text(header.Value))) ?? [];

    static string Text(JsonNode? value) =>
        value is JsonValue text && text.TryGetValue(out string? plain) ? plain : value is null ? "" : LuaText.Number(LuaText.ToDouble(value));
}
