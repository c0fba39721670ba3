using System.Buffers;
using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using CsCheck;
using Google.Protobuf;
using Sluice.Model.Protobuf;
using Sluice.Tests.Model.Protobuf.Types;

namespace Sluice.Tests.Model.Protobuf;

/// <summary>Messages between JSON and the wire, against code that protoc has made.</summary>
public class ProtoJsonTests
{
    static readonly ProtoSchema Schema =
        ProtoSchema.Parse(File.ReadAllText(Path.Combine(Repository.Root, "tests", "Sluice.Tests", "Model", "Protobuf", "types.proto")));

    static readonly ProtoMessage AllType = Schema.FindMessage("test.types.All")!;

    static All Parse(string json) => All.Parser.ParseFrom(Bytes(json));

    static byte[] Bytes(string json, ProtoMessage? type = null)
    {
        var output = new ArrayBufferWriter<byte>();
        ProtoWriter.Write(type ?? AllType, JsonNode.Parse(json)!.AsObject(), output);
        return output.WrittenSpan.ToArray();
    }

    static JsonObject Json(IMessage message, ProtoForm? form = null) =>
        JsonNode.Parse(Text(message.ToByteArray(), AllType, form))!.AsObject();

    static string Text(byte[] bytes, ProtoMessage type, ProtoForm? form = null)
    {
        var output = new ArrayBufferWriter<byte>();
        new ProtoReader(form ?? new ProtoForm()).Write(type, bytes, output);
        return Encoding.UTF8.GetString(output.WrittenSpan);
    }

    static readonly Gen<All> Plain = Gen.Select(Gen.Long, Gen.ULong, Gen.Double[-1e300, 1e300], Gen.Float[-1e30f, 1e30f],
        Gen.String[Gen.Char['a', 'ÿ'], 0, 20], Gen.Long.Array[0, 5])
        .Select((signed, unsigned, real, single, text, many) =>
        {
            var all = new All
            {
                DoubleOne = real, FloatOne = single, Int32One = (int)signed, Int64One = signed, Uint32One = (uint)unsigned,
                    Uint64One = unsigned, Sint32One = (int)unsigned,
                Sint64One = -signed, Fixed32One = (uint)signed, Fixed64One = unsigned, Sfixed32One = (int)unsigned, Sfixed64One = signed,
                    BoolOne = signed % 2 == 0,
                StringOne = text, Color = (Color)((signed % 3) - 1), Maybe = (int)signed,
            };
            all.Numbers.AddRange(many);
            all.Loose.AddRange(many.Select(number => (int)number));
            all.Texts.AddRange(many.Select(number => $"{number} {text}"));
            all.Colors.AddRange(many.Select(number => number % 2 == 0 ? Color.Red : Color.Blue));
            foreach (var number in many)
            {
                all.Counts[$"k{number}"] = (int)number;
                all.ByNumber[number] = new All { StringOne = text, Name = "chosen" };
            }
            all.ByBool[signed > 0] = text;
            return all;
        });

    static readonly Gen<All> Nested = Gen.Select(Plain, Plain.Null(), Plain.Array[0, 3]).Select((all, inner, inners) =>
    {
        all.Inner = inner;
        all.Inners.AddRange(inners);
        return all;
    });

    [Fact]
    public void A_message_is_the_same_after_a_way_through_JSON() =>
        Nested.Sample(all => Assert.Equal(Convert.ToHexString(all.ToByteArray()),
            Convert.ToHexString(Parse(Json(all).ToJsonString()).ToByteArray())), iter: 300);

    [Fact]
    public void What_is_not_there_is_written_with_its_default_value_but_for_messages_and_choices() => Assert.Equal(
        """
        {"double_one":0,"float_one":0,"int32_one":0,"int64_one":0,"uint32_one":0,"uint64_one":0,"sint32_one":0,"sint64_one":0,"fixed32_one":0,"fixed64_one":0,"sfixed32_one":0,"sfixed64_one":0,"bool_one":false,"string_one":"","bytes_one":"","color":"NONE","numbers":[],"loose":[],"texts":[],"colors":[],"inners":[],"counts":{},"by_number":{},"by_bool":{}}
        """,
        Text([], AllType));

