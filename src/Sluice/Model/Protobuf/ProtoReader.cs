using System.Buffers;
using System.Buffers.Binary;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Unicode;

namespace Sluice.Model.Protobuf;

/// <summary>How 64-bit integers are written that 32 bits do not hold.</summary>
enum Int64Form
{
    Number,

    /// <summary><c>"#-12"</c>.</summary>
    Text,

    /// <summary><c>"#-0xC"</c>.</summary>
    HexText,
}

/// <summary>Which fields are written that are not there.</summary>
enum ProtoDefaults
{
    /// <summary>Those of .proto files of version 3.</summary>
    OfProto3,
    All,
    None,
}

/// <summary>lua-protobuf's options, as far as JSON shows them.</summary>
sealed record ProtoForm(bool EnumAsName = true, Int64Form Int64 = Int64Form.Number, ProtoDefaults Defaults = ProtoDefaults.OfProto3);

/// <summary>
/// Writes messages as JSON, whose members have the names of the .proto and its order. Bytes go out as they are, as a string. Kept by one
/// response, whose messages follow each other.
/// </summary>
sealed class ProtoReader(ProtoForm form)
{
    static readonly JsonWriterOptions s_json = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, SkipValidation = true };

    /// <summary>Where in a message a field's values are.</summary>
    readonly record struct Occurrence(int Field, WireType Wire, ulong Value, int Start, int Length);

    readonly List<Occurrence> _found = [];

    /// <exception cref="ProtoException">The bytes are no message of this type.</exception>
    public void Write(ProtoMessage type, ReadOnlySpan<byte> bytes, IBufferWriter<byte> output)
    {
        using var writer = new Utf8JsonWriter(output, s_json);
        Write(type, bytes, writer);
    }

    /// <summary>The same into somebody's JSON, where a value is due.</summary>
    public void Write(ProtoMessage type, ReadOnlySpan<byte> bytes, Utf8JsonWriter writer)
    {
        _found.Clear();
        WriteMessage(writer, type, bytes, 0);
    }

    void WriteMessage(Utf8JsonWriter writer, ProtoMessage type, ReadOnlySpan<byte> bytes, int depth)
    {
        if (depth > ProtoWriter.MaxDepth)
        {
            throw new ProtoException($"messages are nested more than {ProtoWriter.MaxDepth} deep");
        }
        var first = _found.Count;
        Index(type, bytes);
        var end = _found.Count;
        writer.WriteStartObject();
        for (var i = 0; i < type.Fields.Length; i++)
        {
            WriteField(writer, type, i, bytes, first, end, depth);
        }
        writer.WriteEndObject();
        CollectionsMarshal.SetCount(_found, first);
    }

    void WriteField(Utf8JsonWriter writer, ProtoMessage type, int index, ReadOnlySpan<byte> bytes, int first, int end, int depth)
    {
        var field = type.Fields[index];
        var (count, last) = (0, -1);
        for (var i = first; i < end; i++)
        {
            if (_found[i].Field == index)
            {
                (count, last) = (count + 1, i);
            }
        }
        if (count == 0)
        {
            WriteDefault(writer, type, field);
            return;
        }
        writer.WritePropertyName(field.Name);
        if (field.IsMap)
        {
            writer.WriteStartObject();
            for (var i = first; i < end; i++)
            {
                if (_found[i].Field == index)
                {
                    WriteEntry(writer, field, Slice(bytes, i), depth);
                }
            }
            writer.WriteEndObject();
        }
        else if (field.IsRepeated)
        {
            writer.WriteStartArray();
            for (var i = first; i < end; i++)
            {
                if (_found[i].Field == index)
                {
                    WriteItems(writer, field, _found[i], bytes, depth);
                }
            }
            writer.WriteEndArray();
        }
        else if (field.Message is not null && count > 1)
        {
            // parts of a message are merged as if they followed each other
            var whole = new ArrayBufferWriter<byte>();
            for (var i = first; i < end; i++)
            {
                if (_found[i].Field == index)
                {
                    whole.Write(Slice(bytes, i));
                }
            }
            WriteMessage(writer, field.Message, whole.WrittenSpan, depth + 1);
        }
        else
        {
            WriteValue(writer, field, _found[last], bytes, depth);
        }
    }

    ReadOnlySpan<byte> Slice(ReadOnlySpan<byte> bytes, int occurrence) => bytes.Slice(_found[occurrence].Start, _found[occurrence].Length);

    void WriteDefault(Utf8JsonWriter writer, ProtoMessage type, ProtoField field)
    {
        if (form.Defaults == ProtoDefaults.None || (form.Defaults == ProtoDefaults.OfProto3 && !type.IsProto3) || field.IsOptional)
        {
            return;
        }
        if (field.IsRepeated)
        {
            if (type.IsProto3)
            {
                writer.WritePropertyName(field.Name);
                writer.WriteRawValue(field.IsMap ? "{}" : "[]", skipInputValidation: true);
            }
            return;
        }
        if (field.Message is null)
        {
            writer.WritePropertyName(field.Name);
            WriteDefaultValue(writer, field);
        }
    }

    void WriteDefaultValue(Utf8JsonWriter writer, ProtoField field)
    {
        switch (field.Type)
        {
            case ProtoType.String or ProtoType.Bytes:
                writer.WriteStringValue(field.Default ?? "");
                break;
            case ProtoType.Bool:
                writer.WriteBooleanValue(field.Default == "true");
                break;
            case ProtoType.Enum:
                WriteEnum(writer, field.Enum!, field.Default is { } name ? field.Enum!.Number(name) ?? 0 : field.Enum!.Default);
                break;
            default:
                writer.WriteNumberValue(field.Default is { } text
                    && decimal.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out var number) ? number : 0);
                break;
        }
    }

    /// <summary>One value, or the values of a packed field.</summary>
    void WriteItems(Utf8JsonWriter writer, ProtoField field, Occurrence found, ReadOnlySpan<byte> bytes, int depth)
    {
        if (found.Wire != WireType.Bytes || field.Wire is WireType.Bytes or WireType.BeginGroup)
        {
            WriteValue(writer, field, found, bytes, depth);
            return;
        }
        for (var rest = bytes.Slice(found.Start, found.Length); !rest.IsEmpty;)
        {
            var value = ReadScalar(field.Wire, ref rest);
            WriteValue(writer, field, new(0, field.Wire, value, 0, 0), default, depth);
        }
    }

    void WriteEntry(Utf8JsonWriter writer, ProtoField field, ReadOnlySpan<byte> entry, int depth)
    {
        var (key, value) = (field.Message!.Fields[0], field.Message.Fields[1]);
        var first = _found.Count;
        Index(field.Message, entry);
        var (keyAt, valueAt) = (-1, -1);
        for (var i = first; i < _found.Count; i++)
        {
            (keyAt, valueAt) = _found[i].Field == 0 ? (i, valueAt) : (keyAt, i);
        }
        writer.WritePropertyName(keyAt < 0 ? KeyText(key, default, default) : KeyText(key, _found[keyAt], entry));
        if (valueAt >= 0)
        {
            WriteValue(writer, value, _found[valueAt], entry, depth);
        }
        else if (value.Message is { } message)
        {
            WriteMessage(writer, message, default, depth + 1);
        }
        else
        {
            WriteDefaultValue(writer, value);
        }
        CollectionsMarshal.SetCount(_found, first);
    }

    static string KeyText(ProtoField key, Occurrence found, ReadOnlySpan<byte> entry) => key.Type switch
    {
        ProtoType.String => Encoding.UTF8.GetString(entry.Slice(found.Start, found.Length)),
        ProtoType.Bool => found.Value == 0 ? "false" : "true",
        ProtoType.UInt32 or ProtoType.UInt64 or ProtoType.Fixed32 or ProtoType.Fixed64 =>
            found.Value.ToString(CultureInfo.InvariantCulture),
        _ => Signed(key.Type, found.Value).ToString(CultureInfo.InvariantCulture),
    };

    static long Signed(ProtoType type, ulong value) => type switch
    {
        ProtoType.SInt32 or ProtoType.SInt64 => (long)(value >> 1) ^ -(long)(value & 1),
        ProtoType.Int32 or ProtoType.SFixed32 or ProtoType.Enum => (int)value,
        _ => (long)value,
    };

    void WriteValue(Utf8JsonWriter writer, ProtoField field, Occurrence found, ReadOnlySpan<byte> bytes, int depth)
    {
        if (found.Wire != field.Wire)
        {
            throw new ProtoException($"field {field.Name} is no {field.Type}");
        }
        switch (field.Type)
        {
            case ProtoType.Message or ProtoType.Group:
                WriteMessage(writer, field.Message!, bytes.Slice(found.Start, found.Length), depth + 1);
                break;
            case ProtoType.String or ProtoType.Bytes:
                WriteText(writer, bytes.Slice(found.Start, found.Length));
                break;
            case ProtoType.Double:
                WriteReal(writer, field, BitConverter.UInt64BitsToDouble(found.Value));
                break;
            case ProtoType.Float:
                var real = BitConverter.UInt32BitsToSingle((uint)found.Value);
                if (float.IsFinite(real))
                {
                    writer.WriteNumberValue(real);
                }
                else
                {
                    WriteReal(writer, field, real);
                }
                break;
            case ProtoType.Bool:
                writer.WriteBooleanValue(found.Value != 0);
                break;
            case ProtoType.Enum:
                WriteEnum(writer, field.Enum!, (int)found.Value);
                break;
            case ProtoType.UInt32 or ProtoType.Fixed32:
                writer.WriteNumberValue((uint)found.Value);
                break;
            case ProtoType.UInt64 or ProtoType.Fixed64:
                WriteInteger(writer, found.Value);
                break;
            default:
                WriteInteger(writer, Signed(field.Type, found.Value));
                break;
        }
    }

    static void WriteReal(Utf8JsonWriter writer, ProtoField field, double value) =>
        writer.WriteNumberValue(double.IsFinite(value) ? value
            : throw new ProtoException($"field {field.Name}: JSON has no number {value}"));

    void WriteEnum(Utf8JsonWriter writer, ProtoEnum type, int number)
    {
        if (form.EnumAsName && type.ValueName(number) is { } name)
        {
            writer.WriteStringValue(name);
        }
        else
        {
            writer.WriteNumberValue(number);
        }
    }

    /// <summary>lua-protobuf makes texts of those only that 32 bits do not hold.</summary>
    void WriteInteger(Utf8JsonWriter writer, Int128 number)
    {
        if (form.Int64 == Int64Form.Number || (number >= int.MinValue && number <= uint.MaxValue))
        {
            writer.WriteRawValue(number.ToString(CultureInfo.InvariantCulture), skipInputValidation: true);
            return;
        }
        var digits = form.Int64 == Int64Form.Text ? Int128.Abs(number).ToString(CultureInfo.InvariantCulture)
            : $"0x{(ulong)Int128.Abs(number):X}";
        writer.WriteStringValue($"#{(number < 0 ? "-" : "")}{digits}");
    }

    /// <summary>What is no UTF-8 goes out as it is, as cjson does it.</summary>
    public static void WriteText(Utf8JsonWriter writer, ReadOnlySpan<byte> text)
    {
        if (Utf8.IsValid(text))
        {
            writer.WriteStringValue(text);
            return;
        }
        var quoted = new ArrayBufferWriter<byte>(text.Length + 2);
        quoted.Write("\""u8);
        foreach (var one in text)
        {
            if (one is < 0x20 or (byte)'"' or (byte)'\\')
            {
                quoted.Write(Encoding.ASCII.GetBytes($"\\u{(int)one:x4}"));
            }
            else
            {
                quoted.Write([one]);
            }
        }
        quoted.Write("\""u8);
        writer.WriteRawValue(quoted.WrittenSpan, skipInputValidation: true);
    }

    // -- The wire

    /// <summary>Finds the values of the fields that the type knows.</summary>
    void Index(ProtoMessage type, ReadOnlySpan<byte> bytes)
    {
        for (var rest = bytes; !rest.IsEmpty;)
        {
            var tag = ReadVarint(ref rest);
            var (number, wire) = ((int)(tag >> 3), (WireType)(tag & 7));
            if (number <= 0 || tag > uint.MaxValue)
            {
                throw new ProtoException($"{tag >> 3} is no number of a field");
            }
            var index = type.IndexOf(number);
            var (value, start, length) = (0UL, bytes.Length - rest.Length, 0);
            switch (wire)
            {
                case WireType.Varint or WireType.Fixed32 or WireType.Fixed64:
                    value = ReadScalar(wire, ref rest);
                    break;
                case WireType.Bytes:
                    var size = ReadVarint(ref rest);
                    if (size > (ulong)rest.Length)
                    {
                        throw Short();
                    }
                    (start, length) = (bytes.Length - rest.Length, (int)size);
                    rest = rest[length..];
                    break;
                case WireType.BeginGroup:
                    length = SkipGroup(number, ref rest, 0);
                    break;
                default:
                    throw new ProtoException($"wire type {wire} has no place here");
            }
            if (index >= 0)
            {
                _found.Add(new(index, wire, value, start, length));
            }
        }
    }

    /// <summary>How long it is without its end.</summary>
    static int SkipGroup(int number, ref ReadOnlySpan<byte> rest, int depth)
    {
        if (depth > ProtoWriter.MaxDepth)
        {
            throw new ProtoException($"messages are nested more than {ProtoWriter.MaxDepth} deep");
        }
        var begin = rest.Length;
        while (true)
        {
            var length = begin - rest.Length;
            var tag = ReadVarint(ref rest);
            switch ((WireType)(tag & 7))
            {
                case WireType.EndGroup when (int)(tag >> 3) == number:
                    return length;
                case WireType.BeginGroup:
                    SkipGroup((int)(tag >> 3), ref rest, depth + 1);
                    break;
                case WireType.Bytes:
                    var size = ReadVarint(ref rest);
                    rest = size > (ulong)rest.Length ? throw Short() : rest[(int)size..];
                    break;
                case WireType.Varint or WireType.Fixed32 or WireType.Fixed64:
                    ReadScalar((WireType)(tag & 7), ref rest);
                    break;
                default:
                    throw new ProtoException("a group ends that has not begun");
            }
        }
    }

    static ulong ReadScalar(WireType wire, ref ReadOnlySpan<byte> rest)
    {
        ulong value;
        switch (wire)
        {
            case WireType.Varint:
                return ReadVarint(ref rest);
            case WireType.Fixed32 when rest.Length >= 4:
                value = BinaryPrimitives.ReadUInt32LittleEndian(rest);
                rest = rest[4..];
                return value;
            case WireType.Fixed64 when rest.Length >= 8:
                value = BinaryPrimitives.ReadUInt64LittleEndian(rest);
                rest = rest[8..];
                return value;
            default:
                throw Short();
        }
    }

    static ulong ReadVarint(ref ReadOnlySpan<byte> rest)
    {
        ulong value = 0;
        for (var i = 0; i < 10; i++)
        {
            if (i == rest.Length)
            {
                throw Short();
            }
            value |= (ulong)(rest[i] & 0x7F) << (7 * i);
            if (rest[i] < 0x80)
            {
                rest = rest[(i + 1)..];
                return value;
            }
        }
        throw new ProtoException("a number is longer than ten bytes");
    }

    static ProtoException Short() => new("the message ends in the middle of a field");
}
