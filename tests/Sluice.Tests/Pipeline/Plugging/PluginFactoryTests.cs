using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using Sluice.Model;
using Sluice.Pipeline;

namespace Sluice.Tests.Pipeline.Plugging;

public sealed class PluginFactoryTests
{
    /// <summary>Runs another plugin: <c>{"inner": {"NAME": {…}}}</c>.</summary>
    sealed class Outer(PluginUse inner) : IPlugin<Outer, JsonObject>, ILog
    {
        public static PluginInfo Info { get; } = new("outer", 2, """{"type":"object"}""", "Runs another plugin.");

        public static JsonTypeInfo<JsonObject> ConfigType { get; } =
            JsonTypeInfo.CreateJsonTypeInfo<JsonObject>(System.Text.Json.JsonSerializerOptions.Default);

        public PluginUse Inner => inner;

        public static Outer Create(JsonObject config, PluginContext context)
        {
            var (name, own) = ((JsonObject)config["inner"]!).Single();
            return new(context.Plugins.Make(name, own!.DeepClone().AsObject()));
        }

        public void Log(Exchange exchange)
        {
        }
    }

    /// <summary>Keeps what it was configured with.</summary>
    sealed class Inner(JsonObject config) : IPlugin<Inner, JsonObject>, ILog
    {
        public static int Alive;

        public static PluginInfo Info { get; } = new("inner", 1,
            """{"type":"object","properties":{"size":{"type":"integer","minimum":1,"default":7} } }""", "Is run by another.");

        public static JsonTypeInfo<JsonObject> ConfigType => Outer.ConfigType;

        public JsonObject Config => config;

        public static Inner Create(JsonObject config, PluginContext context)
        {
            context.Own(new Part());
            return new(config);
        }

        public void Log(Exchange exchange)
        {
        }

        sealed class Part : IAsyncDisposable
        {
            public Part() => Interlocked.Increment(ref Alive);

            public ValueTask DisposeAsync()
            {
                Interlocked.Decrement(ref Alive);
                return default;
            }
        }
    }

    readonly LiveConfiguration _live;

    public PluginFactoryTests()
    {
        _live = new(new SnapshotCompiler(TestExchange.Services(),
            [PluginDescriptor.Of<Outer, JsonObject>(), PluginDescriptor.Of<Inner, JsonObject>()]));
        _live.Apply(TestExchange.DefaultSettings);
    }

    IReadOnlyList<Problem> Apply(string inner) => _live.Apply(documents: DocumentSet.Of(
        [TestExchange.Document(ResourceKind.Routes, "r1", $$"""{"uri":"/","plugins":{"outer":{"inner":{{inner}} } } }""")]));

    Outer Made => (Outer)_live.Current.Routes["r1"].Chain.Uses.Single().Plugin;

    [Fact(Timeout = 60_000)]
    public async Task A_plugin_that_another_runs_has_its_defaults_and_ends_with_it()
    {
        Assert.Empty(Apply("""{"inner":{} }"""));
        var inner = (Inner)Made.Inner.Plugin;
        Assert.Equal(7, (int)inner.Config["size"]!);
        Assert.Equal(1, Volatile.Read(ref Inner.Alive));
        _live.Apply(documents: DocumentSet.Empty);
        while (Volatile.Read(ref Inner.Alive) > 0)
        {
            await Task.Yield();
        }
    }

    [Theory]
    [InlineData("""{"nope":{} }""", "unknown plugin [nope]")]
    [InlineData("""{"inner":{"size":0} }""", "property \"size\" validation failed: expected 0 to be at least 1")]
    public void What_cannot_be_made_fails_the_plugin_that_wants_it(string inner, string error)
    {
        Assert.Contains(error, Assert.Single(Apply(inner)).Message, StringComparison.Ordinal);
        Assert.Equal(0, Volatile.Read(ref Inner.Alive));
    }
}
