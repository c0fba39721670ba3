namespace Sluice.Tests;

static class Repository
{
    /// <summary>The checkout that the tests were built from.</summary>
    public static string Root { get; } = Find(AppContext.BaseDirectory);

    static string Find(string folder) =>
        File.Exists(Path.Combine(folder, "Sluice.slnx")) ? folder
        : Find(Path.GetDirectoryName(folder) ?? throw new InvalidOperationException("no Sluice.slnx above the tests"));
}