    [Fact]
    public void A_form_may_leave_defaults_out() => Assert.Equal("{}", Text([], AllType, new ProtoForm(Defaults: ProtoDefaults.None)));

    [Theory]
    [InlineData("1", Int64Form.Number, "1")]
    [InlineData("9007199254740993", Int64Form.Number, "9007199254740993")]
    [InlineData("4294967295", Int64Form.Text, "4294967295")]
    [InlineData("4294967296", Int64Form.Text, "\"#4294967296\"")]
    [InlineData("-2147483649", Int64Form.Text, "\"#-2147483649\"")]
    [InlineData("-9223372036854775808", Int64Form.HexText, "\"#-0x8000000000000000\"")]
    public void Large_integers_have_the_form_that_is_asked_for(string number, object form, string expected) => Assert.Equal(
        expected,
        Json(new All { Int64One = long.Parse(number, CultureInfo.InvariantCulture) },
            new ProtoForm(Int64: (Int64Form)form))["int64_one"]!.ToJsonString());

    [Theory]
    [InlineData("1", 1)]
    [InlineData("-3", -3)]
    [InlineData("2.0", 2)]
    [InlineData("\"123\"", 123)]
    [InlineData("\"#123\"", 123)]
    [InlineData("\"0xabF\"", 0xABF)]
    [InlineData("\"#-0x123abcdef\"", -0x123abcdefL)]
    [InlineData("\"-#0x123abcdef\"", -0x123abcdefL)]
    public void Integers_may_be_texts(string json, long expected) =>
        Assert.Equal(expected, Parse($$"""{"int64_one":{{json}} }""").Int64One);

    [Theory]
    [InlineData("""{"int64_one":"#a"}""", "field int64_one must be an integer, got String")]
    [InlineData("""{"int64_one":"+aaa"}""", "field int64_one must be an integer, got String")]
    [InlineData("""{"int64_one":"#-aa"}""", "field int64_one must be an integer, got String")]
    [InlineData("""{"int64_one":1.5}""", "field int64_one must be an integer, got Number")]
    [InlineData("""{"int32_one":3000000000}""", "field int32_one: 3000000000 is too large")]
    [InlineData("""{"uint32_one":-1}""", "field uint32_one: -1 is too small")]
    [InlineData("""{"string_one":{} }""", "field string_one must be a string, got Object")]
    [InlineData("""{"bool_one":"maybe"}""", "field bool_one must be true or false, got String")]
    [InlineData("""{"color":"GREEN"}""", "field color must be a value of test.types.Color, got String")]
    [InlineData("""{"inner":"x"}""", "field inner must be an object, got String")]
    [InlineData("""{"inners":{} }""", "field inners must be an array, got Object")]
    [InlineData("""{"numbers":[1,null]}""", "field numbers must be no null, got Null")]
    [InlineData("""{"counts":[1]}""", "field counts must be an object, got Array")]
    public void What_is_no_value_of_its_field_is_refused_by_name(string json, string error) =>
        Assert.Equal(error, Assert.Throws<ProtoException>(() => Bytes(json)).Message);

    [Fact]
    public void Names_that_are_no_fields_and_nulls_are_left_out() => Assert.Empty(Bytes("""{"nothing":1,"string_one":null}"""));

    [Fact]
    public void One_value_may_stand_for_a_list() => Assert.Equal(["a"], Parse("""{"texts":"a"}""").Texts);

    [Fact]
    public void Enums_are_names_or_numbers()
    {
        Assert.Equal([Color.Red, Color.Blue, Color.Red, (Color)7], Parse("""{"colors":["RED",-2,"1",7]}""").Colors);
        var all = new All { Color = Color.Blue };
        all.Colors.Add((Color)7);
        Assert.Equal(("BLUE", "[7]"), ((string)Json(all)["color"]!, Json(all)["colors"]!.ToJsonString()));
        Assert.Equal(-2, (int)Json(all, new ProtoForm(EnumAsName: false))["color"]!);
    }

