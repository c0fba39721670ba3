using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using CsCheck;
using Sluice.Model.Yaml;

namespace Sluice.Tests.Model.Yaml;

public class YamlReaderTests
{
    static YamlDocumentTree Parse(string text) => YamlReader.Parse(text, "conf/x.yaml");

    static string Json(string text) => Parse(text).Root?.ToJsonString() ?? "null";

    [Theory]
    [InlineData("", "null")]
    [InlineData("#END\n", "null")]
    [InlineData("a: 1", "{\"a\":1}")]
    [InlineData("a: '1'", "{\"a\":\"1\"}")]
    [InlineData("[~, null, Null, NULL, '', ]", "[null,null,null,null,\"\"]")]
    [InlineData("[true, True, TRUE, false, yes, on, off]", "[true,true,true,false,\"yes\",\"on\",\"off\"]")]
    [InlineData("[0, -1, +7, 010, 0x1F, 0o17, 12345678901234567890]", "[0,-1,7,10,31,15,1.2345678901234567E+19]")]
    [InlineData("[1.5, -.5, 1e3, 1.0, 1_000, 1.2.3, 127.0.0.1, 1:2]", "[1.5,-0.5,1000,1,\"1_000\",\"1.2.3\",\"127.0.0.1\",\"1:2\"]")]
    [InlineData("[!!str 12, ! 12, !!int 12, !!float 12, !!null '']", "[\"12\",\"12\",12,12,null]")]
    [InlineData("127.0.0.1:1980: 1", "{\"127.0.0.1:1980\":1}")]
    [InlineData("1: x\ntrue: y", "{\"1\":\"x\",\"true\":\"y\"}")]
    [InlineData("a: |\n  x\n  y\nb: >-\n  x\n  y", "{\"a\":\"x\\ny\\n\",\"b\":\"x y\"}")]
    [InlineData("a: &x {k: 1}\nb: *x\nc: [*x, *x]", "{\"a\":{\"k\":1},\"b\":{\"k\":1},\"c\":[{\"k\":1},{\"k\":1}]}")]
    [InlineData("a: &x {k: 1, l: 2}\nb: {<<: *x, k: 3}", "{\"a\":{\"k\":1,\"l\":2},\"b\":{\"k\":3,\"l\":2}}")]
    [InlineData("b: {<<: [{k: 1}, {k: 2, l: 2}]}", "{\"b\":{\"k\":1,\"l\":2}}")]
    [InlineData("'<<': 1", "{\"\\u003C\\u003C\":1}")]
    [InlineData("\uFEFFa: ü\n", "{\"a\":\"\\u00FC\"}")]
    [InlineData("---\na: 1\n...\n", "{\"a\":1}")]
    public void Core_schema_becomes_JSON(string yaml, string json) => Assert.Equal(json, Json(yaml));

    [Theory]
    [InlineData("a: [1", 2, "")]
    [InlineData("a: 1\na: 2", 2, "duplicate key \"a\", first on line 1")]
    [InlineData("a: 1\n---\nb: 1", 2, "more than one document")]
    [InlineData("a: *nope", 1, "alias *nope has no anchor")]
    [InlineData("a: &x [*x]", 1, "inside its own anchor")]
    [InlineData("? [1]\n: 2", 1, "a key must be a scalar")]
    [InlineData("a: .inf", 1, "has no place in JSON")]
    [InlineData("a: 1e999", 1, "out of range")]
    [InlineData("a: 0xFFFFFFFFFFFFFFFFFF", 1, "out of range")]
    [InlineData("a: !!int x", 1, "does not fit \"x\"")]
    [InlineData("a: !lua x", 1, "does not fit \"x\"")]
    [InlineData("a: !!set {x}", 1, "is not supported")]
    [InlineData("a: 1\nb: x\0y\nc: 1", 2, "control character U+0000")]
    [InlineData("a:\n\t- b", 2, "found invalid tab")]
    [InlineData("b: {<<: 1}", 1, "<< takes a mapping")]
    [InlineData("a: 1\n b: 2", 2, "")]
    public void Errors_say_where(string yaml, int line, string message)
    {
        var e = Assert.Throws<YamlTextException>(() => Parse(yaml));
        Assert.Equal(("conf/x.yaml", line), (e.File, e.Line));
        Assert.Contains(message, e.Message, StringComparison.Ordinal);
        Assert.True(e.Column >= 1);
        Assert.DoesNotContain('\n', e.Message);
    }

