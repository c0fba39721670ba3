using System.Buffers;
using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Sluice.Model.Json;

namespace Sluice.Model.Protobuf;

/// <summary>
/// Makes a message of JSON, whose members have the names of the .proto. Where it may, it is as lenient as lua-protobuf: numbers may be
/// texts (<c>"12"</c>, <c>"#12"</c>,
/// <c>"0xC"</c>), enums numbers or names, what is no field is left out.
/// </summary>
static class ProtoWriter
{
    /// <summary>Messages in messages: what protobuf's own libraries take.</summary>
    public const int MaxDepth = 100;

    /// <exception cref="ProtoException">A value is none of its field's.</exception>
    public static void Write(ProtoMessage type, JsonObject json, IBufferWriter<byte> output, int depth = 0)
    {
        if (depth > MaxDepth)
        {
            throw new ProtoException($"messages are nested more than {MaxDepth} deep");
        }
        foreach (var field in type.Fields)
        {
            if (json[field.Name] is { } value)
            {
                WriteField(field, value, output, depth);
            }
        }
    }

    static void WriteField(ProtoField field, JsonNode value, IBufferWriter<byte> output, int depth)
    {
        if (field.IsMap)
        {
            foreach (var (key, item) in value as JsonObject ?? throw Wrong(field, "an object", value))
            {
                var entry = new JsonObject { [field.Message!.Fields[0].Name] = key, [field.Message.Fields[1].Name] = item?.DeepClone() };
                WriteMessage(field, entry, output, depth);
            }
            return;
        }
        if (!field.IsRepeated)
        {
            WriteOne(field, value, output, depth);
            return;
        }
        // a form and a query have one value as they have several
        JsonNode?[] items = value is JsonArray array ? [.. array] : value is JsonObject ? throw Wrong(field, "an array", value) : [value];
        if (items.Length > 0 && field.IsPacked && field.Wire != WireType.Bytes && field.Type != ProtoType.Group)
        {
            var packed = new ArrayBufferWriter<byte>();
            foreach (var item in items)
            {
                WriteScalar(field, item ?? throw Wrong(field, "no null", item), packed);
            }
            WriteTag(field.Number, WireType.Bytes, output);
            WriteBytes(packed.WrittenSpan, output);
            return;
        }
        foreach (var item in items)
        {
            WriteOne(field, item ?? throw Wrong(field, "no null", item), output, depth);
        }
    }

    static void WriteOne(ProtoField field, JsonNode value, IBufferWriter<byte> output, int depth)
    {
        if (field.Message is not null)
        {
            WriteMessage(field, value as JsonObject ?? throw Wrong(field, "an object", value), output, depth);
            return;
        }
        WriteTag(field.Number, field.Wire, output);
        WriteScalar(field, value, output);
    }

    static void WriteMessage(ProtoField field, JsonObject value, IBufferWriter<byte> output, int depth)
    {
        var inner = new ArrayBufferWriter<byte>();
        Write(field.Message!, value, inner, depth + 1);
        if (field.Type == ProtoType.Group)
        {
            WriteTag(field.Number, WireType.BeginGroup, output);
            output.Write(inner.WrittenSpan);
            WriteTag(field.Number, WireType.EndGroup, output);
            return;
        }
        WriteTag(field.Number, WireType.Bytes, output);
        WriteBytes(inner.WrittenSpan, output);
    }

    static void WriteScalar(ProtoField field, JsonNode value, IBufferWriter<byte> output)
    {
        switch (field.Type)
        {
            case ProtoType.Double:
                BinaryPrimitives.WriteDoubleLittleEndian(output.GetSpan(8), Number(field, value));
                output.Advance(8);
                break;
            case ProtoType.Float:
                BinaryPrimitives.WriteSingleLittleEndian(output.GetSpan(4), (float)Number(field, value));
                output.Advance(4);
                break;
            case ProtoType.Bool:
                WriteVarint(Bool(field, value) ? 1u : 0, output);
                break;
            case ProtoType.String or ProtoType.Bytes:
                WriteBytes(Encoding.UTF8.GetBytes(Text(field, value)), output);
                break;
            case ProtoType.Enum:
                WriteVarint((ulong)(long)Enum(field, value), output);
                break;
            case ProtoType.Int32:
                WriteVarint((ulong)Integer(field, value, int.MinValue, int.MaxValue), output);
                break;
            case ProtoType.Int64:
                WriteVarint((ulong)Integer(field, value, long.MinValue, long.MaxValue), output);
                break;
            case ProtoType.UInt32:
                WriteVarint((ulong)Integer(field, value, 0, uint.MaxValue), output);
                break;
            case ProtoType.UInt64:
                WriteVarint((ulong)Integer(field, value, 0, ulong.MaxValue), output);
                break;
            case ProtoType.SInt32 or ProtoType.SInt64:
                var signed = (long)Integer(field, value, field.Type == ProtoType.SInt32 ? int.MinValue : long.MinValue,
                    field.Type == ProtoType.SInt32 ? int.MaxValue : long.MaxValue);
                WriteVarint((ulong)((signed << 1) ^ (signed >> 63)), output);
                break;
            case ProtoType.Fixed32:
                WriteFixed32((uint)Integer(field, value, 0, uint.MaxValue), output);
                break;
            case ProtoType.SFixed32:
                WriteFixed32((uint)(int)Integer(field, value, int.MinValue, int.MaxValue), output);
                break;
            case ProtoType.Fixed64:
                WriteFixed64((ulong)Integer(field, value, 0, ulong.MaxValue), output);
                break;
            case ProtoType.SFixed64:
                WriteFixed64((ulong)(long)Integer(field, value, long.MinValue, long.MaxValue), output);
                break;
            default:
                throw new ProtoException($"field {field.Name} has a type that is not known");
        }
    }

