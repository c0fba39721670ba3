using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using DnsClient;
using DnsClient.Protocol;
using Microsoft.Extensions.Logging.Abstractions;

namespace Sluice.Net;

/// <summary>The addresses of a host: at least one.</summary>
internal sealed class ResolvedHost(IPAddress[] addresses)
{
    int turn = -1;

    public IReadOnlyList<IPAddress> Addresses => addresses;

    /// <summary>One after the other.</summary>
    public IPAddress Next() => addresses.Length == 1 ? addresses[0]
        : addresses[(int)((uint)Interlocked.Increment(ref turn) % (uint)addresses.Length)];
}

/// <param name="Servers"><c>apisix.dns_resolver</c>; null or empty: those of the system's resolv.conf.</param>
/// <param name="Valid"><c>apisix.dns_resolver_valid</c>: how long an answer holds instead of its TTL.</param>
/// <param name="Timeout">For one try with one server; a server gets two.</param>
/// <param name="UseSearch">Names are completed with the search domains of resolv.conf (<c>apisix.enable_resolv_search_opt</c>).</param>
/// <param name="Ipv6">AAAA is asked for when there is no A (<c>apisix.enable_ipv6</c>).</param>
internal sealed record HostResolverOptions(
    IReadOnlyList<IPEndPoint>? Servers = null,
    TimeSpan? Valid = null,
    TimeSpan? Timeout = null,
    bool UseSearch = true,
    bool Ipv6 = true,
    string HostsFile = "/etc/hosts",
    string ResolvConf = "/etc/resolv.conf")
{
    /// <summary><c>127.0.0.1</c>, <c>127.0.0.1:5353</c>, <c>::1</c>, <c>[::1]:5353</c>; null when it is none of them.</summary>
    public static IPEndPoint? ParseServer(string text) =>
        IPEndPoint.TryParse(text, out var server) ? new IPEndPoint(server.Address, server.Port == 0 ? 53 : server.Port) : null;
}

/// <summary>
/// Host names to addresses: literals, the hosts file (read again when it changes), localhost, then DNS. As in APISIX, A records are used
/// when there are any, otherwise AAAA. Answers hold as long as their TTL says; when a refresh fails or takes long, the old answer serves
/// for some minutes more. Names are asked for once at a time, failures are remembered for a second.
/// </summary>
internal sealed partial class HostResolver
{
    const int MaxEntries = 4096;
    static readonly TimeSpan NegativeTime = TimeSpan.FromSeconds(1);
    static readonly TimeSpan HostsFileTime = TimeSpan.FromSeconds(1);
    static readonly TimeSpan ShortestTime = TimeSpan.FromSeconds(1);
    static readonly TimeSpan StaleTime = TimeSpan.FromMinutes(5);

    /// <summary>How long a request waits for newer addresses when it could go on with old ones.</summary>
    internal static readonly TimeSpan Patience = TimeSpan.FromMilliseconds(250);

    static readonly TimeSpan Forever = TimeSpan.FromDays(3650);

    readonly HostResolverOptions options;
    readonly TimeProvider clock;
    readonly ILogger logger;
    readonly RereadFile<Dictionary<string, IPAddress[]>> hosts;
    readonly RereadFile<ResolvConf> system;
    readonly ConcurrentDictionary<string, Entry> entries = new(StringComparer.OrdinalIgnoreCase);
    volatile NameServers? servers;

    public HostResolver(HostResolverOptions? options = null, TimeProvider? clock = null, ILogger<HostResolver>? logger = null)
    {
        this.options = options ?? new();
        this.clock = clock ?? TimeProvider.System;
        this.logger = logger ?? NullLogger<HostResolver>.Instance;
        hosts = new(this.options.HostsFile, HostsFile.Parse);
        system = new(this.options.ResolvConf, ResolvConf.Parse);
    }

    /// <summary>What is known of a name: a host or a failure.</summary>
    /// <param name="StaleUntil">Until then it serves when no newer answer can be had.</param>
    /// <param name="IsStale">The last refresh failed.</param>
    sealed record Answer(ResolvedHost? Host, string? Failure, long FreshUntil, long StaleUntil, bool IsStale = false);

