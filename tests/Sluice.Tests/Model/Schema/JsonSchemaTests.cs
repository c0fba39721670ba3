using System.Diagnostics;
using System.Text;
using System.Text.Json.Nodes;
using Sluice.Model.Json;
using Sluice.Model.Schema;

namespace Sluice.Tests.Model.Schema;

public class JsonSchemaTests
{
    [Theory]
    // types
    [InlineData("""{"type":"string"}""", "5", "wrong type: expected string, got number")]
    [InlineData("""{"type":"object"}""", "[1]", "wrong type: expected object, got table")]
    [InlineData("""{"type":"array"}""", """{"a":1}""", "wrong type: expected array, got table")]
    [InlineData("""{"type":"integer"}""", "1.5", "wrong type: expected integer, got number")]
    [InlineData("""{"type":"number"}""", "true", "wrong type: expected number, got boolean")]
    [InlineData("""{"type":"boolean"}""", "null", "wrong type: expected boolean, got userdata")]
    [InlineData("""{"type":"null"}""", "1", "wrong type: expected null, got number")]
    [InlineData("""{"type":["string","integer"]}""", "{}", "wrong type: expected one of string, integer, got table")]
    [InlineData("false", "1", "expect false always")]
    // objects
    [InlineData("""{"required":["a"]}""", "{}", "property \"a\" is required")]
    [InlineData("""{"required":["a"]}""", "[]", "property \"a\" is required")]
    [InlineData("""{"required":[]}""", """{"a":1}""", "the input data should be an empty table")]
    [InlineData("""{"required":[]}""", "5", "the input data should be an empty table")]
    [InlineData("""{"properties":{"a":{"type":"string"}},"required":["a"]}""", "{}", "property \"a\" is required")]
    [InlineData("""{"properties":{"a":{"properties":{"b":{"type":"string"}}}}}""", """{"a":{"b":1}}""",
        "property \"a\" validation failed: property \"b\" validation failed: wrong type: expected string, got number")]
    [InlineData("""{"additionalProperties":false}""", """{"a":1}""", "additional properties forbidden, found a")]
    [InlineData("""{"additionalProperties":{"type":"string"}}""", """{"a":1}""",
        "failed to validate additional property a: wrong type: expected string, got number")]
    [InlineData("""{"patternProperties":{"^x":{"type":"string"}}}""", """{"x1":1}""",
        "failed to validate x1 (matching \"^x\"): wrong type: expected string, got number")]
    [InlineData("""{"patternProperties":{"^x":{}},"additionalProperties":false}""", """{"x1":1,"y":1}""",
        "additional properties forbidden, found y")]
    [InlineData("""{"minProperties":2}""", """{"a":1}""", "expect object to have at least 2 properties")]
    [InlineData("""{"maxProperties":1}""", """{"a":1,"b":1}""", "expect object to have at most 1 properties")]
    [InlineData("""{"dependencies":{"a":["b"]}}""", """{"a":1}""", "property \"b\" is required when \"a\" is set")]
    [InlineData("""{"properties":{"a":{}},"dependencies":{"a":["b"]}}""", """{"a":1}""", "property \"b\" is required when \"a\" is set")]
    [InlineData("""{"dependencies":{"a":{"required":["b"]}}}""", """{"a":1}""",
        "failed to validate dependent schema for \"a\": property \"b\" is required")]
    // arrays
    [InlineData("""{"items":{"type":"string"}}""", """["a",1]""", "failed to validate item 2: wrong type: expected string, got number")]
    [InlineData("""{"items":[{"type":"string"}]}""", "[1]", "failed to validate item 1: wrong type: expected string, got number")]
    [InlineData("""{"items":[{}],"additionalItems":false}""", "[1,2]", "found unexpected extra items in array")]
    [InlineData("""{"items":[{}],"additionalItems":{"type":"string"}}""", "[1,2]",
        "failed to validate additional item 2: wrong type: expected string, got number")]
    [InlineData("""{"minItems":1}""", "[]", "expect array to have at least 1 items")]
    [InlineData("""{"minItems":1}""", "{}", "expect array to have at least 1 items")]
    [InlineData("""{"maxItems":1}""", "[1,2]", "expect array to have at most 1 items")]
    [InlineData("""{"uniqueItems":true}""", "[1,2,1.0]", "expected unique items but items 1 and 3 are equal")]
    [InlineData("""{"uniqueItems":true}""", """[{"a":1,"b":2},"x",{"b":2,"a":1}]""", "expected unique items but items 1 and 3 are equal")]
    [InlineData("""{"uniqueItems":true}""", "[[1],[2],[2],[1]]", "expected unique items but items 1 and 4 are equal")]
    [InlineData("""{"contains":{"type":"string"}}""", "[1]", "failed to check contains")]
    // strings
    [InlineData("""{"minLength":3}""", "\"é😀\"", "string too short, expected at least 3, got 2")]
    [InlineData("""{"maxLength":1}""", "\"é😀\"", "string too long, expected at most 1, got 2")]
    [InlineData("""{"pattern":"^\\/.*"}""", "\"nosl\"", """failed to match pattern "^\\/.*" with "nosl" """)]
    [InlineData("""{"pattern":"^a$"}""", "\"a\\\"b\"", """failed to match pattern "^a$" with "a\"b" """)]
    [InlineData("""{"format":"ipv4"}""", "\"1.2.3\"", "expect valid ipv4 address but got: 1.2.3")]
    [InlineData("""{"format":"ipv4"}""", "\"::1\"", "expect valid ipv4 address but got: ::1")]
    [InlineData("""{"format":"ipv6"}""", "\"1.2.3.4\"", "expect valid ipv6 address but got: 1.2.3.4")]
    [InlineData("""{"format":"email"}""", "\"a@b\"", "expect valid email address but got: a@b")]
    [InlineData("""{"format":"hostname"}""", "\"a b\"", "expect valid ipv4 address but got: a b")]
    // numbers
    [InlineData("""{"minimum":1}""", "0", "expected 0 to be at least 1")]
    [InlineData("""{"maximum":1}""", "1.5", "expected 1.5 to be at most 1")]
    [InlineData("""{"exclusiveMinimum":0}""", "0", "expected 0 to be greater than 0")]
    [InlineData("""{"exclusiveMaximum":10}""", "10", "expected 10 to be smaller than 10")]
    [InlineData("""{"multipleOf":3}""", "10", "expected 10 to be a multiple of 3")]
    [InlineData("""{"multipleOf":0.5}""", "0.7", "expected 0.7 to be a multiple of 0.5")]
    // values
    [InlineData("""{"enum":["a",1,true,{"x":[1]}]}""", "\"b\"", "matches none of the enum values")]
    [InlineData("""{"const":{"a":1}}""", """{"a":2}""", "failed to check const value")]
    // combinations
    [InlineData("""{"allOf":[{},{"type":"string"}]}""", "1", "allOf 2 failed: wrong type: expected string, got number")]
    [InlineData("""{"anyOf":[{"type":"string"},{"type":"object"}]}""", "1", "object matches none of the required")]
    [InlineData("""{"anyOf":[{"required":["a"]},{"required":["b","c"]}]}""", """{"b":1}""",
        "object matches none of the required: [\"a\"] or [\"b\",\"c\"]")]
    [InlineData("""{"oneOf":[{"type":"string"},{"type":"boolean"}]}""", "1", "value should match only one schema, but matches none")]
    [InlineData("""{"oneOf":[{},{"type":"string"},{"type":"number"}]}""", "1",
        "value should match only one schema, but matches both schemas 1 and 3")]
    [InlineData("""{"not":{"type":"number"}}""", "1", "value wasn't supposed to match schema")]
    [InlineData("""{"if":{"type":"number"},"then":{"minimum":5}}""", "1", "then clause did not match")]
    [InlineData("""{"if":{"type":"number"},"else":{"type":"string"}}""", "true", "else clause did not match")]
    // references
    [InlineData("""{"definitions":{"a/b":{"type":"string"}},"properties":{"x":{"$ref":"#/definitions/a~1b"}}}""", """{"x":1}""",
        "property \"x\" validation failed: wrong type: expected string, got number")]
    [InlineData("""{"type":"object","properties":{"next":{"$ref":"#"}}}""", """{"next":{"next":1}}""",
        "property \"next\" validation failed: property \"next\" validation failed: wrong type: expected object, got number")]
    [InlineData("""{"allOf":[{"$ref":"#"}]}""", "1", "value is nested too deeply")]
    public void Refusals_are_worded_as_by_api7_jsonschema(string schema, string value, string error) =>
        Assert.Equal(error.TrimEnd(), JsonSchema.Compile(JsonNode.Parse(schema)!).Validate(JsonNode.Parse(value)));

