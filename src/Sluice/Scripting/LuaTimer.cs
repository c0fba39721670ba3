namespace Sluice.Scripting;

/// <summary>
/// A function of <c>ngx.timer</c> that waits for its time, or for the end of its state, when it runs at once and prematurely.
/// </summary>
sealed class LuaTimer(LuaLane lane, int id)
{
    ITimer? _clock;
    int _runs;

    public void Start(TimeSpan delay) =>
        _clock = lane.Engine.Time.CreateTimer(static timer => ((LuaTimer)timer!).Run(), this, delay, Timeout.InfiniteTimeSpan);

    /// <summary>Now, unless it runs already.</summary>
    public void Run()
    {
        if (Interlocked.Exchange(ref _runs, 1) == 0)
        {
            _clock?.Dispose();
            _ = RunAsync();
        }
    }

    async Task RunAsync()
    {
        lane.Forget(this);
        await LuaContext.RunTimerAsync(lane, id, premature: lane.Retired);
        lane.Release();
    }
}
