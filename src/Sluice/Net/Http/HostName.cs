using System.Diagnostics.CodeAnalysis;

namespace Sluice.Net.Http;

/// <summary>
/// The name in an authority (a Host header, <c>:authority</c>), as everything that compares host names has it: without a port, in lower
/// case, without the dot that makes a name absolute. nginx takes one such dot off and refuses a name with two dots in a row, and so does
/// this.
/// </summary>
static class HostName
{
    /// <summary>The name that is compared; null when no request may have this authority.</summary>
    /// <param name="authority"><c>host</c>, <c>host:port</c> or <c>[address]:port</c>.</param>
    public static string? Of(string authority)
    {
        var name = Normalize(WithoutPort(authority));
        return name.Length == 0 || authority.Contains("..", StringComparison.Ordinal) ? null : name;
    }

    /// <summary>A name of the configuration or of a TLS handshake (no port), as <see cref="Of"/> gives names of requests.</summary>
    [return: NotNullIfNotNull(nameof(name))]
    public static string? Normalize(string? name) => (name is [.., '.'] ? name[..^1] : name)?.ToLowerInvariant();

    /// <summary>The authority without its port; brackets of IPv6 addresses stay.</summary>
    public static string WithoutPort(string authority) =>
        NameEnd(authority) is var end && end == authority.Length ? authority : authority[..end];

    /// <summary>The name without port and without the dot at its end, in the case that it was written in, for who compares without regard
    /// to it.</summary>
    public static ReadOnlySpan<char> Bare(ReadOnlySpan<char> authority)
    {
        var name = authority[..NameEnd(authority)];
        return name is [.., '.'] ? name[..^1] : name;
    }

    static int NameEnd(ReadOnlySpan<char> authority)
    {
        var end = authority is ['[', ..] ? authority.IndexOf(']') + 1 : authority.IndexOf(':');
        return end <= 0 && authority is not [':', ..] ? authority.Length : end;
    }
}
