namespace Sluice.Model;

/// <summary>Headers that say where an answer's body ends (RFC 9112, section 6): the gateway's own, nobody else sets them.</summary>
static class FramingHeaders
{
    public static bool Contains(string name) =>
        name.Equals("Transfer-Encoding", StringComparison.OrdinalIgnoreCase) || name.Equals("Content-Length", StringComparison.OrdinalIgnoreCase);
}
