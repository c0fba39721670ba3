namespace Sluice.Pipeline;

/// <summary>
/// What Kestrel lets through but a gateway must not (RFC 9112, section 6.3 and 11.2: request smuggling), and the target's
/// normalisation. Kestrel itself refuses repeated or bad Content-Length, obsolete folding, bare CR, bad Host and heads over the limits.
/// </summary>
static class RequestCheck
{
    /// <summary>A 400 (405 for CONNECT), or null when the request is sound; sets <see cref="Exchange.Uri"/> and <see cref="Exchange.Args"/>.</summary>
    public static Answer? Refuse(Exchange exchange)
    {
        var request = exchange.Request;
        if (request.Headers.TransferEncoding.Count > 0)
        {
            // Kestrel drops Content-Length beside Transfer-Encoding and keeps its value as X-Content-Length
            if (request.Headers.ContainsKey("X-Content-Length"))
            {
                return Bad("both Transfer-Encoding and Content-Length");
            }
            if (request.Headers.TransferEncoding.Count > 1 || !string.Equals(request.Headers.TransferEncoding[0], "chunked", StringComparison.OrdinalIgnoreCase))
            {
                return Bad("unsupported Transfer-Encoding");
            }
            if (request.Protocol == "HTTP/1.0")
            {
                return Bad("Transfer-Encoding in an HTTP/1.0 request");
            }
        }
        if (string.Equals(request.Method, "CONNECT", StringComparison.Ordinal))
        {
            return Answer.ErrorMessage(405, "405 Not Allowed");
        }
        var target = exchange.RawTarget;
        if (target.Length > 0 && target[0] != '/' && target.IndexOf("://", StringComparison.Ordinal) is > 0 and var scheme)
        {
            // absolute form: the authority has become the Host header already
            var path = target.IndexOf('/', scheme + 3);
            target = path < 0 ? "/" : target[path..];
        }
        exchange.Target = target;
        var question = target.IndexOf('?', StringComparison.Ordinal);
        if (!RequestTarget.TryNormalize(question < 0 ? target : target[..question], out var uri))
        {
            return Bad("malformed request target");
        }
        exchange.Uri = uri;
        exchange.Args = question < 0 ? "" : WithoutFragment(target[(question + 1)..]);
        return null;
    }

    static string WithoutFragment(string args) => args.IndexOf('#', StringComparison.Ordinal) is >= 0 and var hash ? args[..hash] : args;

    static Answer Bad(string what) => Answer.ErrorMessage(400, $"400 Bad Request: {what}");
}
