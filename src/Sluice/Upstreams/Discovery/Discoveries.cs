using System.Text.Json;
using Sluice.Model;
using Sluice.Model.Settings;
using Sluice.Net;

namespace Sluice.Upstreams.Discovery;

/// <summary>The kinds of service discovery that run, by <c>discovery_type</c>. A reload replaces those whose settings changed.</summary>
internal sealed class Discoveries(TimeProvider time, ILoggerFactory loggers, OutgoingHttp http) : IAsyncDisposable
{
    /// <summary>What <c>discovery_type</c> may be.</summary>
    public static IReadOnlyList<string> Types { get; } = ["dns", "consul"];

    readonly Lock _lock = new();
    DiscoverySettings? _settings;
    volatile DnsDiscovery? _dns;
    volatile ConsulDiscovery? _consul;
    string[] _dnsServices = [];
    string[] _consulServices = [];

    public IDiscovery? Find(string? type) => type switch
    {
        "dns" => _dns,
        "consul" => _consul,
        _ => null,
    };

    public void Apply(DiscoverySettings settings)
    {
        lock (_lock)
        {
            if (_settings is null || Text(_settings.Dns) != Text(settings.Dns))
            {
                _dns = new DnsDiscovery(settings.Dns, time, loggers.CreateLogger<DnsDiscovery>());
            }
            if (_settings?.Consul is null != settings.Consul is null || Text(_settings?.Consul) != Text(settings.Consul))
            {
                _ = _consul?.DisposeAsync().AsTask();
                _consul = settings.Consul is { } consul ? new ConsulDiscovery(consul, time, http, loggers.CreateLogger<ConsulDiscovery>())
                    : null;
                _consul?.Follow(_consulServices);
            }
            _settings = settings;
        }
    }

    // records with lists in them are compared by what they say
    static string Text(DnsDiscoverySettings dns) =>
        $"{string.Join(',', dns.Servers ?? [])} {dns.ResolvConf} {string.Join(',', dns.Order)} {dns.Timeout} {dns.Valid}";

    static string Text(ConsulSettings? consul) => consul is null ? "" :
        string.Join(',', consul.Servers) + string.Join(',', consul.SkipServices) + (consul with { Servers = [], SkipServices = [] });

    /// <summary>These are the upstreams from now on.</summary>
    public void Follow(IEnumerable<Upstream> upstreams)
    {
        lock (_lock)
        {
            var byType = upstreams.Where(upstream => upstream.Config.ServiceName is not null)
                .ToLookup(upstream => upstream.Config.DiscoveryType, upstream => upstream.Config.ServiceName!);
            _dns?.Follow(_dnsServices = [.. byType["dns"].Distinct()]);
            _consulServices = [.. byType["consul"].Distinct()];
            _consul?.Follow(_consulServices);
        }
    }

    public async ValueTask DisposeAsync()
    {
        if (_dns is { } dns)
        {
            await dns.DisposeAsync();
        }
        if (_consul is { } consul)
        {
            await consul.DisposeAsync();
        }
    }
}

/// <summary>Nodes as discoveries show them: <c>{"host":"10.0.0.1","port":80,"weight":1}</c>.</summary>
static class DiscoveredNodes
{
    public static void Write(Utf8JsonWriter writer, IEnumerable<KeyValuePair<string, NodeConfig[]>> services)
    {
        writer.WriteStartObject("services");
        foreach (var (service, nodes) in services.OrderBy(pair => pair.Key, StringComparer.Ordinal))
        {
            writer.WriteStartArray(service);
            foreach (var node in nodes)
            {
                writer.WriteStartObject();
                writer.WriteString("host", node.Host);
                if (node.Port is { } port)
                {
                    writer.WriteNumber("port", port);
                }
                writer.WriteNumber("weight", node.Weight);
                if (node.Priority != 0)
                {
                    writer.WriteNumber("priority", node.Priority);
                }
                writer.WriteEndObject();
            }
            writer.WriteEndArray();
        }
        writer.WriteEndObject();
    }
}
