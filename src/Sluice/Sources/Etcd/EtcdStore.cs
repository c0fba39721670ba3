using System.Runtime.CompilerServices;
using Google.Protobuf;
using Grpc.Core;
using Sluice.Model;
using Sluice.Model.Settings;
using Sluice.Sources.Etcd.Wire;

namespace Sluice.Sources.Etcd;

/// <summary>Whether etcd answers, as of now.</summary>
/// <param name="Problem">Null: it does.</param>
/// <param name="Since">When that began.</param>
internal sealed record EtcdHealth(string? Problem, DateTimeOffset Since);

/// <summary>
/// The key space in an etcd cluster. Reads and writes try every endpoint once; a watch is kept up for good: it goes on at another endpoint,
/// or when one is back, from the revision where it stopped.
/// </summary>
internal sealed partial class EtcdStore(EtcdSettings settings, TimeProvider time, ILogger<EtcdStore> logger) : IKeyValueStore, IDisposable
{
    /// <summary>The value of a directory's mark.</summary>
    public const string DirectoryMark = "init_dir";

    const int PageSize = 1000;

    static readonly TimeSpan FirstPause = TimeSpan.FromMilliseconds(50);
    static readonly TimeSpan LongestPause = TimeSpan.FromSeconds(2);

    readonly EtcdClient _client = new(settings, time);
    const string NotAsked = "not asked yet";
    EtcdHealth _health = new(NotAsked, time.GetUtcNow());

    public EtcdHealth Health => Volatile.Read(ref _health);

    public bool HasOtherWriters => true;

    ulong _cluster;

    public void Dispose() => _client.Dispose();

    // -- Calls

    public async Task<StoreRange> ListAsync(string prefix, CancellationToken cancel = default)
    {
        var entries = new List<StoreEntry>();
        var request = new RangeRequest { Key = Bytes(prefix), RangeEnd = EndOf(prefix), Limit = PageSize };
        while (true)
        {
            var page = await CallAsync((endpoint, options) => endpoint.Keys.RangeAsync(request, options), cancel);
            if (_cluster != 0 && page.Header.ClusterId != _cluster)
            {
                LogOtherCluster(page.Header.ClusterId, _cluster);
            }
            _cluster = page.Header.ClusterId;
            entries.AddRange(page.Kvs.Select(Entry));
            if (request.Revision == 0)
            {
                // the pages that follow must be of the same moment
                request.Revision = page.Header.Revision;
            }
            if (!page.More || page.Kvs.Count == 0)
            {
                return new StoreRange(request.Revision, entries);
            }
            request.Key = ByteString.CopyFrom([.. page.Kvs[^1].Key.Span, 0]);
        }
    }

    public async Task<StoreEntry?> GetAsync(string key, CancellationToken cancel = default)
    {
        var answer = await CallAsync((endpoint, options) => endpoint.Keys.RangeAsync(new RangeRequest { Key = Bytes(key) }, options),
            cancel);
        return answer.Kvs is [var found] ? Entry(found) : null;
    }

    /// <summary>As APISIX does it: a write that is there for its revision only.</summary>
    public async Task<long> NextNumberAsync(CancellationToken cancel = default)
    {
        var request = new PutRequest { Key = Bytes($"{settings.Prefix}/gen_id"), Value = ByteString.CopyFromUtf8("1") };
        return (await CallAsync((endpoint, options) => endpoint.Keys.PutAsync(request, options), cancel)).Header.Revision;
    }

    public async Task<StoreResult> Transaction(IReadOnlyList<StoreCompare> compares, IReadOnlyList<StoreOp> ops,
        CancellationToken cancel = default)
    {
        var request = new TxnRequest();
        foreach (var (key, revision, isPrefix) in compares)
        {
            request.Compare.Add(isPrefix
                ? new Compare
                {
                    Target = Compare.Types.CompareTarget.Mod, Result = Compare.Types.CompareResult.Less, Key = Bytes(key),
                        RangeEnd = EndOf(key), ModRevision = revision + 1,
                }
                : new Compare { Target = Compare.Types.CompareTarget.Mod, Key = Bytes(key), ModRevision = revision });
        }
        foreach (var op in ops)
        {
            await AddAsync(request, op, cancel);
        }
        var answer = await CallAsync((endpoint, options) => endpoint.Keys.TxnAsync(request, options), cancel);
        return new StoreResult(answer.Succeeded, answer.Header.Revision, answer.Succeeded ? Events(answer, ops) : []);
    }

    async Task AddAsync(TxnRequest request, StoreOp op, CancellationToken cancel)
    {
        switch (op)
        {
            case StoreOp.Put(var key, var value, var ttl):
                var lease = ttl is { } given ? await LeaseAsync(given, cancel) : 0;
                request.Success.Add(
                    new RequestOp { RequestPut = new PutRequest { Key = Bytes(key), Value = ByteString.CopyFromUtf8(value),
                        Lease = lease } });
                // tells the new entry's create revision
                request.Success.Add(new RequestOp { RequestRange = new RangeRequest { Key = Bytes(key) } });
                break;
            case StoreOp.Delete(var key):
                request.Success.Add(new RequestOp { RequestDeleteRange = new DeleteRangeRequest { Key = Bytes(key) } });
                break;
            default:
                throw new NotSupportedException($"{op} in etcd");
        }
    }

