using System.Buffers;
using System.Collections.Concurrent;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Sluice.Model.Json;
using Sluice.Model.Schema;
using static Sluice.Scripting.LuaNative;

namespace Sluice.Scripting;

/// <summary>JSON, schemas and regular expressions.</summary>
static partial class LuaHost
{
    const int MaxDepth = 1000;
    const int MaxPatterns = 4096;

    // -- JSON, with lua-cjson's rules and words

    /// <summary>value: its text, or nil and an error.</summary>
    static int JsonEncode(LuaLane lane, LuaStack stack)
    {
        var output = new ArrayBufferWriter<byte>();
        lua_settop(stack.State, 1);
        if (Encode(lane, stack, output, 1) is { } error)
        {
            lua_settop(stack.State, 0);
            stack.PushNil();
            stack.Push(error);
            return 2;
        }
        stack.Push(output.WrittenSpan);
        return 1;
    }

    /// <summary>Writes the value on top; the error, or null.</summary>
    static string? Encode(LuaLane lane, LuaStack stack, ArrayBufferWriter<byte> output, int depth)
    {
        switch (stack.TypeAt(-1))
        {
            case LuaType.Nil:
                output.Write("null"u8);
                return null;
            case LuaType.LightUserData when lua_touserdata(stack.State, -1) == 0:
                output.Write("null"u8);
                return null;
            case LuaType.Boolean:
                output.Write(stack.Flag(-1) ? "true"u8 : "false"u8);
                return null;
            case LuaType.Number:
                var number = stack.Number(-1);
                if (!double.IsFinite(number))
                {
                    return "Cannot serialise number: must not be NaN or Infinity";
                }
                output.Write(Encoding.Latin1.GetBytes(LuaStack.Format(number)));
                return null;
            case LuaType.String:
                WriteString(output, stack.Bytes(-1));
                return null;
            case LuaType.Table:
                return depth > MaxDepth ? $"Cannot serialise, excessive depth ({depth})" : EncodeTable(lane, stack, output, depth);
            case var type:
                return $"Cannot serialise {LuaStack.Name(type)}: type not supported";
        }
    }

    static string? EncodeTable(LuaLane lane, LuaStack stack, ArrayBufferWriter<byte> output, int depth)
    {
        lua_checkstack(stack.State, 8);
        var marked = false;
        if (lua_getmetatable(stack.State, -1) != 0)
        {
            lua_rawgeti(stack.State, Registry, lane.ArrayMetatable);
            marked = lua_rawequal(stack.State, -1, -2) != 0;
            lua_settop(stack.State, -3);
        }
        var length = marked ? (int)lua_objlen(stack.State, -1) : ArrayLength(stack);
        if (length < 0 && length != NotAnArray)
        {
            return "Cannot serialise table: excessively sparse array";
        }
        if (marked || length > 0)
        {
            output.Write("["u8);
            for (var i = 1; i <= length; i++)
            {
                if (i > 1)
                {
                    output.Write(","u8);
                }
                lua_rawgeti(stack.State, -1, i);
                if (Encode(lane, stack, output, depth + 1) is { } error)
                {
                    return error;
                }
                lua_settop(stack.State, -2);
            }
            output.Write("]"u8);
            return null;
        }
        return EncodeObject(lane, stack, output, depth);
    }

    static string? EncodeObject(LuaLane lane, LuaStack stack, ArrayBufferWriter<byte> output, int depth)
    {
        output.Write("{"u8);
        var first = true;
        stack.PushNil();
        while (lua_next(stack.State, -2) != 0)
        {
            if (!first)
            {
                output.Write(","u8);
            }
            first = false;
            switch (stack.TypeAt(-2))
            {
                case LuaType.String:
                    WriteString(output, stack.Bytes(-2));
                    break;
                case LuaType.Number:
                    output.Write(Encoding.Latin1.GetBytes($"\"{LuaStack.Format(stack.Number(-2))}\""));
                    break;
                default:
                    return "Cannot serialise table: table key must be a number or string";
            }
            output.Write(":"u8);
            if (Encode(lane, stack, output, depth + 1) is { } error)
            {
                return error;
            }
            lua_settop(stack.State, -2);
        }
        output.Write("}"u8);
        return null;
    }

