using System.Collections.Frozen;

namespace Sluice.Model.Protobuf;

/// <summary>Numbers as in <c>descriptor.proto</c>.</summary>
enum ProtoType
{
    Double = 1,
    Float = 2,
    Int64 = 3,
    UInt64 = 4,
    Int32 = 5,
    Fixed64 = 6,
    Fixed32 = 7,
    Bool = 8,
    String = 9,
    Group = 10,
    Message = 11,
    Bytes = 12,
    UInt32 = 13,
    Enum = 14,
    SFixed32 = 15,
    SFixed64 = 16,
    SInt32 = 17,
    SInt64 = 18,
}

/// <summary>How a value is written: the last three bits of its tag.</summary>
enum WireType
{
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
    BeginGroup = 3,
    EndGroup = 4,
    Fixed32 = 5,
}

/// <summary>A message type. Its fields are filled in when all types are known, as they refer to each other.</summary>
sealed class ProtoMessage(string name, bool isProto3, bool isMapEntry)
{
    FrozenDictionary<int, int> _byNumber = FrozenDictionary<int, int>.Empty;

    public string Name => name;

    public bool IsProto3 => isProto3;

    public bool IsMapEntry => isMapEntry;

    /// <summary>In the order of the .proto.</summary>
    public ProtoField[] Fields
    {
        get;
        set
        {
            field = value;
            _byNumber = value.Select(static (one, index) => KeyValuePair.Create(one.Number, index)).DistinctBy(static pair => pair.Key)
                .ToFrozenDictionary();
        }
    } = [];

    /// <summary>The place in <see cref="Fields"/>; -1: there is none of this number.</summary>
    public int IndexOf(int number) => _byNumber.TryGetValue(number, out var index) ? index : -1;
}

/// <param name="IsOptional">It may be absent and then has no default value: part of a oneof, <c>optional</c> of proto3.</param>
/// <param name="Default">What a .proto of version 2 says, as a text.</param>
sealed record ProtoField(string Name, int Number, ProtoType Type, bool IsRepeated, bool IsPacked, bool IsOptional, string? Default,
    ProtoMessage? Message, ProtoEnum? Enum)
{
    public bool IsMap => Message is { IsMapEntry: true };

    public WireType Wire => Type switch
    {
        ProtoType.Double or ProtoType.Fixed64 or ProtoType.SFixed64 => WireType.Fixed64,
        ProtoType.Float or ProtoType.Fixed32 or ProtoType.SFixed32 => WireType.Fixed32,
        ProtoType.String or ProtoType.Bytes or ProtoType.Message => WireType.Bytes,
        ProtoType.Group => WireType.BeginGroup,
        _ => WireType.Varint,
    };
}

sealed class ProtoEnum(string name, IReadOnlyList<KeyValuePair<string, int>> values)
{
    readonly FrozenDictionary<string, int> _numbers = values.DistinctBy(static value => value.Key).ToFrozenDictionary();
    readonly FrozenDictionary<int, string> _names = values.DistinctBy(static value => value.Value)
        .ToDictionary(static value => value.Value, static value => value.Key).ToFrozenDictionary();

    public string Name => name;

    /// <summary>The first one that is declared.</summary>
    public int Default => values.Count == 0 ? 0 : values[0].Value;

    public int? Number(string value) => _numbers.TryGetValue(value, out var number) ? number : null;

    public string? ValueName(int number) => _names.GetValueOrDefault(number);
}

/// <param name="ClientStreams">The client sends any number of messages.</param>
/// <param name="ServerStreams">The service answers any number of messages.</param>
sealed record ProtoMethod(ProtoMessage Input, ProtoMessage Output, bool ClientStreams, bool ServerStreams);

/// <summary>A message is none of its type, or a value is none of its field's.</summary>
sealed class ProtoException(string message) : FormatException(message);
