using System.Diagnostics;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using CsCheck;
using Sluice.Model.Json;

namespace Sluice.Tests.Model.Json;

public class CjsonReaderTests
{
    [Theory]
    [InlineData("""{"uri":"/x" """, "Expected comma or object end but found T_END at character 13")]
    [InlineData("""{"uri":"/x""" + "\"", "Expected comma or object end but found T_END at character 12")]
    [InlineData("", "Expected value but found T_END at character 1")]
    [InlineData("bogus", "Expected value but found invalid token at character 1")]
    [InlineData("nul", "Expected value but found invalid token at character 1")]
    [InlineData("{1:2}", "Expected object key string but found T_NUMBER at character 2")]
    [InlineData("{,}", "Expected object key string but found T_COMMA at character 2")]
    [InlineData("""{"a":1,}""", "Expected object key string but found T_OBJ_END at character 8")]
    [InlineData("""{"a" 1}""", "Expected colon but found T_NUMBER at character 6")]
    [InlineData("""{"a":}""", "Expected value but found T_OBJ_END at character 6")]
    [InlineData("[1,]", "Expected value but found T_ARR_END at character 4")]
    [InlineData("[1 2]", "Expected comma or array end but found T_NUMBER at character 4")]
    [InlineData("{} x", "Expected the end but found invalid token at character 4")]
    [InlineData("{} {}", "Expected the end but found T_OBJ_BEGIN at character 4")]
    [InlineData("[tru]", "Expected value but found invalid token at character 2")]
    [InlineData("-", "Expected value but found invalid number at character 1")]
    [InlineData("[01]", "Expected value but found invalid number at character 2")]
    [InlineData("[1.]", "Expected value but found invalid number at character 2")]
    [InlineData("[1e]", "Expected value but found invalid number at character 2")]
    [InlineData("0x10", "Expected value but found invalid number at character 1")]
    [InlineData("1e999", "Expected value but found invalid number at character 1")]
    [InlineData("\"abc", "Expected value but found unexpected end of string at character 5")]
    [InlineData("\"a\\x\"", "Expected value but found invalid escape code at character 3")]
    [InlineData("\"\\", "Expected value but found invalid escape code at character 2")]
    [InlineData("\"\\u12g4\"", "Expected value but found invalid unicode escape code at character 2")]
    [InlineData("\"\\ud800\"", "Expected value but found invalid unicode escape code at character 2")]
    [InlineData("\"\\udc00\\ud800\"", "Expected value but found invalid unicode escape code at character 2")]
    [InlineData("\uFEFF{}", "Expected value but found invalid token at character 1")]
    [InlineData("{\"a\":\"x\0\"}", "Expected value but found unexpected end of string at character 8")]
    [InlineData("{}\0", "Expected the end but found invalid token at character 3")]
    [InlineData("\0\0", "JSON parser does not support UTF-16 or UTF-32")]
    public void Refusals_are_worded_as_by_cjson(string text, string message) =>
        Assert.Equal(message, Assert.Throws<JsonTextException>(() => Parse(text)).Message);

    [Fact]
    public void Nesting_is_limited_as_by_cjson()
    {
        Assert.NotNull(Parse(new string('[', 64) + new string(']', 64)));
        Assert.Equal("Found too many nested data structures (65) at character 65",
            Assert.Throws<JsonTextException>(() => Parse(new string('[', 65))).Message);
    }

    [Theory]
    [InlineData("[")]
    [InlineData("{\"a\":")]
    public void A_megabyte_of_nesting_is_refused_at_any_limit(string opening)
    {
        var text = Encoding.UTF8.GetBytes(string.Concat(Enumerable.Repeat(opening, (1 << 20) / opening.Length)));
        Assert.Throws<JsonTextException>(() => CjsonReader.Parse(text));
        Assert.Throws<JsonTextException>(() => CjsonReader.Parse(text, int.MaxValue));
    }

    [Theory]
    [InlineData(new byte[] { (byte)'"', 0xff, (byte)'"' }, 2)]
    [InlineData(new byte[] { (byte)'"', (byte)'a', 0xc0, 0x80, (byte)'"' }, 3)]
    [InlineData(new byte[] { (byte)'"', 0xed, 0xa0, 0x80, (byte)'"' }, 2)]
    [InlineData(new byte[] { (byte)'"', 0xe2, 0x82 }, 2)]
    public void Invalid_UTF8_is_refused_where_it_stands(byte[] text, int position) =>
        Assert.Equal($"Expected value but found invalid UTF-8 at character {position}",
            Assert.Throws<JsonTextException>(() => CjsonReader.Parse(text)).Message);

