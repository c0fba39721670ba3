using System.Globalization;
using Sluice.Model;
using Sluice.Model.Settings;
using Sluice.Pipeline;
using Sluice.Plugins;

namespace Sluice.Tests.Pipeline;

/// <summary>A change compiles only what it concerns; the outcome is the same as of compiling everything.</summary>
public class IncrementalCompilationTests
{
    static readonly string[] Uris = ["/a", "/a/*", "/a/b", "/a/b/*", "/*", "/user/:name", "/user/:name/x", "/user/*rest", "/ab*", "/abc"];
    static readonly string[] Hosts = ["x.test", "*.test", "y.test", "*.x.test"];

    [Theory]
    [InlineData(RouterMode.HostUri, 1)]
    [InlineData(RouterMode.HostUri, 2)]
    [InlineData(RouterMode.Uri, 3)]
    public void After_any_changes_everything_is_as_if_compiled_anew(RouterMode mode, int seed)
    {
        var random = new Random(seed);
        var settings = TestExchange.DefaultSettings with { Http = TestExchange.DefaultSettings.Http with { Router = mode } };
        var compiler = new SnapshotCompiler(TestExchange.Services(), Builtin.All);
        var running = compiler.Compile(settings, DocumentSet.Empty, null).Snapshot!;
        for (var step = 0; step < 100; step++)
        {
            var documents = running.Documents;
            for (var changes = random.Next(1, 4); changes > 0; changes--)
            {
                documents = Change(documents, random);
            }
            Assert.NotNull(documents.ChangesSince(running.Documents));
            running = Compile(compiler, settings, documents, running);
            AssertSame(Compile(compiler, settings, DocumentSet.Of(ResourceKinds.All.SelectMany(kind => documents[kind].Values)), null), running);
        }
    }

    [Fact]
    public void Routes_that_a_change_does_not_concern_stay_the_same_objects()
    {
        var compiler = new SnapshotCompiler(TestExchange.Services(), Builtin.All);
        var first = Compile(compiler, TestExchange.DefaultSettings, DocumentSet.Of(
        [
            TestExchange.Document(ResourceKind.Upstreams, "u", """{"nodes":{"127.0.0.1:1":1}}"""),
            TestExchange.Document(ResourceKind.Services, "s", """{"upstream_id":"u"}"""),
            TestExchange.Document(ResourceKind.Routes, "by-service", """{"uri":"/s","service_id":"s"}"""),
            TestExchange.Document(ResourceKind.Routes, "other", """{"uri":"/o","upstream":{"nodes":{"127.0.0.1:2":1}}}"""),
        ]), null);
        var second = Compile(compiler, TestExchange.DefaultSettings, first.Documents.With(
            TestExchange.Document(ResourceKind.Upstreams, "u", """{"nodes":{"127.0.0.1:3":1}}""")), first);
        Assert.Same(first.Routes["other"], second.Routes["other"]);
        Assert.NotSame(first.Routes["by-service"], second.Routes["by-service"]);
        Assert.Equal(3, second.Routes["by-service"].Upstream!.Nodes[0].Port);
        var third = Compile(compiler, TestExchange.DefaultSettings, second.Documents.Without(ResourceKind.Routes, "by-service"), second);
        Assert.Equal(["routes/other"], third.Upstreams.Select(pair => pair.Key));
        var fourth = Compile(compiler, TestExchange.DefaultSettings, third.Documents.With(
            TestExchange.Document(ResourceKind.Consumers, "jack", "{}")), third);
        Assert.Same(third.Router, fourth.Router);
    }

    [Fact]
    public void What_changed_since_a_set_is_known_for_a_while_and_not_of_another_set()
    {
        var first = DocumentSet.Of([TestExchange.Document(ResourceKind.Routes, "r", """{"uri":"/"}""")]);
        var second = first.With(TestExchange.Document(ResourceKind.Services, "s", "{}")).Without(ResourceKind.Routes, "r");
        Assert.Equal([(ResourceKind.Routes, "r"), (ResourceKind.Services, "s")], second.ChangesSince(first)!.Order());
        Assert.Empty(first.ChangesSince(first)!);
        Assert.Null(first.ChangesSince(second));
        Assert.Null(DocumentSet.Of([]).ChangesSince(first));
        var far = Enumerable.Range(0, 3000).Aggregate(first, (set, i) => set.Without(ResourceKind.Routes, i.ToString(CultureInfo.InvariantCulture)));
        Assert.Null(far.ChangesSince(first));
    }

