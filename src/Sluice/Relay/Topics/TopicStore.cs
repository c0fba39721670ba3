using System.Collections.Concurrent;
using System.Security.Cryptography;

namespace Sluice.Relay.Topics;

/// <summary>
/// All streams with a history, and what they may take together: memory (ended ones go first, then the tails of detached ones are cut, then
/// the longest), detached sources, streams of one owner.
/// </summary>
internal sealed class TopicStore(TimeProvider time) : IDisposable
{
    /// <summary>So many streams are kept of one owner.</summary>
    const int MaxOfOwner = 64;

    readonly ConcurrentDictionary<string, Topic> _topics = new(StringComparer.Ordinal);
    readonly Lock _gate = new();
    readonly LinkedList<Topic> _ended = [], _detached = [];
    readonly Dictionary<string, LinkedList<Topic>> _byOwner = new(StringComparer.Ordinal);
    readonly Dictionary<(string Route, string Peer, string Key), Topic> _byKey = [];
    long _memory;
    int _cutting;

    /// <summary><c>sluice.streams.tail_memory</c>: bytes that all tails hold together.</summary>
    public long MaxMemory { get; set; } = 256 << 20;

    /// <summary><c>sluice.streams.max_detached</c>: sources that run without a client.</summary>
    public int MaxDetached { get; set; } = 1000;

    /// <summary>Streams get ids here: what is logged must not show them.</summary>
    public bool IsUsed { get; set; }

    /// <summary>Bytes that all tails hold.</summary>
    public long Memory => Volatile.Read(ref _memory);

    /// <summary>Sources that run without a client now, by route.</summary>
    public IEnumerable<KeyValuePair<string, int>> DetachedByRoute => _topics.Values.Where(static topic => topic.IsDetached)
        .CountBy(static topic => topic.Key.Route);

    /// <summary>A name that nobody guesses: <c>s_g</c> when a GET can bring the stream about again, else <c>s_p</c>.</summary>
    public static string NewId(bool ofGet)
    {
        // 22 digits of base 62 are more than 128 bits
        const string Digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        return string.Concat(ofGet ? "s_g" : "s_p", RandomNumberGenerator.GetString(Digits, 22));
    }

    /// <summary>Whether a text could be a stream's id.</summary>
    public static bool IsId(ReadOnlySpan<char> text) =>
        text.Length == 25 && (text.StartsWith("s_g") || text.StartsWith("s_p")) && !text[3..].ContainsAnyExcept(s_digits);

    static readonly System.Buffers.SearchValues<char> s_digits =
        System.Buffers.SearchValues.Create("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");

    /// <summary>A stream begins.</summary>
    public Topic Open(string id, TopicKey key, TopicOptions options)
    {
        var topic = new Topic(this, id, key, options, time);
        Topic? tooMany = null;
        lock (_gate)
        {
            _topics[id] = topic;
            var own = _byOwner.TryGetValue(key.Peer, out var known) ? known : _byOwner[key.Peer] = [];
            own.AddLast(topic);
            if (own.Count > MaxOfOwner)
            {
                // those that somebody reads stay
                tooMany = own.FirstOrDefault(static one => one.End is not null) ?? own.FirstOrDefault(static one => one.IsDetached);
            }
            if (key.IdempotencyKey is { } name)
            {
                _byKey[(key.Route, key.Peer, name)] = topic;
            }
        }
        if (tooMany is not null)
        {
            Forget(tooMany);
        }
        return topic;
    }

    public Topic? Find(string id) => _topics.GetValueOrDefault(id);

    public Topic? FindByKey(string route, string peer, string key)
    {
        lock (_gate)
        {
            // who sends a request again whose stream broke off wants another
            return _byKey.GetValueOrDefault((route, peer, key)) is { } topic && (topic.End is null || topic.End.IsFinal) ? topic : null;
        }
    }

