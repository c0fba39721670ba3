using System.Buffers;
using System.Buffers.Binary;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;
using Sluice.Model;

namespace Sluice.Net;

/// <summary>
/// Who is behind a connection, told by whoever opened it in its first bytes: the PROXY protocol of HAProxy, versions 1 (text) and 2
/// (binary).
/// </summary>
/// <param name="Source">Null: the opener speaks for itself (LOCAL, UNKNOWN).</param>
internal sealed record ProxyHeader(IPEndPoint? Source, IPEndPoint? Destination)
{
    static ReadOnlySpan<byte> Signature => "\r\n\r\n\0\r\nQUIT\n"u8;

    /// <summary>The longest line of version 1.</summary>
    const int MaxLine = 107;

    /// <summary>Addresses and extensions of version 2; nobody needs more.</summary>
    const int MaxBinary = 4096;

    /// <summary>Null: more bytes are needed. False: this is no such header.</summary>
    public static bool? TryParse(ReadOnlySequence<byte> received, out ProxyHeader? header, out SequencePosition end)
    {
        header = null;
        end = received.Start;
        if (received.IsEmpty)
        {
            return null;
        }
        Span<byte> start = stackalloc byte[16];
        var known = (int)Math.Min(received.Length, 16);
        received.Slice(0, known).CopyTo(start);
        start = start[..known];
        if (start[0] == 'P')
        {
            return Text(received, out header, out end);
        }
        var compared = Math.Min(known, Signature.Length);
        if (!start[..compared].SequenceEqual(Signature[..compared]))
        {
            return false;
        }
        return known < 16 ? null : Binary(received, start, out header, out end);
    }

    static bool? Text(ReadOnlySequence<byte> received, out ProxyHeader? header, out SequencePosition end)
    {
        header = null;
        end = received.Start;
        var bytes = received.Slice(0, Math.Min(received.Length, MaxLine)).ToArray();
        var length = bytes.AsSpan().IndexOf("\r\n"u8);
        if (length < 0)
        {
            var prefix = "PROXY "u8[..Math.Min(6, bytes.Length)];
            return bytes.AsSpan().StartsWith(prefix) && bytes.Length < MaxLine ? null : false;
        }
        end = received.GetPosition(length + 2);
        var parts = Encoding.ASCII.GetString(bytes, 0, length).Split(' ');
        header = parts switch
        {
            ["PROXY", "UNKNOWN", ..] => new(null, null),
            ["PROXY", "TCP4" or "TCP6", var source, var destination, var sourcePort, var destinationPort]
                when EndPoint(source, sourcePort) is { } from && EndPoint(destination, destinationPort) is { } to => new(from, to),
            _ => null,
        };
        return header is not null;
    }

    static IPEndPoint? EndPoint(string address, string port) =>
        Cidr.TryParseAddress(address, out var ip) && ushort.TryParse(port, NumberStyles.None, CultureInfo.InvariantCulture, out var number)
        ? new(ip, number) : null;

    static bool? Binary(ReadOnlySequence<byte> received, ReadOnlySpan<byte> start, out ProxyHeader? header, out SequencePosition end)
    {
        header = null;
        end = received.Start;
        var length = BinaryPrimitives.ReadUInt16BigEndian(start[14..]);
        if (start[12] >> 4 != 2 || (start[12] & 15) > 1 || length > MaxBinary)
        {
            return false;
        }
        if (received.Length < 16 + length)
        {
            return null;
        }
        end = received.GetPosition(16 + length);
        var body = received.Slice(16, length).ToArray().AsSpan();
        var isLocal = (start[12] & 15) == 0;
        header = (start[13] >> 4) switch
        {
            _ when isLocal => new(null, null),
            1 when body.Length >= 12 => new(Address(body[..4], body[8..]), Address(body[4..8], body[10..])),
            2 when body.Length >= 36 => new(Address(body[..16], body[32..]), Address(body[16..32], body[34..])),
            0 or 3 => new(null, null),
            _ => null,
        };
        return header is not null;
    }

    static IPEndPoint Address(ReadOnlySpan<byte> address, ReadOnlySpan<byte> port) =>
        new(new IPAddress(address), BinaryPrimitives.ReadUInt16BigEndian(port));

    /// <summary>Version 1, as nginx writes it.</summary>
    public static byte[] Write(IPEndPoint source, IPEndPoint destination)
    {
        var (from, to) = (Plain(source.Address), Plain(destination.Address));
        if (from.AddressFamily != to.AddressFamily)
        {
            return "PROXY UNKNOWN\r\n"u8.ToArray();
        }
        var family = from.AddressFamily == AddressFamily.InterNetwork ? "TCP4" : "TCP6";
        return Encoding.ASCII.GetBytes($"PROXY {family} {from} {to} {source.Port} {destination.Port}\r\n");
    }

    static IPAddress Plain(IPAddress address) => address.IsIPv4MappedToIPv6 ? address.MapToIPv4() : address;
}