    async Task<long> LeaseAsync(TimeSpan ttl, CancellationToken cancel)
    {
        var request = new LeaseGrantRequest { TTL = Math.Max(1, (long)Math.Ceiling(ttl.TotalSeconds)) };
        return (await CallAsync((endpoint, options) => endpoint.Leases.LeaseGrantAsync(request, options), cancel)).ID;
    }

    static List<StoreEvent> Events(TxnResponse answer, IReadOnlyList<StoreOp> ops)
    {
        var events = new List<StoreEvent>();
        var at = 0;
        foreach (var op in ops)
        {
            if (op is StoreOp.Put)
            {
                events.Add(new StoreEvent(StoreEventKind.Put, Entry(answer.Responses[at + 1].ResponseRange.Kvs[0])));
                at += 2;
            }
            else
            {
                if (op is StoreOp.Delete(var key) && answer.Responses[at].ResponseDeleteRange.Deleted > 0)
                {
                    events.Add(new StoreEvent(StoreEventKind.Delete, new StoreEntry(key, "", 0, answer.Header.Revision, 0)));
                }
                at++;
            }
        }
        return events;
    }

    async Task<T> CallAsync<T>(Func<EtcdClient.Endpoint, CallOptions, AsyncUnaryCall<T>> call, CancellationToken cancel)
    {
        try
        {
            var answer = await _client.CallAsync(call, cancel);
            Note(null);
            return answer;
        }
        catch (EtcdUnavailableException e)
        {
            Note(e.Message);
            throw;
        }
    }

    /// <summary>
    /// Writes what APISIX's <c>init_etcd</c> writes: a mark for each kind's directory, where there is none yet. APISIX's own tools look for
    /// them.
    /// </summary>
    public async Task InitialiseAsync(CancellationToken cancel = default)
    {
        foreach (var directory in ResourceKinds.All.Select(kind => kind.Directory()).Append("plugins").Distinct())
        {
            var key = $"{settings.Prefix}/{directory}/";
            await Transaction([new StoreCompare(key, 0)], [new StoreOp.Put(key, DirectoryMark)], cancel);
        }
    }

    // -- Watch

    public async IAsyncEnumerable<StoreChanges> Watch(string prefix, long fromRevision = 0, [EnumeratorCancellation]
    CancellationToken cancel = default)
    {
        var next = fromRevision;
        for (var resumed = false; ; resumed = true)
        {
            using var session = await OpenAsync(prefix, next, cancel);
            if (resumed)
            {
                yield return new StoreChanges(next - 1, [], Resumed: true);
            }
            var events = new List<StoreEvent>();
            while (await session.NextAsync(cancel) is { } response)
            {
                events.AddRange(response.Events.Select(Event));
                if (response.Fragment)
                {
                    continue;
                }
                // a watch that catches up names a later revision in its header than its events have come to
                var seen = events.Count > 0 ? events[^1].Entry.ModRevision : response.Header.Revision;
                next = Math.Max(next, seen + 1);
                if (events.Count > 0)
                {
                    yield return new StoreChanges(seen, events);
                    events = [];
                }
            }
        }
    }

    /// <summary>Tries for as long as it takes.</summary>
    async Task<WatchSession> OpenAsync(string prefix, long next, CancellationToken cancel)
    {
        var pause = FirstPause;
        while (true)
        {
            cancel.ThrowIfCancellationRequested();
            try
            {
                var session = await _client.AtSomeEndpointAsync((endpoint, headers) => OpenAtAsync(endpoint, headers, prefix, next, cancel),
                    cancel);
                Note(null);
                return session;
            }
            catch (StoreException e) when (e is not (CompactedException or OtherHistoryException))
            {
                Note(e.Message);
            }
            await Task.Delay(pause, time, cancel);
            pause = pause * 2 < LongestPause ? pause * 2 : LongestPause;
        }
    }

    async Task<WatchSession> OpenAtAsync(EtcdClient.Endpoint endpoint, Metadata headers, string prefix, long next, CancellationToken cancel)
    {
        var session = new WatchSession(endpoint.Watches.Watch(headers, cancellationToken: cancel), settings.WatchTimeout, time,
            LogWatchLost);
        try
        {
            await session.CreateAsync(
                new WatchCreateRequest { Key = Bytes(prefix), RangeEnd = EndOf(prefix), StartRevision = next, ProgressNotify = true,
                    Fragment = true },
                settings.Timeout, cancel);
            return session;
        }
        catch
        {
            session.Dispose();
            throw;
        }
    }

