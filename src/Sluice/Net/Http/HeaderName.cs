using System.Buffers;

namespace Sluice.Net.Http;

/// <summary>Tokens of HTTP (RFC 9110, section 5.6.2): methods and the names of headers.</summary>
static class HeaderName
{
    const string TokenCharacters = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

    static readonly SearchValues<char> Characters = SearchValues.Create(TokenCharacters);

    static readonly SearchValues<byte> Bytes = SearchValues.Create(System.Text.Encoding.ASCII.GetBytes(TokenCharacters));

    public static bool IsToken(ReadOnlySpan<char> text) => !text.IsEmpty && !text.ContainsAnyExcept(Characters);

    public static bool IsToken(ReadOnlySpan<byte> text) => !text.IsEmpty && !text.ContainsAnyExcept(Bytes);

    public static bool IsTokenCharacter(char c) => Characters.Contains(c);

    /// <summary>Whether this name, whatever its letters' case, is the other.</summary>
    public static bool Is(string name, string other) => name.Equals(other, StringComparison.OrdinalIgnoreCase);
}
