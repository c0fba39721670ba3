using System.Diagnostics;
using Sluice.Sources;

namespace Sluice.FunctionalTests.Configuration;

/// <summary>A process that writes into the store from several tasks and prints each key once its write was answered, until it is
/// killed.</summary>
static class StoreWriter
{
    public static Process Start(string prefix)
    {
        var start = new ProcessStartInfo(Environment.ProcessPath!) { RedirectStandardOutput = true };
        if (Path.GetFileNameWithoutExtension(start.FileName) == "dotnet")
        {
            start.ArgumentList.Add(typeof(StoreWriter).Assembly.Location);
        }
        foreach (var argument in new[] { "child", "store-writer", prefix })
        {
            start.ArgumentList.Add(argument);
        }
        return Process.Start(start)!;
    }

    public static async Task<int> Run(string prefix)
    {
        await using var store = EmbeddedStore.Open(prefix);
        var output = new StreamWriter(Console.OpenStandardOutput()) { AutoFlush = true };
        await Task.WhenAll(Enumerable.Range(0, 8).Select(async writer =>
        {
            for (var i = 0; ; i++)
            {
                var entry = await store.Put($"/apisix/routes/{writer}-{i}", new string('x', 300));
                lock (output)
                {
                    output.WriteLine($"{entry.Key} {entry.ModRevision}");
                }
            }
        }));
        return 0;
    }
}
