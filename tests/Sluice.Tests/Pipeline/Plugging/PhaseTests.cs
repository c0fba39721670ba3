using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using Sluice.Model;
using Sluice.Pipeline;
using Sluice.Tests.Plugins;

namespace Sluice.Tests.Pipeline.Plugging;

public sealed class PhaseTests
{
    /// <summary>A phase that there is only here: its contract, …</summary>
    interface IGreet
    {
        ValueTask<Answer?> GreetAsync(Exchange exchange);
    }

    /// <summary>… its declaration, …</summary>
    static readonly Phase<IGreet> Greet = new("greet") { Ask = static (plugin, exchange) => plugin.GreetAsync(exchange) };

    sealed class Greeter(string text) : IPlugin<Greeter, JsonObject>, IGreet, INeedsRequestBody
    {
        public static PluginInfo Info { get; } = new("greeter", 1, """{"type":"object"}""", "Greets.");

        public static JsonTypeInfo<JsonObject> ConfigType { get; } =
            JsonTypeInfo.CreateJsonTypeInfo<JsonObject>(System.Text.Json.JsonSerializerOptions.Default);

        public static Greeter Create(JsonObject config, PluginContext context) =>
            (string?)config["text"] is { } text && !text.StartsWith('$')
            ? new(text) : throw new FormatException("no text");

        public int MaxRequestBodyBytes => 1024;

        public ValueTask<Answer?> GreetAsync(Exchange exchange)
        {
            exchange.UpstreamHost = text;
            return new(text == "bye" ? Answer.Bare(418) : null);
        }
    }

    readonly PluginServices _services = TestExchange.Services();

    Snapshot Compile(params string[] configs)
    {
        var documents = configs.Select(
            (config, i) => TestExchange.Document(ResourceKind.Routes, $"r{i}", $$"""{"uri":"/{{i}}","plugins":{"greeter":{{config}}} }"""));
        var (snapshot, problems) = new SnapshotCompiler(_services,
            [PluginDescriptor.Of<Greeter, JsonObject>()]).Compile(TestExchange.DefaultSettings, DocumentSet.Of(documents), null);
        Assert.Empty(problems);
        return snapshot!;
    }

    [Fact]
    public async Task A_new_phase_is_its_contract_its_declaration_and_its_call()
    {
        var snapshot = Compile("""{"text":"hello"}""", """{"text":"bye","_meta":{"error_response":"dressed"} }""",
            """{"text":"hello","_meta":{"filter":[["uri","==","/no"]]} }""");
        var exchange = TestExchange.Of(snapshot, "http://x/");

        // … and its call
        Assert.Null(await PhaseRunner.AskAsync(exchange, Greet, snapshot.Routes["r2"].Chain));
        Assert.Null(exchange.UpstreamHost);
        Assert.Null(await PhaseRunner.AskAsync(exchange, Greet, snapshot.Routes["r0"].Chain));
        Assert.Equal("hello", exchange.UpstreamHost);
        var answer = await PhaseRunner.AskAsync(exchange, Greet, snapshot.Routes["r1"].Chain);
        Assert.Equal((418, "dressed"), (answer!.Status, System.Text.Encoding.UTF8.GetString(answer.Body.Span)));
    }

    [Fact]
    public void A_plugin_with_a_secret_is_known_to_need_the_requests_body()
    {
        var rule = Assert.Single(Compile("""{"text":"$secret://vault/1/text"}""").Routes["r0"].Chain.Steps(Phase.BufferingRule));
        Assert.Equal((null, true), (rule.Phase.ResponseBuffering, rule.Phase.RequestBuffering));
    }

    [Fact]
    public void A_plugin_with_a_secret_has_its_rule_about_buffering()
    {
        var test = new PluginTest("""{"proxy-buffering":{"disable_proxy_buffering":true,"_comment":"$secret://vault/1/x"} }""");
        var rule = Assert.Single(test.Snapshot.Routes["r1"].Chain.Steps(Phase.BufferingRule));
        Assert.Equal("proxy-buffering", rule.Use.Descriptor.Name);
        Assert.False(rule.Phase.ResponseBuffering);
        Assert.Empty(test.Snapshot.Routes["r1"].Chain.BodyFilters);
    }

    [Fact]
    public void A_function_in_one_phase_is_asked_in_no_other()
    {
        var chain =
            new PluginTest(
                """{"serverless-pre-function":{"phase":"log","functions":["return function() end"]} }""").Snapshot.Routes["r1"].Chain;
        Assert.Single(chain.Steps(Phase.Log));
        Assert.Empty(chain.Steps(Phase.Rewrite));
        Assert.Empty(chain.Steps(Phase.Access));
        Assert.Empty(chain.BodyFilters);
    }

    [Fact]
    public void Every_phase_is_declared_once() =>
        Assert.Equal(Phase.All.Count, Phase.All.Select(phase => phase.Contract).Distinct().Count());
}
