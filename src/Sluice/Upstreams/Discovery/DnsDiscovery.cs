using System.Collections.Concurrent;
using System.Net;
using System.Text.Json;
using DnsClient;
using DnsClient.Protocol;
using Sluice.Model;
using Sluice.Model.Settings;
using Sluice.Net;

namespace Sluice.Upstreams.Discovery;

/// <summary>
/// Nodes from DNS: all addresses of a name, or what its SRV records say (port, weight, priority). Answers hold as long as their TTL says;
/// when the servers fail, the old nodes serve on. <c>service_name</c> may end with a port, which wins over SRV's.
/// </summary>
internal sealed partial class DnsDiscovery(DnsDiscoverySettings settings, TimeProvider time, ILogger<DnsDiscovery> logger) : IDiscovery
{
    static readonly TimeSpan ShortestTime = TimeSpan.FromSeconds(1);

    readonly ConcurrentDictionary<string, Service> _services = new(StringComparer.OrdinalIgnoreCase);
    readonly Lazy<NameServers> _servers = new(() => new NameServers(Servers(settings), settings.Timeout, time),
        LazyThreadSafetyMode.PublicationOnly);

    static IPEndPoint[] Servers(DnsDiscoverySettings settings) =>
        settings.Servers is { Count: > 0 } servers ? [.. servers] : ResolvConf.Parse(File.ReadAllLines(settings.ResolvConf)).Servers;

    /// <param name="Failure">Why there are no nodes, or why those are old.</param>
    sealed record Known(NodeConfig[]? Nodes, string? Failure, QueryType? Type, long FreshUntil);

    sealed class Service
    {
        public volatile Known? Known;
        public Task<Known>? Refresh;
    }

    public ValueTask<NodeConfig[]> NodesAsync(string service, CancellationToken cancellation)
    {
        var entry = _services.GetOrAdd(service, static _ => new Service());
        return entry.Known is { } known && time.GetTimestamp() < known.FreshUntil
            ? new(NodesOf(service, known))
            : new(RefreshAsync(service, entry, cancellation));
    }

    async Task<NodeConfig[]> RefreshAsync(string service, Service entry, CancellationToken cancellation)
    {
        Task<Known> refresh;
        lock (entry)
        {
            refresh = entry.Refresh ??= Task.Run(() => AskAsync(service, entry), CancellationToken.None);
        }
        // after a failure nobody waits as long as there is something to go on with
        if (entry.Known is not { Nodes: { } old } known)
        {
            return NodesOf(service, await refresh.WaitAsync(cancellation));
        }
        if (known.Failure is not null)
        {
            return old;
        }
        try
        {
            return NodesOf(service, await refresh.WaitAsync(HostResolver.Patience, time, cancellation));
        }
        catch (TimeoutException)
        {
            const string Failure = "the name servers do not answer";
            lock (entry)
            {
                if (ReferenceEquals(entry.Known, known))
                {
                    LogStale(service, Failure);
                    entry.Known = known with { Failure = Failure };
                }
            }
            return old;
        }
    }

    static NodeConfig[] NodesOf(string service, Known known) =>
        known.Nodes ?? throw new DiscoveryException($"dns: {service}: {known.Failure}");

    async Task<Known> AskAsync(string service, Service entry)
    {
        var old = entry.Known;
        Known known;
        try
        {
            known = await LookUpAsync(service, old);
        }
        catch (Exception e) when (e is DnsResponseException or IOException or UnauthorizedAccessException or ArgumentException)
        {
            if (old is { Nodes: not null, Failure: null })
            {
                LogStale(service, e.Message);
            }
            known = new(old?.Nodes, e.Message, old?.Type, After(ShortestTime));
        }
        lock (entry)
        {
            entry.Known = known;
            entry.Refresh = null;
        }
        return known;
    }

    async Task<Known> LookUpAsync(string service, Known? old)
    {
        if (!NodeAddress.TryParse(service, out var name, out var port))
        {
            return new(null, "expected a name, or a name and a port", null, After(ShortestTime));
        }
        foreach (var type in Order(old?.Type))
        {
            var (nodes, ttl) = type == QueryType.SRV ? await ServicesAsync(name, port) : await AddressesAsync(name, port, type);
            if (nodes.Length > 0)
            {
                var hold = settings.Valid ?? ttl;
                return new(
                    old?.Nodes?.SequenceEqual(nodes) == true ? old.Nodes : nodes, null, type,
                    After(hold > ShortestTime ? hold : ShortestTime));
            }
        }
        return new(null, "no such name, or one without records", null, After(ShortestTime));
    }

