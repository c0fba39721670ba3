using System.Collections.Concurrent;
using System.Runtime.CompilerServices;
using System.Text;
using Sluice.Net.Epoll;
using static Sluice.Scripting.LuaNative;

namespace Sluice.Scripting;

/// <summary>The light threads (<c>ngx.thread</c>) of one request. They run in the lane of their request, one at a time.</summary>
sealed class LightThreads(LuaContext context)
{
    const int MaxThreads = 1024;

    readonly ConcurrentDictionary<nint, Task<object?[]>> _running = [];
    ConcurrentDictionary<nint, bool>? _killed;

    /// <summary>How one of them has ended the request; null when none has.</summary>
    object?[]? _exit;

    LuaLane Lane => context.Lane;

    /// <summary>One of them has ended the request.</summary>
    public bool HasExited => Volatile.Read(ref _exit) is not null;

    /// <summary>
    /// With what one of them has ended the request; the script may run again (<c>ngx.exec</c>), and nothing has ended it then.
    /// </summary>
    public object?[] TakeExit() => Interlocked.Exchange(ref _exit, null)!;

    /// <summary>The coroutine never goes on: it was killed, or the request is ended.</summary>
    public bool HasEnded(nint coroutine) => HasExited || _killed?.ContainsKey(coroutine) == true;

    public Task WhenAllEnded() => _running.IsEmpty ? Task.CompletedTask : Task.WhenAll(_running.Values);

    /// <summary>Starts a coroutine beside the one that asks; both go on from here, in the same lane.</summary>
    public object?[] Spawn(nint thread)
    {
        if (_running.Count >= MaxThreads)
        {
            return [null, "too many threads"];
        }
        int reference;
        using (Lane.Enter())
        {
            lua_pushthread(thread);
            reference = Lane.Anchor(thread);
            Lane.Use();
        }
        _running[thread] = RunAsync((thread, reference));
        return [true];
    }

    async Task<object?[]> RunAsync((nint State, int Reference) coroutine)
    {
        if (!RuntimeHelpers.TryEnsureSufficientExecutionStack())
        {
            await EventLoop.Later();
        }
        try
        {
            return await FollowAsync(coroutine);
        }
        finally
        {
            using (Lane.Enter())
            {
                _killed?.TryRemove(coroutine.State, out _);
                Lane.Unreference(coroutine.Reference);
            }
            Lane.Release();
        }
    }

    async ValueTask<object?[]> FollowAsync((nint State, int Reference) coroutine)
    {
        int status;
        LuaContext.Stop stop;
        using (Lane.Enter())
        {
            if (context.IsDisposed)
            {
                throw new OperationCanceledException();
            }
            // the function and its arguments are on the coroutine's stack already
            status = Lane.Resume(coroutine.State, lua_gettop(coroutine.State) - 1, context, context.Phase);
            stop = context.Step(coroutine, status);
        }
        while (stop.Status == Yielded)
        {
            if (stop.Wait == LuaWait.Exit)
            {
                EndAll(stop.Arguments);
                return [false, "exited"];
            }
            (_, stop) = await context.WaitAsync(coroutine, stop);
        }
        if (stop.Error is { } error)
        {
            context.LogThreadFailure(error + stop.Trace);
            return [false, error];
        }
        if (stop.Arguments is [_, byte[] failed])
        {
            context.LogThreadFailure(Encoding.UTF8.GetString(failed));
        }
        return [true, stop.Arguments[0]];
    }

    /// <summary>Everything that runs for the request ends where it waits.</summary>
    void EndAll(object?[] arguments)
    {
        using (Lane.Enter())
        {
            _exit ??= arguments;
            foreach (var thread in _running.Keys)
            {
                Kill(thread);
            }
        }
        context.EndWaits();
    }

    /// <summary>A killed thread never goes on; what it waits for ends with the request at the latest.</summary>
    /// <returns>Why it cannot be killed; null when it was.</returns>
    public string? Kill(nint thread)
    {
        if (_running.TryGetValue(thread, out var running) && running.IsCompleted)
        {
            return "already terminated";
        }
        if (!_running.TryRemove(thread, out _))
        {
            return "already waited or killed";
        }
        LazyInitializer.EnsureInitialized(ref _killed, static () => [])[thread] = true;
        return null;
    }

    /// <summary>Waits for the first of these threads to end: its results.</summary>
    public async ValueTask<object?[]> JoinAsync(object?[] arguments)
    {
        var wanted = arguments.OfType<nint>().Where(_running.ContainsKey).ToDictionary(thread => _running[thread]);
        if (wanted.Count == 0)
        {
            return [null, "already waited or killed"];
        }
        var first = await Task.WhenAny(wanted.Keys);
        _running.TryRemove(wanted[first], out _);
        return await first;
    }
}