    // -- Values

    static double Number(ProtoField field, JsonNode value) => value.GetValueKind() switch
    {
        JsonValueKind.Number => LuaText.ToDouble(value),
        JsonValueKind.String when LuaText.TryToNumber(value.GetValue<string>(), out var number) => number,
        _ => throw Wrong(field, "a number", value),
    };

    static bool Bool(ProtoField field, JsonNode value) => value.GetValueKind() switch
    {
        JsonValueKind.True => true,
        JsonValueKind.False => false,
        JsonValueKind.String when value.GetValue<string>() is "true" or "1" => true,
        JsonValueKind.String when value.GetValue<string>() is "false" or "0" => false,
        _ => throw Wrong(field, "true or false", value),
    };

    static string Text(ProtoField field, JsonNode value) => value.GetValueKind() switch
    {
        JsonValueKind.String => value.GetValue<string>(),
        JsonValueKind.Number => value.ToJsonString(),
        _ => throw Wrong(field, "a string", value),
    };

    static int Enum(ProtoField field, JsonNode value) =>
        value.GetValueKind() == JsonValueKind.String && field.Enum!.Number(value.GetValue<string>()) is { } number
            ? number : (int)(long)Integer(field, value, int.MinValue, int.MaxValue, $"a value of {field.Enum!.Name}");

    static Int128 Integer(ProtoField field, JsonNode value, Int128 least, Int128 most, string right = "an integer")
    {
        var number = value.GetValueKind() switch
        {
            JsonValueKind.Number
                when Int128.TryParse(value.ToJsonString(), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var whole) =>
                whole,
            JsonValueKind.Number when LuaText.ToDouble(value) is var real && Math.Floor(real) == real && Math.Abs(real) < 1e20 =>
                (Int128)real,
            JsonValueKind.String when TryParse(value.GetValue<string>(), out var written) => written,
            _ => throw Wrong(field, right, value),
        };
        return number >= least && number <= most ? number
            : throw new ProtoException($"field {field.Name}: {number} is too {(number < least ? "small" : "large")}");
    }

    /// <summary>As lua-protobuf writes and reads them: <c>#</c> before or behind the sign, <c>0x</c> before hexadecimal digits.</summary>
    static bool TryParse(ReadOnlySpan<char> text, out Int128 number)
    {
        text = text.StartsWith("#") ? text[1..] : text;
        var isNegative = text.StartsWith("-");
        text = isNegative || text.StartsWith("+") ? text[1..] : text;
        text = text.StartsWith("#") ? text[1..] : text;
        var parsed = text.StartsWith("0x", StringComparison.OrdinalIgnoreCase)
            ? Int128.TryParse($"0{text[2..Math.Min(text.Length, 19)]}", NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture,
                out number) && text.Length is > 2 and <= 18
            : Int128.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out number);
        number = isNegative ? -number : number;
        return parsed;
    }

    static ProtoException Wrong(ProtoField field, string right, JsonNode? value) =>
        new($"field {field.Name} must be {right}, got {LuaText.Kind(value)}");

    // -- The wire

    static void WriteTag(int number, WireType wire, IBufferWriter<byte> output) =>
        WriteVarint(((ulong)(uint)number << 3) | (uint)wire, output);

    static void WriteVarint(ulong value, IBufferWriter<byte> output)
    {
        var span = output.GetSpan(10);
        var count = 0;
        for (; value >= 0x80; value >>= 7)
        {
            span[count++] = (byte)(value | 0x80);
        }
        span[count++] = (byte)value;
        output.Advance(count);
    }

    static void WriteBytes(ReadOnlySpan<byte> bytes, IBufferWriter<byte> output)
    {
        WriteVarint((ulong)bytes.Length, output);
        output.Write(bytes);
    }

    static void WriteFixed32(uint value, IBufferWriter<byte> output)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(output.GetSpan(4), value);
        output.Advance(4);
    }

    static void WriteFixed64(ulong value, IBufferWriter<byte> output)
    {
        BinaryPrimitives.WriteUInt64LittleEndian(output.GetSpan(8), value);
        output.Advance(8);
    }
}
