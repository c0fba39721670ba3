using System.Globalization;
using Microsoft.Extensions.Logging;
using Sluice.Pipeline;
using Sluice.Plugins.Traffic;

namespace Sluice.Plugins.Streaming;

/// <summary>
/// How many streams with the same key there may be at a time. A place is an exchange's from its access phase until it has ended, whatever
/// ended it, or its response turns out to be no stream.
/// </summary>
sealed partial class ConcurrentStreams(StreamPolicy.ConcurrentPolicy[] entries, PluginContext context)
{
    /// <summary>A place that an exchange has taken.</summary>
    /// <param name="Member">Its name in Redis; null: what is counted is the group.</param>
    internal sealed record Place(Entry Entry, string Key, Exchange Exchange, string? Member);

    /// <param name="Groups">Who is here, the oldest first. Where <paramref name="Shared"/> counts they are those who can make room.</param>
    internal sealed record Entry(StreamPolicy.ConcurrentPolicy Policy, string Name, Quantity Limit, Dictionary<string, List<Place>> Groups,
        RedisSlots? Shared);

    // places outlive a change of the limit: what counts is where the entry stands, and its key
    readonly Entry[] _entries = [.. entries.Select((policy, index) => Make(policy, index, context))];

    readonly ILogger _logger = context.Services.Loggers.CreateLogger<ConcurrentStreams>();

    static Entry Make(StreamPolicy.ConcurrentPolicy policy, int index, PluginContext context)
    {
        var name = $"{context.Scope}/{index}/{policy.Key}";
        var redis = RedisSettings.Connect(context, context.Config["concurrent"]![index]!.AsObject());
        return new(
            policy, name, new(policy.Limit),
            context.Share($"streaming.concurrent/{name}", static () => new Dictionary<string, List<Place>>(StringComparer.Ordinal)),
            redis is null ? null
            : context.Share($"streaming.concurrent/{redis.Name}",
                () => new RedisSlots(redis, "sluice_streams:", TimeSpan.MaxValue, context.Services)));
    }

    public static string? Mistake(StreamPolicy.ConcurrentPolicy entry) =>
        !Template.HasVariables(entry.Key)
        ? $"concurrent.key \"{entry.Key}\" has no variable: write \"$consumer_name\", \"$remote_addr\" or another"
        : entry is { Policy: "redis", RedisHost: null } ? "concurrent.redis_host is required when policy is redis"
        : Quantity.Check("concurrent.limit", entry.Limit);

    /// <summary>Takes a place of each entry, or of none; the answer to a request that is not let in, or null.</summary>
    public async ValueTask<Answer?> EnterAsync(Exchange exchange, object plugin)
    {
        var places = new List<Place>(_entries.Length);
        exchange.Items[plugin] = places;
        foreach (var entry in _entries)
        {
            var key = Template.Expand(entry.Policy.Key, exchange, null, out var resolved);
            if (resolved == 0)
            {
                continue;
            }
            if (!entry.Limit.TryGet(exchange, out var limit, out _))
            {
                LogNoNumber(exchange.Route?.Id);
                if (entry.Policy.AllowDegradation)
                {
                    continue;
                }
                return Answer.Bare(500);
            }
            try
            {
                if ((entry.Shared is { } shared ? await EnterSharedAsync(shared, entry, key, limit, exchange)
                    : Enter(entry, key, limit, exchange)) is not { } place)
                {
                    exchange.StreamRefusal = "concurrent";
                    return Refusal(entry.Policy);
                }
                places.Add(place);
            }
            catch (IOException e)
            {
                LogFailed(e.Message);
                if (!entry.Policy.AllowDegradation)
                {
                    return Answer.Bare(500);
                }
            }
        }
        return null;
    }

    /// <summary>Null: there is no room.</summary>
    static Place? Enter(Entry entry, string key, long limit, Exchange exchange)
    {
        List<Place>? evicted = null;
        var place = new Place(entry, key, exchange, null);
        lock (entry.Groups)
        {
            var count = entry.Groups.TryGetValue(key, out var inside) ? inside.Count : 0;
            for (; count >= limit; count--)
            {
                if (Victim(entry, key) is not { } victim)
                {
                    return null;
                }
                Remove(victim);
                (evicted ??= []).Add(victim);
            }
            Add(place);
        }
        evicted?.ForEach(Evict);
        return place;
    }

    /// <summary>Redis says whether there is room. Where there is none a stream of this gateway's own may make some: those of others cannot
    /// be ended from here.</summary>
    static async ValueTask<Place?> EnterSharedAsync(RedisSlots shared, Entry entry, string key, long limit, Exchange exchange)
    {
        while (true)
        {
            if (await shared.EnterAsync($"{entry.Name}:{key}", limit) is { } entered)
            {
                var place = new Place(entry, key, exchange, entered.Member);
                lock (entry.Groups)
                {
                    Add(place);
                }
                return place;
            }
            Place? victim;
            lock (entry.Groups)
            {
                victim = Victim(entry, key);
                if (victim is null)
                {
                    return null;
                }
                Remove(victim);
            }
            Evict(victim);
            await shared.LeaveAsync(victim.Member!);
        }
    }

    static void Evict(Place place) => place.Exchange.Live?.Kill("another stream takes its place", "evicted");

    // within the lock of the groups

    static void Add(Place place)
    {
        if (!place.Entry.Groups.TryGetValue(place.Key, out var inside))
        {
            place.Entry.Groups[place.Key] = inside = [];
        }
        inside.Add(place);
    }

    /// <summary>True for the one who has to give the place back: whoever finds it gone must not, the other may still be about it.</summary>
    static bool Remove(Place place)
    {
        var groups = place.Entry.Groups;
        if (!groups.TryGetValue(place.Key, out var inside) || !inside.Remove(place))
        {
            return false;
        }
        if (inside.Count == 0)
        {
            groups.Remove(place.Key);
        }
        return true;
    }

    /// <summary>The oldest, or the one of which nothing has come for longest; one whose response has not begun is left alone. Null: nobody
    /// has to go.</summary>
    static Place? Victim(Entry entry, string key)
    {
        if (entry.Policy.OnFull == "reject" || !entry.Groups.TryGetValue(key, out var inside))
        {
            return null;
        }
        Place? found = null;
        var longest = TimeSpan.MinValue;
        foreach (var one in inside)
        {
            if (one.Exchange.Live?.LookIdle() is { } silence && silence > longest)
            {
                (found, longest) = (one, silence);
                if (entry.Policy.OnFull == "evict_oldest")
                {
                    break;
                }
            }
        }
        return found;
    }

    public static void Leave(IReadOnlyList<Place> places)
    {
        foreach (var place in places)
        {
            bool removed;
            lock (place.Entry.Groups)
            {
                removed = Remove(place);
            }
            if (removed && place.Member is { } member)
            {
                place.Entry.Shared!.LeaveLater(member);
            }
        }
    }

    /// <summary>Told to come back, but not all at the same moment.</summary>
    static Answer Refusal(StreamPolicy.ConcurrentPolicy policy) =>
        Answer.ErrorMessage(policy.RejectedCode, policy.RejectedMsg ?? "too many streams")
        .With("Retry-After", Random.Shared.Next(4, 7).ToString(CultureInfo.InvariantCulture));

    [LoggerMessage(Level = LogLevel.Error, Message = "streaming: no whole number for concurrent.limit, route: {Route}")]
    partial void LogNoNumber(string? route);

    [LoggerMessage(Level = LogLevel.Error, Message = "streaming: places of concurrent streams cannot be asked for in redis: {Error}")]
    partial void LogFailed(string error);
}
