using System.Text;
using Sluice.Observability;
using Sluice.Relay;

namespace Sluice.Pipeline;

/// <summary>What is counted of a response's events, where something cuts it into events: those that go to the client. One counts, others
/// read without a lock.</summary>
sealed class EventCounts(Exchange exchange) : IUnitCounter
{
    /// <summary>So much of the last event is kept: its name and id mostly stand in front.</summary>
    const int Kept = 128;

    readonly TimeProvider _time = exchange.Services.Time;
    readonly RouteMeters? _meters = exchange.Detached is null ? exchange.StreamMeters : null;
    readonly long _start = exchange.StartTimestamp;
    readonly byte[] _head = new byte[Kept];
    int _headLength;
    int _version;           // odd: the head is being written

    public long Count { get; private set; }

    /// <summary>When the first went on; 0: none has.</summary>
    public long FirstTimestamp { get; private set; }

    public long LastTimestamp { get; private set; }

    public int LastBytes { get; private set; }

    /// <summary>The longest time between two.</summary>
    public TimeSpan MaxGap { get; private set; }

    public void Show(ReadOnlySpan<byte> bytes, bool isFirst)
    {
        Volatile.Write(ref _version, _version | 1);
        var at = isFirst ? 0 : _headLength;
        var more = Math.Min(bytes.Length, Kept - at);
        bytes[..more].CopyTo(_head.AsSpan(at));
        _headLength = at + more;
    }

    public void Add(int units, int lastBytes)
    {
        var now = _time.GetTimestamp();
        if (Count == 0)
        {
            FirstTimestamp = now;
            _meters?.FirstEvent(_time.GetElapsedTime(_start, now));
        }
        else
        {
            var gap = _time.GetElapsedTime(LastTimestamp, now);
            MaxGap = gap > MaxGap ? gap : MaxGap;
            _meters?.EventGap(gap, 1);
        }
        if (units > 1)
        {
            _meters?.EventGap(TimeSpan.Zero, units - 1);
        }
        (Count, LastTimestamp, LastBytes) = (Count + units, now, lastBytes);
        Volatile.Write(ref _version, (_version | 1) + 1);
    }

    /// <summary>Name and id of the last event of an event stream, as far as they stand in its beginning; null when it has none, or is being
    /// written.</summary>
    public (string? Name, string? Id) LastNames()
    {
        Span<byte> copy = stackalloc byte[Kept];
        var version = Volatile.Read(ref _version);
        var length = _headLength;
        _head.CopyTo(copy);
        if ((version & 1) != 0 || Volatile.Read(ref _version) != version)
        {
            return default;
        }
        var head = copy[..length];
        if (length < LastBytes)
        {
            // the last line of it may be cut
            head = head[..(head.LastIndexOfAny((byte)'\r', (byte)'\n') + 1)];
        }
        var last = new SseEvent(head);
        return (last.Name.IsEmpty ? null : Encoding.UTF8.GetString(last.Name), last.HasId ? Encoding.UTF8.GetString(last.Id) : null);
    }
}
