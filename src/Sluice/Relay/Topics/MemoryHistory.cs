namespace Sluice.Relay.Topics;

/// <summary>A history in this process's memory: entries point into shared segments, which go when the last of their entries has
/// gone.</summary>
internal sealed class MemoryHistory(TailLimits limits, TimeProvider time) : IEventHistory
{
    readonly Queue _entries = new();
    Segment? _last;
    int _units;
    long _payload;

    public long FirstSequence { get; private set; }

    public long NextSequence => FirstSequence + _entries.Count;

    public long LastNumber { get; private set; }

    public long FirstNumber => LastNumber - _units + 1;

    public long Bytes { get; private set; }

    public string? LastSourceId { get; private set; }

    public HistoryEntry this[long sequence]
    {
        get
        {
            ref readonly var entry = ref _entries[(int)(sequence - FirstSequence)];
            return new(sequence, entry.Number, entry.Kind, entry.Segment.Bytes.AsMemory(entry.Offset, entry.Length), entry.SourceId,
                entry.Added);
        }
    }

    public long FirstAfter(EntryKind kind, int length)
    {
        var (units, payload, first) = (_units + (kind == EntryKind.Unit ? 1 : 0), _payload + length, 0);
        while (first < _entries.Count && (units > limits.Events || payload > limits.Bytes))
        {
            ref readonly var entry = ref _entries[first++];
            units -= entry.Kind == EntryKind.Unit ? 1 : 0;
            payload -= entry.Length;
        }
        return FirstSequence + first;
    }

    public void Append(EntryKind kind, ReadOnlySpan<byte> head, ReadOnlySpan<byte> body, string? sourceId, long now)
    {
        var length = head.Length + body.Length;
        var first = FirstAfter(kind, length);
        while (FirstSequence < first)
        {
            DropFirst();
        }
        DropOld(now);
        if (_last is null || _last.Bytes.Length - _last.Used < length)
        {
            var size = Math.Min(Math.Max(Segment.Least, (_last?.Bytes.Length ?? 0) * 2), Segment.Most);
            _last = new(Math.Max(size, length));
            Bytes += _last.Bytes.Length;
        }
        var room = _last.Bytes.AsSpan(_last.Used);
        head.CopyTo(room);
        body.CopyTo(room[head.Length..]);
        LastNumber += kind == EntryKind.Unit ? 1 : 0;
        _units += kind == EntryKind.Unit ? 1 : 0;
        LastSourceId = sourceId;
        _entries.Add(new(_last, _last.Used, length, LastNumber, kind, sourceId, now));
        _last.Used += length;
        _last.Entries++;
        _payload += length;
    }

    public void DropOld(long now)
    {
        while (_entries.Count > 0 && time.GetElapsedTime(_entries[0].Added, now) > limits.Age)
        {
            DropFirst();
        }
    }

    public bool DropHalf()
    {
        if (_entries.Count == 0)
        {
            return false;
        }
        for (var left = (_entries.Count + 1) / 2; left > 0; left--)
        {
            DropFirst();
        }
        return true;
    }

    void DropFirst()
    {
        var entry = _entries.Take();
        FirstSequence++;
        _units -= entry.Kind == EntryKind.Unit ? 1 : 0;
        _payload -= entry.Length;
        if (--entry.Segment.Entries == 0)
        {
            Bytes -= entry.Segment.Bytes.Length;
            if (entry.Segment == _last)
            {
                _last = null;
            }
        }
    }

    readonly record struct Entry(Segment Segment, int Offset, int Length, long Number, EntryKind Kind, string? SourceId, long Added);

    /// <summary>First in, first out, by index.</summary>
    sealed class Queue
    {
        Entry[] _ring = new Entry[16];
        int _first;

        public int Count { get; private set; }

        public ref readonly Entry this[int index] => ref _ring[(_first + index) & (_ring.Length - 1)];

        public void Add(Entry entry)
        {
            if (Count == _ring.Length)
            {
                var larger = new Entry[Count * 2];
                for (var i = 0; i < Count; i++)
                {
                    larger[i] = this[i];
                }
                (_ring, _first) = (larger, 0);
            }
            _ring[(_first + Count++) & (_ring.Length - 1)] = entry;
        }

        public Entry Take()
        {
            var entry = _ring[_first];
            _ring[_first] = default;
            _first = (_first + 1) & (_ring.Length - 1);
            Count--;
            return entry;
        }
    }
}

/// <summary>Memory that many entries share. What is written in it stays as it is.</summary>
sealed class Segment(int size)
{
    public const int Least = 1024, Most = 64 * 1024;

    public readonly byte[] Bytes = new byte[size];
    public int Used, Entries;
}