    [Fact]
    public void The_last_of_equal_keys_wins_and_order_is_kept() =>
        Assert.Equal("""{"b":3,"a":2}""", Parse("""{"b":1,"a":2,"b":3}""")!.ToJsonString());

    [Fact]
    public void Raw_line_breaks_in_strings_are_taken_as_cjson_takes_them() =>
        Assert.Equal("return\n\tx", Parse("\"return\n\tx\"")!.GetValue<string>());

    [Fact]
    public void Numbers_read_as_any_type_that_holds_them()
    {
        var number = Parse("[12]")![0]!;
        Assert.Equal((12, 12L, 12.0, 12m),
            (number.GetValue<int>(), number.GetValue<long>(), number.GetValue<double>(), number.GetValue<decimal>()));
        Assert.Equal("123456789012345678901234567890", Parse("123456789012345678901234567890")!.ToJsonString());
    }

    [Fact]
    public void Escapes_are_those_of_JSON() =>
        Assert.Equal("\"\\/\b\f\n\r\té😀", Parse(""" "\"\\\/\b\f\n\r\t\u00e9\uD83D\uDE00" """)!.GetValue<string>());

    static readonly Gen<JsonNode?> Documents = Gen.Recursive<JsonNode?>((depth, inner) =>
    {
        var text = Gen.OneOf(Gen.String, Gen.String[Gen.Char['\0', '\u2fff'], 0, 20]);
        var scalar = Gen.OneOf(
            text.Select(value => (JsonNode?)JsonValue.Create(value)),
            Gen.Long.Select(value => (JsonNode?)JsonValue.Create(value)),
            Gen.Double.Where(double.IsFinite).Select(value => (JsonNode?)JsonValue.Create(value)),
            Gen.Bool.Select(value => (JsonNode?)JsonValue.Create(value)),
            Gen.Const((JsonNode?)null));
        return depth > 5 ? scalar : Gen.Frequency(
            (2, scalar),
            (1, inner.Array[0, 6].Select(items => (JsonNode?)new JsonArray([.. items.Select(item => item?.DeepClone())]))),
            (1, Gen.Select(text, inner).Array[0, 6].Select(members => (JsonNode?)new JsonObject(
                members.DistinctBy(member => member.Item1)
                .Select(member => KeyValuePair.Create(member.Item1, member.Item2?.DeepClone()))))));
    });

    [Fact]
    public void Agrees_with_System_Text_Json_on_documents() =>
        Gen.Select(Documents, Gen.Bool).Sample((document, indented) =>
        {
            var text = JsonSerializer.SerializeToUtf8Bytes(document, new JsonSerializerOptions { WriteIndented = indented });
            return JsonNode.DeepEquals(JsonNode.Parse(text), CjsonReader.Parse(text));
        }, iter: 1000);

    [Fact]
    public void Agrees_with_System_Text_Json_on_what_is_no_document() =>
        Gen.Select(Documents, Gen.Int[0, 1000],
            Gen.OneOfConst("\"", "{", "}", "[", "]", ",", ":", "1", "-", ".", "e", "\\", "x", " ", "0", ""))
            .Sample((document, at, edit) =>
            {
                var text = document?.ToJsonString() ?? "null";
                var index = at % text.Length;
                var edited = Encoding.UTF8.GetBytes(text[..index] + edit + text[(index + 1)..]);
                var refused = Refusal(edited);
                return refused is null == Accepts(() => JsonDocument.Parse(edited))
                    || (refused is not null && refused.Contains("invalid number", StringComparison.Ordinal)); // beyond a double's range
            }, iter: 1500);

    [Fact]
    public void A_big_document_takes_linear_time()
    {
        var text = Encoding.UTF8.GetBytes("[" + string.Join(',', Enumerable.Range(0, 100_000).Select(i => $"{{\"k{i}\":\"\\n{i}\"}}"))
            + "]");
        var clock = Stopwatch.StartNew();
        Assert.Equal(100_000, CjsonReader.Parse(text)!.AsArray().Count);
        Assert.True(clock.Elapsed < TimeSpan.FromSeconds(20));
    }

    static string? Refusal(byte[] text)
    {
        try
        {
            CjsonReader.Parse(text);
            return null;
        }
        catch (JsonTextException e)
        {
            return e.Message;
        }
    }

    static bool Accepts(Func<object?> read)
    {
        try
        {
            read();
            return true;
        }
        catch (JsonException)
        {
            return false;
        }
    }

    static JsonNode? Parse(string text) => CjsonReader.Parse(Encoding.UTF8.GetBytes(text));
}
