using System.Collections.Frozen;
using System.Text;

namespace Sluice.Net;

/// <summary>
/// Header or trailer fields as they were received: order, casing and duplicates kept. Bytes above 0x7F read as Latin-1, so that they go
/// through unchanged when they are written as Latin-1.
/// </summary>
internal sealed class HeaderFields
{
    public static readonly HeaderFields Empty = new([], []);

    readonly byte[] _bytes;
    readonly Place[] _places;

    internal HeaderFields(byte[] bytes, Place[] places)
    {
        _bytes = bytes;
        _places = places;
    }

    internal readonly record struct Place(int Name, int NameLength, int Value, int ValueLength);

    public int Count => _places.Length;

    public string Name(int index) => KnownNames.Text(NameBytes(index));

    public string Value(int index) => Encoding.Latin1.GetString(ValueBytes(index));

    public ReadOnlySpan<byte> NameBytes(int index) => _bytes.AsSpan(_places[index].Name, _places[index].NameLength);

    public ReadOnlySpan<byte> ValueBytes(int index) => _bytes.AsSpan(_places[index].Value, _places[index].ValueLength);

    public bool NameIs(int index, ReadOnlySpan<byte> name) => Ascii.EqualsIgnoreCase(NameBytes(index), name);

    /// <summary>The index of the first field of this name at or after <paramref name="from"/>, or -1.</summary>
    public int IndexOf(ReadOnlySpan<byte> name, int from = 0)
    {
        for (var index = from; index < _places.Length; index++)
        {
            if (_places[index].NameLength == name.Length && NameIs(index, name))
            {
                return index;
            }
        }
        return -1;
    }

    /// <summary>The value of the first field of this name, or null.</summary>
    public string? First(string name)
    {
        Span<byte> wanted = stackalloc byte[128];
        if (name.Length > wanted.Length)
        {
            return null;
        }
        var index = IndexOf(wanted[..Encoding.Latin1.GetBytes(name, wanted)]);
        return index < 0 ? null : Value(index);
    }

    /// <summary>Strings for the names that upstreams send all day, in the two usual casings.</summary>
    static class KnownNames
    {
        static readonly FrozenDictionary<string, string>.AlternateLookup<ReadOnlySpan<char>> names = Build();

        static FrozenDictionary<string, string>.AlternateLookup<ReadOnlySpan<char>> Build()
        {
            string[] known =
            [
                "Accept-Ranges", "Access-Control-Allow-Credentials", "Access-Control-Allow-Headers", "Access-Control-Allow-Methods",
                "Access-Control-Allow-Origin", "Access-Control-Expose-Headers", "Access-Control-Max-Age", "Age", "Alt-Svc", "Cache-Control",
                "Connection", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Length", "Content-Location",
                "Content-Range", "Content-Security-Policy", "Content-Type", "Date", "ETag", "Etag", "Expires", "Keep-Alive",
                "Last-Modified",
                "Link", "Location", "Pragma", "Referrer-Policy", "Retry-After", "Server", "Set-Cookie", "Strict-Transport-Security",
                "Trailer",
                "Transfer-Encoding", "Upgrade", "Vary", "Via", "WWW-Authenticate", "X-Accel-Buffering", "X-Content-Type-Options",
                "X-Frame-Options", "X-Powered-By", "X-Request-Id", "X-XSS-Protection",
            ];
            return known.Concat(known.Select(name => name.ToLowerInvariant())).Distinct().ToFrozenDictionary(name => name)
                .GetAlternateLookup<ReadOnlySpan<char>>();
        }

        public static string Text(ReadOnlySpan<byte> name)
        {
            Span<char> text = stackalloc char[32];
            if (name.Length > text.Length)
            {
                return Encoding.ASCII.GetString(name);
            }
            Encoding.ASCII.GetChars(name, text);
            return names.TryGetValue(text[..name.Length], out var known) ? known : new string(text[..name.Length]);
        }
    }
}
