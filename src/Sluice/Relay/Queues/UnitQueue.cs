using System.Buffers;
using System.Text;
using System.Text.Json;
using Sluice.Relay.Topics;

namespace Sluice.Relay.Queues;

/// <summary>What happens when a client is slower than its stream.</summary>
enum SlowPolicy
{
    /// <summary>The oldest that waits goes.</summary>
    DropOldest,

    /// <summary>A newer unit takes the place of the waiting one with the same key; the oldest goes when that is not enough.</summary>
    LatestPerKey,

    /// <summary>The stream is ended.</summary>
    Disconnect,
}

/// <summary>How a client is told what it missed.</summary>
enum GapNotice
{
    None,
    Comment,
    Event,
}

/// <param name="Bytes">What waits; the first of the limits that is reached counts.</param>
/// <param name="Lag">How old the oldest that waits may be; zero: as old as it gets.</param>
/// <param name="IsLines">Units are lines of JSON, not events.</param>
sealed record QueueLimits(SlowPolicy Policy, UnitKey? Key, long Bytes, int Units, TimeSpan Lag, GapNotice Notice, bool IsLines);

/// <summary>
/// Units that wait for a client that is behind: whole ones, in their order, never more than may wait. Of what is dropped the client is told
/// before the next unit. Not for two at once.
/// </summary>
sealed class UnitQueue(QueueLimits limits, QueueMemory memory, TimeProvider time) : IDisposable
{
    /// <summary>Bytes of the queue are counted in such steps, and the first few not at all: who keeps up has nothing to do with
    /// others.</summary>
    const int Step = 16 * 1024, Free = 4 * 1024;

    struct Waiting
    {
        public byte[] Bytes;
        public int Length, KeyLength, Hash;
        public bool IsUnit;
        public long Since;
    }

    Waiting[] _ring = new Waiting[4];
    int _first, _count, _units;
    long _bytes, _charged;

    // what the client is being given
    byte[]? _current;
    int _given, _length;

    // what it has missed and was not told of
    long _missed;
    string? _from, _to;

    public long Bytes => _bytes + _length - _given;

    public int Units => _units;

    /// <summary>Units that the client did not get.</summary>
    public long Dropped { get; private set; }

    public bool IsEmpty => _count == 0 && _given == _length && _missed == 0;

    /// <summary>Something of these bytes would have to go, or the stream with it.</summary>
    bool IsFullWith(int more) =>
        _count > 0 && (_bytes + more > memory.Limit(limits.Bytes) || (limits.Units > 0 && _units >= limits.Units) || IsLate);

    /// <summary>The same, or something may lose its place to a newer one.</summary>
    public bool MayDropFor(int more) => _count > 0 && (limits.Policy == SlowPolicy.LatestPerKey || IsFullWith(more));

    bool IsLate => limits.Lag > TimeSpan.Zero && _count > 0 && time.GetElapsedTime(_ring[_first].Since) > limits.Lag;

    /// <summary>Puts a unit, or bytes between units, behind the others. False: the client is too slow.</summary>
    public bool TryAdd(ReadOnlySpan<byte> raw, bool isUnit)
    {
        var full = IsFullWith(raw.Length);
        if (full && limits.Policy == SlowPolicy.Disconnect)
        {
            return false;
        }
        ReadOnlySpan<byte> key = default;
        var hasKey = isUnit && limits is { Policy: SlowPolicy.LatestPerKey, Key: { } of } && of.TryFind(raw, limits.IsLines, out key);
        var added = Entry(raw, key, hasKey, isUnit);
        if (hasKey && Find(added) is { } place)
        {
            ref var old = ref _ring[place];
            _bytes += added.Length - old.Length;
            Missed(old);
            ArrayPool<byte>.Shared.Return(old.Bytes);
            old = added;
        }
        else
        {
            Append(added);
        }
        while (_count > 1 && (_bytes > memory.Limit(limits.Bytes) || (limits.Units > 0 && _units > limits.Units) || IsLate))
        {
            Drop();
        }
        Charge();
        return true;
    }

    Waiting Entry(ReadOnlySpan<byte> raw, ReadOnlySpan<byte> key, bool hasKey, bool isUnit)
    {
        var bytes = ArrayPool<byte>.Shared.Rent(raw.Length + key.Length);
        raw.CopyTo(bytes);
        key.CopyTo(bytes.AsSpan(raw.Length));
        var hash = default(HashCode);
        hash.AddBytes(key);
        return new() { Bytes = bytes, Length = raw.Length, KeyLength = hasKey ? key.Length : -1, Hash = hash.ToHashCode(), IsUnit = isUnit,
            Since = time.GetTimestamp() };
    }

    int? Find(in Waiting one)
    {
        for (var i = _count - 1; i >= 0; i--)
        {
            var place = (_first + i) & (_ring.Length - 1);
            ref var other = ref _ring[place];
            if (other.Hash == one.Hash && other.KeyLength == one.KeyLength
                && other.Bytes.AsSpan(other.Length, other.KeyLength).SequenceEqual(one.Bytes.AsSpan(one.Length, one.KeyLength)))
            {
                return place;
            }
        }
        return null;
    }

