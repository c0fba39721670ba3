using System.Net;

namespace Sluice.Pipeline;

/// <summary>A query string's arguments, without touching what is not asked for.</summary>
public static class QueryArguments
{
    /// <summary>The decoded value of the first argument of this name; null when there is none.</summary>
    public static string? Find(string args, string name)
    {
        foreach (var range in args.AsSpan().Split('&'))
        {
            if (IsNamed(args.AsSpan(range), name, out var value))
            {
                return value;
            }
        }
        return null;
    }

    /// <summary>The query string without any argument of this name; the others stay as they are written.</summary>
    public static string Without(string args, string name) =>
        string.Join('&', args.Split('&').Where(pair => !IsNamed(pair, name, out _)));

    static bool IsNamed(ReadOnlySpan<char> pair, string name, out string value)
    {
        var equals = pair.IndexOf('=');
        var key = equals < 0 ? pair : pair[..equals];
        var found = key.SequenceEqual(name) || (key.ContainsAny('%', '+') && WebUtility.UrlDecode(key.ToString()) == name);
        value = found && equals >= 0 ? WebUtility.UrlDecode(pair[(equals + 1)..].ToString()) : "";
        return found;
    }
}
