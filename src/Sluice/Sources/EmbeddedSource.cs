using Microsoft.Extensions.Logging;
using Sluice.Model;
using Sluice.Model.Settings;
using Sluice.Pipeline;

namespace Sluice.Sources;

/// <summary>Resources from the gateway's own store, under <c>sluice.data_dir</c>.</summary>
internal sealed class EmbeddedSource : IConfigurationSource
{
    readonly EmbeddedStore _store;
    readonly ResourceStore _resources;

    /// <exception cref="StoreException">The store cannot be opened.</exception>
    public EmbeddedSource(GatewaySettings settings, LiveConfiguration live, TimeProvider time, ILoggerFactory loggers)
    {
        _store = EmbeddedStore.Open(settings.Prefix, directory: settings.DataDirectory);
        _resources = new ResourceStore(_store, live, time, loggers.CreateLogger<ResourceStore>());
    }

    public ResourceStore Writer => _resources;

    public string? Warning => _resources.LeftOutWarning;

    public async Task<IReadOnlyList<Problem>> StartAsync(CancellationToken cancel)
    {
        await _resources.LoadAsync(cancel);
        return [];
    }

    public async Task<IReadOnlyList<Problem>> ReloadAsync()
    {
        await _resources.LookAgainAsync();
        return [];
    }

    public async ValueTask DisposeAsync()
    {
        await _resources.DisposeAsync();
        await _store.DisposeAsync();
    }
}
