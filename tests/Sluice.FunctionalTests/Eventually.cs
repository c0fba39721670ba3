using System.Diagnostics;

namespace Sluice.FunctionalTests;

/// <summary>For what comes a moment later on its own, such as a log line or a closed socket.</summary>
static class Eventually
{
    public static Task TrueAsync(Func<bool> condition, string otherwise, int seconds = 30) =>
        TrueAsync(condition, () => otherwise, seconds);

    public static async Task TrueAsync(Func<bool> condition, Func<string> otherwise, int seconds = 30)
    {
        var watch = Stopwatch.StartNew();
        while (!condition())
        {
            Assert.True(watch.Elapsed.TotalSeconds < seconds, otherwise());
            await Task.Delay(10);
        }
    }

    public static async Task HoldsAsync(Func<Task<bool>> condition, string otherwise, int seconds = 30)
    {
        var watch = Stopwatch.StartNew();
        while (!await condition())
        {
            Assert.True(watch.Elapsed.TotalSeconds < seconds, otherwise);
            await Task.Delay(10);
        }
    }
}
