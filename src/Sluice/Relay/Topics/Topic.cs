using System.Security.Cryptography;
using System.Globalization;
using System.Text;
using Sluice.Net.Epoll;

namespace Sluice.Relay.Topics;

/// <summary>How a topic came to its end.</summary>
/// <param name="Reason"><see cref="Complete"/>, or what broke it off: a word of the closed set of endings.</param>
/// <param name="Status">The status of an answer of which nothing was sent.</param>
internal sealed record TopicEnd(string Reason, string Detail, int Status)
{
    public static TopicEnd Complete { get; } = new("complete", "", 200);

    public static TopicEnd Cancelled { get; } = new("cancelled", "the stream was stopped by its owner", 503);

    public static TopicEnd Left { get; } = new("client_gone", "nobody came back for the stream", 503);

    public static TopicEnd Evicted { get; } = new("evicted", "another client of the stream took the place", 503);

    public bool IsComplete => Reason == "complete";

    /// <summary>Nothing more is to be had of it: the source gave all, or its owner wanted no more.</summary>
    public bool IsFinal => IsComplete || ReferenceEquals(this, Cancelled);
}

/// <summary>What a topic does.</summary>
/// <param name="GivesIds">Each unit gets an id of ours, <c>{stream}.{n}</c>; false: ids stay the source's.</param>
/// <param name="Detach">How long the source runs on without a client.</param>
/// <param name="Keep">How long an ended stream can be fetched.</param>
internal sealed record TopicOptions(bool GivesIds, TailLimits Tail, TimeSpan Detach, TimeSpan Keep, int MaxSubscribers);

/// <summary>
/// A stream with a history: one source writes (<see cref="TopicWriter"/>), clients read, each from where it wants
/// (<see cref="Subscriber"/>). The source runs on for a while when the last client has gone. A client that falls behind by the whole tail
/// holds the source back; nobody does when nobody is there.
/// </summary>
internal sealed class Topic
{
    readonly TopicStore _store;
    readonly TopicOptions _options;
    readonly TimeProvider _time;
    readonly MemoryHistory _history;
    readonly List<Subscriber> _subscribers = [];
    readonly byte[] _idStart;
    Action? _stop;
    ITimer? _timer;
    TaskCompletionSource? _room;
    long _memory;

    internal Topic(TopicStore store, string id, TopicKey key, TopicOptions options, TimeProvider time)
    {
        (_store, Id, Key, _options, _time) = (store, id, key, options, time);
        _history = new MemoryHistory(options.Tail, time);
        _idStart = Encoding.ASCII.GetBytes($"id: {id}.");
    }

    internal Lock Gate { get; } = new();

    internal IEventHistory History => _history;

    /// <summary>Told to clients alone: who knows it may read on.</summary>
    public string Id { get; }

    public TopicKey Key { get; }

    /// <summary>The head that the source answered with, whatever the layer above makes of it.</summary>
    public object? Head { get; set; }

    /// <summary>Null while the source runs.</summary>
    public TopicEnd? End { get; private set; }

    /// <summary>The source runs, and no client is there.</summary>
    public bool IsDetached { get; private set; }

    /// <summary>How long it has run without a client.</summary>
    public TimeSpan DetachedTime
    {
        get
        {
            lock (Gate)
            {
                return _alone + (IsDetached && End is null ? _time.GetElapsedTime(_detachedAt) : TimeSpan.Zero);
            }
        }
    }

    TimeSpan _alone;
    long _detachedAt;

    /// <summary>The same for all who share it, and no secret.</summary>
    public string Mark => field ??= Convert.ToHexStringLower(SHA256.HashData(Encoding.ASCII.GetBytes(Id)).AsSpan(0, 6));

    internal long Memory => Volatile.Read(ref _memory);

    /// <summary>The source has begun.</summary>
    /// <param name="stop">Lets the source go.</param>
    public void Begin(Action stop) => _stop = stop;

    // -- What the source does