    [Theory]
    [InlineData("""{"type":"integer"}""", "3.0")]
    [InlineData("""{"type":"integer"}""", "1e30")]
    [InlineData("""{"type":"object"}""", "[]")]
    [InlineData("""{"type":"array"}""", "{}")]
    [InlineData("""{"type":"table"}""", "[1]")]
    [InlineData("""{"type":"null"}""", "null")]
    [InlineData("true", "1")]
    [InlineData("""{"properties":{"a":{"type":"string"}}}""", "5")]
    [InlineData("""{"minLength":5,"minimum":5,"minItems":5,"minProperties":5,"format":"ipv4"}""", "true")]
    [InlineData("""{"enum":[1]}""", "1.0")]
    [InlineData("""{"const":[]}""", "{}")]
    [InlineData("""{"uniqueItems":true}""", """[1,"1",true,null,[1],{"a":1}]""")]
    [InlineData("""{"dependencies":{"a":["b"]}}""", """{"b":1}""")]
    [InlineData("""{"items":[{},{}],"additionalItems":false}""", "[1]")]
    [InlineData("""{"format":"unknown"}""", "\"x\"")]
    [InlineData("""{"format":"ipv6"}""", "\"2001:db8::1\"")]
    [InlineData("""{"pattern":"^[a-zA-Z0-9-_.]+$"}""", "\"a-b_c.9\"")]
    [InlineData("""{"pattern":"(?!x)y"}""", "\"y\"")]
    public void Valid_values_pass_the_schema(string schema, string value) =>
        Assert.Null(JsonSchema.Compile(JsonNode.Parse(schema)!).Validate(JsonNode.Parse(value)));

