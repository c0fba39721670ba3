namespace Sluice.Tests;

/// <summary>
/// What code allocates, without what the runtime allocates on the same thread now and then (a type that is loaded, a method that is
/// compiled anew): what the code allocates, it allocates each time.
/// </summary>
static class Allocation
{
    /// <summary>Bytes on this thread in that one of ten runs that took the fewest.</summary>
    public static long Of(Action run) => Least(GC.GetAllocatedBytesForCurrentThread, run);

    /// <summary>By how much a count grows in that one of ten runs in which it grows least.</summary>
    public static long Least(Func<long> count, Action run)
    {
        var least = long.MaxValue;
        for (var i = 0; i < 10 && least > 0; i++)
        {
            var before = count();
            run();
            least = Math.Min(least, count() - before);
        }
        return least;
    }
}