    /// <summary>False: it has ended, nothing is taken any more. Null: no room, <see cref="RoomAsync"/> tells when to ask again.</summary>
    internal bool? TryAppend(in Frame frame)
    {
        var kind = frame.Kind switch { FrameKind.Event => EntryKind.Unit, FrameKind.Fields => EntryKind.Fields, _ => EntryKind.Passage };
        var sourceId = _history.LastSourceId;
        Span<byte> id = stackalloc byte[64];
        ReadOnlySpan<byte> body = frame.Raw.Span;
        var headLength = 0;
        byte[]? rewritten = null;
        if (kind != EntryKind.Passage)
        {
            var block = new SseEvent(body);
            if (block.HasId)
            {
                // an id that no header can carry is none that anybody comes back with
                sourceId = block.Id.Length <= 1024 ? Encoding.UTF8.GetString(block.Id) : null;
                if (_options.GivesIds)
                {
                    body = rewritten = EventBytes.WithoutIds(body);
                }
            }
            if (kind == EntryKind.Fields && rewritten is { } left && left.AsSpan().IndexOfAnyExcept((byte)'\r', (byte)'\n') < 0)
            {
                // it was an id and nothing else: it is ours to give
                return End is null;
            }
        }
        Subscriber[] readers;
        lock (Gate)
        {
            if (End is not null)
            {
                return false;
            }
            if (kind == EntryKind.Passage && _subscribers.Count == 0)
            {
                return true;
            }
            if (kind == EntryKind.Unit && _options.GivesIds)
            {
                _idStart.CopyTo(id);
                var number = _history.LastNumber + 1;
                number.TryFormat(id[_idStart.Length..], out var digits, default, CultureInfo.InvariantCulture);
                id[_idStart.Length + digits] = (byte)'\n';
                headLength = _idStart.Length + digits + 1;
            }
            // what was cut away under a reader is lost to it already: that is nothing to wait for
            if (_subscribers.Count > 0 && Math.Max(_history.FirstSequence,
                _subscribers.Min(static reader => reader.Next)) < _history.FirstAfter(kind, headLength + body.Length))
            {
                // within the same lock: who reads from now on tells
                _room ??= new(TaskCreationOptions.RunContinuationsAsynchronously);
                return null;
            }
            _history.Append(kind, id[..headLength], body, sourceId, _time.GetTimestamp());
            readers = [.. _subscribers];
        }
        Count();
        foreach (var reader in readers)
        {
            reader.Wake();
        }
        return true;
    }

    /// <summary>Ends when it is worth asking again whether there is room.</summary>
    internal Task RoomAsync()
    {
        lock (Gate)
        {
            return _room?.Task ?? Task.CompletedTask;
        }
    }

    /// <summary>The source has ended: what is kept can be fetched for a while. The first reason stays.</summary>
    public void Complete(TopicEnd end)
    {
        Subscriber[] readers;
        lock (Gate)
        {
            if (End is not null)
            {
                return;
            }
            (End, IsDetached) = (end, false);
            readers = [.. _subscribers];
            _room?.TrySetResult();
            _room = null;
            SetTimer(_options.Keep);
        }
        _store.Ended(this);
        foreach (var reader in readers)
        {
            reader.Wake();
        }
    }

    /// <summary>Ends the source; what is kept can be fetched for a while.</summary>
    public void Stop(TopicEnd end)
    {
        Complete(end);
        Interlocked.Exchange(ref _stop, null)?.Invoke();
    }

    // -- What clients do

    /// <summary>A reader of what comes after the unit of this number. Null: it is gone already.</summary>
    /// <param name="after">The last unit that the client has; −1: from the oldest that is kept.</param>
    /// <param name="lead">Bytes for this client alone, before all else.</param>
    public Subscriber? Subscribe(long after, ReadOnlyMemory<byte> lead, EventLoop? loop)
    {
        Subscriber subscriber;
        Subscriber? evicted = null;
        lock (Gate)
        {
            if (IsGone)
            {
                return null;
            }
            _history.DropOld(_time.GetTimestamp());
            subscriber = new(this, After(after), _history.NextSequence, after < 0 ? Math.Max(0, _history.FirstNumber - 1) : after, lead,
                loop);
            if (_subscribers.Count >= _options.MaxSubscribers)
            {
                evicted = _subscribers[0];
                _subscribers.RemoveAt(0);
            }
            _subscribers.Add(subscriber);
            if (IsDetached)
            {
                IsDetached = false;
                _alone += _time.GetElapsedTime(_detachedAt);
                SetTimer(Timeout.InfiniteTimeSpan);
            }
        }
        evicted?.Evict();
        return subscriber;
    }

    /// <summary>Nobody can find it any more.</summary>
    internal bool IsGone { get; private set; }

    /// <summary>The sequence of the first entry that a client does not have.</summary>
    long After(long number)
    {
        if (number < 0)
        {
            return _history.FirstSequence;
        }
        // numbers grow with sequences
        var (low, high) = (_history.FirstSequence, _history.NextSequence);
        while (low < high)
        {
            var middle = low + ((high - low) / 2);
            var entry = _history[middle];
            if (entry.Number > number || (entry.Number == number && entry.Kind != EntryKind.Unit))
            {
                high = middle;
            }
            else
            {
                low = middle + 1;
            }
        }
        return low;
    }