    [Fact]
    public void Parts_of_a_message_are_merged()
    {
        byte[] twice = [.. new All { Inner = new All { Int32One = 1, StringOne = "a" } }.ToByteArray(),
            .. new All { Inner = new All { Int32One = 2 } }.ToByteArray()];
        var inner = JsonNode.Parse(Text(twice, AllType))!["inner"]!;
        Assert.Equal((2, "a"), ((int)inner["int32_one"]!, (string)inner["string_one"]!));
    }

    [Fact]
    public void Bytes_go_out_as_they_are()
    {
        var output = new ArrayBufferWriter<byte>();
        new ProtoReader(new ProtoForm(Defaults: ProtoDefaults.None)).Write(AllType,
            new All { BytesOne = ByteString.CopyFrom(1, 0xFF, (byte)'"') }.ToByteArray(), output);
        Assert.Equal("{\"bytes_one\":\"\\u0001\u00ff\\u0022\"}", Encoding.Latin1.GetString(output.WrittenSpan));
    }

    [Fact]
    public void Bytes_that_are_no_message_never_do_more_than_fail() => Gen.Byte.Array[0, 60].Sample(bytes =>
    {
        try
        {
            _ = JsonNode.Parse(Text(bytes, AllType));
        }
        catch (Exception e) when (e is ProtoException or System.Text.Json.JsonException or ArgumentException)
        {
            // bytes that are no text can be in a string
        }
    }, iter: 20_000);

    [Fact]
    public void Messages_nested_too_deep_are_refused()
    {
        var all = new All();
        for (var i = 0; i < 110; i++)
        {
            all = new All { Inner = all };
        }
        Assert.Equal("messages are nested more than 100 deep",
            Assert.Throws<ProtoException>(() => Text(all.ToByteArray(), AllType)).Message);
    }

    [Fact]
    public void A_set_of_descriptors_is_as_good_as_a_text()
    {
        using var set = new MemoryStream();
        using var output = new CodedOutputStream(set);
        foreach (var file in (ByteString[])[Google.Protobuf.WellKnownTypes.TimestampReflection.Descriptor.SerializedData,
            TypesReflection.Descriptor.SerializedData])
        {
            output.WriteTag(1, WireFormat.WireType.LengthDelimited);
            output.WriteBytes(file);
        }
        output.Flush();
        var type = ProtoSchema.Parse(Convert.ToBase64String(set.ToArray())).FindMessage("test.types.All")!;
        Nested.Sample(all => Text(all.ToByteArray(), type) == Text(all.ToByteArray(), AllType), iter: 50);
        Assert.Equal(Text([], AllType), Text([], type));
    }

    [Fact]
    public void Defaults_of_version_2_are_its_own()
    {
        var type = ProtoSchema.Parse("""
            syntax = "proto2";
            message Old { optional int32 a = 1 [default = 5]; optional string b = 2 [default = "x"]; repeated int32 c = 3; optional Kind d = 4; optional group G = 5 { optional int32 e = 1; } enum Kind { ONE = 1; TWO = 2; } }
            """).FindMessage("Old")!;
        Assert.Equal("{}", Text([], type));
        Assert.Equal("""{"a":5,"b":"x","d":"ONE"}""", Text([], type, new ProtoForm(Defaults: ProtoDefaults.All)));
        Assert.Equal("""{"a":1,"c":[2,3],"g":{"e":4}}""", Text(Bytes("""{"a":1,"c":[2,3],"g":{"e":4} }""", type), type));
    }

    [Theory]
    [InlineData("""syntax = "proto3"; message A { B b = 1; }""", "line 1, column 32: type not found: 'B'")]
    [InlineData("message A {", "Unexpected end of file")]
    [InlineData("no proto", "line 1, column 1")]
    public void A_proto_that_is_none_is_refused_with_its_place(string content, string error) =>
        Assert.Contains(error, Assert.Throws<ProtoException>(() => ProtoSchema.Parse(content)).Message, StringComparison.Ordinal);
}