    void Append(in Waiting one)
    {
        if (_count == _ring.Length)
        {
            var larger = new Waiting[_ring.Length * 2];
            for (var i = 0; i < _count; i++)
            {
                larger[i] = _ring[(_first + i) & (_ring.Length - 1)];
            }
            (_ring, _first) = (larger, 0);
        }
        _ring[(_first + _count++) & (_ring.Length - 1)] = one;
        _bytes += one.Length;
        _units += one.IsUnit ? 1 : 0;
    }

    Waiting Take()
    {
        var one = _ring[_first];
        _ring[_first] = default;
        _first = (_first + 1) & (_ring.Length - 1);
        _count--;
        _bytes -= one.Length;
        _units -= one.IsUnit ? 1 : 0;
        return one;
    }

    void Drop()
    {
        var one = Take();
        if (one.IsUnit)
        {
            Missed(one);
        }
        ArrayPool<byte>.Shared.Return(one.Bytes);
    }

    void Missed(in Waiting one)
    {
        Dropped++;
        _missed++;
        if (limits.Notice == GapNotice.Event && !limits.IsLines && new SseEvent(one.Bytes.AsSpan(0, one.Length)) is { HasId: true } sse)
        {
            var id = Encoding.UTF8.GetString(sse.Id);
            // of an id of ours the client knows what stands before the number
            id = id.Length > 26 && id[25] == '.' && TopicStore.IsId(id.AsSpan(0, 25)) ? id[26..] : id;
            _from ??= id;
            _to = id;
        }
    }

    // -- What the client is given

    /// <summary>Fills the destination with what there is; 0: nothing.</summary>
    /// <param name="counter">Told of each unit.</param>
    public int Fill(Span<byte> destination, IUnitCounter? counter)
    {
        var filled = 0;
        while (filled < destination.Length && (_given < _length || TakeNext(counter)))
        {
            var part = Math.Min(_length - _given, destination.Length - filled);
            _current.AsSpan(_given, part).CopyTo(destination[filled..]);
            _given += part;
            filled += part;
        }
        if (_given == _length)
        {
            LetGo();
        }
        return filled;
    }

    bool TakeNext(IUnitCounter? counter)
    {
        LetGo();
        while (limits.Policy != SlowPolicy.Disconnect && _count > 1 && IsLate)
        {
            Drop();
        }
        if (_missed > 0)
        {
            var told = Notice();
            (_missed, _from, _to) = (0, null, null);
            if (told.Length > 0)
            {
                _current = ArrayPool<byte>.Shared.Rent(told.Length);
                told.CopyTo(_current, 0);
                (_given, _length) = (0, told.Length);
                return true;
            }
        }
        if (_count == 0)
        {
            return false;
        }
        var one = Take();
        (_current, _given, _length) = (one.Bytes, 0, one.Length);
        if (one.IsUnit)
        {
            counter?.Show(one.Bytes.AsSpan(0, one.Length), isFirst: true);
            counter?.Add(1, one.Length);
        }
        if (_count == 0)
        {
            Charge();
        }
        return true;
    }

    byte[] Notice()
    {
        if (limits.Notice == GapNotice.None || (limits is { Notice: GapNotice.Comment, IsLines: true }))
        {
            return [];
        }
        if (limits.Notice == GapNotice.Comment)
        {
            return Encoding.ASCII.GetBytes($": dropped {_missed}\n\n");
        }
        var json = new ArrayBufferWriter<byte>();
        using (var writer = new Utf8JsonWriter(json))
        {
            writer.WriteStartObject();
            if (limits.IsLines)
            {
                writer.WriteStartObject("gap");
            }
            writer.WriteString("reason", "slow_consumer");
            writer.WriteNumber("dropped", _missed);
            if (_from is not null)
            {
                writer.WriteString("from", _from);
                writer.WriteString("to", _to);
            }
            if (limits.IsLines)
            {
                writer.WriteEndObject();
            }
            writer.WriteEndObject();
        }
        var data = Encoding.UTF8.GetString(json.WrittenSpan);
        return Encoding.UTF8.GetBytes(limits.IsLines ? data + "\n" : $"event: gap\ndata: {data}\n\n");
    }

    void LetGo()
    {
        if (_current is not null)
        {
            ArrayPool<byte>.Shared.Return(_current);
            (_current, _given, _length) = (null, 0, 0);
        }
    }

    // -- What all queues hold together

    void Charge()
    {
        var due = _count == 0 || _bytes <= Free ? 0 : (_bytes + Step - 1) / Step * Step;
        if (due > _charged || due == 0 && _charged > 0)
        {
            memory.Add(due - _charged, (due > 0 ? 1 : 0) - (_charged > 0 ? 1 : 0));
            _charged = due;
        }
    }

    /// <summary>What waits goes, and is not told of.</summary>
    public void Dispose()
    {
        while (_count > 0)
        {
            ArrayPool<byte>.Shared.Return(Take().Bytes);
        }
        LetGo();
        _missed = 0;
        Charge();
    }
}