    /// <summary>What is kept after this unit.</summary>
    public TopicPosition Look(long number)
    {
        lock (Gate)
        {
            _history.DropOld(_time.GetTimestamp());
            return new(_history.FirstNumber, _history.LastNumber, _history.LastSourceId, End, number > _history.LastNumber || number < 0);
        }
    }

    /// <summary>The number of the unit after which the source's receivers have this id; null: it is not in the tail.</summary>
    public long? Find(string sourceId)
    {
        lock (Gate)
        {
            for (var sequence = _history.NextSequence - 1; sequence >= _history.FirstSequence; sequence--)
            {
                var entry = _history[sequence];
                if (entry.SourceId == sourceId)
                {
                    return entry.Number;
                }
            }
            return null;
        }
    }

    internal void Leave(Subscriber subscriber)
    {
        var (isDetached, stop) = (false, false);
        lock (Gate)
        {
            _subscribers.Remove(subscriber);
            _room?.TrySetResult();
            _room = null;
            if (_subscribers.Count == 0 && End is null && !IsDetached)
            {
                (isDetached, stop) = (true, _options.Detach <= TimeSpan.Zero);
                IsDetached = true;
                _detachedAt = _time.GetTimestamp();
                SetTimer(_options.Detach);
            }
            if (IsGone && _subscribers.Count == 0)
            {
                Empty();
            }
        }
        if (stop)
        {
            Stop(TopicEnd.Left);
        }
        else if (isDetached)
        {
            _store.Detached(this);
        }
        Count(mayCut: false);
    }

    /// <summary>Somebody has read on: there may be room.</summary>
    internal void HasRead()
    {
        _room?.TrySetResult();
        _room = null;
    }

    void SetTimer(TimeSpan due)
    {
        if (IsGone)
        {
            return;
        }
        if (_timer is null && due != Timeout.InfiniteTimeSpan)
        {
            using var flow = ExecutionContext.IsFlowSuppressed() ? default : ExecutionContext.SuppressFlow();
            _timer = _time.CreateTimer(static topic => ((Topic)topic!).Due(), this, due, Timeout.InfiniteTimeSpan);
        }
        else
        {
            _timer?.Change(due, Timeout.InfiniteTimeSpan);
        }
    }

    void Due()
    {
        bool isLeft;
        lock (Gate)
        {
            isLeft = IsDetached;
            if (!isLeft && (End is null || _subscribers.Count > 0))
            {
                if (End is not null)
                {
                    // somebody still reads
                    SetTimer(_options.Keep);
                }
                return;
            }
        }
        if (isLeft)
        {
            Stop(TopicEnd.Left);
        }
        else
        {
            _store.Forget(this);
        }
    }

    /// <summary>Nothing is kept any more; those who read get what they hold, and then the end.</summary>
    internal void Drop()
    {
        lock (Gate)
        {
            IsGone = true;
            _timer?.Dispose();
            if (_subscribers.Count == 0)
            {
                Empty();
            }
        }
        Stop(TopicEnd.Left);
        Count();
    }

    void Empty()
    {
        while (_history.DropHalf())
        {
        }
    }

    /// <summary>The older half of the tail goes, for want of memory.</summary>
    internal bool Cut()
    {
        bool cut;
        Subscriber[] readers;
        lock (Gate)
        {
            cut = _history.DropHalf();
            readers = [.. _subscribers];
        }
        Count(mayCut: false);
        foreach (var reader in readers)
        {
            reader.Wake();
        }
        return cut;
    }

    void Count(bool mayCut = true)
    {
        var bytes = _history.Bytes;
        var more = bytes - Interlocked.Exchange(ref _memory, bytes);
        if (more != 0)
        {
            _store.Count(more, mayCut);
        }
    }
}

/// <summary>Where a position stands in a topic.</summary>
/// <param name="First">Number of the oldest unit that is kept.</param>
/// <param name="Last">Number of the newest unit.</param>
/// <param name="IsAhead">The position is one that nobody was given.</param>
internal readonly record struct TopicPosition(long First, long Last, string? SourceId, TopicEnd? End, bool IsAhead);

/// <summary>Whose stream it is, and of what.</summary>
/// <param name="Owner">Null: whoever knows its id.</param>
/// <param name="Peer">Who must ask where nobody has to know a secret; the owner, or where there is none the client's address.</param>
/// <param name="IdempotencyKey">The key that the request carried; null: none.</param>
/// <param name="BodyHash">Of the request's body.</param>
internal sealed record TopicKey(string Route, string? Owner, string Peer, string Path, string Args, string? IdempotencyKey,
    string? BodyHash);
