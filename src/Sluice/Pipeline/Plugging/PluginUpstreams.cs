using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using Sluice.Model;
using Sluice.Net;
using Sluice.Upstreams;

namespace Sluice.Pipeline;

/// <summary>What upstreams in plugins have in common with all others.</summary>
/// <param name="Check">Fills an upstream's defaults in; the error, or null.</param>
sealed record UpstreamDefaults(UpstreamServices Services, KeepalivePoolConfig? Keepalive, bool HealthChecks, TrustedRoots? Roots,
    Func<JsonObject, string?> Check);

/// <summary>
/// Makes the upstreams that stand in a plugin's configuration. Those that it names need no making: whatever a property <c>upstream_id</c>
/// names, at any depth, is compiled with the configuration, and <see cref="ForwardTo.Named"/> finds it.
/// </summary>
public sealed class PluginUpstreams
{
    readonly UpstreamDefaults _defaults;
    readonly PluginContext _context;

    internal PluginUpstreams(UpstreamDefaults defaults, PluginContext context) => (_defaults, _context) = (defaults, context);

    /// <summary>
    /// An upstream as it is written. With the same text at the same place it is the one that was there before a change of the
    /// configuration: balancers, counts and health go on. Its discovery and its health checks begin with the first request that goes there,
    /// and end with the plugin.
    /// </summary>
    /// <exception cref="ConfigException">It is no upstream; the text is the Admin API's.</exception>
    public ForwardTo.To Make(JsonObject upstream)
    {
        var source = upstream.DeepClone().AsObject();
        if (_defaults.Check(source) is { } error)
        {
            throw new ConfigException(error);
        }
        var text = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(source.ToJsonString())).AsSpan(0, 16));
        return _context.Share($"upstream/{_context.Scope}/{text}",
            () => new Made(source, _defaults, $"{PlaceOf(_context.Scope)}#{text[..8]}")).Target;
    }

    /// <summary><c>routes/r1</c> of <c>route r1</c>.</summary>
    static string PlaceOf(string scope) => scope.Split(' ', 2) is [var kind, var id] ? $"{kind}s/{id}" : scope;

    sealed class Made : IDisposable
    {
        public Made(JsonObject source, UpstreamDefaults defaults, string key)
        {
            var config = ResourceBinder.Upstream(source, id: null);
            config = config with { KeepalivePool = config.KeepalivePool ?? defaults.Keepalive,
                Checks = defaults.HealthChecks ? config.Checks : null };
            var certificate = config.Tls is { ClientCert: { } cert, ClientKey: { } ofCert } ? new ClientCertificate(cert, ofCert) : null;
            var upstream = new Upstream(config, defaults.Services, key, source, certificate: certificate, roots: defaults.Roots);
            Target = new(upstream)
            {
                Follower = config.ServiceName is not null || config.Checks is not null ? new(upstream, defaults.Services.Added) : null,
            };
        }

        public ForwardTo.To Target { get; }

        public void Dispose() => Target.Follower?.Dispose();
    }

    /// <summary>The ids of upstreams that plugins name.</summary>
    internal static IEnumerable<string> NamedIn(JsonNode? config)
    {
        switch (config)
        {
            case JsonObject map:
                foreach (var (name, value) in map)
                {
                    if (name == "upstream_id" && value is JsonValue && ResourceBinder.Id(map, name) is { } id)
                    {
                        yield return id;
                    }
                    foreach (var inner in NamedIn(value))
                    {
                        yield return inner;
                    }
                }
                break;
            case JsonArray list:
                foreach (var inner in list.SelectMany(NamedIn))
                {
                    yield return inner;
                }
                break;
        }
    }
}
