using Sluice.Sources;

namespace Sluice.FunctionalTests.Configuration;

/// <summary>Transactions of one operation.</summary>
static class StoreCalls
{
    public static async Task<StoreEntry> Put(this EmbeddedStore store, string key, string value, CancellationToken cancel = default) =>
        (await store.Transaction([], [new StoreOp.Put(key, value)], cancel)).Events[0].Entry;

    /// <returns>False: there was no such key.</returns>
    public static async Task<bool> Delete(this EmbeddedStore store, string key, CancellationToken cancel = default) =>
        (await store.Transaction([], [new StoreOp.Delete(key)], cancel)).Events.Count > 0;
}
