using Sluice.Scripting;

namespace Sluice.Tests.Scripting;

public class ThreadClockTests
{
    [Fact]
    public void Another_thread_reads_how_long_a_thread_has_run()
    {
        using var started = new ManualResetEventSlim();
        using var seen = new ManualResetEventSlim();
        var clock = 0;
        var thread = new Thread(() =>
        {
            clock = ThreadClock.Own;
            started.Set();
            while (!seen.IsSet)
            {
                // runs
            }
        });
        thread.Start();
        started.Wait(TestContext.Current.CancellationToken);
        Assert.NotEqual(ThreadClock.Own, clock);
        var before = ThreadClock.Read(clock)!.Value;
        Assert.True(SpinWait.SpinUntil(() => ThreadClock.Read(clock) - before > 5_000_000, TimeSpan.FromSeconds(20)));
        seen.Set();
        thread.Join();
    }

    [Fact]
    public void A_thread_that_has_no_clock_has_no_processor_time() => Assert.Null(ThreadClock.Read(0));
}
