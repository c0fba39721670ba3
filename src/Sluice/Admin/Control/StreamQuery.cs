using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Sluice.Model;
using Sluice.Pipeline;

namespace Sluice.Admin.Control;

/// <summary>The arguments of a request for streams. One that is unknown or makes no sense is refused, so that nobody ends more than was
/// meant.</summary>
sealed class StreamQuery
{
    static readonly string[] Filters = ["route", "service", "consumer", "client", "kind", "phase", "mode", "min_age", "idle", "slow",
        "topic"];
    static readonly string[] Phases = ["held", "head", "open", "detached"];
    static readonly string[] Modes = ["direct", "verbatim", "pieces", "events", "queue", "topic"];
    static readonly string[] Groups = ["route", "service", "consumer", "kind", "phase", "mode", "node", "protocol"];

    readonly IQueryCollection _query;

    /// <summary>The first of its arguments that is wrong.</summary>
    public string? Error { get; private set; }

    StreamQuery(IQueryCollection query, string[] known, bool filters)
    {
        _query = query;
        foreach (var (name, values) in query)
        {
            // the Admin API's key may stand among the arguments
            if (name != "api_key" && !known.Contains(name))
            {
                Error = $"unknown argument \"{name}\"{Suggestion.For(name, known)}";
                return;
            }
            if (values.Count > 1)
            {
                Error = $"argument \"{name}\" is given twice";
                return;
            }
        }
        if (!filters)
        {
            return;
        }
        Filter = new(
            Text("route"), Text("service"), Text("consumer"), Client(), Kind(), OneOf("phase", Phases), OneOf("mode", Modes),
            Time("min_age"), Time("idle"), Flag("slow"),
            Text("topic"));
    }

    public StreamFilter Filter { get; } = new();

    /// <summary>At least one filter is given.</summary>
    public bool HasFilter => Filters.Any(_query.ContainsKey);

    public string? Text(string name) => _query.TryGetValue(name, out var values) ? values.ToString() : null;

    /// <param name="more">Arguments besides filters.</param>
    public static bool TryRead(IQueryCollection query, string[] more, out StreamQuery read, [NotNullWhen(false)] out string? error)
    {
        read = new(query, [.. Filters, .. more], filters: true);
        error = read.Error;
        return error is null;
    }

    /// <summary>The arguments of a request that names its one stream in the path.</summary>
    public static bool TryReadOne(IQueryCollection query, string[] known, out StreamQuery read, [NotNullWhen(false)] out string? error)
    {
        read = new(query, known, filters: false);
        error = read.Error;
        return error is null;
    }

    public bool TryOrder(out StreamOrder order, out bool descending, [NotNullWhen(false)] out string? error)
    {
        var text = Text("sort") ?? "-age";
        descending = text.StartsWith('-');
        var name = descending ? text[1..] : text;
        var found = Enum.TryParse(name, ignoreCase: true, out order) && name.All(char.IsAsciiLetterLower);
        error = found ? null : $"argument \"sort\" is none of age, bytes, events, queue, idle (with - in front: descending): \"{text}\"";
        return found;
    }

    public bool TryLimit(out int limit, [NotNullWhen(false)] out string? error)
    {
        limit = 50;
        error = Text("limit") is { } text
            && !(int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out limit) && limit is >= 1 and <= 1000)
            ? $"argument \"limit\" is no number from 1 to 1000: \"{text}\"" : null;
        return error is null;
    }

    /// <summary>By what streams are counted; null: they are not.</summary>
    public bool TryGroups(out string[]? groups, [NotNullWhen(false)] out string? error)
    {
        groups = Text("by")?.Split(',');
        error = groups?.FirstOrDefault(one => !Groups.Contains(one)) is { } wrong
            ? $"argument \"by\" is none of {string.Join(", ", Groups)}: \"{wrong}\"{Suggestion.For(wrong, Groups)}" : null;
        return error is null;
    }

    /// <summary>What comes behind this one.</summary>
    public bool TryCursor(out (long Key, long Number)? cursor, [NotNullWhen(false)] out string? error)
    {
        cursor = null;
        error = null;
        if (Text("cursor") is not { } text)
        {
            return true;
        }
        if (text.Split('.') is [var key, var number]
            && long.TryParse(key, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var first)
            && long.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out var second))
        {
            cursor = (first, second);
            return true;
        }
        error = $"argument \"cursor\" is none that a list gave as \"next\": \"{text}\"";
        return false;
    }

    public static string Cursor(long key, long number) => string.Create(CultureInfo.InvariantCulture, $"{key}.{number}");

    public TimeSpan? Time(string name)
    {
        if (Text(name) is not { } text)
        {
            return null;
        }
        try
        {
            // seconds without a unit, too
            return double.TryParse(text, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var seconds) && seconds < 1e9
                ? TimeSpan.FromSeconds(seconds) : Duration.Parse(text).Time;
        }
        catch (JsonException e)
        {
            Wrong(name, e.Message);
            return null;
        }
    }

    public bool? Flag(string name) => Text(name) switch
    {
        null => null,
        "true" => true,
        "false" => false,
        var other => Wrong<bool?>(name, $"\"{other}\" is neither true nor false"),
    };

    public string? OneOf(string name, string[] all) =>
        Text(name) is { } text && !all.Contains(text) ? Wrong<string?>(name, $"\"{text}\" is none of {string.Join(", ", all)}")
        : Text(name);

    StreamKind? Kind()
    {
        var all = Enum.GetValues<StreamKind>();
        return Text("kind") is not { } text ? null
            : all.Where(kind => Exchange.KindText(kind) == text).Select(kind => (StreamKind?)kind).FirstOrDefault()
                ?? Wrong<StreamKind?>("kind", $"\"{text}\" is none of {string.Join(", ", all.Select(Exchange.KindText))}");
    }

    Cidr? Client() => Text("client") is not { } text ? null : Cidr.TryParse(text, out var range) ? range
        : Wrong<Cidr?>("client", $"\"{text}\" is no address or range");

    void Wrong(string name, string why) => Error ??= $"argument \"{name}\": {why}";

    T? Wrong<T>(string name, string why)
    {
        Wrong(name, why);
        return default;
    }
}
