using System.Security.Cryptography;

namespace Sluice.Pipeline;

/// <summary>
/// The responses that are under way. Adding and removing one costs a lock of its shard and two links; looking is for the few who look.
/// </summary>
internal sealed class LiveStreams(TimeProvider time)
{
    /// <summary>In front of every id, so that an id of a process that is gone names nobody.</summary>
    static readonly string s_process = RandomNumberGenerator.GetHexString(4, lowercase: true);

    readonly Shard[] _shards = [.. Enumerable.Range(0, Math.Max(1, Environment.ProcessorCount)).Select(static _ => new Shard())];

    sealed class Shard
    {
        public readonly Lock Gate = new();
        public readonly LiveLink Head = new();
        public long Count, Streams, Added;
    }

    /// <summary>As many as are looked at while an event loop may have to wait.</summary>
    const int Batch = 1000;

    /// <summary>How long one that has ended is still known.</summary>
    static readonly TimeSpan s_keep = TimeSpan.FromSeconds(60);

    const int MostKept = 4096;

    readonly Queue<(long Since, LiveStreamFacts Facts)> _ended = [];

    /// <summary>Called when a stream (any kind but a plain body) begins; null: nobody wants to know.</summary>
    public Action<Exchange>? Started { get; set; }

    internal TimeProvider Time => time;

    readonly DateTimeOffset _now = time.GetUtcNow();
    readonly long _timestamp = time.GetTimestamp();

    /// <summary>The time of day at a timestamp: the same whenever it is asked for.</summary>
    internal DateTimeOffset WallClock(long timestamp) => _now + time.GetElapsedTime(_timestamp, timestamp);

    /// <summary>More streams are refused.</summary>
    public long Max { get; set; } = long.MaxValue;

    /// <summary>There is no room for another stream.</summary>
    internal bool IsFull => Max != long.MaxValue && Streams >= Max;

    /// <summary>How many there are now.</summary>
    public long Count => _shards.Sum(static shard => Interlocked.Read(ref shard.Count));

    /// <summary>How many of them are streams: all but plain bodies. The upstream's side of a resumable stream is none beside its
    /// clients'.</summary>
    public long Streams => _shards.Sum(static shard => Interlocked.Read(ref shard.Streams));

    /// <summary>A response begins. Disposing takes it off the list.</summary>
    /// <param name="source">Where it comes from; null when the exchange's own script writes it.</param>
    internal LiveStream Add(Exchange exchange, IResponseSource? source)
    {
        var index = Environment.CurrentManagedThreadId % _shards.Length;
        var shard = _shards[index];
        LiveStream stream;
        lock (shard.Gate)
        {
            stream = new LiveStream(this, (shard.Added++ * _shards.Length) + index, exchange, source);
            Insert(stream, shard.Head);
            shard.Count++;
            shard.Streams += stream.Counts ? 1 : 0;
        }
        exchange.Live = stream;
        if (Started is { } started && stream.Counts)
        {
            started(exchange);
        }
        return stream;
    }

    static void Insert(LiveLink link, LiveLink behind)
    {
        (link.Previous, link.Next) = (behind, behind.Next);
        behind.Next?.Previous = link;
        behind.Next = link;
    }

    static void TakeOut(LiveLink link)
    {
        link.Previous!.Next = link.Next;
        link.Next?.Previous = link.Previous;
        (link.Previous, link.Next) = (null, null);
    }

    internal void Remove(LiveStream stream)
    {
        var shard = _shards[stream.Number % _shards.Length];
        lock (shard.Gate)
        {
            TakeOut(stream);
            shard.Count--;
            shard.Streams -= stream.Counts ? 1 : 0;
        }
    }

    /// <summary>All that are under way now, the oldest first. Each may end at any moment.</summary>
    public IReadOnlyList<LiveStream> List()
    {
        List<LiveStream> all = [];
        foreach (var shard in _shards)
        {
            Add(shard, all);
        }
        all.Sort(static (one, other) => one.StartTimestamp.CompareTo(other.StartTimestamp) is var order and not 0 ? order
            : one.Number.CompareTo(other.Number));
        return all;
    }

    /// <summary>A few at a time, so that no loop waits long; a mark in the list keeps the place while others come and go.</summary>
    static void Add(Shard shard, List<LiveStream> all)
    {
        var mark = new LiveLink();
        for (var more = true; more;)
        {
            lock (shard.Gate)
            {
                var link = mark.Previous is null ? shard.Head.Next : mark.Next;
                if (mark.Previous is not null)
                {
                    TakeOut(mark);
                }
                var last = shard.Head;
                for (var i = 0; i < Batch && link is not null; i++, link = link.Next)
                {
                    if (link is LiveStream stream)
                    {
                        all.Add(stream);
                    }
                    last = link;
                }
                more = link is not null;
                if (more)
                {
                    Insert(mark, last);
                }
            }
        }
    }

    /// <summary>Those that are meant, sorted by what they are asked to be sorted by, which is their key.</summary>
    /// <param name="sources">The upstream's side of those that have clients of their own is among them.</param>
    public List<(long Key, LiveStream Stream)> Select(StreamFilter filter, StreamOrder order = StreamOrder.Age, bool descending = true,
        bool sources = false)
    {
        List<(long Key, LiveStream Stream)> all = [];
        foreach (var stream in List())
        {
            if (stream.Matches(filter, order, sources, out var key))
            {
                all.Add((key, stream));
            }
        }
        var sign = descending ? -1 : 1;
        all.Sort((one, other) => sign * (one.Key.CompareTo(other.Key) is var by and not 0 ? by
            : one.Stream.Number.CompareTo(other.Stream.Number)));
        return all;
    }

    /// <summary>The one with this id; null when there is none (any more).</summary>
    public LiveStream? Find(string id) => NumberOf(id) is { } number ? List().FirstOrDefault(stream => stream.Number == number) : null;

    /// <summary>What is known of one with this id that has ended not long ago.</summary>
    public LiveStreamFacts? FindEnded(string id)
    {
        lock (_ended)
        {
            Forget();
            return _ended.FirstOrDefault(one => one.Facts.Id == id).Facts;
        }
    }

    internal void Keep(LiveStreamFacts facts)
    {
        lock (_ended)
        {
            Forget();
            if (_ended.Count == MostKept)
            {
                _ended.Dequeue();
            }
            _ended.Enqueue((time.GetTimestamp(), facts));
        }
    }

    void Forget()
    {
        while (_ended.TryPeek(out var oldest) && time.GetElapsedTime(oldest.Since) > s_keep)
        {
            _ended.Dequeue();
        }
    }

    static long? NumberOf(string id)
    {
        if (id.Length < s_process.Length + 2 || !id.StartsWith(s_process, StringComparison.Ordinal) || id[s_process.Length] != '-'
            || id.Length > s_process.Length + 13)
        {
            return null;
        }
        long number = 0;
        foreach (var digit in id.AsSpan(s_process.Length + 1))
        {
            var value = digit is >= '0' and <= '9' ? digit - '0' : digit is >= 'a' and <= 'z' ? digit - 'a' + 10 : -1;
            if (value < 0)
            {
                return null;
            }
            number = (number * 36) + value;
        }
        return number;
    }

    internal static string IdOf(long number)
    {
        const string Digits = "0123456789abcdefghijklmnopqrstuvwxyz";
        Span<char> text = stackalloc char[13];
        var at = text.Length;
        do
        {
            text[--at] = Digits[(int)(number % 36)];
            number /= 36;
        }
        while (number > 0);
        return $"{s_process}-{text[at..]}";
    }
}
