namespace Sluice.Scripting;

/// <summary>
/// <c>ngx.shared.NAME</c>: what all lanes share. Bounded: what was not used for longest goes first, as in nginx.
/// </summary>
sealed class SharedDictionary(TimeProvider time, long capacity = SharedDictionary.DefaultCapacity)
{
    public const long DefaultCapacity = 16 * 1024 * 1024;

    const int EntryOverhead = 96;

    readonly Lock _lock = new();
    readonly Dictionary<string, LinkedListNode<Entry>> _entries = new(StringComparer.Ordinal);
    readonly LinkedList<Entry> _recent = new();
    long _used;

    /// <summary>A bool, a double, a byte[], or a list of them.</summary>
    public sealed class Entry(string key)
    {
        public string Key { get; } = key;

        public object Value { get; set; } = false;

        public int Flags { get; set; }

        /// <summary>0: never.</summary>
        public long Expires { get; set; }

        public long Size { get; set; }
    }

    public long Capacity => capacity;

    public long Free
    {
        get
        {
            lock (_lock)
            {
                return Math.Max(0, capacity - _used);
            }
        }
    }

    long Now => time.GetUtcNow().UtcTicks;

    bool Expired(Entry entry) => entry.Expires != 0 && entry.Expires <= Now;

    Entry? Live(string key)
    {
        if (!_entries.TryGetValue(key, out var node))
        {
            return null;
        }
        if (Expired(node.Value))
        {
            Remove(node);
            return null;
        }
        _recent.Remove(node);
        _recent.AddLast(node);
        return node.Value;
    }

    void Remove(LinkedListNode<Entry> node)
    {
        _recent.Remove(node);
        _entries.Remove(node.Value.Key);
        _used -= node.Value.Size;
    }

    public (object? Value, int Flags, bool Stale) Get(string key, bool stale = false)
    {
        lock (_lock)
        {
            // what has expired stays for get_stale, until its place is needed
            if (_entries.TryGetValue(key, out var node) && Expired(node.Value))
            {
                return stale ? (node.Value.Value, node.Value.Flags, true) : (null, 0, false);
            }
            return Live(key) is { } entry ? (entry.Value, entry.Flags, false) : (null, 0, false);
        }
    }

    public enum Mode
    {
        Set,
        Add,
        Replace,
    }

    /// <param name="safe">Refuses rather than throw out what is there.</param>
    /// <returns>The error, or null; and whether something had to go.</returns>
    public (string? Error, bool Forcible) Store(string key, object? value, double seconds, int flags, Mode mode, bool safe = false)
    {
        lock (_lock)
        {
            var known = Live(key);
            if ((mode == Mode.Add && known is not null) || (mode == Mode.Replace && known is null))
            {
                return (known is null ? "not found" : "exists", false);
            }
            if (value is null)
            {
                if (known is not null)
                {
                    Remove(_entries[key]);
                }
                return (null, false);
            }
            return Put(key, value, seconds, flags, safe);
        }
    }

    (string? Error, bool Forcible) Put(string key, object value, double seconds, int flags, bool safe)
    {
        var size = EntryOverhead + key.Length + SizeOf(value);
        if (size > capacity)
        {
            return ("no memory", false);
        }
        if (_entries.TryGetValue(key, out var old))
        {
            Remove(old);
        }
        var forced = false;
        while (_used + size > capacity && _recent.First is { } oldest)
        {
            if (safe && !Expired(oldest.Value))
            {
                return ("no memory", false);
            }
            forced |= !Expired(oldest.Value);
            Remove(oldest);
        }
        var entry = new Entry(key) { Value = value, Flags = flags, Expires = ExpiryOf(seconds), Size = size };
        _entries[key] = _recent.AddLast(entry);
        _used += size;
        return (null, forced);
    }

    long ExpiryOf(double seconds) => seconds > 0 ? Now + (long)(Math.Min(seconds, 1e9) * TimeSpan.TicksPerSecond) : 0;

    static long SizeOf(object value) => value switch
    {
        byte[] bytes => bytes.Length,
        LinkedList<object> list => list.Sum(SizeOf) + (list.Count * 48),
        _ => 8,
    };

    public (double? Value, string? Error, bool Forcible) Increment(string key, double by, double? initial, double seconds)
    {
        lock (_lock)
        {
            if (Live(key) is not { } entry)
            {
                if (initial is null)
                {
                    return (null, "not found", false);
                }
                var (error, forcible) = Put(key, initial.Value + by, seconds, 0, false);
                return error is null ? (initial + by, null, forcible) : (null, error, false);
            }
            if (entry.Value is not double number)
            {
                return (null, "not a number", false);
            }
            entry.Value = number + by;
            return (number + by, null, false);
        }
    }

    public bool Expire(string key, double seconds)
    {
        lock (_lock)
        {
            if (Live(key) is not { } entry)
            {
                return false;
            }
            entry.Expires = ExpiryOf(seconds);
            return true;
        }
    }

    /// <summary>Seconds left; 0: never expires; null: not there.</summary>
    public double? TimeToLive(string key)
    {
        lock (_lock)
        {
            return Live(key) is not { } entry ? null : entry.Expires == 0 ? 0 : (entry.Expires - Now) / (double)TimeSpan.TicksPerSecond;
        }
    }

    public (int Length, string? Error) Push(string key, object value, bool left)
    {
        lock (_lock)
        {
            var known = Live(key);
            if (known is { Value: not LinkedList<object> })
            {
                return (0, "value not a list");
            }
            var expires = known?.Expires ?? 0;
            var list = known?.Value as LinkedList<object> ?? new LinkedList<object>();
            _ = left ? list.AddFirst(value) : list.AddLast(value);
            var (error, _) = Put(key, list, 0, 0, false);
            if (error is null)
            {
                _entries[key].Value.Expires = expires;
            }
            return (list.Count, error);
        }
    }

    public (object? Value, string? Error) Pop(string key, bool left)
    {
        lock (_lock)
        {
            if (Live(key) is not { } entry)
            {
                return (null, null);
            }
            if (entry.Value is not LinkedList<object> list)
            {
                return (null, "value not a list");
            }
            var node = (left ? list.First : list.Last)!;
            list.Remove(node);
            if (list.Count == 0)
            {
                Remove(_entries[key]);
            }
            return (node.Value, null);
        }
    }

    public (int Length, string? Error) Length(string key)
    {
        lock (_lock)
        {
            return Live(key) is not { } entry
                ? (0, null)
                : entry.Value is LinkedList<object> list ? (list.Count, null) : (0, "value not a list");
        }
    }

    public void FlushAll()
    {
        lock (_lock)
        {
            _entries.Clear();
            _recent.Clear();
            _used = 0;
        }
    }

    public int FlushExpired(int max)
    {
        lock (_lock)
        {
            var gone = _entries.Values.Where(node => Expired(node.Value)).Take(max > 0 ? max : int.MaxValue).ToArray();
            foreach (var node in gone)
            {
                Remove(node);
            }
            return gone.Length;
        }
    }

    public string[] Keys(int max)
    {
        lock (_lock)
        {
            return [.. _entries.Values.Where(node => !Expired(node.Value)).Take(max > 0 ? max : int.MaxValue)
                .Select(node => node.Value.Key)];
        }
    }
}
