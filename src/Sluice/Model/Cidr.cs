using System.Buffers.Binary;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;

namespace Sluice.Model;

/// <summary>
/// An address range as <c>10.0.0.0/8</c>, <c>2001:db8::/32</c> or a plain address. An IPv4-mapped IPv6 address counts as the IPv4 address
/// that it carries; an IPv6 range (even <c>::/0</c>) never contains IPv4 addresses.
/// </summary>
public readonly record struct Cidr
{
    readonly UInt128 _network; // IPv4 as its mapped IPv6 address
    readonly int _prefix;      // 0–128; an IPv4 /8 is 104 here

    Cidr(UInt128 network, int prefix)
    {
        _prefix = prefix;
        _network = network & Mask(prefix);
    }

    internal UInt128 First => _network;

    internal UInt128 Last => _network | ~Mask(_prefix);

    internal bool IsIPv4 => _prefix >= 96 && IsMapped(_network);

    public static bool TryParse(ReadOnlySpan<char> text, out Cidr cidr)
    {
        cidr = default;
        var slash = text.IndexOf('/');
        if (!TryParseAddress(slash < 0 ? text : text[..slash], out var address))
        {
            return false;
        }
        var bits = address.AddressFamily == AddressFamily.InterNetwork ? 32 : 128;
        var prefix = bits;
        if (slash >= 0
            && !(int.TryParse(text[(slash + 1)..], NumberStyles.None, CultureInfo.InvariantCulture, out prefix) && prefix <= bits))
        {
            return false;
        }
        cidr = new Cidr(Bits(address), prefix + 128 - bits);
        return true;
    }

    /// <summary>An address in full: no <c>127.1</c>, no octal or hexadecimal IPv4, no brackets, no scope.</summary>
    public static bool TryParseAddress(ReadOnlySpan<char> text, out IPAddress address)
    {
        address = IPAddress.None;
        var plausible = text.Contains(':') ? text.IndexOfAny("[]%/ ") < 0 : IsDottedQuad(text);
        if (!plausible || !IPAddress.TryParse(text, out var parsed))
        {
            return false;
        }
        address = parsed;
        return true;
    }

    public bool Contains(IPAddress address)
    {
        var bits = Bits(address);
        return (bits & Mask(_prefix)) == _network && IsMapped(bits) == IsIPv4;
    }

    public override string ToString()
    {
        Span<byte> bytes = stackalloc byte[16];
        BinaryPrimitives.WriteUInt128BigEndian(bytes, _network);
        return IsIPv4 ? $"{new IPAddress(bytes[12..])}/{_prefix - 96}" : $"{new IPAddress(bytes)}/{_prefix}";
    }

    internal static bool IsMapped(UInt128 bits) => bits >> 32 == 0xffff;

    internal static UInt128 Bits(IPAddress address)
    {
        Span<byte> bytes = stackalloc byte[16];
        if (address.AddressFamily == AddressFamily.InterNetwork)
        {
            address.TryWriteBytes(bytes[12..], out _);
            bytes[10] = bytes[11] = 0xff;
        }
        else
        {
            address.TryWriteBytes(bytes, out _);
        }
        return BinaryPrimitives.ReadUInt128BigEndian(bytes);
    }

    static UInt128 Mask(int prefix) => prefix == 0 ? UInt128.Zero : UInt128.MaxValue << (128 - prefix);

    static bool IsDottedQuad(ReadOnlySpan<char> text)
    {
        var parts = 0;
        foreach (var range in text.Split('.'))
        {
            var part = text[range];
            var good = part.Length is >= 1 and <= 3 && !part.ContainsAnyExceptInRange('0', '9')
                && (part.Length == 1 || part[0] != '0') && int.Parse(part, NumberStyles.None, CultureInfo.InvariantCulture) <= 255;
            if (!good || ++parts > 4)
            {
                return false;
            }
        }
        return parts == 4;
    }
}

/// <summary>A list of ranges, asked in logarithmic time.</summary>
[JsonConverter(typeof(CidrSetConverter))]
public sealed class CidrSet
{
    readonly (UInt128 First, UInt128 Last)[] _ipv4;
    readonly (UInt128 First, UInt128 Last)[] _ipv6;

    public CidrSet(IEnumerable<Cidr> ranges)
    {
        var all = ranges.ToArray();
        _ipv4 = Merge(all.Where(range => range.IsIPv4));
        _ipv6 = Merge(all.Where(range => !range.IsIPv4));
    }

    /// <exception cref="FormatException">Names the first text that is no address or range.</exception>
    public static CidrSet Parse(IEnumerable<string> texts) => new(texts.Select(text =>
        Cidr.TryParse(text, out var cidr) ? cidr : throw new FormatException($"invalid ip address or range: {text}")).ToArray());

    public bool IsEmpty => _ipv4.Length + _ipv6.Length == 0;

    public bool Contains(IPAddress address)
    {
        var bits = Cidr.Bits(address);
        var ranges = Cidr.IsMapped(bits) ? _ipv4 : _ipv6;
        int low = 0, high = ranges.Length - 1;
        while (low <= high)
        {
            var middle = (low + high) / 2;
            if (bits < ranges[middle].First)
            {
                high = middle - 1;
            }
            else if (bits > ranges[middle].Last)
            {
                low = middle + 1;
            }
            else
            {
                return true;
            }
        }
        return false;
    }

    static (UInt128 First, UInt128 Last)[] Merge(IEnumerable<Cidr> ranges)
    {
        var merged = new List<(UInt128 First, UInt128 Last)>();
        foreach (var range in ranges.OrderBy(range => range.First))
        {
            if (merged.Count > 0 && range.First <= merged[^1].Last)
            {
                merged[^1] = (merged[^1].First, UInt128.Max(merged[^1].Last, range.Last));
            }
            else
            {
                merged.Add((range.First, range.Last));
            }
        }
        return [.. merged];
    }
}

sealed class CidrSetConverter : ParsedConverter<CidrSet>
{
    protected override CidrSet Parse(JsonNode value) => new(value.AsArray().Select(item => item!.GetValue<string>()).Select(text =>
        Cidr.TryParse(text, out var cidr) ? cidr : throw new FormatException($"invalid ip address: {text}")).ToArray());
}