    static DocumentSet Change(DocumentSet documents, Random random)
    {
        string Id(string prefix, int count) => prefix + random.Next(count).ToString(CultureInfo.InvariantCulture);
        string Maybe(string json) => random.Next(2) == 0 ? "," + json : "";
        switch (random.Next(10))
        {
            case 0:
                return documents.Without(random.Next(2) == 0 ? ResourceKind.Services : ResourceKind.Upstreams, random.Next(2) == 0 ? Id("s", 4) : Id("u", 4));
            case 1:
                return documents.Without(ResourceKind.Routes, Id("r", 30));
            case 2:
                return documents.With(TestExchange.Document(ResourceKind.Upstreams, Id("u", 4), $$"""{"nodes":{"127.0.0.1:{{random.Next(1, 9)}}":1} }"""));
            case 3:
                return documents.With(TestExchange.Document(ResourceKind.Services, Id("s", 4),
                    "{" + (random.Next(2) == 0 ? $$""" "upstream_id":"{{Id("u", 4)}}" """ : $$""" "upstream":{"nodes":{"127.0.0.1:{{random.Next(10, 19)}}":1} } """)
                    + Maybe($$""" "hosts":["{{Hosts[random.Next(Hosts.Length)]}}"] """) + Maybe(""" "plugins":{"request-id":{}} """) + "}"));
            case 4:
                return documents.With(TestExchange.Document(ResourceKind.PluginConfigs, Id("p", 2), $$"""{"plugins":{"redirect":{"uri":"/{{random.Next(9)}}"} } }"""));
            default:
                return documents.With(TestExchange.Document(ResourceKind.Routes, Id("r", 30),
                    $$"""{"uris":["{{Uris[random.Next(Uris.Length)]}}","{{Uris[random.Next(Uris.Length)]}}"],"priority":{{random.Next(3)}},"status":{{(random.Next(8) == 0 ? 0 : 1)}}"""
                    + (random.Next(3) switch
                    {
                        0 => $$""","upstream_id":"{{Id("u", 4)}}" """,
                        1 => $$""","service_id":"{{Id("s", 4)}}" """,
                        _ => $$""","upstream":{"nodes":{"127.0.0.1:{{random.Next(20, 29)}}":1} }""",
                    })
                    + Maybe($$""" "hosts":["{{Hosts[random.Next(Hosts.Length)]}}"] """) + Maybe($$""" "plugin_config_id":"{{Id("p", 2)}}" """) + "}"));
        }
    }

    static Snapshot Compile(SnapshotCompiler compiler, GatewaySettings settings, DocumentSet documents, Snapshot? previous)
    {
        var (snapshot, problems) = compiler.Compile(settings, documents, previous);
        return snapshot ?? throw new InvalidOperationException(string.Join('\n', problems));
    }

    static void AssertSame(Snapshot expected, Snapshot actual)
    {
        Assert.Equal(expected.Routes.Select(pair => pair.Key).Order(), actual.Routes.Select(pair => pair.Key).Order());
        Assert.Equal(expected.Upstreams.Select(pair => pair.Key).Order(), actual.Upstreams.Select(pair => pair.Key).Order());
        foreach (var (id, route) in expected.Routes)
        {
            Assert.Equal(Describe(route), Describe(actual.Routes[id]));
            Assert.Same(actual.Routes[id].Upstream is { } upstream ? actual.Upstreams[upstream.Key] : null, actual.Routes[id].Upstream);
        }
        foreach (var host in (string[])["x.test", "y.test", "z.test", "a.x.test", "other"])
        {
            foreach (var path in (string[])["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/abc", "/abcd", "/user/jack", "/user/jack/x", "/user/jack/y"])
            {
                Assert.Equal(Match(expected, host, path), Match(actual, host, path));
            }
        }
    }

    static string Describe(Route route) =>
        $"{route.Upstream?.Key} {route.Upstream?.Nodes[0].Port} {route.Service?.Id} {string.Join(' ', route.Chain.Uses.Select(use => use.Config.ToJsonString()))}";

    static string? Match(Snapshot snapshot, string host, string path)
    {
        var exchange = TestExchange.Of(snapshot, $"http://{host}{path}");
        return $"{snapshot.Router.Match(exchange, exchange.Host)?.Id} {exchange.MatchedUri}";
    }
}
