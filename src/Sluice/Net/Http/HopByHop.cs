using System.Text;
using Microsoft.Extensions.Primitives;

namespace Sluice.Net.Http;

/// <summary>Headers that belong to one connection, or to the message's way over it, and never go on with the message.</summary>
static class HopByHop
{
    /// <summary>A header of one connection (RFC 9110, section 7.6.1), or one that frames the body.</summary>
    public static bool Contains(string name) => name.Length switch
    {
        7 => Is(name, "Upgrade"),
        10 => Is(name, "Connection") || Is(name, "Keep-Alive"),
        14 => Is(name, "Content-Length"),
        16 => Is(name, "Proxy-Connection"),
        17 => Is(name, "Transfer-Encoding"),
        _ => false,
    };

    /// <summary>The same for requests, which also have headers that are answered where they arrive.</summary>
    public static bool ContainsOfRequest(string name) => name.Length switch
    {
        2 => Is(name, "TE"),
        6 => Is(name, "Expect"),
        14 when Is(name, "HTTP2-Settings") => true,
        _ => Contains(name),
    };

    /// <summary>A header that says where a body ends (RFC 9112, section 6): the gateway's own, nobody else sets it.</summary>
    public static bool IsFraming(string name) => Is(name, "Transfer-Encoding") || Is(name, "Content-Length");

    /// <summary>A header that a trailer must not be (RFC 9110, section 6.5.1), since it would come too late or say something of the
    /// connection.</summary>
    public static bool IsForbiddenTrailer(ReadOnlySpan<byte> name) => name.Length switch
    {
        2 => Ascii.EqualsIgnoreCase(name, "TE"u8),
        4 => Ascii.EqualsIgnoreCase(name, "Host"u8),
        7 => Ascii.EqualsIgnoreCase(name, "Trailer"u8) || Ascii.EqualsIgnoreCase(name, "Upgrade"u8),
        10 => Ascii.EqualsIgnoreCase(name, "Connection"u8) || Ascii.EqualsIgnoreCase(name, "Keep-Alive"u8),
        14 => Ascii.EqualsIgnoreCase(name, "Content-Length"u8),
        17 => Ascii.EqualsIgnoreCase(name, "Transfer-Encoding"u8),
        _ => false,
    };

    /// <summary>Whether a Connection header names this one as belonging to the connection.</summary>
    public static bool IsNamed(StringValues connection, string name)
    {
        foreach (var value in connection)
        {
            foreach (var range in value.AsSpan().Split(','))
            {
                if (value.AsSpan(range).Trim().Equals(name, StringComparison.OrdinalIgnoreCase))
                {
                    return true;
                }
            }
        }
        return false;
    }

    /// <summary>Whether a list of tokens (Connection, Upgrade) has this one.</summary>
    public static bool HasToken(ReadOnlySpan<byte> list, ReadOnlySpan<byte> token)
    {
        foreach (var range in list.Split((byte)','))
        {
            if (Ascii.EqualsIgnoreCase(list[range].Trim(" \t"u8), token))
            {
                return true;
            }
        }
        return false;
    }

    static bool Is(string name, string other) => HeaderName.Is(name, other);
}
