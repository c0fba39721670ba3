using System.Diagnostics.CodeAnalysis;
using Microsoft.Extensions.Logging;

namespace Sluice.Pipeline;

/// <summary>
/// What one plugin at one place owns. It ends when the last snapshot that uses the plugin has gone, or at once when its configuration was
/// only tried or refused. Where nobody can tell (a consumer's plugins, made while requests run) the garbage collector does.
/// </summary>
internal sealed class PluginLife
{
    readonly PluginParts _parts;

    internal PluginLife(PluginParts parts) => _parts = parts;

    ~PluginLife() => _ = _parts.EndAsync();

    /// <summary>The first snapshot that uses it.</summary>
    internal long Since { get; set; }

    /// <summary>Takes over a part: it is disposed with the plugin, the last one first. After the end at once.</summary>
    public void Own(IAsyncDisposable part) => _parts.Add(part);

    /// <summary>Disposes all parts. Ending twice is ending once.</summary>
    [SuppressMessage("Usage", "CA1816", Justification = "its end has a task that others wait for")]
    public Task EndAsync()
    {
        GC.SuppressFinalize(this);
        return _parts.EndAsync();
    }
}

/// <summary>The parts of one <see cref="PluginLife"/>; apart from it, so that keeping a list of them keeps no plugin alive.</summary>
sealed class PluginParts(PluginLives all)
{
    readonly Lock _lock = new();
    readonly List<IAsyncDisposable> _parts = [];
    Task? _ended;

    public void Add(IAsyncDisposable part)
    {
        lock (_lock)
        {
            if (_ended is null)
            {
                _parts.Add(part);
                return;
            }
        }
        _ = all.DisposeAsync(part).AsTask();
    }

    public Task EndAsync()
    {
        lock (_lock)
        {
            return _ended ??= DisposeAsync();
        }
    }

    async Task DisposeAsync()
    {
        // not under the caller's lock, nor on a finalizer's thread
        await Task.Yield();
        for (var i = _parts.Count - 1; i >= 0; i--)
        {
            await all.DisposeAsync(_parts[i]);
        }
        all.Forget(this);
    }
}

/// <summary>Every plugin's life in this process, and the state that plugins share for as long as one of them uses it.</summary>
internal sealed partial class PluginLives(ILogger<PluginLives> logger)
{
    readonly Lock _lock = new();
    readonly HashSet<PluginParts> _open = [];
    readonly Dictionary<string, Shared> _shared = [];

    sealed class Shared(object value)
    {
        public object Value => value;

        public int Users { get; set; }
    }

    /// <summary>How many plugins own something.</summary>
    public int Count
    {
        get
        {
            lock (_lock)
            {
                return _open.Count;
            }
        }
    }

    /// <summary>How many shared things there are.</summary>
    public int SharedCount
    {
        get
        {
            lock (_lock)
            {
                return _shared.Count;
            }
        }
    }

    public PluginLife Open()
    {
        var parts = new PluginParts(this);
        lock (_lock)
        {
            _open.Add(parts);
        }
        return new(parts);
    }

    /// <summary>The thing of this name, made when nobody has it yet; let go when the life ends, and disposed when nobody has it any
    /// more.</summary>
    public T Share<T>(PluginLife life, string key, Func<T> make)
        where T : class
    {
        Shared? shared;
        lock (_lock)
        {
            if (!_shared.TryGetValue(key, out shared))
            {
                _shared[key] = shared = new(make());
            }
            shared.Users++;
        }
        life.Own(new Lease(this, key, shared));
        return (T)shared.Value;
    }

    sealed class Lease(PluginLives lives, string key, Shared shared) : IAsyncDisposable
    {
        public ValueTask DisposeAsync()
        {
            lock (lives._lock)
            {
                if (--shared.Users > 0)
                {
                    return default;
                }
                lives._shared.Remove(key);
            }
            switch (shared.Value)
            {
                case IAsyncDisposable part:
                    return part.DisposeAsync();
                case IDisposable part:
                    part.Dispose();
                    break;
            }
            return default;
        }
    }

    internal void Forget(PluginParts parts)
    {
        lock (_lock)
        {
            _open.Remove(parts);
        }
    }

    /// <summary>Ends all that is left, when the gateway stops: what waits to be sent is sent.</summary>
    public async Task EndAllAsync()
    {
        PluginParts[] open;
        lock (_lock)
        {
            open = [.. _open];
        }
        await Task.WhenAll(open.Select(parts => parts.EndAsync()));
    }

    internal async ValueTask DisposeAsync(IAsyncDisposable part)
    {
        try
        {
            await part.DisposeAsync();
        }
        catch (Exception e)
        {
            LogFailed(e, part.GetType().Name);
        }
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "disposing of a plugin's {Part} failed")]
    partial void LogFailed(Exception exception, string part);
}
