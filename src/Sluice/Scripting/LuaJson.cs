using System.Buffers;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
using Sluice.Model.Json;
using static Sluice.Scripting.LuaNative;

namespace Sluice.Scripting;

static class LuaJson
{
    public const int DefaultDepth = 1000;

    /// <summary>Whatever a script asks for.</summary>
    public const int MaxDepth = 4000;
}

/// <summary>Writes a Lua value as JSON, with the rules and words of OpenResty's lua-cjson.</summary>
readonly ref struct LuaJsonWriter(LuaStack stack, int arrayMetatable, LuaJsonWriter.Options options)
{
    /// <param name="EmptyArray">Where on the stack the metatable is that makes an empty table an array; 0: nowhere.</param>
    /// <param name="SparseRatio">0: an array may have any number of holes.</param>
    public readonly record struct Options(int EmptyArray, bool EscapesSlashes, bool EmptyIsArray, Invalid Invalid, int Depth, int Digits,
        bool SparseIsObject, int SparseRatio, int SparseSafe);

    /// <summary>NaN and the infinities.</summary>
    public enum Invalid
    {
        Refused,
        Written,
        Null,
    }

    readonly ArrayBufferWriter<byte> _output = new();

    public ReadOnlySpan<byte> Text => _output.WrittenSpan;

    /// <summary>
    /// In the order of <see cref="Options"/>; what is nil is cjson's default, but for the slashes, which are as APISIX has them.
    /// </summary>
    public static Options OptionsAt(LuaStack stack, int first) => new(
        stack.TypeAt(first) == LuaType.Table ? first : 0, stack.Flag(first + 1), stack.Flag(first + 2),
        (Invalid)(stack.OptionalInteger(first + 3) ?? 0),
        Math.Min(stack.OptionalInteger(first + 4) ?? LuaJson.DefaultDepth, LuaJson.MaxDepth), stack.OptionalInteger(first + 5) ?? 14,
        stack.Flag(first + 6), stack.OptionalInteger(first + 7) ?? 2, stack.OptionalInteger(first + 8) ?? 10);

    /// <returns>The error, or null.</returns>
    public string? Write(int index)
    {
        lua_pushvalue(stack.State, index);
        return Value(1);
    }

    /// <summary>Writes the value on top.</summary>
    string? Value(int depth)
    {
        switch (stack.TypeAt(-1))
        {
            case LuaType.Nil:
                _output.Write("null"u8);
                return null;
            case LuaType.LightUserData when lua_touserdata(stack.State, -1) == 0:
                _output.Write("null"u8);
                return null;
            case LuaType.Boolean:
                _output.Write(stack.Flag(-1) ? "true"u8 : "false"u8);
                return null;
            case LuaType.Number:
                return Number(stack.Number(-1));
            case LuaType.String:
                String(stack.Bytes(-1));
                return null;
            case LuaType.Table:
                return depth > options.Depth || !RuntimeHelpers.TryEnsureSufficientExecutionStack()
                    ? $"Cannot serialise, excessive depth ({depth})"
                    : Table(depth);
            case var type:
                return $"Cannot serialise {LuaStack.Name(type)}: type not supported";
        }
    }

    string? Number(double number)
    {
        if (double.IsFinite(number))
        {
            _output.Write(Encoding.Latin1.GetBytes(options.Digits == 14
                ? LuaStack.Format(number) : LuaText.Number(number, options.Digits)));
            return null;
        }
        if (options.Invalid == Invalid.Refused)
        {
            return "Cannot serialise number: must not be NaN or Infinity";
        }
        _output.Write(options.Invalid == Invalid.Null
            ? "null"u8
            : double.IsNaN(number) ? "NaN"u8 : number > 0 ? "Infinity"u8 : "-Infinity"u8);
        return null;
    }

    string? Table(int depth)
    {
        lua_checkstack(stack.State, 8);
        var (marked, marksEmpty) = (false, false);
        if (lua_getmetatable(stack.State, -1) != 0)
        {
            marksEmpty = options.EmptyArray > 0 && lua_rawequal(stack.State, -1, options.EmptyArray) != 0;
            lua_rawgeti(stack.State, Registry, arrayMetatable);
            marked = lua_rawequal(stack.State, -1, -2) != 0;
            lua_settop(stack.State, -3);
        }
        var length = marked ? (int)lua_objlen(stack.State, -1) : Length();
        return length == TooSparse ? "Cannot serialise table: excessively sparse array"
            : marked || length > 0 || (length == 0 && (marksEmpty || options.EmptyIsArray)) ? Array(length, depth)
            : Object(depth);
    }

    string? Array(int length, int depth)
    {
        _output.Write("["u8);
        for (var i = 1; i <= length; i++)
        {
            if (i > 1)
            {
                _output.Write(","u8);
            }
            lua_rawgeti(stack.State, -1, i);
            if (Value(depth + 1) is { } error)
            {
                return error;
            }
            lua_settop(stack.State, -2);
        }
        _output.Write("]"u8);
        return null;
    }

    string? Object(int depth)
    {
        _output.Write("{"u8);
        var first = true;
        stack.PushNil();
        while (lua_next(stack.State, -2) != 0)
        {
            if (!first)
            {
                _output.Write(","u8);
            }
            first = false;
            switch (stack.TypeAt(-2))
            {
                case LuaType.String:
                    String(stack.Bytes(-2));
                    break;
                case LuaType.Number:
                    _output.Write("\""u8);
                    if (Number(stack.Number(-2)) is { } wrong)
                    {
                        return wrong;
                    }
                    _output.Write("\""u8);
                    break;
                case var type:
                    return $"Cannot serialise {LuaStack.Name(type)}: table key must be a number or string";
            }
            _output.Write(":"u8);
            if (Value(depth + 1) is { } error)
            {
                return error;
            }
            lua_settop(stack.State, -2);
        }
        _output.Write("}"u8);
        return null;
    }

    const int NotAnArray = -1;
    const int TooSparse = -2;

    /// <summary>The highest index when all keys are positive whole numbers; 0: empty.</summary>
    int Length()
    {
        var (max, items) = (0.0, 0);
        stack.PushNil();
        while (lua_next(stack.State, -2) != 0)
        {
            var key = stack.TypeAt(-2) == LuaType.Number ? stack.Number(-2) : 0;
            if (key < 1 || key != Math.Floor(key))
            {
                lua_settop(stack.State, -3);
                return NotAnArray;
            }
            max = Math.Max(max, key);
            items++;
            lua_settop(stack.State, -2);
        }
        return options.SparseRatio == 0 || max <= options.SparseSafe || max <= (double)items * options.SparseRatio
            ? (int)Math.Min(max, int.MaxValue)
            : options.SparseIsObject ? NotAnArray : TooSparse;
    }

    void String(ReadOnlySpan<byte> text)
    {
        _output.Write("\""u8);
        var plain = 0;
        for (var i = 0; i < text.Length; i++)
        {
            var b = text[i];
            if (b is >= (byte)' ' and not ((byte)'"' or (byte)'\\' or 127) && (b != '/' || !options.EscapesSlashes))
            {
                continue;
            }
            _output.Write(text[plain..i]);
            plain = i + 1;
            _output.Write(b switch
            {
                (byte)'"' => "\\\""u8,
                (byte)'\\' => "\\\\"u8,
                (byte)'/' => "\\/"u8,
                (byte)'\b' => "\\b"u8,
                (byte)'\f' => "\\f"u8,
                (byte)'\n' => "\\n"u8,
                (byte)'\r' => "\\r"u8,
                (byte)'\t' => "\\t"u8,
                _ => Encoding.Latin1.GetBytes($"\\u{b:x4}"),
            });
        }
        _output.Write(text[plain..]);
        _output.Write("\""u8);
    }
}

