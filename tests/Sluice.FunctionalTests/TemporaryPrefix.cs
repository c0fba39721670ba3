namespace Sluice.FunctionalTests;

sealed class TemporaryPrefix : IDisposable
{
    public string Path { get; } = Directory.CreateTempSubdirectory("sluice-store-").FullName;

    public string Store => System.IO.Path.Combine(Path, "data", "sluice.db");

    public void Dispose() => Directory.Delete(Path, recursive: true);
}
