using System.Globalization;
using Sluice.Model;
using Sluice.Model.Settings;
using Sluice.Pipeline;
using Sluice.Pipeline.TcpUdp;
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
    public void After_any_changes_everything_is_as_if_compiled_anew(object mode, int seed)
    {
        var random = new Random(seed);
        var settings = TestExchange.DefaultSettings with { Http = TestExchange.DefaultSettings.Http with { Router = (RouterMode)mode } };
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
            AssertSame(Compile(compiler, settings, DocumentSet.Of(ResourceKinds.All.SelectMany(kind => documents[kind].Values)), null),
                running);
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
    public void A_consumers_change_compiles_that_consumer()
    {
        var compiler = new SnapshotCompiler(TestExchange.Services(), Builtin.All);
        var first = Compile(compiler, TestExchange.DefaultSettings, DocumentSet.Of(
        [
            TestExchange.Document(ResourceKind.Routes, "r",
                """{"uri":"/","plugins":{"key-auth":{}},"upstream":{"nodes":{"127.0.0.1:2":1}}}"""),
            TestExchange.Document(ResourceKind.ConsumerGroups, "g", """{"plugins":{"proxy-rewrite":{"uri":"/g"}}}"""),
            .. Enumerable.Range(0, 20).Select(i => TestExchange.Document(ResourceKind.Consumers, $"c{i}",
                $$"""{"plugins":{"key-auth":{"key":"k{{i}}"} }""" + (i < 3 ? ",\"group_id\":\"g\"}" : "}"))),
            TestExchange.Document(ResourceKind.Credentials, "c5/credentials/x", """{"plugins":{"key-auth":{"key":"kx"}}}"""),
        ]), null);
        Assert.Equal("x", first.Consumers.Find("key-auth", "kx")!.CredentialId);

        var second = Compile(compiler, TestExchange.DefaultSettings, first.Documents.With(
            TestExchange.Document(ResourceKind.Consumers, "c7", """{"plugins":{"key-auth":{"key":"new"}}}""")), first);
        Assert.Equal(["c7"], Compiled(first, second));
        Assert.Null(second.Consumers.Find("key-auth", "k7"));
        Assert.Same(second.Consumers.All["c7"], second.Consumers.Find("key-auth", "new"));

        var third = Compile(compiler, TestExchange.DefaultSettings, second.Documents.With(
            TestExchange.Document(ResourceKind.ConsumerGroups, "g", """{"plugins":{"proxy-rewrite":{"uri":"/h"}}}""")), second);
        Assert.Equal(["c0", "c1", "c2"], Compiled(second, third));

        var fourth = Compile(compiler, TestExchange.DefaultSettings, third.Documents.With(
            TestExchange.Document(ResourceKind.Credentials, "c5/credentials/y", """{"plugins":{"key-auth":{"key":"ky"}}}""")), third);
        Assert.Equal(["c5"], Compiled(third, fourth));
        Assert.Equal(["x", "y"], ((string[])["kx", "ky"]).Select(key => fourth.Consumers.Find("key-auth", key)!.CredentialId));

        var fifth = Compile(compiler, TestExchange.DefaultSettings, fourth.Documents.Without(ResourceKind.Consumers, "c5"), fourth);
        Assert.Empty(Compiled(fourth, fifth));
        Assert.Null(fifth.Consumers.Find("key-auth", "ky"));
        Assert.Same(first.Router, fifth.Router);
        Assert.Same(first.Routes, fifth.Routes);
    }

    [Fact]
    public void A_plugins_metadata_compiles_what_has_the_plugin()
    {
        var compiler = new SnapshotCompiler(TestExchange.Services(), Builtin.All);
        var first = Compile(compiler, TestExchange.DefaultSettings, DocumentSet.Of(
        [
            TestExchange.Document(ResourceKind.Routes, "with", """{"uri":"/w","plugins":{"limit-count":{"count":1,"time_window":60}}}"""),
            TestExchange.Document(ResourceKind.Routes, "by-service", """{"uri":"/s","service_id":"s"}"""),
            TestExchange.Document(ResourceKind.Services, "s", """{"plugins":{"limit-count":{"count":1,"time_window":60}}}"""),
            TestExchange.Document(ResourceKind.Routes, "without", """{"uri":"/o","plugins":{"request-id":{}}}"""),
            TestExchange.Document(ResourceKind.Consumers, "c1", """{"plugins":{"limit-count":{"count":1,"time_window":60}}}"""),
            TestExchange.Document(ResourceKind.Consumers, "c2", """{"plugins":{"request-id":{}}}"""),
            TestExchange.Document(ResourceKind.GlobalRules, "1", """{"plugins":{"request-id":{}}}"""),
            TestExchange.Document(ResourceKind.GlobalRules, "2", """{"plugins":{"limit-count":{"count":1,"time_window":60}}}"""),
        ]), null);
        var (before, other) = (first.Routes["without"].ChainFor(first.Consumers.All["c1"]),
            first.Routes["without"].ChainFor(first.Consumers.All["c2"]));
        var second = Compile(compiler, TestExchange.DefaultSettings, first.Documents.With(
            TestExchange.Document(ResourceKind.PluginMetadata, "limit-count", """{"limit_header":"X-Quota"}""")), first);
        Assert.Equal(["by-service", "with"],
            second.Routes.Where(pair => first.Routes[pair.Key] != pair.Value).Select(pair => pair.Key).Order());
        Assert.Equal(["c1"], Compiled(first, second));
        Assert.NotSame(before, second.Routes["without"].ChainFor(second.Consumers.All["c1"]));
        Assert.Same(other, second.Routes["without"].ChainFor(second.Consumers.All["c2"]));
        Assert.Same(first.GlobalRules.Uses.Single(use => use.Scope == "global_rule 1"),
            second.GlobalRules.Uses.Single(use => use.Scope == "global_rule 1"));
        Assert.NotSame(first.GlobalRules.Uses.Single(use => use.Scope == "global_rule 2"),
            second.GlobalRules.Uses.Single(use => use.Scope == "global_rule 2"));
    }

    [Fact]
    public void A_stream_route_is_compiled_when_what_it_uses_changes()
    {
        var compiler = new SnapshotCompiler(TestExchange.Services(), Builtin.All);
        var first = Compile(compiler, TestExchange.DefaultSettings, DocumentSet.Of(
        [
            TestExchange.Document(ResourceKind.Upstreams, "u", """{"nodes":{"127.0.0.1:1":1}}"""),
            TestExchange.Document(ResourceKind.Upstreams, "v", """{"nodes":{"127.0.0.1:1":1}}"""),
            TestExchange.Document(ResourceKind.StreamRoutes, "1", """{"server_port":1,"upstream_id":"u"}"""),
            TestExchange.Document(ResourceKind.StreamRoutes, "2", """{"server_port":2,"upstream_id":"v"}"""),
        ]), null);
        var second = Compile(compiler, TestExchange.DefaultSettings, first.Documents.With(
            TestExchange.Document(ResourceKind.Upstreams, "u", """{"nodes":{"127.0.0.1:2":1}}""")), first);
        Assert.NotSame(first.StreamRoutes.Routes[0], second.StreamRoutes.Routes[0]);
        Assert.Equal(2, second.StreamRoutes.Routes[0].Upstream!.Nodes[0].Port);
        Assert.Same(first.StreamRoutes.Routes[1], second.StreamRoutes.Routes[1]);
        var third = Compile(compiler, TestExchange.DefaultSettings, second.Documents.With(
            TestExchange.Document(ResourceKind.Upstreams, "other", """{"nodes":{"127.0.0.1:2":1}}""")), second);
        Assert.Same(second.StreamRoutes, third.StreamRoutes);
    }

    [Fact]
    public void Configurations_of_the_past_are_forgotten_with_their_consumers()
    {
        var compiler = new SnapshotCompiler(TestExchange.Services(), Builtin.All);
        var (current, past) = ChangeAndUse(compiler);
        GC.Collect();
        GC.WaitForPendingFinalizers();
        GC.Collect();
        Assert.All(past, one => Assert.False(one.IsAlive));
        Assert.Equal("/r", current.Routes["r"].Config.Uri);
    }

    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    static (Snapshot, List<WeakReference>) ChangeAndUse(SnapshotCompiler compiler)
    {
        List<WeakReference> past = [];
        var running = Compile(compiler, TestExchange.DefaultSettings,
            DocumentSet.Of([TestExchange.Document(ResourceKind.Routes, "r", """{"uri":"/r"}""")]), null);
        for (var i = 0; i < 5; i++)
        {
            past.Add(new(running));
            var changed = running.Documents
                .With(TestExchange.Document(ResourceKind.Consumers, "jack", """{"plugins":{"proxy-rewrite":{"uri":"/jack"}}}"""))
                .With(TestExchange.Document(ResourceKind.Routes, $"r{i % 2}", """{"uri":"/other"}"""));
            running = Compile(compiler, TestExchange.DefaultSettings, changed, running);
            var jack = running.Consumers.All["jack"];
            Assert.Equal("proxy-rewrite", running.Routes["r"].ChainFor(jack).Uses.Single().Descriptor.Name);
            past.Add(new(i == 4 ? new object() : jack));
        }
        return (running, past);
    }

    /// <summary>Who of the consumers is another object than before.</summary>
    static IEnumerable<string> Compiled(Snapshot before, Snapshot after) =>
        after.Consumers.All.Where(pair => before.Consumers.All.GetValueOrDefault(pair.Key) != pair.Value).Select(pair => pair.Key).Order();

    [Fact]
    public void What_changed_since_a_set_is_known_for_a_while_and_not_of_another_set()
    {
        var first = DocumentSet.Of([TestExchange.Document(ResourceKind.Routes, "r", """{"uri":"/"}""")]);
        var second = first.With(TestExchange.Document(ResourceKind.Services, "s", "{}")).Without(ResourceKind.Routes, "r");
        Assert.Equal([(ResourceKind.Routes, "r"), (ResourceKind.Services, "s")], second.ChangesSince(first)!.Order());
        Assert.Empty(first.ChangesSince(first)!);
        Assert.Null(first.ChangesSince(second));
        Assert.Null(DocumentSet.Of([]).ChangesSince(first));
        var far = Enumerable.Range(0, 3000)
            .Aggregate(first, (set, i) => set.Without(ResourceKind.Routes, i.ToString(CultureInfo.InvariantCulture)));
        Assert.Null(far.ChangesSince(first));
    }

    static DocumentSet Change(DocumentSet documents, Random random)
    {
        string Id(string prefix, int count) => prefix + random.Next(count).ToString(CultureInfo.InvariantCulture);
        string Maybe(string json) => random.Next(2) == 0 ? "," + json : "";
        switch (random.Next(16))
        {
            case 10:
                return documents.With(TestExchange.Document(ResourceKind.Consumers, Id("c", 4),
                    $$"""{"plugins":{"key-auth":{"key":"{{Id("k", 8)}}"} }""" + Maybe($$""" "group_id":"{{Id("g", 2)}}" """) + "}"));
            case 11:
                return documents.With(TestExchange.Document(ResourceKind.Credentials, $"{Id("c", 4)}/credentials/{Id("x", 3)}",
                    $$"""{"plugins":{"key-auth":{"key":"{{Id("k", 8)}}"} } }"""));
            case 12:
                return random.Next(3) switch
                {
                    0 => documents.Without(ResourceKind.Consumers, Id("c", 4)),
                    1 => documents.Without(ResourceKind.ConsumerGroups, Id("g", 2)),
                    _ => documents.Without(ResourceKind.Credentials, $"{Id("c", 4)}/credentials/{Id("x", 3)}"),
                };
            case 13:
                return documents.With(TestExchange.Document(ResourceKind.ConsumerGroups, Id("g", 2),
                    $$"""{"plugins":{"redirect":{"uri":"/{{random.Next(9)}}"} } }"""));
            case 14:
                return documents.With(TestExchange.Document(ResourceKind.GlobalRules, Id("", 3),
                    $$"""{"plugins":{"redirect":{"uri":"/{{random.Next(9)}}"} } }"""));
            case 15:
                return documents.With(TestExchange.Document(ResourceKind.StreamRoutes, Id("t", 3),
                    $$"""{"server_port":{{random.Next(1, 9)}},"upstream_id":"{{Id("u", 4)}}"}"""));
            case 0:
                return documents.Without(random.Next(2) == 0 ? ResourceKind.Services : ResourceKind.Upstreams,
                    random.Next(2) == 0 ? Id("s", 4) : Id("u", 4));
            case 1:
                return documents.Without(ResourceKind.Routes, Id("r", 30));
            case 2:
                return documents.With(TestExchange.Document(ResourceKind.Upstreams, Id("u", 4),
                    $$"""{"nodes":{"127.0.0.1:{{random.Next(1, 9)}}":1} }"""));
            case 3:
                return documents.With(TestExchange.Document(ResourceKind.Services, Id("s", 4),
                    "{" + (random.Next(2) == 0 ? $$""" "upstream_id":"{{Id("u", 4)}}" """
                        : $$""" "upstream":{"nodes":{"127.0.0.1:{{random.Next(10, 19)}}":1} } """)
                    + Maybe($$""" "hosts":["{{Hosts[random.Next(Hosts.Length)]}}"] """) + Maybe(""" "plugins":{"request-id":{}} """)
                    + "}"));
            case 4:
                return documents.With(TestExchange.Document(ResourceKind.PluginConfigs, Id("p", 2),
                    $$"""{"plugins":{"redirect":{"uri":"/{{random.Next(9)}}"} } }"""));
            default:
                return documents.With(TestExchange.Document(ResourceKind.Routes, Id("r", 30),
                    $$"""{"uris":["{{Uris[random.Next(Uris.Length)]}}","{{Uris[random.Next(Uris.Length)]}}"],"priority":{{random.Next(3)}},"status":{{(random.Next(8) == 0 ? 0 : 1)}}"""
                    + (random.Next(3) switch
                    {
                        0 => $$""","upstream_id":"{{Id("u", 4)}}" """,
                        1 => $$""","service_id":"{{Id("s", 4)}}" """,
                        _ => $$""","upstream":{"nodes":{"127.0.0.1:{{random.Next(20, 29)}}":1} }""",
                    })
                    + Maybe($$""" "hosts":["{{Hosts[random.Next(Hosts.Length)]}}"] """)
                    + Maybe($$""" "plugin_config_id":"{{Id("p", 2)}}" """) + "}"));
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
        foreach (var key in Enumerable.Range(0, 8).Select(i => $"k{i}"))
        {
            Assert.Equal(Describe(expected.Consumers.Find("key-auth", key)), Describe(actual.Consumers.Find("key-auth", key)));
        }
        Assert.Equal(expected.Consumers.All.Values.OrderBy(one => one.Username).Select(Describe),
            actual.Consumers.All.Values.OrderBy(one => one.Username).Select(Describe));
        Assert.Equal(expected.GlobalRules.Uses.Select(use => use.Config.ToJsonString()),
            actual.GlobalRules.Uses.Select(use => use.Config.ToJsonString()));
        Assert.Equal(expected.StreamRoutes.Routes.Select(Describe), actual.StreamRoutes.Routes.Select(Describe));
        foreach (var host in (string[])["x.test", "y.test", "z.test", "a.x.test", "other"])
        {
            foreach (var path in (string[])["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/abc", "/abcd", "/user/jack", "/user/jack/x",
                "/user/jack/y"])
            {
                Assert.Equal(Match(expected, host, path), Match(actual, host, path));
            }
        }
    }

    static string Describe(Consumer? consumer) =>
        $"{consumer?.Username} {consumer?.CredentialId} {consumer?.GroupId} {consumer?.Plugins.ToJsonString()}";

    static string Describe(StreamRoute route) => $"{route.Config.Id} {route.Upstream?.Key} {route.Upstream?.Nodes[0].Port}";

    static string Describe(Route route) =>
        $"{route.Upstream?.Key} {route.Upstream?.Nodes[0].Port} {route.Service?.Id} {string.Join(' ', route.Chain.Uses.Select(use => use.Config.ToJsonString()))}";

    static string? Match(Snapshot snapshot, string host, string path)
    {
        var exchange = TestExchange.Of(snapshot, $"http://{host}{path}");
        return $"{snapshot.Router.Match(exchange, exchange.Host)?.Id} {exchange.MatchedUri}";
    }
}