    [Fact]
    public void Every_node_knows_its_line()
    {
        var tree = Parse("""
            routes:
              - uri: /x
                upstream:
                  nodes:
                    "a.example:80": 1
                vars: &v
                  [1,
                   2]
              -
                uri: /y
                vars: *v
            """);
        var lines = new[] { "", "routes", "routes[0]", "routes[0].upstream.nodes", "routes[0].upstream.nodes[\"a.example:80\"]",
            "routes[0].vars[1]", "routes[1].uri", "routes[1].vars[1]", "routes[1].nope.deeper", "nope", "routes[7]" }.Select(tree.LineOf);
        Assert.Equal([1, 1, 2, 4, 5, 8, 10, 8, 10, 1, 1], lines);
        Assert.Equal(5, tree.LineOf(tree.Root!["routes"]![0]!["upstream"]!["nodes"]!));
        Assert.Equal(0, tree.LineOf(JsonValue.Create(1)));
        Assert.Equal("conf/x.yaml:10 (routes[1].uri)", tree.Place("routes[1].uri"));
    }

    [Fact]
    public void Environment_variables_are_put_in_before_the_type_is_decided()
    {
        var tree = YamlReader.Parse("""
            port: ${{PORT:=9080}}
            set: ${{SET:=1}}
            quoted: "${{SET:=1}}"
            mixed: "http://${{ HOST := x }}:${{SET:=1}}/"
            flag: ${{FLAG:=true}}
            empty: "${{EMPTY:=}}"
            ${{KEY:=k}}: v
            list: ["${{GONE}}"]
            """, "conf/x.yaml", name => name == "SET" ? "42" : null);
        Assert.Equal("""{"port":9080,"set":42,"quoted":42,"mixed":"http://x:42/","flag":true,"empty":"","k":"v","list":[""]}""",
            tree.Root!.ToJsonString());
        Assert.Equal("42", tree.TextFromEnvironment(tree.Root["quoted"]!));
        Assert.Equal("conf/x.yaml:8 (list[0]): environment variable \"GONE\" is not set and has no default: ${{GONE:=…}}",
            Assert.Single(tree.Problems).ToString());
    }

    [Fact]
    public void Numbers_answer_every_numeric_type()
    {
        var node = Parse("a: 5").Root!["a"]!;
        Assert.Equal((5, 5L, 5.0), (node.GetValue<int>(), node.GetValue<long>(), node.GetValue<double>()));
    }

    [Theory]
    [InlineData("[")]
    [InlineData("{")]
    [InlineData("{a: ")]
    [InlineData("- ")]
    [InlineData("? ")]
    [InlineData("a:\n\t")]
    [InlineData("\0")]
    [InlineData("&a ")]
    [InlineData("\"")]
    [InlineData("%YAML 1.2\n")]
    [InlineData("]")]
    [InlineData("---\n")]
    [InlineData("!")]
    [InlineData("a:\n")]
    [InlineData("[]: ")]
    public void A_megabyte_of_one_thing_is_refused_and_no_more(string unit)
    {
        var text = new StringBuilder().Insert(0, unit, 1_000_000 / unit.Length).ToString();
        Assert.Throws<YamlTextException>(() => Parse(text));
    }

    [Fact]
    public void An_alias_bomb_does_not_go_off()
    {
        var bomb = new StringBuilder("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
        var merges = new StringBuilder("a0: &a0 {x: 1}\n");
        for (var i = 1; i < 30; i++)
        {
            bomb.AppendLine($"a{i}: &a{i} [{string.Join(',', Enumerable.Repeat($"*a{i - 1}", 9))}]");
            merges.AppendLine($"a{i}: &a{i} {{y{i}: *a{i - 1}, <<: [{string.Join(',', Enumerable.Repeat($"*a{i - 1}", 9))}]}}");
        }
        Assert.Contains("aliases", Assert.Throws<YamlTextException>(() => Parse(bomb.ToString())).Message, StringComparison.Ordinal);
        Assert.Contains("aliases", Assert.Throws<YamlTextException>(() => Parse(merges.ToString())).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Random_text_never_crashes_it() =>
        Gen.String[Gen.OneOf(Gen.Char["[]{}:-,?&*!|>'\"%@`#~<\n \tab01.$="], Gen.Char), 0, 60].Sample(text =>
        {
            try
            {
                JsonSerializer.Deserialize<JsonElement>(Json(text));
            }
            catch (YamlTextException)
            {
            }
        }, iter: 10_000);

    [Fact]
    public void Random_bytes_never_crash_it() =>
        Gen.Byte.Array[0, 200].Sample(bytes =>
        {
            try
            {
                Parse(Encoding.UTF8.GetString(bytes));
            }
            catch (YamlTextException)
            {
            }
        }, iter: 5_000);
}
