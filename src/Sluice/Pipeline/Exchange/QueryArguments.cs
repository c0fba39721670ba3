using System.Globalization;
using System.Net;

namespace Sluice.Pipeline;

/// <summary>A query string's arguments, without touching what is not asked for.</summary>
internal static class QueryArguments
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

    /// <summary>The same for variables (<c>arg_NAME</c> of APISIX): each character of the value is a byte of it; null also where there is
    /// no equals sign.</summary>
    public static string? FindWire(string args, string name)
    {
        foreach (var range in args.AsSpan().Split('&'))
        {
            var pair = args.AsSpan(range);
            var equals = pair.IndexOf('=');
            if (equals >= 0 && IsNamed(pair[..equals], name, out _))
            {
                return Bytes(pair[(equals + 1)..]);
            }
        }
        return null;
    }

    static string Bytes(ReadOnlySpan<char> encoded)
    {
        if (!encoded.ContainsAny('%', '+'))
        {
            return encoded.ToString();
        }
        var decoded = new char[encoded.Length];
        var count = 0;
        for (var i = 0; i < encoded.Length; i++)
        {
            if (encoded[i] == '%' && i + 2 < encoded.Length
                && byte.TryParse(encoded.Slice(i + 1, 2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var value))
            {
                decoded[count++] = (char)value;
                i += 2;
            }
            else
            {
                decoded[count++] = encoded[i] == '+' ? ' ' : encoded[i];
            }
        }
        return new(decoded, 0, count);
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