    const int NotAnArray = -1;
    const int TooSparse = -2;

    /// <summary>The highest index when all keys are positive whole numbers; 0: empty.</summary>
    static int ArrayLength(LuaStack stack)
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
        return max > 10 && max > items * 2.0 ? TooSparse : (int)max;
    }

    static void WriteString(ArrayBufferWriter<byte> output, ReadOnlySpan<byte> text)
    {
        output.Write("\""u8);
        var plain = 0;
        for (var i = 0; i < text.Length; i++)
        {
            var b = text[i];
            if (b is >= (byte)' ' and not ((byte)'"' or (byte)'\\' or 127))
            {
                continue;
            }
            output.Write(text[plain..i]);
            plain = i + 1;
            output.Write(b switch
            {
                (byte)'"' => "\\\""u8,
                (byte)'\\' => "\\\\"u8,
                (byte)'\b' => "\\b"u8,
                (byte)'\f' => "\\f"u8,
                (byte)'\n' => "\\n"u8,
                (byte)'\r' => "\\r"u8,
                (byte)'\t' => "\\t"u8,
                _ => Encoding.Latin1.GetBytes($"\\u{b:x4}"),
            });
        }
        output.Write(text[plain..]);
        output.Write("\""u8);
    }

    /// <summary>text, whether arrays get the metatable: the value, or nil and cjson's words.</summary>
    static int JsonDecode(LuaLane lane, LuaStack stack)
    {
        JsonNode? node;
        try
        {
            node = CjsonReader.Parse(stack.Bytes(1), MaxDepth);
        }
        catch (JsonTextException e)
        {
            stack.PushNil();
            stack.Push(e.Message);
            return 2;
        }
        stack.Push(node, stack.Flag(2) ? lane.ArrayMetatable : 0);
        return 1;
    }

    // -- Schemas

    static readonly ConcurrentDictionary<string, JsonSchema> Schemas = new();

    /// <summary>
    /// The schema's and the value's JSON: the value with the defaults filled in, or nil and the error.
    /// </summary>
    static int CheckSchema(LuaLane lane, LuaStack stack)
    {
        var text = stack.Utf8(1);
        var json = stack.Bytes(2);
        if (Schemas.Count > MaxPatterns)
        {
            Schemas.Clear();
        }
        var schema = Schemas.GetOrAdd(text, static text => JsonSchema.Compile(CjsonReader.Parse(Encoding.UTF8.GetBytes(text), MaxDepth)!));
        var value = CjsonReader.Parse(json, MaxDepth);
        if (schema.Validate(value) is { } error)
        {
            stack.PushNil();
            stack.PushUtf8(error);
            return 2;
        }
        stack.Push(value, lane.ArrayMetatable);
        return 1;
    }

    // -- Regular expressions

    static readonly ConcurrentDictionary<(string Pattern, string Options), Regex> Patterns = new();

    static readonly TimeSpan RegexLimit = TimeSpan.FromMilliseconds(80);

    /// <summary>
    /// subject, pattern, options, where to begin (from 1): nil when nothing matches; otherwise from, to (as string.find has it), then a table of the
    /// captures. An error: false and its text.
    /// </summary>
    static int RegexMatch(LuaLane lane, LuaStack stack)
    {
        var options = stack.OptionalText(3) ?? "";
        var utf8 = options.Contains('u', StringComparison.OrdinalIgnoreCase);
        var encoding = utf8 ? Encoding.UTF8 : Encoding.Latin1;
        Regex regex;
        try
        {
            regex = Compiled(encoding.GetString(stack.Bytes(2)), options);
        }
        catch (ArgumentException e)
        {
            stack.Push(false);
            stack.PushUtf8(e.Message);
            return 2;
        }
        var bytes = stack.Bytes(1);
        var from = Math.Clamp(stack.Integer(4) - 1, 0, bytes.Length);
        var subject = encoding.GetString(bytes);
        try
        {
            var match = regex.Match(subject, utf8 ? Encoding.UTF8.GetCharCount(bytes[..from]) : from);
            if (!match.Success)
            {
                return 0;
            }
            var start = utf8 ? Encoding.UTF8.GetByteCount(subject.AsSpan(0, match.Index)) : match.Index;
            var length = utf8 ? Encoding.UTF8.GetByteCount(match.ValueSpan) : match.Length;
            stack.Push(start + 1);
            stack.Push(start + length);
            PushCaptures(stack, regex, match, encoding);
            if (stack.OptionalInteger(5) is not { } nth || !match.Groups[nth].Success)
            {
                return 3;
            }
            var group = match.Groups[nth];
            var first = utf8 ? Encoding.UTF8.GetByteCount(subject.AsSpan(0, group.Index)) : group.Index;
            stack.Push(first + 1);
            stack.Push(first + (utf8 ? Encoding.UTF8.GetByteCount(group.ValueSpan) : group.Length));
            return 5;
        }
        catch (RegexMatchTimeoutException)
        {
            stack.Push(false);
            stack.Push("pcre_exec() failed: -8");
            return 2;
        }
    }

    static void PushCaptures(LuaStack stack, Regex regex, Match match, Encoding encoding)
    {
        stack.NewTable(match.Groups.Count, 2);
        for (var i = 0; i < match.Groups.Count; i++)
        {
            var group = match.Groups[i];
            if (group.Success)
            {
                stack.Push(encoding.GetBytes(group.Value));
            }
            else
            {
                stack.Push(false);
            }
            lua_rawseti(stack.State, -2, i);
            var name = regex.GroupNameFromNumber(i);
            if (!char.IsAsciiDigit(name[0]))
            {
                stack.PushUtf8(name);
                lua_rawgeti(stack.State, -2, i);
                lua_rawset(stack.State, -3);
            }
        }
    }

    static Regex Compiled(string pattern, string options)
    {
        if (Patterns.TryGetValue((pattern, options), out var known))
        {
            return known;
        }
        if (Patterns.Count > MaxPatterns)
        {
            Patterns.Clear();
        }
        return Patterns.GetOrAdd((pattern, options), static key => Compile(key.Pattern, key.Options));
    }

    static Regex Compile(string pattern, string options)
    {
        var flags = RegexOptions.CultureInvariant;
        foreach (var option in options)
        {
            flags |= option switch
            {
                'i' => RegexOptions.IgnoreCase,
                'm' => RegexOptions.Multiline,
                's' => RegexOptions.Singleline,
                'x' => RegexOptions.IgnorePatternWhitespace,
                _ => RegexOptions.None,
            };
        }
        // PCRE's own spellings
        pattern = pattern.Replace("(?P<", "(?<", StringComparison.Ordinal);
        pattern = Quoted().Replace(pattern, static match => Regex.Escape(match.Groups[1].Value));
        pattern = HorizontalSpace().Replace(pattern, @"$1[ \t]");
        pattern = Possessive().Replace(pattern, "$1");
        if (options.Contains('a', StringComparison.Ordinal))
        {
            pattern = @"\G(?:" + pattern + ")";
        }
        try
        {
            // linear: only a very long subject takes long
            return new Regex(pattern, flags | RegexOptions.NonBacktracking, TimeSpan.FromSeconds(1));
        }
        catch (NotSupportedException)
        {
            return new Regex(pattern, flags, RegexLimit);
        }
    }

    [GeneratedRegex(@"\\Q(.*?)(?:\\E|$)", RegexOptions.Singleline)]
    private static partial Regex Quoted();

    [GeneratedRegex(@"(?<!\\)((?:\\\\)*)\\h(?![^\[]*\])")]
    private static partial Regex HorizontalSpace();

    /// <summary><c>a++</c> and the like: the same matches but for how fast they fail.</summary>
    [GeneratedRegex(@"(?<=[^\\(|])([*+?}])\+")]
    private static partial Regex Possessive();
}
