using Sluice.Pipeline;
using StackExchange.Redis;

namespace Sluice.Plugins.Traffic;

/// <summary>
/// Quotas in Redis, for all gateways that ask it: one script and one round trip for each request. Time is Redis's, so gateways' clocks need
/// not agree. As in memory, who is refused takes nothing.
/// </summary>
sealed class RedisCounters(RedisLink redis, string prefix, bool sliding) : ICounters
{
    /// <summary>A window begins with its first request: a number that lives as long as the window.</summary>
    static readonly RedisScript FixedWindow = new("""
        local limit, window, cost, must = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'
        local left = redis.call('pttl', KEYS[1])
        local used = 0
        if left > 0 then
          used = tonumber(redis.call('get', KEYS[1]))
        else
          left = window
        end
        if used + cost > limit and not must then
          return {0, limit - used - cost, left}
        end
        if cost > 0 or must then
          redis.call('set', KEYS[1], string.format('%.0f', used + cost), 'PX', string.format('%.0f', left))
        end
        return {1, limit - used - cost, left}
        """);

    /// <summary>Windows since 1970: the present one's number, what it took and what the one before took, in one hash.</summary>
    static readonly RedisScript SlidingWindow = new("""
        local limit, window, cost, must = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'
        local time = redis.call('time')
        local now = time[1] * 1000 + math.floor(time[2] / 1000)
        local number = math.floor(now / window)
        local state = redis.call('hmget', KEYS[1], 'window', 'present', 'last')
        local present, last = 0, 0
        if state[1] then
          local known = tonumber(state[1])
          if known >= number then
            number, present, last = known, tonumber(state[2]), tonumber(state[3])
          elseif known == number - 1 then
            last = tonumber(state[2])
          end
        end
        local left = math.min(window, (number + 1) * window - now)
        local counted = math.min(last, limit)
        local before = counted / window * left
        if not must then
          if present >= limit then
            return {0, 0, math.ceil(left)}
          end
          if present + before >= limit then
            return {0, 0, math.max(0, math.ceil(left - (limit - present) * window / counted))}
          end
        end
        present = present + cost
        if cost > 0 then
          redis.call('hset', KEYS[1], 'window', string.format('%.0f', number), 'present', string.format('%.0f', present), 'last', string.format('%.0f', last))
          redis.call('pexpire', KEYS[1], string.format('%.0f', 2 * window))
        end
        return {1, math.floor(limit - present - before), math.ceil(left)}
        """);

    public ValueTask<Quota> TakeAsync(string key, long limit, TimeSpan window, long cost, CancellationToken cancellation) =>
        RunAsync(key, limit, window, cost, must: false);

    /// <summary>Counts what was let through already, whatever the limit says now; also nothing, which begins a window.</summary>
    /// <exception cref="IOException">Redis cannot be asked.</exception>
    public ValueTask<Quota> AddAsync(string key, long limit, TimeSpan window, long cost) => RunAsync(key, limit, window, cost, must: true);

    async ValueTask<Quota> RunAsync(string key, long limit, TimeSpan window, long cost, bool must)
    {
        // keys come from clients: a long one is kept as its hash
        var name = $"{prefix}:{(sliding ? "sliding" : "fixed")}:{Bounded(key)}";
        var answer = await redis.RunAsync(sliding ? SlidingWindow : FixedWindow, name,
            [limit, (long)window.TotalMilliseconds, cost, must ? 1 : 0]);
        var numbers = (long[]?)answer is { Length: 3 } three ? three : throw new IOException("malformed redis response");
        return new(numbers[0] == 1, numbers[1], TimeSpan.FromMilliseconds(numbers[2]));
    }

    /// <summary>A key that is not longer than others'.</summary>
    public static string Bounded(string key) => key.Length <= 256
        ? key
        : "sha256:" + Convert.ToHexString(System.Security.Cryptography.SHA256.HashData(System.Text.Encoding.UTF8.GetBytes(key)));
}
