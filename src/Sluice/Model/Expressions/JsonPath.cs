using System.Globalization;
using System.Text.Json.Nodes;

namespace Sluice.Model.Expressions;

/// <summary>
/// The part of JSONPath that conditions on a request's body use, without the leading <c>$.</c>: <c>a.b</c>, <c>a[0]</c>, <c>a[*].b</c>,
/// <c>a.*</c>, <c>a..b</c>,
/// <c>['a b']</c>.
/// </summary>
sealed class JsonPath
{
    readonly Step[] _steps;

    /// <param name="Name">Null: an index or everything.</param>
    /// <param name="Deep">Of the value and of all that is in it, too.</param>
    readonly record struct Step(string? Name, int? Index, bool Deep);

    JsonPath(Step[] steps) => _steps = steps;

    /// <summary>Several values may be found.</summary>
    public bool IsQuery => Array.Exists(_steps, step => step.Deep || step.Name is null);

    /// <summary>What is wrong with a path; null when nothing is.</summary>
    public static string? Check(string text)
    {
        try
        {
            Parse(text);
            return null;
        }
        catch (FormatException e)
        {
            return e.Message;
        }
    }

    /// <exception cref="FormatException">It is no path; the message says where.</exception>
    public static JsonPath Parse(string text)
    {
        var steps = new List<Step>();
        var at = 0;
        while (at < text.Length)
        {
            var deep = false;
            if (text[at] == '.')
            {
                at++;
                if (at < text.Length && text[at] == '.')
                {
                    deep = true;
                    at++;
                }
            }
            else if (text[at] != '[' && steps.Count > 0)
            {
                throw Wrong(text, at);
            }
            steps.Add(at < text.Length && text[at] == '[' ? Bracket(text, ref at, deep) : Word(text, ref at, deep));
        }
        return steps.Count > 0 ? new(steps.ToArray()) : throw Wrong(text, 0);
    }

    static Step Word(string text, ref int at, bool deep)
    {
        var end = at;
        while (end < text.Length && text[end] is not ('.' or '[' or ']'))
        {
            end++;
        }
        var name = text[at..end];
        if (name.Length == 0 || (end < text.Length && text[end] == ']'))
        {
            throw Wrong(text, at);
        }
        at = end;
        return name == "*" ? new(null, null, deep) : new(name, null, deep);
    }

    static Step Bracket(string text, ref int at, bool deep)
    {
        var end = text.IndexOf(']', at);
        if (end < 0)
        {
            throw Wrong(text, at);
        }
        var inner = text[(at + 1)..end].Trim();
        var step = inner switch
        {
            "*" => new Step(null, null, deep),
            ['\'', .. var quoted, '\''] => new Step(quoted, null, deep),
            ['"', .. var quoted, '"'] => new Step(quoted, null, deep),
            _ when int.TryParse(inner, NumberStyles.None, CultureInfo.InvariantCulture, out var index) => new Step(null, index, deep),
            _ => throw Wrong(text, at),
        };
        at = end + 1;
        return step;
    }

    static FormatException Wrong(string text, int at) => new($"invalid expression near \"{text[at..]}\"");

    /// <summary>What the path leads to, in the order of the document.</summary>
    public IEnumerable<JsonNode?> Find(JsonNode? root)
    {
        IEnumerable<JsonNode?> found = [root];
        foreach (var step in _steps)
        {
            found = (step.Deep ? found.SelectMany(WithAllBelow) : found).SelectMany(node => Children(node, step));
        }
        return found;
    }

    static IEnumerable<JsonNode?> Children(JsonNode? node, Step step) => (node, step) switch
    {
        (JsonObject map, { Name: { } name }) => map.TryGetPropertyValue(name, out var value) ? [value] : [],
        (JsonArray list, { Index: { } index }) => index < list.Count ? [list[index]] : [],
        (JsonObject map, { Name: null, Index: null }) => map.Select(pair => pair.Value),
        (JsonArray list, { Name: null, Index: null }) => list,
        _ => [],
    };

    static IEnumerable<JsonNode?> WithAllBelow(JsonNode? node)
    {
        var open = new Stack<JsonNode?>([node]);
        while (open.TryPop(out var next))
        {
            yield return next;
            foreach (var child in Children(next, default).Reverse())
            {
                open.Push(child);
            }
        }
    }
}
