using System.Diagnostics;
using System.Text.Json.Nodes;
using Sluice.Model.Expressions;
using Sluice.Observability;

namespace Sluice.Tests.Model.Expressions;

public class ExpressionTests
{
    sealed class Variables(params (string Name, string Value)[] values) : IVariables
    {
        readonly Dictionary<string, string> values = values.ToDictionary(pair => pair.Name, pair => pair.Value);

        public string? Get(string name) => values.GetValueOrDefault(name);
    }

    static readonly Variables Request = new(
        ("arg_name", "json"), ("arg_age", "20"), ("arg_text", "ten"), ("remote_addr", "10.1.2.3"), ("http_x", ""),
        ("graphql_root_fields", "repo, owner"), ("arg_hex", "0x10"), ("peer", "::ffff:10.1.2.3"));

    [Theory]
    [InlineData("""[]""", true)]
    [InlineData("""[["arg_name","==","json"]]""", true)]
    [InlineData("""[["arg_name","==","JSON"]]""", false)]
    [InlineData("""[["arg_name","json"]]""", true)]
    [InlineData("""[["arg_missing","==","json"]]""", false)]
    [InlineData("""[["arg_missing","==",null]]""", true)]
    [InlineData("""[["arg_name","==",null]]""", false)]
    [InlineData("""[["http_x","==",""]]""", true)]
    [InlineData("""[["arg_age","==",20]]""", true)]
    [InlineData("""[["arg_age","==",20.0]]""", true)]
    [InlineData("""[["arg_hex","==",16]]""", true)]
    [InlineData("""[["arg_age","==","20"]]""", true)]
    [InlineData("""[["arg_text","==",20]]""", false)]
    [InlineData("""[["arg_name","==",true]]""", false)]
    [InlineData("""[["arg_name","~=","xml"]]""", true)]
    [InlineData("""[["arg_missing","~=","xml"]]""", true)]
    [InlineData("""[["arg_missing","~=",5]]""", true)]
    [InlineData("""[["arg_text","~=",5]]""", true)]
    [InlineData("""[["arg_age","~=",20]]""", false)]
    [InlineData("""[["arg_age",">",19]]""", true)]
    [InlineData("""[["arg_age",">","19"]]""", true)]
    [InlineData("""[["arg_age",">",20]]""", false)]
    [InlineData("""[["arg_age",">=",20]]""", true)]
    [InlineData("""[["arg_age","<",21]]""", true)]
    [InlineData("""[["arg_age","<=",19]]""", false)]
    [InlineData("""[["arg_text",">",1]]""", false)]
    [InlineData("""[["arg_text","<",1]]""", false)]
    [InlineData("""[["arg_missing","<",1]]""", false)]
    [InlineData("""[["arg_age",">","ten"]]""", false)]
    [InlineData("""[["arg_name","~~","^js"]]""", true)]
    [InlineData("""[["arg_name","~~","^JS"]]""", false)]
    [InlineData("""[["arg_name","~*","^JS"]]""", true)]
    [InlineData("""[["arg_name","~~","(?P<x>s)o"]]""", true)]
    [InlineData("""[["arg_name","~~","s(?=o)"]]""", true)]
    [InlineData("""[["arg_missing","~~",".*"]]""", false)]
    [InlineData("""[["arg_name","!","~~","^x"]]""", true)]
    [InlineData("""[["arg_name","in",["xml","json"]]]""", true)]
    [InlineData("""[["arg_name","IN",["xml"]]]""", false)]
    [InlineData("""[["arg_age","in",[20]]]""", false)]
    [InlineData("""[["arg_missing","in",["a"]]]""", false)]
    [InlineData("""[["arg_name","!","in",["xml"]]]""", true)]
    [InlineData("""[["graphql_root_fields","has","owner"]]""", true)]
    [InlineData("""[["graphql_root_fields","has","own"]]""", false)]
    [InlineData("""[["remote_addr","ipmatch",["10.0.0.0/8","::1"]]]""", true)]
    [InlineData("""[["remote_addr","ipmatch","10.1.2.3"]]""", true)]
    [InlineData("""[["peer","ipmatch",["10.0.0.0/8"]]]""", true)]
    [InlineData("""[["remote_addr","ipmatch",["192.168.0.0/16"]]]""", false)]
    [InlineData("""[["arg_name","ipmatch",["0.0.0.0/0"]]]""", false)]
    [InlineData("""[["arg_missing","!","ipmatch",["0.0.0.0/0"]]]""", true)]
    [InlineData("""[["arg_name","==","json"],["arg_age",">",18]]""", true)]
    [InlineData("""[["arg_name","==","json"],["arg_age",">",30]]""", false)]
    [InlineData("""["OR",["arg_name","==","xml"],["arg_age",">",18]]""", true)]
    [InlineData("""["or",["arg_name","==","xml"],["arg_age",">",30]]""", false)]
    [InlineData("""["!OR",["arg_name","==","xml"],["arg_age",">",30]]""", true)]
    [InlineData("""["!OR",["arg_name","==","json"],["arg_age",">",30]]""", false)]
    [InlineData("""["!AND",["arg_name","==","json"],["arg_age",">",30]]""", true)]
    [InlineData("""["!AND",["arg_name","==","json"],["arg_age",">",18]]""", false)]
    [InlineData("""["AND",["arg_name","==","json"],["OR",["arg_age",">",30],["arg_age","!",">",25]]]""", true)]
    [InlineData("""[[["arg_name","==","json"],["arg_age","<",1]]]""", false)]
    [InlineData("""[["arg_name","==","json"],["OR",["arg_age","==",1],["arg_age","==",20]]]""", true)]
    public void Conditions_hold_as_in_lua_resty_expr(string rule, bool holds) =>
        Assert.Equal(holds, Compile(rule).Matches(Request));

