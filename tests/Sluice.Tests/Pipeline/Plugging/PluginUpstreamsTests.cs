using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using Sluice.Model;
using Sluice.Pipeline;
using Sluice.Sources;
using Sluice.Upstreams;

namespace Sluice.Tests.Pipeline.Plugging;

public sealed class PluginUpstreamsTests
{
    /// <summary>Has an upstream, or names one.</summary>
    sealed class Sending(ForwardTo? target) : IPlugin<Sending, JsonObject>, IAccess
    {
        public static PluginInfo Info { get; } = new("sending", 1, """{"type":"object"}""", "Sends requests elsewhere.");

        public static JsonTypeInfo<JsonObject> ConfigType { get; } =
            JsonTypeInfo.CreateJsonTypeInfo<JsonObject>(System.Text.Json.JsonSerializerOptions.Default);

        public static Sending Create(JsonObject config, PluginContext context) =>
            new(config["upstream"] is JsonObject upstream ? context.Upstreams.Make(upstream) : config["upstream_id"] is { } id
                ? new ForwardTo.Named(id.ToString()) : null);

        public ForwardTo? Target => target;

        public ValueTask<Answer?> AccessAsync(Exchange exchange)
        {
            exchange.ForwardTo = target;
            return default;
        }
    }

    readonly PluginServices _services = TestExchange.Services();
    readonly UpstreamServices _upstreams;
    readonly LiveConfiguration _live;

    public PluginUpstreamsTests()
    {
        _upstreams = UpstreamServices.Alone();
        _live = new(new SnapshotCompiler(_services, [PluginDescriptor.Of<Sending, JsonObject>()], _upstreams));
        _live.Apply(TestExchange.DefaultSettings);
    }

    static Document Route(string config, string id = "r1", string more = "") =>
        TestExchange.Document(ResourceKind.Routes, id, $$"""{"uri":"/{{id}}","plugins":{"sending":{{config}}} {{more}} }""");

    static Document Upstream(string id, int port) =>
        TestExchange.Document(ResourceKind.Upstreams, id, $$"""{"nodes":{"127.0.0.1:{{port}}":1} }""");

    IReadOnlyList<Problem> Apply(params Document[] documents) => _live.Apply(documents: DocumentSet.Of(documents));

    ForwardTo.To Target(string route = "r1") => (ForwardTo.To)((Sending)_live.Current.Routes[route].Chain.Uses.Single().Plugin).Target!;

    const string Checked = """{"upstream":{"nodes":{"127.0.0.1:1":1},"checks":{"active":{"http_path":"/"} } } }""";

    [Fact]
    public void The_same_upstream_at_the_same_place_is_kept_through_a_change()
    {
        Apply(Route(Checked));
        var first = Target().Upstream;
        Apply(Route(Checked, more: ",\"priority\":3"));
        Assert.Same(first, Target().Upstream);
        Apply(Route(Checked.Replace(":1\"", ":2\"", StringComparison.Ordinal)));
        Assert.NotSame(first, Target().Upstream);
    }

    [Fact(Timeout = 60_000)]
    public async Task An_upstream_is_followed_from_its_first_request_to_its_plugins_end()
    {
        Apply(Route(Checked));
        Assert.Empty(_upstreams.Added.All);
        Target().Follower!.Begin();
        Target().Follower!.Begin();
        Assert.Equal([Target().Upstream], _upstreams.Added.All);
        var follower = Target().Follower!;
        Apply();
        while (!_upstreams.Added.All.IsEmpty)
        {
            await Task.Yield();
        }
        follower.Begin();
        Assert.Empty(_upstreams.Added.All);
    }

    [Theory]
    [InlineData("""{"nodes":{"127.0.0.1:1":1},"type":"chash"}""", "missing key")]
    [InlineData("""{"nodes":{"127.0.0.1:1":1},"tls":{"client_cert_id":"c"} }""", "client_cert_id has no effect in a plugin")]
    public void What_is_no_upstream_is_refused_in_the_admin_apis_words(string upstream, string error) =>
        Assert.Contains(error, Assert.Single(Apply(Route($$"""{"upstream":{{upstream}}}"""))).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData("""{"upstream_id":"u"}""")]
    [InlineData("""{"rules":[{"weighted":[{"upstream_id":"u"}]}]}""")]
    public void An_upstream_that_a_plugin_names_is_in_the_snapshot_and_changes_with_its_document(string config)
    {
        var (route, other) = (Route(config), Route("{}", "r2"));
        Apply(route, other, Upstream("u", 1), Upstream("unused", 9));
        Assert.Equal(["upstreams/u"], _live.Current.Upstreams.Values.Select(upstream => upstream.Key));
        var plugin = _live.Current.Routes["r1"].Chain.Uses.Single().Plugin;
        _live.Apply(documents: _live.Current.Documents.With(Upstream("u", 2)));
        Assert.Equal(2, _live.Current.Upstreams["upstreams/u"].Config.Nodes.Single().Port);
        Assert.Same(plugin, _live.Current.Routes["r1"].Chain.Uses.Single().Plugin);
        Apply(route, other);
        Assert.Empty(_live.Current.Upstreams.Values);
        Apply(route, other, Upstream("u", 3));
        Assert.Equal(3, _live.Current.Upstreams["upstreams/u"].Config.Nodes.Single().Port);
        Apply(other, Upstream("u", 3));
        Assert.Empty(_live.Current.Upstreams.Values);
    }

    [Theory]
    [InlineData(ResourceKind.GlobalRules, "global_rules")]
    [InlineData(ResourceKind.Consumers, "consumer")]
    public void An_upstream_that_is_named_elsewhere_is_in_the_snapshot_too(object kind, string name)
    {
        var document = TestExchange.Document((ResourceKind)kind, "x", """{"username":"x","plugins":{"sending":{"upstream_id":"u"} } }""");
        Apply(document, Upstream("u", 1));
        Assert.Equal(1, _live.Current.Upstreams["upstreams/u"].Config.Nodes.Single().Port);
        Apply(document, Upstream("u", 2));
        Assert.Equal(2, _live.Current.Upstreams["upstreams/u"].Config.Nodes.Single().Port);
        Assert.Equal($"can not delete this upstream, plugin in {name} [x] is still using it now",
            DocumentReferences.UsedBy(_live.Current.Documents, ResourceKind.Upstreams, "u"));
        Apply(Upstream("u", 2));
        Assert.Empty(_live.Current.Upstreams.Values);
    }
}
