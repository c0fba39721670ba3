using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;
using Sluice.Pipeline;
using StackExchange.Redis;

namespace Sluice.Plugins.Traffic;

/// <summary>
/// Who is under way, in Redis: a sorted set for each key, a member for each request, its score the time at which it is no longer believed.
/// Members of requests that go on are told anew, so a stream of any length is counted; those of a gateway that died are not, and go.
/// </summary>
sealed partial class RedisSlots : IAsyncDisposable
{
    static readonly TimeSpan Life = TimeSpan.FromSeconds(90);

    /// <summary>Commands are kept this small.</summary>
    const int MembersAtOnce = 1000;

    static readonly RedisScript Enter = new("""
        local time = redis.call('time')
        local now = time[1] * 1000 + math.floor(time[2] / 1000)
        redis.call('zremrangebyscore', KEYS[1], '-inf', string.format('%.0f', now))
        local inside = redis.call('zcard', KEYS[1])
        if inside >= tonumber(ARGV[1]) then
          return -1
        end
        redis.call('zadd', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[3])
        redis.call('pexpire', KEYS[1], ARGV[2])
        return inside
        """);

    static readonly RedisScript Renew = new("""
        local time = redis.call('time')
        local ends = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1])
        for i = 2, #ARGV do
          redis.call('zadd', KEYS[1], ends, ARGV[i])
        end
        redis.call('pexpire', KEYS[1], ARGV[1])
        return 1
        """);

    static readonly RedisScript Leave = new("""
        for i = 1, #ARGV do
          redis.call('zrem', KEYS[1], ARGV[i])
        end
        return 1
        """);

    readonly RedisLink _redis;
    readonly string _prefix;
    readonly long _life;
    readonly ILogger _logger;
    readonly ITimer _timer;
    readonly string _process = Guid.NewGuid().ToString("N");

    /// <summary>Members that this process has in Redis, and their keys.</summary>
    readonly ConcurrentDictionary<string, string> _held = new();
    readonly ConcurrentDictionary<Task, bool> _leaving = [];
    long _last;
    Task _round = Task.CompletedTask;

    /// <param name="prefix">In front of all keys.</param>
    /// <param name="most">APISIX's key_ttl: how long a member is believed at most.</param>
    public RedisSlots(RedisLink redis, string prefix, TimeSpan most, PluginServices services)
    {
        (_redis, _prefix) = (redis, prefix);
        var life = most > TimeSpan.Zero && most < Life ? most : Life;
        _life = (long)life.TotalMilliseconds;
        _logger = services.Loggers.CreateLogger<RedisSlots>();
        _timer = services.Time.CreateTimer(_ => Tick(), null, life / 3, life / 3);
    }

    /// <summary>How many members this process has in Redis.</summary>
    public int Count => _held.Count;

    /// <returns>The member that has entered and how many were inside before; null: no room.</returns>
    /// <exception cref="IOException">Redis cannot be asked.</exception>
    public async ValueTask<(string Member, long Inside)?> EnterAsync(string key, long most)
    {
        var member = $"{_process}:{Interlocked.Increment(ref _last)}";
        var inside = (long)await _redis.RunAsync(Enter, Name(key), [most, _life, member]);
        if (inside < 0)
        {
            return null;
        }
        _held[member] = key;
        return (member, inside);
    }

    /// <summary>Gives the place back, some time later; what cannot be told ends by itself.</summary>
    public void LeaveLater(string member)
    {
        if (_held.TryRemove(member, out var key))
        {
            var leaving = LeaveAsync(key, [member]);
            if (!leaving.IsCompleted)
            {
                _leaving[leaving] = true;
                _ = leaving.ContinueWith(task => _leaving.TryRemove(task, out _), TaskScheduler.Default);
            }
        }
    }

    /// <summary>Gives the place back now.</summary>
    public ValueTask LeaveAsync(string member) => _held.TryRemove(member, out var key) ? new(LeaveAsync(key, [member])) : default;

    async Task LeaveAsync(string key, RedisValue[] members)
    {
        try
        {
            await _redis.RunAsync(Leave, Name(key), members);
        }
        catch (IOException e)
        {
            LogNotLeft(e.Message);
        }
    }

    void Tick()
    {
        if (_round.IsCompleted)
        {
            _round = RenewAsync();
        }
    }

    async Task RenewAsync()
    {
        foreach (var (key, members) in _held.GroupBy(held => held.Value, held => held.Key).Select(group => (group.Key, group.ToArray())))
        {
            foreach (var some in members.Chunk(MembersAtOnce))
            {
                try
                {
                    await _redis.RunAsync(Renew, Name(key), [_life, .. some.Select(member => (RedisValue)member)]);
                    // who has left meanwhile may have been told anew after that
                    var gone = some.Where(member => !_held.ContainsKey(member)).Select(member => (RedisValue)member).ToArray();
                    if (gone.Length > 0)
                    {
                        await LeaveAsync(key, gone);
                    }
                }
                catch (IOException e)
                {
                    LogNotRenewed(e.Message);
                    return;
                }
            }
        }
    }

    string Name(string key) => _prefix + RedisCounters.Bounded(key);

    /// <summary>What is on its way to Redis arrives. Whoever is still inside goes on until its time is over.</summary>
    public async ValueTask DisposeAsync()
    {
        await _timer.DisposeAsync();
        await _round;
        await Task.WhenAll(_leaving.Keys);
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "failed to record the connection leaving request: {Error}")]
    partial void LogNotLeft(string error);

    [LoggerMessage(Level = LogLevel.Error, Message = "failed to renew connections in redis: {Error}")]
    partial void LogNotRenewed(string error);
}