    IEnumerable<QueryType> Order(QueryType? last) => settings.Order
        .Select(word => word == "last" ? last : Enum.Parse<QueryType>(word))
        .OfType<QueryType>()
        .Distinct();

    async Task<(NodeConfig[] Nodes, TimeSpan Ttl)> AddressesAsync(string name, int? port, QueryType type)
    {
        var answers = await QueryAsync(name, type == QueryType.CNAME ? QueryType.A : type);
        if (type == QueryType.CNAME && !answers.OfType<AddressRecord>().Any())
        {
            answers = await QueryAsync(name, QueryType.AAAA);
        }
        return ([.. answers.OfType<AddressRecord>().Select(record => new NodeConfig(record.Address.ToString(), port))
            .OrderBy(node => node.Host, StringComparer.Ordinal)], Ttl(answers));
    }

    async Task<(NodeConfig[] Nodes, TimeSpan Ttl)> ServicesAsync(string name, int? port)
    {
        var answers = await QueryAsync(name, QueryType.SRV);
        var ttl = Ttl(answers);
        List<NodeConfig> nodes = [];
        foreach (var record in answers.OfType<SrvRecord>())
        {
            var (targets, targetTtl) = await AddressesAsync(record.Target.Value.TrimEnd('.'), null, QueryType.A);
            if (targets.Length == 0)
            {
                (targets, targetTtl) = await AddressesAsync(record.Target.Value.TrimEnd('.'), null, QueryType.AAAA);
            }
            ttl = targets.Length > 0 && targetTtl < ttl ? targetTtl : ttl;
            // a weight of 0 is a very small chance; the addresses of one target share its weight
            var weight = Math.Max(1, (int)record.Weight / Math.Max(1, targets.Length));
            nodes.AddRange(
                targets.Select(target => new NodeConfig(target.Host, port ?? (record.Port == 0 ? null : record.Port), weight,
                    -record.Priority)));
        }
        return ([.. nodes.OrderBy(node => node.Host, StringComparer.Ordinal).ThenBy(node => node.Port)], ttl);
    }

    async Task<IReadOnlyList<DnsResourceRecord>> QueryAsync(string name, QueryType type)
    {
        var response = await _servers.Value.QueryAsync(name, type);
        return response.Header.ResponseCode == DnsHeaderResponseCode.NotExistentDomain ? []
            : response.HasError
            ? throw new DnsResponseException((DnsResponseCode)response.Header.ResponseCode,
                $"the name server {response.NameServer} says: {response.ErrorMessage}")
            : response.Answers;
    }

    static TimeSpan Ttl(IEnumerable<DnsResourceRecord> answers) =>
        TimeSpan.FromSeconds(answers.Select(record => record.InitialTimeToLive).DefaultIfEmpty(0).Min());

    long After(TimeSpan hold) => time.GetTimestamp() + (long)(hold.TotalSeconds * time.TimestampFrequency);

    public void Follow(IReadOnlyCollection<string> services)
    {
        foreach (var gone in _services.Keys.Except(services, StringComparer.OrdinalIgnoreCase))
        {
            _services.TryRemove(gone, out _);
        }
    }

    public void WriteDump(Utf8JsonWriter writer)
    {
        writer.WriteStartObject();
        writer.WriteStartObject("config");
        writer.WriteStartArray("servers");
        foreach (var server in settings.Servers ?? [])
        {
            writer.WriteStringValue(server.ToString());
        }
        writer.WriteEndArray();
        writer.WriteStartArray("order");
        foreach (var word in settings.Order)
        {
            writer.WriteStringValue(word);
        }
        writer.WriteEndArray();
        writer.WriteEndObject();
        DiscoveredNodes.Write(writer, _services.Select(pair => KeyValuePair.Create(pair.Key, pair.Value.Known?.Nodes ?? [])));
        writer.WriteEndObject();
    }

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;

    [LoggerMessage(Level = LogLevel.Warning,
        Message = "discovery dns: {Service} could not be refreshed, its old nodes serve on: {Failure}")]
    partial void LogStale(string service, string failure);
}
