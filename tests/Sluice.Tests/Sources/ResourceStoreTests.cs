using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging.Abstractions;
using Sluice.Model;
using Sluice.Pipeline;
using Sluice.Plugins;
using Sluice.Sources;
using Sluice.Tests.Pipeline;

namespace Sluice.Tests.Sources;

public sealed class ResourceStoreTests : IAsyncDisposable
{
    readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("sluice-resources-");
    readonly EmbeddedStore _store;
    readonly LiveConfiguration _live = new(new SnapshotCompiler(TestExchange.Services(), Builtin.All));
    readonly ResourceStore _resources;

    public ResourceStoreTests()
    {
        _store = EmbeddedStore.Open(_directory.FullName);
        _live.Apply(TestExchange.DefaultSettings);
        _resources = new(_store, _live, TimeProvider.System, NullLogger<ResourceStore>.Instance);
    }

    public async ValueTask DisposeAsync()
    {
        await _resources.DisposeAsync();
        await _store.DisposeAsync();
        _directory.Delete(recursive: true);
    }

    [Fact]
    public async Task A_POST_gets_the_next_free_number_with_20_digits()
    {
        var cancel = TestContext.Current.CancellationToken;
        var revision = _store.Revision;
        await _resources.PutAsync(ResourceKind.Routes, Number(revision + 2), Route(Number(revision + 2)), cancel: cancel);
        var first = await _resources.PostAsync(ResourceKind.Routes, Route(null), cancel: cancel);
        var second = await _resources.PostAsync(ResourceKind.Routes, Route(null), cancel: cancel);
        Assert.Equal(($"/apisix/routes/{Number(revision + 3)}", WriteOutcome.Created), (first.Key, first.Outcome));
        Assert.Equal(Number(revision + 4), second.Document!.Id);
    }

    static string Number(long number) => number.ToString("D20", null);

    static JsonObject Route(string? id)
    {
        var route = JsonNode.Parse("""{"uri":"/a","upstream":{"nodes":{"127.0.0.1:1":1}}}""")!.AsObject();
        if (id is not null)
        {
            route["id"] = id;
        }
        return route;
    }
}
