namespace Sluice.Scripting;

/// <summary>
/// Empty statements (<c>;;</c>, <c>then;</c>) in Lua texts. OpenResty's LuaJIT is built with Lua 5.2's syntax, which has them; Debian's is
/// not and refuses them.
/// </summary>
static class EmptyStatements
{
    /// <summary>
    /// Puts a space where a semicolon ends no statement, so that lines and columns stay; strings and comments stay as they are.
    /// </summary>
    /// <returns>Null when there is no such semicolon.</returns>
    public static byte[]? Remove(ReadOnlySpan<byte> text)
    {
        byte[]? result = null;
        var empty = true; // a semicolon here would end no statement
        var head = false; // from "function" to the end of its parameters
        for (var at = 0; at < text.Length;)
        {
            var length = TokenAt(text[at..]);
            var token = text.Slice(at, length);
            if (token is [(byte)';'])
            {
                if (empty)
                {
                    result ??= text.ToArray();
                    result[at] = (byte)' ';
                }
                empty = true;
            }
            else if (!IsBlank(token))
            {
                empty = OpensBlock(token) || (head && token is [(byte)')']) || token.SequenceEqual("::"u8);
                head = token.SequenceEqual("function"u8) || (head && token is not [(byte)')']);
            }
            at += length;
        }
        return result;
    }

    static bool OpensBlock(ReadOnlySpan<byte> token) =>
        token.SequenceEqual("then"u8) || token.SequenceEqual("do"u8) || token.SequenceEqual("else"u8) || token.SequenceEqual("repeat"u8);

    static bool IsBlank(ReadOnlySpan<byte> token) => token[0] <= ' ' || token is [(byte)'-', (byte)'-', ..];

    /// <summary>The length of the token, comment or single blank that a text begins with.</summary>
    static int TokenAt(ReadOnlySpan<byte> text)
    {
        var first = text[0];
        if (text.StartsWith("--"u8))
        {
            return LongBracket(text[2..]) is > 0 and var comment ? comment + 2 : LengthTo(text, (byte)'\n');
        }
        if (first is (byte)'"' or (byte)'\'')
        {
            return Quoted(text, first);
        }
        if (first == '[' && LongBracket(text) is > 0 and var bracket)
        {
            return bracket;
        }
        if (text.StartsWith("::"u8))
        {
            return 2;
        }
        var length = 0;
        while (length < text.Length && (char.IsAsciiLetterOrDigit((char)text[length]) || text[length] is (byte)'_' or >= 128))
        {
            length++;
        }
        return Math.Max(length, 1);
    }

    static int LengthTo(ReadOnlySpan<byte> text, byte end) => text.IndexOf(end) is >= 0 and var at ? at : text.Length;

    static int Quoted(ReadOnlySpan<byte> text, byte quote)
    {
        for (var at = 1; at < text.Length; at++)
        {
            if (text[at] == '\\')
            {
                at++;
            }
            else if (text[at] == quote)
            {
                return at + 1;
            }
        }
        return text.Length;
    }

    /// <summary>The length of <c>[[…]]</c> or <c>[==[…]==]</c>; 0 when the text begins with none.</summary>
    static int LongBracket(ReadOnlySpan<byte> text)
    {
        if (text is not [(byte)'[', ..])
        {
            return 0;
        }
        var level = 0;
        while (level + 1 < text.Length && text[level + 1] == '=')
        {
            level++;
        }
        if (level + 1 >= text.Length || text[level + 1] != '[')
        {
            return 0;
        }
        Span<byte> close = level < 62 ? stackalloc byte[level + 2] : new byte[level + 2];
        close.Fill((byte)'=');
        close[0] = close[^1] = (byte)']';
        var at = text.IndexOf(close);
        return at < 0 ? text.Length : at + close.Length;
    }
}
