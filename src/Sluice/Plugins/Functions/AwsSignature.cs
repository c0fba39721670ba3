using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace Sluice.Plugins.Functions;

/// <summary>AWS's signature of a request, version 4, in a header.</summary>
static class AwsSignature
{
    const string Algorithm = "AWS4-HMAC-SHA256";

    /// <summary>Adds <c>X-Amz-Date</c> and <c>authorization</c>. Every other header that is there is signed, but
    /// <c>Connection</c>.</summary>
    /// <param name="call">Its query becomes the one that is signed: sorted, and everything encoded.</param>
    public static void Sign(FunctionRequest call, string accessKey, string secretKey, string region, string service, DateTimeOffset now)
    {
        var time = now.UtcDateTime.ToString("yyyyMMdd'T'HHmmss'Z'", CultureInfo.InvariantCulture);
        var scope = $"{time[..8]}/{region}/{service}/aws4_request";
        call.Headers["X-Amz-Date"] = time;
        call.Query = CanonicalQuery(call.Query);
        var headers = call.Headers.Where(static header => !header.Key.Equals("Connection", StringComparison.OrdinalIgnoreCase))
            .Select(static header => (Name: header.Key.ToLowerInvariant(), Value: Collapse(header.Value)))
            .OrderBy(static header => header.Name, StringComparer.Ordinal).ToArray();
        var signed = string.Join(';', headers.Select(static header => header.Name));
        var canonical = new StringBuilder().Append(call.Method).Append('\n').Append(CanonicalPath(call.Path)).Append('\n')
            .Append(call.Query).Append('\n');
        foreach (var (name, value) in headers)
        {
            canonical.Append(name).Append(':').Append(value).Append('\n');
        }
        canonical.Append('\n').Append(signed).Append('\n').Append(Convert.ToHexStringLower(SHA256.HashData(call.Body.Span)));
        var toSign = $"{Algorithm}\n{time}\n{scope}\n{Convert.ToHexStringLower(SHA256.HashData(Bytes(canonical.ToString())))}";
        var key = Hmac(Hmac(Hmac(Hmac(Bytes($"AWS4{secretKey}"), time[..8]), region), service), "aws4_request");
        call.Headers["Authorization"] =
            $"{Algorithm} Credential={accessKey}/{scope}, SignedHeaders={signed}, Signature={Convert.ToHexStringLower(Hmac(key, toSign))}";
    }

    static byte[] Hmac(byte[] key, string text) => HMACSHA256.HashData(key, Bytes(text));

    static byte[] Bytes(string text) => Encoding.UTF8.GetBytes(text);

    /// <summary>Dots and doubled slashes are gone, and what the path has on the wire is encoded once more.</summary>
    static string CanonicalPath(string path)
    {
        var segments = new List<string>();
        foreach (var segment in path.Split('/'))
        {
            switch (segment)
            {
                case "" or ".":
                    break;
                case "..":
                    segments.RemoveRange(Math.Max(0, segments.Count - 1), Math.Min(1, segments.Count));
                    break;
                default:
                    segments.Add(Uri.EscapeDataString(segment));
                    break;
            }
        }
        var isDirectory = segments.Count > 0
            && (path.EndsWith('/') || path.EndsWith("/.", StringComparison.Ordinal) || path.EndsWith("/..", StringComparison.Ordinal));
        return $"/{string.Join('/', segments)}{(isDirectory ? "/" : "")}";
    }

    static string CanonicalQuery(string query) => string.Join('&', query.Split('&', StringSplitOptions.RemoveEmptyEntries)
        .Select(static pair => pair.IndexOf('=', StringComparison.Ordinal) is >= 0 and var at
            ? (Encode(pair[..at]), Encode(pair[(at + 1)..])) : (Encode(pair), ""))
        .Order(PairComparer).Select(static pair => $"{pair.Item1}={pair.Item2}"));

    static readonly Comparer<(string Name, string Value)> PairComparer = Comparer<(string Name, string Value)>.Create(static (one, other) =>
        string.CompareOrdinal(one.Name, other.Name) is not 0 and var order ? order : string.CompareOrdinal(one.Value, other.Value));

    /// <summary>Byte by byte, whatever they are.</summary>
    static string Encode(string text)
    {
        var encoded = new StringBuilder();
        var bytes = Bytes(text);
        for (var i = 0; i < bytes.Length; i++)
        {
            var one = bytes[i];
            if (one == '%' && i + 2 < bytes.Length
                && byte.TryParse(bytes.AsSpan(i + 1, 2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var written))
            {
                one = written;
                i += 2;
            }
            else if (one == '+')
            {
                one = (byte)' ';
            }
            if (char.IsAsciiLetterOrDigit((char)one) || one is (byte)'-' or (byte)'_' or (byte)'.' or (byte)'~')
            {
                encoded.Append((char)one);
            }
            else
            {
                encoded.Append(CultureInfo.InvariantCulture, $"%{one:X2}");
            }
        }
        return encoded.ToString();
    }

    /// <summary>Without spaces at the ends, and one where there are several.</summary>
    static string Collapse(string value) =>
        string.Join(' ', value.Split((char[])[' ', '\t', '\r', '\n'], StringSplitOptions.RemoveEmptyEntries));
}
