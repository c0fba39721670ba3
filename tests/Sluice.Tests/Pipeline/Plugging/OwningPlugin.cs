using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Pipeline;

namespace Sluice.Tests.Pipeline.Plugging;

/// <summary>A plugin that owns a part and shares another, and counts them.</summary>
public sealed class OwningPlugin : IPlugin<OwningPlugin, OwningPlugin.Config>, ILog
{
    static int owned, shared;

    public static int Owned => Volatile.Read(ref owned);

    public static int Shared => Volatile.Read(ref shared);

    public static PluginInfo Info { get; } = new(
        "owning", 1, """{"type": "object", "properties": {"name": {"type": "string", "default": "x"}, "bad": {"type": "boolean"}}}""",
        "Owns things.");

    public sealed record Config(string Name = "x", bool Bad = false);

    public static JsonTypeInfo<Config> ConfigType => OwningPluginJson.Default.Config;

    public static OwningPlugin Create(Config config, PluginContext context)
    {
        context.Own(new Part());
        context.Share($"owning/{config.Name}", () => new Common());
        return config.Bad ? throw new FormatException("bad, after it has made things") : new();
    }

    public void Log(Exchange exchange)
    {
    }

    sealed class Part : IAsyncDisposable
    {
        public Part() => Interlocked.Increment(ref owned);

        public ValueTask DisposeAsync()
        {
            Interlocked.Decrement(ref owned);
            return default;
        }
    }

    sealed class Common : IDisposable
    {
        public Common() => Interlocked.Increment(ref shared);

        public void Dispose() => Interlocked.Decrement(ref shared);
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(OwningPlugin.Config))]
sealed partial class OwningPluginJson : JsonSerializerContext;