    [Theory]
    [InlineData("""["arg_name","==","json"]""", "rule should be wrapped inside brackets")]
    [InlineData("[[]]", "rule too short")]
    [InlineData("[{}]", "rule too short")]
    [InlineData("""["OR",["a","==","b"]]""", """rule too short: ["OR",["a","==","b"]]""")]
    [InlineData("""[["arg_name"]]""", """invalid expression: ["arg_name"]""")]
    [InlineData("""[["arg_name","<>","x"]]""", """invalid operator '<>'""")]
    [InlineData("""[["arg_name","?","==","x"]]""", """bad 'not' expression: ["arg_name","?","==","x"]""")]
    [InlineData("""[["a","==","b"],"c"]""", """invalid expression: [["a","==","b"],"c"]""")]
    [InlineData("""[[null,"==","b"]]""", """invalid expression: [null,"==","b"]""")]
    [InlineData("""[["a",{},"b"]]""", """invalid expression: ["a",{},"b"]""")]
    [InlineData("""[["a","ipmatch",["10.0.0.0/99"]]]""", """invalid ip address or range: 10.0.0.0/99: ["a","ipmatch",["10.0.0.0/99"]]""")]
    [InlineData("""[["a","~~",{}]]""", """invalid regular expression: ["a","~~",{}]""")]
    public void A_wrong_rule_is_named(string rule, string message) =>
        Assert.Equal(message, Assert.Throws<FormatException>(() => Compile(rule)).Message);

    // a header's value is the bytes of the wire, a character each; a path is text
    [Theory]
    [InlineData("""[["http_name","==","café"]]""", true)]
    [InlineData("""[["http_name","in",["tea","café"]]]""", true)]
    [InlineData("""[["http_name","~~","^café$"]]""", true)]
    [InlineData("""[["http_name","~=","café"]]""", false)]
    [InlineData("""[["http_name","==","cafe"]]""", false)]
    [InlineData("""[["uri","==","/café"]]""", true)]
    public void What_is_not_ASCII_is_the_same_bytes_on_both_sides(string rule, bool holds) =>
        Assert.Equal(holds, Expression.Compile(JsonNode.Parse(rule)!.AsArray())
            .Matches(new Variables(("http_name", "caf\u00c3\u00a9"), ("uri", "/café"))));

    [Fact]
    public void A_malformed_regex_is_refused_when_compiled() =>
        Assert.StartsWith("invalid regular expression (", Assert.Throws<FormatException>(() => Compile("""[["a","~~","("]]""")).Message);

    [Fact]
    public void No_request_makes_a_regex_run_away()
    {
        var nested = Compile("""[["arg_x","~~","^(a+)+$"]]""");
        var withLookAhead = Compile("""[["arg_x","~~","^(?=a)(a+)+$"]]""");
        var clock = Stopwatch.StartNew();
        var hostile = new Variables(("arg_x", new string('a', 5000) + "!"));
        Assert.False(nested.Matches(hostile));
        Assert.False(withLookAhead.Matches(hostile));
        Assert.True(clock.Elapsed < TimeSpan.FromSeconds(10));
    }

    [Fact]
    public void Matching_makes_no_garbage()
    {
        var expression = Compile("""
            [["arg_name","==","json"],["arg_age",">",18],["arg_name","in",["json"]],["graphql_root_fields","has","owner"],["arg_name","~~","^js"]]
            """);
        for (var i = 0; i < 200; i++)
        {
            Assert.True(expression.Matches(Request));
        }
        Assert.Equal(0, Allocation.Of(() => expression.Matches(Request)));
    }

    [Fact]
    public void A_deep_rule_is_refused_not_a_crash()
    {
        var rule = new JsonArray("a", "==", "b");
        for (var i = 0; i < 100_000; i++)
        {
            rule = [rule];
        }
        Assert.Throws<FormatException>(() => Expression.Compile(rule));
    }

    static Expression Compile(string rule) => Expression.Compile(JsonNode.Parse(rule)!.AsArray());
}