    readonly ConcurrentDictionary<string, TaskCompletionSource> _beginning = new(StringComparer.Ordinal);

    /// <summary>Whoever is first brings a stream of this key about; the others wait for <paramref name="begun"/> and look again.</summary>
    public bool TryBegin(string key, out Task begun)
    {
        var own = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var first = _beginning.GetOrAdd(key, own);
        begun = first.Task;
        return first == own;
    }

    /// <summary>It is there, or there will be none.</summary>
    public void Begun(string key)
    {
        if (_beginning.TryRemove(key, out var begun))
        {
            begun.TrySetResult();
        }
    }

    /// <summary>The newest stream of this peer in whose tail the source's id is.</summary>
    public (Topic Topic, long Number)? FindBySourceId(string route, string peer, string path, string args, string sourceId)
    {
        Topic[] own;
        lock (_gate)
        {
            own = _byOwner.TryGetValue(peer, out var known) ? [.. known] : [];
        }
        foreach (var topic in own.Reverse())
        {
            if (topic.Key.Route == route && topic.Key.Path == path && topic.Key.Args == args && topic.Find(sourceId) is { } number)
            {
                return (topic, number);
            }
        }
        return null;
    }

    /// <summary>Nobody finds it any more; its source is let go.</summary>
    internal void Forget(Topic topic)
    {
        lock (_gate)
        {
            if (!_topics.TryRemove(topic.Id, out _))
            {
                return;
            }
            _ended.Remove(topic);
            _detached.Remove(topic);
            if (_byOwner.TryGetValue(topic.Key.Peer, out var own))
            {
                own.Remove(topic);
                if (own.Count == 0)
                {
                    _byOwner.Remove(topic.Key.Peer);
                }
            }
            if (topic.Key.IdempotencyKey is { } name && _byKey.TryGetValue((topic.Key.Route, topic.Key.Peer, name), out var other)
                && other == topic)
            {
                _byKey.Remove((topic.Key.Route, topic.Key.Peer, name));
            }
        }
        topic.Drop();
    }

    internal void Ended(Topic topic)
    {
        lock (_gate)
        {
            _detached.Remove(topic);
            if (_topics.ContainsKey(topic.Id))
            {
                _ended.AddLast(topic);
            }
        }
    }

    internal void Detached(Topic topic)
    {
        Topic? tooMany = null;
        lock (_gate)
        {
            _detached.Remove(topic);
            for (var node = _detached.First; node is not null;)
            {
                var next = node.Next;
                if (!node.Value.IsDetached)
                {
                    _detached.Remove(node);
                }
                node = next;
            }
            _detached.AddLast(topic);
            if (_detached.Count > MaxDetached)
            {
                tooMany = _detached.First!.Value;
                _detached.RemoveFirst();
            }
        }
        tooMany?.Stop(TopicEnd.Left);
    }

    internal void Count(long more, bool mayCut)
    {
        if (Interlocked.Add(ref _memory, more) > MaxMemory && mayCut && Interlocked.Exchange(ref _cutting, 1) == 0)
        {
            Cut();
            Volatile.Write(ref _cutting, 0);
        }
    }

    void Cut()
    {
        while (Memory > MaxMemory && First(_ended) is { } ended)
        {
            Forget(ended);
        }
        Topic[] detached;
        lock (_gate)
        {
            detached = [.. _detached];
        }
        foreach (var topic in detached.Where(static topic => topic.IsDetached))
        {
            while (Memory > MaxMemory && topic.Cut())
            {
            }
        }
        while (Memory > MaxMemory && _topics.Values.MaxBy(static topic => topic.Memory) is { } longest && longest.Cut())
        {
        }
    }

    Topic? First(LinkedList<Topic> list)
    {
        lock (_gate)
        {
            return list.First?.Value;
        }
    }

    public void Dispose()
    {
        foreach (var topic in _topics.Values)
        {
            Forget(topic);
        }
    }
}
