using System.Buffers;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Sluice.Model.Json;

/// <summary>
/// Reads JSON and words its refusals as lua-cjson does (<c>Expected comma or object end but found T_END at character 12</c>),
/// since they end up in the Admin API's answers. Like cjson it lets the last of two equal keys win and accepts raw line breaks and
/// other control characters inside strings (Lua functions are pasted that way); unlike cjson it refuses invalid UTF-8,
/// numbers beyond a double's range and anything after a NUL byte.
/// </summary>
internal static class CjsonReader
{
    public const int DefaultMaxDepth = 64;

    /// <returns>The tree, made at once (safe to read from many threads); null for the JSON text <c>null</c>.</returns>
    /// <exception cref="JsonTextException">The text is not JSON or nested deeper than <paramref name="maxDepth"/>.</exception>
    public static JsonNode? Parse(ReadOnlySpan<byte> utf8, int maxDepth = DefaultMaxDepth)
    {
        if (utf8.Length >= 2 && (utf8[0] == 0 || utf8[1] == 0))
        {
            throw new JsonTextException("JSON parser does not support UTF-16 or UTF-32");
        }
        var reader = new Reader(utf8, maxDepth);
        return reader.ReadDocument();
    }

    enum TokenKind
    {
        ObjectBegin,
        ObjectEnd,
        ArrayBegin,
        ArrayEnd,
        String,
        Number,
        True,
        False,
        Null,
        Colon,
        Comma,
        End,
        Error,
    }

    /// <summary>Four hexadecimal digits; -1: there are none.</summary>
    internal static int Hex4(ReadOnlySpan<byte> text, int from)
    {
        var value = 0;
        for (var i = from; i < from + 4; i++)
        {
            if (i >= text.Length || !char.IsAsciiHexDigit((char)text[i]))
            {
                return -1;
            }
            value = (value << 4) | (text[i] <= '9' ? text[i] - '0' : (text[i] | 0x20) - 'a' + 10);
        }
        return value;
    }

