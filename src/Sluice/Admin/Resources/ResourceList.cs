using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Microsoft.AspNetCore.WebUtilities;
using Sluice.Model;
using Sluice.Model.Json;

namespace Sluice.Admin.Resources;

/// <summary>The part of a list that a GET asks for.</summary>
/// <param name="Total">How many there are on all pages.</param>
/// <param name="Error">What is wrong with the arguments; the list is empty then.</param>
sealed record ResourceList(IReadOnlyList<Document> Items, int Total, string? Error = null)
{
    public const string BadPageSize = "page_size must be between 10 and 500";

    /// <param name="argument">A query argument's value: <c>page</c>, <c>page_size</c>, <c>name</c>, <c>label</c>, <c>uri</c>,
    /// <c>filter</c>.</param>
    public static ResourceList Select(IEnumerable<Document> documents, Func<string, string?> argument)
    {
        try
        {
            var found = Filter(documents, argument).ToArray();
            return Number(argument("page_size")) is { } size && Number(argument("page")) is { } page
                ? Page(found, page, size)
                : new ResourceList(found, found.Length);
        }
        catch (FormatException e)
        {
            return new ResourceList([], 0, e.Message);
        }
    }

    static ResourceList Page(Document[] found, double page, double size)
    {
        if (size is not (>= 10 and <= 500))
        {
            return new ResourceList([], 0, BadPageSize);
        }
        var skip = (Math.Max(page, 1) - 1) * size;
        return new ResourceList(
            [.. found.OrderBy(document => document.CreatedRevision).Skip((int)Math.Min(skip, int.MaxValue)).Take((int)size)], found.Length);
    }

    static double? Number(string? text) => text is not null && LuaText.TryToNumber(text, out var number) ? Math.Floor(number) : null;

    static IEnumerable<Document> Filter(IEnumerable<Document> documents, Func<string, string?> argument)
    {
        if (argument("name") is { } name)
        {
            var pattern = Pcre.Compile(name);
            documents = documents.Where(document => Finds(pattern, document.Value["name"]));
        }
        if (argument("uri") is { } uri)
        {
            var pattern = Pcre.Compile(uri);
            documents = documents.Where(document => Finds(pattern, document.Value["uri"])
                || (document.Value["uris"] is JsonArray uris && uris.Any(one => Finds(pattern, one))));
        }
        if (argument("label") is { } label)
        {
            documents = documents.Where(document => document.Value["labels"] is JsonObject labels && HasLabel(labels, label));
        }
        if (argument("filter") is { } filter)
        {
            foreach (var (property, values) in QueryHelpers.ParseQuery(filter))
            {
                if (property is not ("service_id" or "upstream_id"))
                {
                    throw new FormatException($"unknown filter \"{property}\": use service_id or upstream_id");
                }
                documents = documents.Where(document => ResourceBinder.Id(document.Value, property) == values[0]);
            }
        }
        return documents;
    }

    /// <summary><c>key</c>, or <c>key:value</c>.</summary>
    static bool HasLabel(JsonObject labels, string wanted) =>
        labels.ContainsKey(wanted)
        || (wanted.IndexOf(':', StringComparison.Ordinal) is > 0 and var colon && Text(labels[wanted[..colon]]) == wanted[(colon + 1)..]);

    static bool Finds(Regex pattern, JsonNode? value) => Text(value) is { } text && pattern.Finds(text);

    static string? Text(JsonNode? value) => value?.GetValueKind() == JsonValueKind.String ? value.GetValue<string>() : null;
}
