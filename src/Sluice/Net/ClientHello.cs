using System.Buffers;
using System.Buffers.Binary;
using System.Text;
using Sluice.Net.Http;

namespace Sluice.Net;

/// <summary>
/// What a TLS client says first (RFC 8446, section 4.1.2), as far as it decides which certificate it is shown.
/// </summary>
/// <param name="ServerName">Lower case, without a dot at the end; null when the client names none.</param>
/// <param name="SignatureSchemes">Code points of <c>signature_algorithms</c>, in the client's order.</param>
/// <param name="CipherSuites">Code points, in the client's order.</param>
internal sealed record ClientHello(
    string? ServerName, IReadOnlyList<ushort> SignatureSchemes, IReadOnlyList<ushort> CipherSuites, bool OffersTls13,
    IReadOnlyList<string> Protocols)
{
    /// <summary>No sound client says more.</summary>
    public const int MaxBytes = 64 * 1024;

    const byte Handshake = 22;
    const int RecordHeader = 5;

    /// <summary>Whether a client with these signatures takes an ECDSA certificate on a P-256, P-384 or P-521 curve.</summary>
    public bool TakesEcdsa =>
        (SignatureSchemes.Any(scheme => scheme is 0x0403 or 0x0503 or 0x0603)
            || (SignatureSchemes.Count == 0 && !OffersTls13))
        && (OffersTls13 || CipherSuites.Any(IsEcdsaSuite));

    /// <summary>Suites of TLS 1.2 that ask for an ECDSA certificate.</summary>
    static bool IsEcdsaSuite(ushort suite) =>
        suite is (>= 0xC006 and <= 0xC00A) or 0xC023 or 0xC024 or 0xC02B or 0xC02C or 0xCCA9 or (>= 0xC0AC and <= 0xC0AF);

    /// <summary>Null: more bytes are needed. False with a null hello: this is not TLS.</summary>
    public static bool? TryParse(ReadOnlySequence<byte> received, out ClientHello? hello)
    {
        hello = null;
        var reader = new SequenceReader<byte>(received);
        // the message may be spread over several records
        var message = new ArrayBufferWriter<byte>(512);
        Span<byte> header = stackalloc byte[RecordHeader];
        while (true)
        {
            if (!reader.TryPeek(out var type))
            {
                return null;
            }
            if (type != Handshake)
            {
                return false;
            }
            if (!reader.TryCopyTo(header))
            {
                return null;
            }
            var length = BinaryPrimitives.ReadUInt16BigEndian(header[3..]);
            if (header[1] != 3 || length is 0 or > 16384)
            {
                return false;
            }
            reader.Advance(RecordHeader);
            var take = (int)Math.Min(length, reader.Remaining);
            reader.UnreadSequence.Slice(0, take).CopyTo(message.GetSpan(take));
            message.Advance(take);
            var done = Message(message.WrittenSpan, out hello);
            if (done is not null || take < length)
            {
                return done;
            }
            reader.Advance(take);
        }
    }

    static bool? Message(ReadOnlySpan<byte> message, out ClientHello? hello)
    {
        hello = null;
        if (message.Length < 4)
        {
            return message.Length > 0 && message[0] != 1 ? false : null;
        }
        var length = (message[1] << 16) | (message[2] << 8) | message[3];
        if (message[0] != 1 || length > MaxBytes)
        {
            return false;
        }
        if (message.Length < 4 + length)
        {
            return null;
        }
        hello = Body(message.Slice(4, length));
        return hello is not null;
    }

    static ClientHello? Body(ReadOnlySpan<byte> body)
    {
        // version, random
        if (body.Length < 34)
        {
            return null;
        }
        var rest = body[34..];
        if (!TakeVector(ref rest, 1, out _) || !TakeVector(ref rest, 2, out var suites) || !TakeVector(ref rest, 1, out _))
        {
            return null;
        }
        string? name = null;
        ushort[] signatures = [];
        var tls13 = false;
        List<string> protocols = [];
        if (!rest.IsEmpty)
        {
            if (!TakeVector(ref rest, 2, out var extensions))
            {
                return null;
            }
            rest = extensions;
        }
        while (rest.Length >= 4)
        {
            var type = BinaryPrimitives.ReadUInt16BigEndian(rest);
            rest = rest[2..];
            if (!TakeVector(ref rest, 2, out var extension))
            {
                return null;
            }
            switch (type)
            {
                case 0:
                    name = Name(extension);
                    break;
                case 13 when TakeVector(ref extension, 2, out var list):
                    signatures = Numbers(list);
                    break;
                case 16 when TakeVector(ref extension, 2, out var list):
                    while (TakeVector(ref list, 1, out var protocol))
                    {
                        protocols.Add(Encoding.ASCII.GetString(protocol));
                    }
                    break;
                case 43 when TakeVector(ref extension, 1, out var list):
                    tls13 = Numbers(list).Contains((ushort)0x0304);
                    break;
            }
        }
        return new(name, signatures, Numbers(suites), tls13, protocols);
    }

    /// <summary>The host_name of a server_name extension; what is no DNS name counts as none.</summary>
    static string? Name(ReadOnlySpan<byte> extension)
    {
        if (!TakeVector(ref extension, 2, out var list) || list.Length < 1 || list[0] != 0)
        {
            return null;
        }
        list = list[1..];
        return TakeVector(ref list, 2, out var bytes) && bytes.Length is > 0 and <= 255 && Ascii.IsValid(bytes)
            && bytes.IndexOfAnyInRange((byte)0, (byte)' ') < 0
            ? HostName.Of(Encoding.ASCII.GetString(bytes))
            : null;
    }

    static ushort[] Numbers(ReadOnlySpan<byte> list)
    {
        var numbers = new ushort[list.Length / 2];
        for (var i = 0; i < numbers.Length; i++)
        {
            numbers[i] = BinaryPrimitives.ReadUInt16BigEndian(list[(2 * i)..]);
        }
        return numbers;
    }

    /// <summary>Takes a vector with a length of one or two bytes in front.</summary>
    static bool TakeVector(scoped ref ReadOnlySpan<byte> from, int lengthBytes, out ReadOnlySpan<byte> vector)
    {
        vector = default;
        if (from.Length < lengthBytes)
        {
            return false;
        }
        var length = lengthBytes == 1 ? from[0] : BinaryPrimitives.ReadUInt16BigEndian(from);
        if (from.Length < lengthBytes + length)
        {
            return false;
        }
        vector = from.Slice(lengthBytes, length);
        from = from[(lengthBytes + length)..];
        return true;
    }
}