    ref struct Reader(ReadOnlySpan<byte> text, int maxDepth)
    {
        static readonly SearchValues<byte> Special =
            SearchValues.Create([(byte)'"', (byte)'\\', 0, .. Enumerable.Range(128, 128).Select(b => (byte)b)]);

        readonly ReadOnlySpan<byte> text = text;
        int position;
        int depth;

        TokenKind token;
        int tokenStart;
        string tokenText = ""; // a string's value, or what is wrong with an Error token

        public JsonNode? ReadDocument()
        {
            Next();
            var value = ReadValue();
            Next();
            if (token != TokenKind.End)
            {
                throw Expected("the end");
            }
            return value;
        }

        JsonNode? ReadValue() => token switch
        {
            TokenKind.String => JsonValue.Create(tokenText),
            TokenKind.Number => ReadNumber(),
            TokenKind.True => JsonValue.Create(true),
            TokenKind.False => JsonValue.Create(false),
            TokenKind.Null => null,
            TokenKind.ObjectBegin => ReadObject(),
            TokenKind.ArrayBegin => ReadArray(),
            _ => throw Expected("value"),
        };

        // backed by a JsonElement: GetValue<int>, <long>, <double>, <decimal> all work, and the digits stay as they were written
        readonly JsonValue ReadNumber()
        {
            var json = new Utf8JsonReader(text[tokenStart..position]);
            return JsonValue.Create(JsonElement.ParseValue(ref json))!;
        }

        JsonObject ReadObject()
        {
            Descend();
            var value = new JsonObject();
            Next();
            if (token == TokenKind.ObjectEnd)
            {
                depth--;
                return value;
            }
            while (true)
            {
                if (token != TokenKind.String)
                {
                    throw Expected("object key string");
                }
                var key = tokenText;
                Next();
                if (token != TokenKind.Colon)
                {
                    throw Expected("colon");
                }
                Next();
                value[key] = ReadValue();
                Next();
                if (token == TokenKind.ObjectEnd)
                {
                    depth--;
                    return value;
                }
                if (token != TokenKind.Comma)
                {
                    throw Expected("comma or object end");
                }
                Next();
            }
        }

        JsonArray ReadArray()
        {
            Descend();
            var value = new JsonArray();
            Next();
            if (token == TokenKind.ArrayEnd)
            {
                depth--;
                return value;
            }
            while (true)
            {
                value.Add(ReadValue());
                Next();
                if (token == TokenKind.ArrayEnd)
                {
                    depth--;
                    return value;
                }
                if (token != TokenKind.Comma)
                {
                    throw Expected("comma or array end");
                }
                Next();
            }
        }

        void Descend()
        {
            depth++;
            if (depth > maxDepth || !RuntimeHelpers.TryEnsureSufficientExecutionStack())
            {
                throw new JsonTextException($"Found too many nested data structures ({depth}) at character {position}");
            }
        }

        readonly JsonTextException Expected(string what) =>
            new($"Expected {what} but found {TokenName()} at character {tokenStart + 1}");

        readonly string TokenName() => token switch
        {
            TokenKind.ObjectBegin => "T_OBJ_BEGIN",
            TokenKind.ObjectEnd => "T_OBJ_END",
            TokenKind.ArrayBegin => "T_ARR_BEGIN",
            TokenKind.ArrayEnd => "T_ARR_END",
            TokenKind.String => "T_STRING",
            TokenKind.Number => "T_NUMBER",
            TokenKind.True or TokenKind.False => "T_BOOLEAN",
            TokenKind.Null => "T_NULL",
            TokenKind.Colon => "T_COLON",
            TokenKind.Comma => "T_COMMA",
            TokenKind.End => "T_END",
            _ => tokenText,
        };

        void Next()
        {
            while (position < text.Length && text[position] is (byte)' ' or (byte)'\t' or (byte)'\n' or (byte)'\r')
            {
                position++;
            }
            tokenStart = position;
            if (position == text.Length)
            {
                token = TokenKind.End;
                return;
            }
            switch (text[position])
            {
                case (byte)'{': Take(TokenKind.ObjectBegin, 1); break;
                case (byte)'}': Take(TokenKind.ObjectEnd, 1); break;
                case (byte)'[': Take(TokenKind.ArrayBegin, 1); break;
                case (byte)']': Take(TokenKind.ArrayEnd, 1); break;
                case (byte)':': Take(TokenKind.Colon, 1); break;
                case (byte)',': Take(TokenKind.Comma, 1); break;
                case (byte)'"': ScanString(); break;
                case (byte)'-' or (>= (byte)'0' and <= (byte)'9'): ScanNumber(); break;
                default: ScanWord(); break;
            }
        }

        void Take(TokenKind kind, int length)
        {
            token = kind;
            position += length;
        }

        void Fail(string what, int at)
        {
            token = TokenKind.Error;
            tokenText = what;
            tokenStart = at;
        }

        void ScanWord()
        {
            var rest = text[position..];
            if (rest.StartsWith("true"u8))
            {
                Take(TokenKind.True, 4);
            }
            else if (rest.StartsWith("false"u8))
            {
                Take(TokenKind.False, 5);
            }
            else if (rest.StartsWith("null"u8))
            {
                Take(TokenKind.Null, 4);
            }
            else
            {
                Fail("invalid token", position);
            }
        }

        void ScanNumber()
        {
            var end = position + (text[position] == '-' ? 1 : 0);
            var digits = Digits(end);
            var valid = digits > 0 && (digits == 1 || text[end] != '0') && !(text[end] == '0' && At(end + 1) is (byte)'x' or (byte)'X');
            end += digits;
            if (At(end) == '.')
            {
                var fraction = Digits(end + 1);
                valid &= fraction > 0;
                end += 1 + fraction;
            }
            if (At(end) is (byte)'e' or (byte)'E')
            {
                var sign = At(end + 1) is (byte)'+' or (byte)'-' ? 1 : 0;
                var exponent = Digits(end + 1 + sign);
                valid &= exponent > 0;
                end += 1 + sign + exponent;
            }
            valid = valid && double.TryParse(text[position..end], LuaText.FloatStyle, null, out var number) && double.IsFinite(number);
            if (valid)
            {
                Take(TokenKind.Number, end - position);
            }
            else
            {
                Fail("invalid number", position);
            }
        }

        readonly int Digits(int from)
        {
            var length = from < text.Length ? text[from..].IndexOfAnyExceptInRange((byte)'0', (byte)'9') : 0;
            return length < 0 ? text.Length - from : length;
        }

        readonly byte At(int index) => index < text.Length ? text[index] : (byte)0;

        void ScanString()
        {
            position++;
            StringBuilder? unescaped = null;
            var start = position; // of what is not yet in the builder
            while (true)
            {
                var skip = text[position..].IndexOfAny(Special);
                position = skip < 0 ? text.Length : position + skip;
                var found = At(position);
                if (found == '"')
                {
                    break;
                }
                if (found == 0)
                {
                    Fail("unexpected end of string", position);
                    return;
                }
                if (found >= 128)
                {
                    if (Rune.DecodeFromUtf8(text[position..], out _, out var consumed) != OperationStatus.Done)
                    {
                        Fail("invalid UTF-8", position);
                        return;
                    }
                    position += consumed;
                    continue;
                }
                unescaped ??= new StringBuilder();
                unescaped.Append(Encoding.UTF8.GetString(text[start..position]));
                if (!ScanEscape(unescaped))
                {
                    return;
                }
                start = position;
            }
            tokenText = Encoding.UTF8.GetString(text[start..position]);
            if (unescaped is not null)
            {
                tokenText = unescaped.Append(tokenText).ToString();
            }
            Take(TokenKind.String, 1);
        }

        bool ScanEscape(StringBuilder into)
        {
            var escape = At(position + 1);
            if (escape == 'u')
            {
                return ScanUnicodeEscape(into);
            }
            const string Escapes = "\"\\/bfnrt", Values = "\"\\/\b\f\n\r\t";
            var index = Escapes.IndexOf((char)escape, StringComparison.Ordinal);
            if (index < 0 || escape == 0)
            {
                Fail("invalid escape code", position);
                return false;
            }
            into.Append(Values[index]);
            position += 2;
            return true;
        }

        bool ScanUnicodeEscape(StringBuilder into)
        {
            var first = Hex4(text, position + 2);
            if (first >= 0 && !char.IsSurrogate((char)first))
            {
                into.Append((char)first);
                position += 6;
                return true;
            }
            var second = first >= 0 && At(position + 6) == '\\' && At(position + 7) == 'u' ? Hex4(text, position + 8) : -1;
            if (second < 0 || !char.IsSurrogatePair((char)first, (char)second))
            {
                Fail("invalid unicode escape code", position);
                return false;
            }
            into.Append((char)first).Append((char)second);
            position += 12;
            return true;
        }
    }
}
