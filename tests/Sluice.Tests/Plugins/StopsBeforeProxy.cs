using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Pipeline;

namespace Sluice.Tests.Plugins;

/// <summary>Answers when the node has been picked, so that a test can see which it is.</summary>
sealed class StopsBeforeProxy : IPlugin<StopsBeforeProxy, StopsBeforeProxy.Config>, IBeforeProxy
{
    public const int Status = 299;

    public static PluginInfo Info { get; } = new("stops-before-proxy", -9999, """{"type": "object"}""", "For tests.");

    public sealed record Config;

    public static JsonTypeInfo<Config> ConfigType => StopsBeforeProxyJson.Default.Config;

    public static StopsBeforeProxy Create(Config config, PluginContext context) => new();

    public ValueTask<Answer?> BeforeProxyAsync(Exchange exchange) => new(new Answer(Status));
}

[JsonSerializable(typeof(StopsBeforeProxy.Config))]
sealed partial class StopsBeforeProxyJson : JsonSerializerContext;