    sealed class Entry
    {
        public volatile Answer? Answer;
        public Task<Answer>? Refresh;
    }

    sealed class LookupException(string message, bool nameIsMissing = false) : Exception(message)
    {
        public bool NameIsMissing => nameIsMissing;
    }

    /// <summary>As <see cref="ResolveAsync"/>, when nobody has to be asked; null otherwise.</summary>
    public ResolvedHost? Known(string host) =>
        entries.TryGetValue(host, out var entry) && entry.Answer is { } answer && clock.GetTimestamp() < answer.FreshUntil
        ? Found(host, answer) : null;

    /// <exception cref="UpstreamException"><see cref="UpstreamFailureKind.ResolveFailed"/>, naming the host.</exception>
    public ValueTask<ResolvedHost> ResolveAsync(string host, CancellationToken cancellation)
    {
        if (Known(host) is { } known)
        {
            return new(known);
        }
        if (ParseLiteral(host) is { } literal)
        {
            var resolved = new ResolvedHost([literal]);
            GetEntry(host).Answer = new(resolved, null, After(Forever), After(Forever));
            return new(resolved);
        }
        return new(RefreshAsync(host, GetEntry(host), cancellation));
    }

    async Task<ResolvedHost> RefreshAsync(string host, Entry entry, CancellationToken cancellation)
    {
        Task<Answer> refresh;
        lock (entry)
        {
            if (entry.Answer is { } other && clock.GetTimestamp() < other.FreshUntil)
            {
                return Found(host, other);
            }
            refresh = entry.Refresh ??= Task.Run(() => AskAsync(host, entry), CancellationToken.None);
        }
        if (entry.Answer is { IsStale: true, Host: { } old } stale && clock.GetTimestamp() < stale.StaleUntil)
        {
            // the servers failed a moment ago: nobody waits for them again while there is something to go on with
            return old;
        }
        if (entry.Answer is not { Host: { } known } before || clock.GetTimestamp() >= before.StaleUntil)
        {
            return Found(host, await refresh.WaitAsync(cancellation));
        }
        try
        {
            return Found(host, await refresh.WaitAsync(Patience, clock, cancellation));
        }
        catch (TimeoutException)
        {
            lock (entry)
            {
                if (ReferenceEquals(entry.Answer, before))
                {
                    LogStale(host, "the name servers do not answer");
                    entry.Answer = before with { IsStale = true };
                }
            }
            return known;
        }
    }

    async Task<Answer> AskAsync(string host, Entry entry)
    {
        Answer answer;
        var old = entry.Answer;
        try
        {
            var (addresses, time) = await LookUpAsync(host);
            answer = new(new ResolvedHost(addresses), null, After(time), After(time + StaleTime));
        }
        catch (Exception error)
        {
            var failure = error is LookupException or DnsResponseException ? error.Message : $"{error.GetType().Name}: {error.Message}";
            if (old is { Host: not null } && clock.GetTimestamp() < old.StaleUntil && error is not LookupException { NameIsMissing: true })
            {
                if (!old.IsStale)
                {
                    LogStale(host, failure);
                }
                answer = old with { FreshUntil = After(NegativeTime), IsStale = true };
            }
            else
            {
                answer = new(null, failure, After(NegativeTime), 0);
            }
        }
        lock (entry)
        {
            entry.Answer = answer;
            entry.Refresh = null;
        }
        return answer;
    }

    async Task<(IPAddress[] Addresses, TimeSpan Time)> LookUpAsync(string host)
    {
        var name = host.TrimEnd('.');
        if (hosts.Content.TryGetValue(name, out var listed))
        {
            return (listed, HostsFileTime);
        }
        if (name.Equals("localhost", StringComparison.OrdinalIgnoreCase) || name.EndsWith(".localhost", StringComparison.OrdinalIgnoreCase))
        {
            return ([IPAddress.Loopback], HostsFileTime);
        }
        foreach (var candidate in system.Content.Candidates(host, options.UseSearch))
        {
            var found = await QueryAsync(candidate, QueryType.A);
            if (found is { Missing: false, Addresses.Length: 0 } && options.Ipv6)
            {
                found = await QueryAsync(candidate, QueryType.AAAA);
            }
            if (found.Addresses.Length > 0)
            {
                return (found.Addresses, found.Time);
            }
        }
        throw new LookupException("no such name, or one without addresses", nameIsMissing: true);
    }

