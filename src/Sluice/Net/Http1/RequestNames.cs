using System.Buffers;
using System.Collections.Frozen;
using System.Text;

namespace Sluice.Net.Http1;

/// <summary>Strings for the methods and header names that clients send all day, in the two usual casings.</summary>
static class RequestNames
{
    /// <summary>Control characters other than HTAB: no header's value has them.</summary>
    public static readonly SearchValues<char> Controls =
        SearchValues.Create([.. Enumerable.Range(0, 32).Where(static code => code != '\t').Select(static code => (char)code), '\x7f']);

    static readonly FrozenDictionary<string, string>.AlternateLookup<ReadOnlySpan<char>> s_names = Build();

    static FrozenDictionary<string, string>.AlternateLookup<ReadOnlySpan<char>> Build()
    {
        string[] known =
        [
            "Accept", "Accept-Charset", "Accept-Encoding", "Accept-Language", "Access-Control-Request-Headers",
            "Access-Control-Request-Method",
            "Authorization", "Cache-Control", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Cookie", "DNT", "Date",
            "Expect", "Host",
            "If-Match", "If-Modified-Since", "If-None-Match", "If-Range", "If-Unmodified-Since", "Keep-Alive", "Last-Event-ID", "Origin",
            "Pragma", "Priority",
            "Proxy-Connection", "Range", "Referer", "Sec-Fetch-Dest", "Sec-Fetch-Mode", "Sec-Fetch-Site", "Sec-Fetch-User",
            "Sec-WebSocket-Extensions",
            "Sec-WebSocket-Key", "Sec-WebSocket-Protocol", "Sec-WebSocket-Version", "TE", "Trailer", "Transfer-Encoding", "Upgrade",
            "Upgrade-Insecure-Requests",
            "User-Agent", "Via", "X-API-KEY", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Proto", "X-Real-IP",
            "X-Request-Id",
            "X-Requested-With", "apikey", "traceparent", "tracestate",
        ];
        return known.Concat(known.Select(static name => name.ToLowerInvariant())).Distinct().ToFrozenDictionary(static name => name)
            .GetAlternateLookup<ReadOnlySpan<char>>();
    }

    public static string Text(ReadOnlySpan<byte> name)
    {
        Span<char> text = stackalloc char[32];
        if (name.Length > text.Length)
        {
            return Encoding.ASCII.GetString(name);
        }
        text = text[..Encoding.ASCII.GetChars(name, text)];
        return s_names.TryGetValue(text, out var known) ? known : new string(text);
    }

    public static string Method(ReadOnlySpan<byte> method) => method switch
    {
        [(byte)'G', (byte)'E', (byte)'T'] => "GET",
        [(byte)'P', (byte)'U', (byte)'T'] => "PUT",
        [(byte)'P', (byte)'O', (byte)'S', (byte)'T'] => "POST",
        [(byte)'H', (byte)'E', (byte)'A', (byte)'D'] => "HEAD",
        _ when method.SequenceEqual("OPTIONS"u8) => "OPTIONS",
        _ when method.SequenceEqual("DELETE"u8) => "DELETE",
        _ when method.SequenceEqual("PATCH"u8) => "PATCH",
        _ when method.SequenceEqual("CONNECT"u8) => "CONNECT",
        _ => Encoding.ASCII.GetString(method),
    };
}