/// <summary>
/// Reads JSON into Lua values, with the rules and words of lua-cjson: strings are bytes, which need not be UTF-8; numbers may be
/// <c>NaN</c>, <c>inf</c>, hexadecimal and have leading zeros, unless <paramref name="strict"/>.
/// </summary>
/// <param name="arrayMetatable">What arrays get; 0: nothing.</param>
ref struct LuaJsonReader(LuaStack stack, ReadOnlySpan<byte> text, int arrayMetatable, int maxDepth, bool strict)
{
    static readonly SearchValues<byte> Special = SearchValues.Create("\"\\\0"u8);

    readonly ReadOnlySpan<byte> _text = text;
    int _at;
    int _depth;
    int _start;

    /// <summary>What comes next, by cjson's name for it; or what is wrong with it.</summary>
    string _token = "";

    const string ObjectBegin = "T_OBJ_BEGIN";
    const string ObjectEnd = "T_OBJ_END";
    const string ArrayBegin = "T_ARR_BEGIN";
    const string ArrayEnd = "T_ARR_END";
    const string StringToken = "T_STRING";
    const string NumberToken = "T_NUMBER";
    const string BooleanToken = "T_BOOLEAN";
    const string NullToken = "T_NULL";
    const string Colon = "T_COLON";
    const string Comma = "T_COMMA";
    const string End = "T_END";

    double _number;
    bool _boolean;

    /// <summary>A string as it stands in the text, and whether there are escapes in it.</summary>
    (int From, int To, bool Escaped) _string;

    /// <summary>Pushes the value.</summary>
    public void Read()
    {
        if (_text is [_, 0, ..] or [0, _, ..])
        {
            throw new JsonTextException("JSON parser does not support UTF-16 or UTF-32");
        }
        Next();
        Value();
        Next();
        if (_token != End)
        {
            throw Expected("the end");
        }
    }

    void Value()
    {
        switch (_token)
        {
            case StringToken:
                PushString();
                break;
            case NumberToken:
                stack.Push(_number);
                break;
            case BooleanToken:
                stack.Push(_boolean);
                break;
            case NullToken:
                stack.PushNull();
                break;
            case ObjectBegin:
                Object();
                break;
            case ArrayBegin:
                Array();
                break;
            default:
                throw Expected("value");
        }
    }

    void Object()
    {
        Descend();
        stack.NewTable();
        Next();
        if (_token == ObjectEnd)
        {
            _depth--;
            return;
        }
        while (true)
        {
            if (_token != StringToken)
            {
                throw Expected("object key string");
            }
            PushString();
            Next();
            if (_token != Colon)
            {
                throw Expected("colon");
            }
            Next();
            Value();
            lua_rawset(stack.State, -3);
            Next();
            if (_token == ObjectEnd)
            {
                _depth--;
                return;
            }
            if (_token != Comma)
            {
                throw Expected("comma or object end");
            }
            Next();
        }
    }

    void Array()
    {
        Descend();
        stack.NewTable();
        if (arrayMetatable != 0)
        {
            lua_rawgeti(stack.State, Registry, arrayMetatable);
            lua_setmetatable(stack.State, -2);
        }
        Next();
        if (_token == ArrayEnd)
        {
            _depth--;
            return;
        }
        for (var i = 1; ; i++)
        {
            Value();
            stack.SetIndex(i);
            Next();
            if (_token == ArrayEnd)
            {
                _depth--;
                return;
            }
            if (_token != Comma)
            {
                throw Expected("comma or array end");
            }
            Next();
        }
    }

    void Descend()
    {
        _depth++;
        if (_depth > maxDepth || !RuntimeHelpers.TryEnsureSufficientExecutionStack())
        {
            throw new JsonTextException($"Found too many nested data structures ({_depth}) at character {_at}");
        }
        lua_checkstack(stack.State, 4);
    }

    readonly JsonTextException Expected(string what) => new($"Expected {what} but found {_token} at character {_start + 1}");

    // -- Tokens

    void Next()
    {
        while (At(_at) is (byte)' ' or (byte)'\t' or (byte)'\n' or (byte)'\r')
        {
            _at++;
        }
        _start = _at;
        switch (At(_at))
        {
            case 0:
                _token = End;
                break;
            case (byte)'{':
                Take(ObjectBegin, 1);
                break;
            case (byte)'}':
                Take(ObjectEnd, 1);
                break;
            case (byte)'[':
                Take(ArrayBegin, 1);
                break;
            case (byte)']':
                Take(ArrayEnd, 1);
                break;
            case (byte)':':
                Take(Colon, 1);
                break;
            case (byte)',':
                Take(Comma, 1);
                break;
            case (byte)'"':
                ScanString();
                break;
            case (byte)'-' or (>= (byte)'0' and <= (byte)'9'):
                ScanNumber();
                break;
            default:
                ScanWord();
                break;
        }
    }

    /// <summary>0 beyond the end: cjson takes a zero byte for the end too.</summary>
    readonly byte At(int index) => index < _text.Length ? _text[index] : (byte)0;

    void Take(string token, int length)
    {
        _token = token;
        _at += length;
    }

    void Fail(string what, int at) => (_token, _start) = (what, at);

    void ScanWord()
    {
        var rest = _text[_at..];
        if (rest.StartsWith("true"u8) || rest.StartsWith("false"u8))
        {
            _boolean = rest[0] == 't';
            Take(BooleanToken, _boolean ? 4 : 5);
        }
        else if (rest.StartsWith("null"u8))
        {
            Take(NullToken, 4);
        }
        else if (!strict && (rest[0] == '+' || IsWord(rest, "inf") || IsWord(rest, "nan")))
        {
            ScanNumber();
        }
        else
        {
            Fail("invalid token", _at);
        }
    }

    static bool IsWord(ReadOnlySpan<byte> rest, string word) =>
        rest.Length >= word.Length && Ascii.EqualsIgnoreCase(rest[..word.Length], word);

    /// <summary>As C's <c>strtod</c> reads it: as much as makes a number.</summary>
    void ScanNumber()
    {
        var signed = At(_at) is (byte)'-' or (byte)'+';
        var at = _at + (signed ? 1 : 0);
        var rest = _text[Math.Min(at, _text.Length)..];
        if (strict && !IsJson(rest))
        {
            Fail("invalid number", _at);
            return;
        }
        var (length, value) = Magnitude(rest);
        if (length == 0)
        {
            Fail("invalid number", _at);
            return;
        }
        _number = At(_at) == '-' ? -value : value;
        Take(NumberToken, (signed ? 1 : 0) + length);
    }

    /// <summary>Not hexadecimal, without leading zeros, finite.</summary>
    static bool IsJson(ReadOnlySpan<byte> digits) =>
        digits is [(>= (byte)'1' and <= (byte)'9'), ..] or [(byte)'0']
            or [(byte)'0', not ((byte)'x' or (byte)'X' or (>= (byte)'0' and <= (byte)'9')), ..];

    static (int Length, double Value) Magnitude(ReadOnlySpan<byte> text)
    {
        if (IsWord(text, "inf"))
        {
            return (IsWord(text, "infinity") ? 8 : 3, double.PositiveInfinity);
        }
        if (IsWord(text, "nan"))
        {
            return (3, double.NaN);
        }
        if (text is [(byte)'0', (byte)'x' or (byte)'X', ..] && Run(text[2..], char.IsAsciiHexDigit) is > 0 and var hexadecimal)
        {
            var value = 0.0;
            foreach (var digit in text.Slice(2, hexadecimal))
            {
                value = (value * 16) + Convert.ToInt32(((char)digit).ToString(), 16);
            }
            return (2 + hexadecimal, value);
        }
        var length = Run(text, char.IsAsciiDigit);
        if (length < text.Length && text[length] == '.')
        {
            length += 1 + Run(text[(length + 1)..], char.IsAsciiDigit);
        }
        if (length > 0 && length < text.Length && text[length] is (byte)'e' or (byte)'E')
        {
            var sign = length + 1 < text.Length && text[length + 1] is (byte)'+' or (byte)'-' ? 1 : 0;
            var exponent = Run(text[Math.Min(length + 1 + sign, text.Length)..], char.IsAsciiDigit);
            length += exponent > 0 ? 1 + sign + exponent : 0;
        }
        return double.TryParse(text[..length], LuaText.FloatStyle, CultureInfo.InvariantCulture, out var number)
            ? (length, number)
            : (0, 0);
    }

    static int Run(ReadOnlySpan<byte> text, Func<char, bool> has)
    {
        var length = 0;
        while (length < text.Length && has((char)text[length]))
        {
            length++;
        }
        return length;
    }

    // -- Strings

    void ScanString()
    {
        var from = ++_at;
        var escaped = false;
        while (true)
        {
            var skip = _text[_at..].IndexOfAny(Special);
            _at = skip < 0 ? _text.Length : _at + skip;
            switch (At(_at))
            {
                case (byte)'"':
                    _string = (from, _at, escaped);
                    Take(StringToken, 1);
                    return;
                case 0:
                    Fail("unexpected end of string", _at);
                    return;
            }
            escaped = true;
            var length = EscapeLength();
            if (length == 0)
            {
                Fail(At(_at + 1) == 'u' ? "invalid unicode escape code" : "invalid escape code", _at);
                return;
            }
            _at += length;
        }
    }

    /// <summary>Of the escape that comes next; 0: it is none.</summary>
    readonly int EscapeLength()
    {
        if (At(_at + 1) != 'u')
        {
            return "\"\\/bfnrt"u8.Contains(At(_at + 1)) ? 2 : 0;
        }
        return CjsonReader.Hex4(_text, _at + 2) switch
        {
            < 0 or (>= 0xDC00 and <= 0xDFFF) => 0,
            >= 0xD800 and <= 0xDBFF => At(_at + 6) == '\\' && At(_at + 7) == 'u'
                && CjsonReader.Hex4(_text, _at + 8) is >= 0xDC00 and <= 0xDFFF ? 12 : 0,
            _ => 6,
        };
    }

    readonly void PushString()
    {
        var (from, to, escaped) = _string;
        if (!escaped)
        {
            stack.Push(_text[from..to]);
            return;
        }
        var output = ArrayPool<byte>.Shared.Rent(to - from);
        var length = 0;
        for (var i = from; i < to;)
        {
            if (_text[i] != '\\')
            {
                output[length++] = _text[i++];
                continue;
            }
            var letter = _text[i + 1];
            if (letter != 'u')
            {
                output[length++] = "\"\\/\b\f\n\r\t"u8["\"\\/bfnrt"u8.IndexOf(letter)];
                i += 2;
                continue;
            }
            var unit = CjsonReader.Hex4(_text, i + 2);
            var pair = unit is >= 0xD800 and <= 0xDBFF;
            var rune = pair ? new Rune((char)unit, (char)CjsonReader.Hex4(_text, i + 8)) : new Rune(unit);
            length += rune.EncodeToUtf8(output.AsSpan(length));
            i += pair ? 12 : 6;
        }
        stack.Push(output.AsSpan(0, length));
        ArrayPool<byte>.Shared.Return(output);
    }
}