    void Note(string? problem)
    {
        var before = Health;
        if (before.Problem == problem)
        {
            return;
        }
        var now = new EtcdHealth(problem, before.Problem is null || problem is null ? time.GetUtcNow() : before.Since);
        Volatile.Write(ref _health, now);
        if (problem is null && before.Problem == NotAsked)
        {
            LogReachable();
        }
        else if (problem is null)
        {
            LogReachableAgain((long)(now.Since - before.Since).TotalSeconds);
        }
        else if (before.Problem is null or NotAsked)
        {
            LogUnreachable(problem);
        }
    }

    // -- Bytes

    static ByteString Bytes(string text) => ByteString.CopyFromUtf8(text);

    /// <summary>The key behind all that start with the prefix.</summary>
    static ByteString EndOf(string prefix)
    {
        var bytes = System.Text.Encoding.UTF8.GetBytes(prefix);
        bytes[^1]++;
        return ByteString.CopyFrom(bytes);
    }

    static StoreEntry Entry(KeyValue pair) =>
        new(pair.Key.ToStringUtf8(), pair.Value.ToStringUtf8(), pair.CreateRevision, pair.ModRevision, pair.Version);

    static StoreEvent Event(Event change) =>
        new(change.Type == Wire.Event.Types.EventType.Delete ? StoreEventKind.Delete : StoreEventKind.Put, Entry(change.Kv));

    [LoggerMessage(Level = LogLevel.Warning, Message = "etcd is away: {Problem}; the configuration in use stays")]
    partial void LogUnreachable(string problem);

    [LoggerMessage(Level = LogLevel.Warning, Message = "etcd answers again, after {Seconds} s")]
    partial void LogReachableAgain(long seconds);

    [LoggerMessage(Level = LogLevel.Warning, Message = "etcd's cluster is another one: its id is {Id:x}, it was {Before:x}")]
    partial void LogOtherCluster(ulong id, ulong before);

    [LoggerMessage(Level = LogLevel.Information, Message = "etcd answers")]
    partial void LogReachable();

    [LoggerMessage(Level = LogLevel.Information, Message = "the watch at etcd ended ({Reason}) and is taken up again")]
    partial void LogWatchLost(string reason);
}

/// <summary>One stream of changes from one endpoint, until it breaks.</summary>
sealed class WatchSession(AsyncDuplexStreamingCall<WatchRequest, WatchResponse> call, TimeSpan silence, TimeProvider time,
    Action<string> lost) : IDisposable
{
    /// <exception cref="CompactedException">The revisions asked for are gone.</exception>
    /// <exception cref="OtherHistoryException">The store is another one than before.</exception>
    public async Task CreateAsync(WatchCreateRequest request, TimeSpan timeout, CancellationToken cancel)
    {
        using var tooLong = new CancellationTokenSource(timeout, time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancel, tooLong.Token);
        try
        {
            await call.RequestStream.WriteAsync(new WatchRequest { CreateRequest = request }, either.Token);
            if (!await call.ResponseStream.MoveNext(either.Token))
            {
                throw new RpcException(new Status(StatusCode.Unavailable, "the watch ended at once"));
            }
        }
        catch (OperationCanceledException) when (!cancel.IsCancellationRequested)
        {
            throw new RpcException(new Status(StatusCode.DeadlineExceeded, "no answer to a watch"));
        }
        var answer = call.ResponseStream.Current;
        Check(answer, request.StartRevision);
        if (answer.Header.Revision < request.StartRevision - 1)
        {
            // restored from a backup, or another cluster: waiting for that revision would be waiting for long
            throw new OtherHistoryException(request.StartRevision - 1, answer.Header.Revision);
        }
        _requested = request.StartRevision;
    }

    long _requested;

    /// <summary>Null: the stream broke, or was silent for too long; a new one is to be opened.</summary>
    public async Task<WatchResponse?> NextAsync(CancellationToken cancel)
    {
        using var silent = new CancellationTokenSource(silence, time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancel, silent.Token);
        try
        {
            if (!await call.ResponseStream.MoveNext(either.Token))
            {
                lost("etcd closed it");
                return null;
            }
            Check(call.ResponseStream.Current, _requested);
            return call.ResponseStream.Current;
        }
        catch (Exception e) when (!cancel.IsCancellationRequested && e is RpcException or OperationCanceledException or IOException)
        {
            if (!silent.IsCancellationRequested)
            {
                lost(e is RpcException rpc ? rpc.Status.Detail : e.Message);
            }
            return null;
        }
        catch (RpcException e)
        {
            throw new OperationCanceledException(e.Message, e, cancel);
        }
    }

    static void Check(WatchResponse response, long requested)
    {
        if (response.CompactRevision > 0)
        {
            throw new CompactedException(requested, response.CompactRevision);
        }
        if (response.Canceled)
        {
            throw new RpcException(new Status(
                response.CancelReason.Contains("auth", StringComparison.Ordinal) ? StatusCode.Unauthenticated : StatusCode.Unavailable,
                response.CancelReason));
        }
    }

    public void Dispose() => call.Dispose();
}
