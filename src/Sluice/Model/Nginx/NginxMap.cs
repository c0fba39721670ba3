using System.Text.RegularExpressions;

namespace Sluice.Model.Nginx;

/// <summary>
/// A <c>map</c>: a variable whose value follows from another text. Compared are first the whole text without regard to case, then, with
/// <c>hostnames</c>, the longest leading and the longest trailing wildcard, then regular expressions in their order.
/// </summary>
internal sealed class NginxMap
{
    readonly Dictionary<string, string> _exact = new(StringComparer.OrdinalIgnoreCase);
    readonly Dictionary<string, string> _leading = new(StringComparer.OrdinalIgnoreCase);
    readonly Dictionary<string, string> _trailing = new(StringComparer.OrdinalIgnoreCase);
    readonly List<(Regex Pattern, string Value)> _patterns = [];
    string? _default;
    bool _hostnames;

    NginxMap(string source, string name)
    {
        Source = source;
        Name = name;
    }

    /// <summary>The text that is looked up, with its variables.</summary>
    public string Source { get; }

    /// <summary>The variable that it makes, without the dollar sign.</summary>
    public string Name { get; }

    /// <summary>Every text with variables in it: the source and the values.</summary>
    internal IEnumerable<string> Texts =>
        [Source, .. _exact.Values, .. _leading.Values, .. _trailing.Values, .. _patterns.Select(pattern => pattern.Value), _default ?? ""];

    /// <summary>The value for the expanded source, with its own variables not yet expanded.</summary>
    public string Find(string text)
    {
        if (_exact.TryGetValue(text, out var value) || (_hostnames && FindHost(text, out value)))
        {
            return value;
        }
        foreach (var (pattern, ofPattern) in _patterns)
        {
            if (pattern.Finds(text))
            {
                return ofPattern;
            }
        }
        return _default ?? "";
    }

    bool FindHost(string host, [System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out string? value)
    {
        for (var dot = host.IndexOf('.', StringComparison.Ordinal); dot >= 0; dot = host.IndexOf('.', dot + 1))
        {
            if (_leading.TryGetValue(host[(dot + 1)..], out value))
            {
                return true;
            }
        }
        for (var dot = host.LastIndexOf('.'); dot > 0; dot = host.LastIndexOf('.', dot - 1))
        {
            if (_trailing.TryGetValue(host[..dot], out value))
            {
                return true;
            }
        }
        value = null;
        return false;
    }

    /// <summary>Null when it cannot be used; what is wrong was said.</summary>
    internal static NginxMap? Read(NginxDirective directive, Action<NginxDirective, string> error)
    {
        if (directive.Arguments is not [var source, ['$', .. { Length: > 0 } name]]
            || !name.All(c => char.IsAsciiLetterOrDigit(c) || c == '_'))
        {
            error(directive, "\"map\" takes a text and the variable that it makes: map $http_upgrade $connection_upgrade { … }");
            return null;
        }
        var map = new NginxMap(source, name);
        var sound = true;
        foreach (var line in directive.Block!)
        {
            if (map.Add(line) is { } wrong)
            {
                error(line, wrong);
                sound = false;
            }
        }
        return sound ? map : null;
    }

    /// <summary>What is wrong with the line; null when nothing is.</summary>
    string? Add(NginxDirective line)
    {
        if (line.Arguments.Length == 0)
        {
            switch (line.Name)
            {
                case "hostnames":
                    _hostnames = true;
                    return null;
                case "volatile":
                    // values are never kept
                    return null;
            }
        }
        if (line.Arguments is not [var value] || line.Block is not null)
        {
            return "invalid number of the map parameters";
        }
        switch (line.Name)
        {
            case "include":
                return "\"include\" inside map is not read here: write its lines into the map";
            case "default":
                return _default is null ? Done(_default = value) : "duplicate default map parameter";
            case ['~', '*', .. var pattern]:
                return AddPattern(pattern, ignoreCase: true, value);
            case ['~', .. var pattern]:
                return AddPattern(pattern, ignoreCase: false, value);
            case ['*', '.', .. { Length: > 0 } suffix] when _hostnames:
                return AddTo(_leading, suffix, value, line.Name);
            case ['.', .. { Length: > 0 } suffix] when _hostnames:
                return AddTo(_exact, suffix, value, line.Name) ?? AddTo(_leading, suffix, value, line.Name);
            case [.. { Length: > 0 } prefix, '.', '*'] when _hostnames:
                return AddTo(_trailing, prefix, value, line.Name);
            case ['\\', .. var text]:
                return AddTo(_exact, text, value, line.Name);
            default:
                return AddTo(_exact, line.Name, value, line.Name);
        }
    }

    static string? Done(string _) => null;

    static string? AddTo(Dictionary<string, string> values, string key, string value, string written) =>
        values.TryAdd(key, value) ? null : $"conflicting parameter \"{written}\"";

    string? AddPattern(string pattern, bool ignoreCase, string value)
    {
        try
        {
            _patterns.Add((Pcre.Compile(pattern, ignoreCase), value));
            return null;
        }
        catch (FormatException e)
        {
            return e.Message;
        }
    }
}