    async Task<(IPAddress[] Addresses, TimeSpan Time, bool Missing)> QueryAsync(string name, QueryType type)
    {
        var response = await Servers().QueryAsync(name, type);
        if (response.Header.ResponseCode == DnsHeaderResponseCode.NotExistentDomain)
        {
            return ([], default, Missing: true);
        }
        if (response.HasError)
        {
            throw new LookupException($"the name server {response.NameServer} says: {response.ErrorMessage}");
        }
        var addresses = response.Answers.OfType<AddressRecord>().Select(record => record.Address).ToArray();
        var ttl = response.Answers.Select(record => record.InitialTimeToLive).DefaultIfEmpty(0).Min();
        var time = options.Valid ?? TimeSpan.FromSeconds(ttl);
        return (addresses, time > ShortestTime ? time : ShortestTime, Missing: false);
    }

    NameServers Servers()
    {
        var addresses = options.Servers is { Count: > 0 } configured ? configured : system.Content.Servers;
        if (addresses.Count == 0)
        {
            throw new LookupException("there is no name server, neither in apisix.dns_resolver nor in " + options.ResolvConf);
        }
        return servers is { } known && known.Addresses.SequenceEqual(addresses)
            ? known
            : servers = new NameServers(addresses, options.Timeout ?? TimeSpan.FromSeconds(2), clock);
    }

    static ResolvedHost Found(string host, Answer answer) =>
        answer.Host ?? throw new UpstreamException(UpstreamFailureKind.ResolveFailed, $"{host}: {answer.Failure}");

    /// <summary>Those of IPv4 when there are any, otherwise those of IPv6.</summary>
    internal static IPAddress[] Preferred(IReadOnlyCollection<IPAddress> addresses)
    {
        IPAddress[] four = [.. addresses.Where(address => address.AddressFamily == AddressFamily.InterNetwork)];
        return four.Length > 0 ? four : [.. addresses];
    }

    /// <summary>Not what IPAddress.Parse also takes for one: "1", "0x7f.1", "127.1".</summary>
    static IPAddress? ParseLiteral(string host)
    {
        var text = host is ['[', .. var inner, ']'] ? inner : host;
        var couldBe = text.Contains(':', StringComparison.Ordinal)
            || (text.Count(letter => letter == '.') == 3 && text.All(letter => letter == '.' || char.IsAsciiDigit(letter)));
        return couldBe && IPAddress.TryParse(text, out var address) ? address : null;
    }

    Entry GetEntry(string host)
    {
        if (entries.TryGetValue(host, out var entry))
        {
            return entry;
        }
        if (entries.Count >= MaxEntries)
        {
            // whoever makes up names (a Host header as upstream) must not fill the memory
            var now = clock.GetTimestamp();
            foreach (var (name, candidate) in entries)
            {
                if (candidate.Answer is { } answer && answer.FreshUntil <= now)
                {
                    entries.TryRemove(name, out _);
                }
            }
            foreach (var name in entries.Keys.Take(entries.Count - MaxEntries + (MaxEntries / 16)))
            {
                entries.TryRemove(name, out _);
            }
        }
        return entries.GetOrAdd(host, static _ => new Entry());
    }

    long After(TimeSpan time) => clock.GetTimestamp() + (long)(time.TotalSeconds * clock.TimestampFrequency);

    [LoggerMessage(Level = LogLevel.Warning,
        Message = "{Host}: the addresses could not be refreshed, the old ones serve on for some minutes: {Failure}")]
    partial void LogStale(string host, string failure);
}