    [Theory]
    [InlineData("""{"properties":{"a":{"default":5},"b":{"default":false},"c":{"default":[1]},"d":{}}}""", "{}",
        """{"a":5,"b":false,"c":[1]}""")]
    [InlineData("""{"properties":{"a":{"default":5}}}""", """{"a":null}""", """{"a":null}""")]
    [InlineData("""{"properties":{"o":{"type":"object","properties":{"a":{"default":5}}}}}""", """{"o":{}}""", """{"o":{"a":5}}""")]
    [InlineData("""{"properties":{"o":{"type":"object","properties":{"a":{"default":5}}}}}""", """{"o":[]}""", """{"o":{"a":5}}""")]
    [InlineData("""{"items":{"properties":{"a":{"default":5}}}}""", """[{},{"a":1}]""", """[{"a":5},{"a":1}]""")]
    [InlineData("""{"anyOf":[{"properties":{"a":{"default":5}}}]}""", "{}", """{"a":5}""")]
    [InlineData("""{"properties":{"a":{"default":{"x":1},"required":["x"]}}}""", "{}", """{"a":{"x":1}}""")]
    public void Defaults_are_filled_in(string schema, string value, string filled)
    {
        var node = JsonNode.Parse(value)!;
        var compiled = JsonSchema.Compile(JsonNode.Parse(schema)!);
        Assert.Null(compiled.Validate(node));
        Assert.Equal(filled, node.ToJsonString());
    }

    [Fact]
    public void A_default_is_a_new_copy_each_time()
    {
        var schema = JsonSchema.Compile(JsonNode.Parse("""{"properties":{"a":{"default":[1]}}}""")!);
        JsonObject first = [], second = [];
        schema.Validate(first);
        schema.Validate(second);
        first["a"]!.AsArray().Add(2);
        Assert.Equal("""{"a":[1]}""", second.ToJsonString());
    }

    [Theory]
    [InlineData("""{"type":"strnig"}""")]
    [InlineData("""{"$ref":"#/definitions/x"}""")]
    [InlineData("""{"$ref":"#"}""")]
    [InlineData("""{"$ref":"http://example.com/x"}""")]
    [InlineData("5")]
    public void A_wrong_schema_is_refused(string schema) =>
        Assert.Throws<ArgumentException>(() => JsonSchema.Compile(JsonNode.Parse(schema)!));

    [Fact]
    public void Values_made_in_code_are_checked_like_parsed_ones()
    {
        var schema = JsonSchema.Compile(
            JsonNode.Parse("""{"properties":{"a":{"type":"integer","enum":[5]}},"additionalProperties":false}""")!);
        Assert.Null(schema.Validate(new JsonObject { ["a"] = 5 }));
        Assert.Null(schema.Validate(new JsonObject { ["a"] = 5L }));
        Assert.Null(schema.Validate(new JsonObject { ["a"] = 5m }));
        Assert.NotNull(schema.Validate(new JsonObject { ["a"] = (short)6 }));
    }

    [Fact]
    public void A_deep_value_is_refused_not_a_crash()
    {
        var schema = JsonSchema.Compile(JsonNode.Parse("""{"items":{"$ref":"#"},"uniqueItems":true}""")!);
        JsonNode value = new JsonArray();
        for (var i = 0; i < 200_000; i++)
        {
            value = new JsonArray(value);
        }
        Assert.Equal("value is nested too deeply", schema.Validate(value));
    }

    [Fact]
    public void A_big_value_takes_linear_time()
    {
        var schema = JsonSchema.Compile(JsonNode.Parse("""
            {
              "properties": {"list": {"uniqueItems": true, "items": {"anyOf": [{"type": "string"}, {"required": ["id"], "properties": {"x": {"default": []}}}]}}},
              "patternProperties": {"^k": {"type": "integer"}},
              "additionalProperties": false
            }
            """)!);
        var text = "{\"list\":[" + string.Join(',', Enumerable.Range(0, 50_000).Select(i => $"{{\"id\":{i}}}")) + "],"
            + string.Join(',', Enumerable.Range(0, 50_000).Select(i => $"\"k{i}\":{i}")) + "}";
        var value = CjsonReader.Parse(Encoding.UTF8.GetBytes(text));
        var clock = Stopwatch.StartNew();
        Assert.Null(schema.Validate(value));
        Assert.True(clock.Elapsed < TimeSpan.FromSeconds(20));
    }

    [Fact]
    public void A_pattern_that_explodes_is_cut_off()
    {
        var schema = JsonSchema.Compile(JsonNode.Parse("""{"pattern":"^(?=a)(a+)+$"}""")!);
        var clock = Stopwatch.StartNew();
        Assert.StartsWith("failed to match pattern", schema.Validate(JsonValue.Create(new string('a', 50) + "!")));
        Assert.True(clock.Elapsed < TimeSpan.FromSeconds(10));
    }
}
