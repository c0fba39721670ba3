namespace Sluice.Pipeline;

/// <summary>Values of a route's uri parameters, by name; the default value has none.</summary>
internal readonly struct UriParameters(UriPattern pattern, string path)
{
    /// <summary>The value, or null. Found again from the path, so that a match which nobody asks for costs nothing.</summary>
    public string? Get(string name) => pattern?.Value(path, name);
}

/// <summary>
/// A route's uri: <c>/exact</c>, <c>/prefix*</c>, and with parameters <c>/user/:name/files/*path</c>
/// (APISIX: router-radixtree; parameters work in every router mode here).
/// </summary>
internal sealed class UriPattern
{
    readonly Part[] _parts;

    enum PartKind
    {
        Literal,
        Segment,
        Rest,
    }

    readonly record struct Part(PartKind Kind, string Text);

    public UriPattern(string uri)
    {
        Uri = uri;
        List<Part> parts = [];
        var start = 0;
        for (var i = 0; i < uri.Length; i++)
        {
            var atSegment = i > 0 && uri[i - 1] == '/';
            if (uri[i] == ':' && atSegment && i + 1 < uri.Length && uri[i + 1] != '/')
            {
                parts.Add(new(PartKind.Literal, uri[start..i]));
                var end = uri.IndexOf('/', i);
                end = end < 0 ? uri.Length : end;
                parts.Add(new(PartKind.Segment, uri[(i + 1)..end]));
                start = end;
                i = end - 1;
            }
            else if (uri[i] == '*' && (atSegment || i == uri.Length - 1))
            {
                parts.Add(new(PartKind.Literal, uri[start..i]));
                parts.Add(new(PartKind.Rest, uri[(i + 1)..]));
                start = uri.Length;
                break;
            }
        }
        if (start < uri.Length || parts.Count == 0)
        {
            parts.Add(new(PartKind.Literal, uri[start..]));
        }
        _parts = [.. parts];
    }

    public string Uri { get; }

    public bool IsExact => _parts is [{ Kind: PartKind.Literal }];

    /// <summary>What every matching path starts with.</summary>
    public string LiteralPrefix => _parts[0].Text;

    /// <summary>True for <c>/prefix*</c>: a path that starts with the literal prefix matches, nothing more to check.</summary>
    public bool IsPlainPrefix => _parts is [_, { Kind: PartKind.Rest }];

    public bool Matches(ReadOnlySpan<char> path) => Walk(path, null, out _);

    /// <summary>The value of a parameter; <c>*name</c> may be empty.</summary>
    public string? Value(string path, string name) =>
        Walk(path, name, out var value) && value is { } range ? path[range] : null;

    bool Walk(ReadOnlySpan<char> path, string? wanted, out Range? value)
    {
        value = null;
        var at = 0;
        foreach (var part in _parts)
        {
            var rest = path[at..];
            switch (part.Kind)
            {
                case PartKind.Literal:
                    if (!rest.StartsWith(part.Text, StringComparison.Ordinal))
                    {
                        return false;
                    }
                    at += part.Text.Length;
                    break;
                case PartKind.Segment:
                    var slash = rest.IndexOf('/');
                    var length = slash < 0 ? rest.Length : slash;
                    if (length == 0)
                    {
                        return false;
                    }
                    value = part.Text == wanted ? at..(at + length) : value;
                    at += length;
                    break;
                case PartKind.Rest:
                    value = part.Text == wanted ? at..path.Length : value;
                    at = path.Length;
                    break;
            }
        }
        return at == path.Length;
    }
}
