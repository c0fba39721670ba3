using System.Net.Sockets;
using System.Runtime.CompilerServices;

namespace Sluice.Scripting;

/// <summary>Connections that scripts keep with <c>setkeepalive</c>, by where they lead to.</summary>
sealed class KeptConnections(TimeProvider time)
{
    const int DefaultIdle = 60;
    const int DefaultSize = 30;
    const int MaxSize = 1024;

    static readonly ConditionalWeakTable<LuaEngine, KeptConnections> Pools = [];

    readonly Lock _lock = new();
    readonly Dictionary<string, LinkedList<Entry>> _pools = [];

    public sealed record Connection(Socket Socket, Stream Stream, int Uses);

    sealed record Entry(Connection Connection, long Since, TimeSpan Idle);

    public static KeptConnections Of(LuaEngine engine) => Pools.GetValue(engine, static engine => new(engine.Time));

    /// <summary>The one that was kept last and is still good; null when there is none.</summary>
    public Connection? Take(string key)
    {
        lock (_lock)
        {
            while (_pools.TryGetValue(key, out var pool) && pool.Last is { } last)
            {
                pool.RemoveLast();
                if (pool.Count == 0)
                {
                    _pools.Remove(key);
                }
                if (IsGood(last.Value))
                {
                    return last.Value.Connection;
                }
                Drop(last.Value);
            }
            return null;
        }
    }

    public void Put(string key, Connection connection, TimeSpan idle, int size)
    {
        lock (_lock)
        {
            foreach (var (other, stale) in _pools.ToArray())
            {
                while (stale.First is { } first && !IsGood(first.Value))
                {
                    stale.RemoveFirst();
                    Drop(first.Value);
                }
                if (stale.Count == 0)
                {
                    _pools.Remove(other);
                }
            }
            var pool = _pools.TryGetValue(key, out var known) ? known : _pools[key] = [];
            pool.AddLast(new Entry(connection, time.GetTimestamp(), idle > TimeSpan.Zero ? idle : TimeSpan.FromSeconds(DefaultIdle)));
            while (pool.Count > Math.Clamp(size, 1, MaxSize) && pool.First is { } oldest)
            {
                pool.RemoveFirst();
                Drop(oldest.Value);
            }
        }
    }

    public static int SizeOr(int? size) => size ?? DefaultSize;

    bool IsGood(Entry entry)
    {
        try
        {
            // readable: the other side has closed, or has said something nobody asked for
            return time.GetElapsedTime(entry.Since) < entry.Idle && !entry.Connection.Socket.Poll(0, SelectMode.SelectRead);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            return false;
        }
    }

    static void Drop(Entry entry)
    {
        entry.Connection.Stream.Dispose();
        entry.Connection.Socket.Dispose();
    }
}
