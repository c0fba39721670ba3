using Sluice.Sources;

namespace Sluice.Tests.Sources;

public sealed class StoreFileTests : IDisposable
{
    readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("sluice-store-");

    public void Dispose() => _directory.Delete(recursive: true);

    [Fact]
    public void A_commit_waits_for_the_disk()
    {
        // a kill cannot show it, only a power cut could
        using var store = StoreFile.Open(Path.Combine(_directory.FullName, "store.db"), new StoreOptions());
        Assert.Equal(("wal", 2L), store.Writing);
    }
}
