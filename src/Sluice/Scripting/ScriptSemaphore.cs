using System.Collections.Concurrent;
using System.Diagnostics.CodeAnalysis;

namespace Sluice.Scripting;

/// <summary><c>ngx.semaphore</c>: how many it lets through, and how many wait. Lua knows it by its number.</summary>
[SuppressMessage("Reliability", "CA1001", Justification = "a SemaphoreSlim holds nothing as long as nobody asks for its wait handle")]
sealed class ScriptSemaphore(int count)
{
    static readonly ConcurrentDictionary<int, ScriptSemaphore> s_all = new();
    static int s_last;

    readonly SemaphoreSlim _permits = new(count);
    int _waiting;

    /// <summary>How many there are in the process.</summary>
    public static int Live => s_all.Count;

    public static int Add(int count)
    {
        var number = Interlocked.Increment(ref s_last);
        s_all[number] = new ScriptSemaphore(count);
        return number;
    }

    public static ScriptSemaphore? Find(int number) => s_all.GetValueOrDefault(number);

    public static void Remove(int number) => s_all.TryRemove(number, out _);

    public int Count => _permits.CurrentCount > 0 ? _permits.CurrentCount : -Volatile.Read(ref _waiting);

    public void Post(int count) => _permits.Release(count);

    public bool TryTake() => _permits.Wait(0);

    /// <returns>False when it took too long by the gateway's clock.</returns>
    public async ValueTask<bool> WaitAsync(TimeSpan timeout, TimeProvider time, CancellationToken ended)
    {
        using var late = new CancellationTokenSource(timeout, time);
        using var end = CancellationTokenSource.CreateLinkedTokenSource(late.Token, ended);
        Interlocked.Increment(ref _waiting);
        try
        {
            await _permits.WaitAsync(end.Token);
            return true;
        }
        catch (OperationCanceledException) when (!ended.IsCancellationRequested)
        {
            return false;
        }
        finally
        {
            Interlocked.Decrement(ref _waiting);
        }
    }
}
