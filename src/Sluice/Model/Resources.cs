using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Sluice.Model.Expressions;

namespace Sluice.Model;

// What users write, bound from validated JSON (snake_case). Immutable; a change makes new ones.

/// <summary>A route: which requests (uri, host, methods, vars, …), which plugins, which upstream.</summary>
internal sealed record RouteConfig(
    string Id,
    string? Name,
    string? Uri,
    string[]? Uris,
    string? Host,
    string[]? Hosts,
    string[]? Methods,
    CidrSet? RemoteAddrs,
    Expression? Vars,
    string? FilterFunc,
    string? Script,
    JsonObject? Plugins,
    UpstreamConfig? Upstream,
    string? UpstreamId,
    string? ServiceId,
    string? PluginConfigId,
    TimeoutConfig? Timeout,
    JsonObject? Labels,
    bool? EnableWebsocket,
    int Priority = 0,
    int Status = 1);

/// <summary>What several routes share: plugins, upstream, hosts. A route's own values win.</summary>
internal sealed record ServiceConfig(
    string Id,
    string? Name,
    string[]? Hosts,
    JsonObject? Plugins,
    UpstreamConfig? Upstream,
    string? UpstreamId,
    bool? EnableWebsocket,
    JsonObject? Labels,
    string? Script = null);

internal sealed record UpstreamConfig(
    string? Id,
    string? Name,
    NodeConfig[] Nodes,
    string Type = "roundrobin",
    string? HashOn = null,
    string? Key = null,
    string Scheme = "http",
    string PassHost = "pass",
    string? UpstreamHost = null,
    TimeoutConfig? Timeout = null,
    int? Retries = null,
    double RetryTimeout = 0,
    KeepalivePoolConfig? KeepalivePool = null,
    TlsConfig? Tls = null,
    ChecksConfig? Checks = null,
    string? ServiceName = null,
    string? DiscoveryType = null,
    JsonObject? Labels = null);

/// <param name="Port">Null: the scheme's default (80, 443).</param>
/// <param name="Weight">Share of requests; 0 = none.</param>
/// <param name="Priority">Higher first; lower ones only when none of the higher is left to try.</param>
/// <param name="Domain">The name that <paramref name="Host"/> is an address of; null: the host is what was written.</param>
internal sealed record NodeConfig(string Host, int? Port, int Weight = 1, int Priority = 0, JsonObject? Metadata = null,
    string? Domain = null);

/// <summary>Seconds, fractions allowed. APISIX's defaults: 60 each.</summary>
internal sealed record TimeoutConfig(double? Connect, double? Send, double? Read);

/// <param name="Size">Idle connections kept per upstream.</param>
/// <param name="IdleTimeout">Seconds an idle connection is kept.</param>
/// <param name="Requests">Requests after which a connection is not reused.</param>
internal sealed record KeepalivePoolConfig(int Size = 320, double IdleTimeout = 60, int Requests = 1000);

/// <param name="Verify">Whether the upstream's certificate is checked; APISIX's default is no.</param>
/// <param name="ClientCert">PEM, shown to the upstream together with <paramref name="ClientKey"/>.</param>
/// <param name="ClientCertId">An ssl resource to take certificate and key from instead.</param>
internal sealed record TlsConfig(bool Verify = false, string? ClientCert = null, string? ClientKey = null, string? ClientCertId = null);

/// <summary>An upstream's <c>checks</c>.</summary>
internal sealed record ChecksConfig(ActiveCheckConfig? Active, PassiveCheckConfig? Passive)
{
    /// <summary>What the Control API calls the type of the whole: that of the active check.</summary>
    public string Type => Active?.Type ?? Passive?.Type ?? "http";
}

/// <summary>Probes that the gateway sends to every node.</summary>
/// <param name="Timeout">Seconds, for all of a probe.</param>
/// <param name="Host">Host header and SNI; null: the upstream's or the node's.</param>
/// <param name="Port">Null: the node's.</param>
internal sealed record ActiveCheckConfig(
    string Type,
    double Timeout,
    int Concurrency,
    string? Host,
    int? Port,
    string HttpMethod,
    string HttpPath,
    bool VerifyCertificate,
    string[] RequestHeaders,
    HealthyConfig Healthy,
    UnhealthyConfig Unhealthy);

/// <summary>What requests of clients tell about a node.</summary>
internal sealed record PassiveCheckConfig(string Type, HealthyConfig Healthy, UnhealthyConfig Unhealthy);

/// <param name="Interval">Seconds between probes of a healthy node.</param>
/// <param name="Successes">So many in a row make a node healthy; 0: none do.</param>
internal sealed record HealthyConfig(double Interval, int[] HttpStatuses, int Successes);

/// <summary>So many in a row make a node unhealthy; 0: none do.</summary>
/// <param name="Interval">Seconds between probes of an unhealthy node.</param>
internal sealed record UnhealthyConfig(double Interval, int[] HttpStatuses, int HttpFailures, int TcpFailures, int Timeouts);

internal sealed record ConsumerConfig(string Username, string? GroupId, JsonObject? Plugins, JsonObject? Labels);

/// <param name="Username">The consumer it belongs to.</param>
/// <param name="Id">Unique within that consumer.</param>
internal sealed record CredentialConfig(string Username, string Id, JsonObject? Plugins, JsonObject? Labels);

internal sealed record ConsumerGroupConfig(string Id, JsonObject Plugins);

internal sealed record PluginConfigConfig(string Id, JsonObject Plugins);

internal sealed record GlobalRuleConfig(string Id, JsonObject Plugins);

/// <summary>Certificates for names that clients ask for (<c>type: server</c>), or to show to upstreams (<c>client</c>).</summary>
/// <param name="Names">Lower case, without a dot at the end: <c>a.example</c>, <c>*.example</c>, <c>*</c>.</param>
/// <param name="Pairs">PEM chain and PEM key, or references to secrets.</param>
/// <param name="Protocols">Null: as <c>apisix.ssl.ssl_protocols</c> says.</param>
internal sealed record SslConfig(
    string Id, bool ForClients, string[] Names, (string Certificate, string Key)[] Pairs, SslClientConfig? Client, string[]? Protocols,
    bool Enabled, bool Stapling);

/// <summary>Which client certificates are accepted.</summary>
/// <param name="Ca">PEM, one or more.</param>
/// <param name="Depth">Intermediate certificates at most.</param>
/// <param name="SkipUriRegex">Paths for which no certificate is needed; null: the handshake fails without one.</param>
internal sealed record SslClientConfig(string Ca, int Depth, string[]? SkipUriRegex)
{
    /// <exception cref="FormatException">One is malformed; the message says what and where.</exception>
    public Regex[] Skipped => field ??= [.. (SkipUriRegex ?? []).Select(pattern => Pcre.Compile(pattern))];
}

/// <summary>Which TCP connections and UDP sessions, which plugins, which upstream.</summary>
internal sealed record StreamRouteConfig(
    string Id, string? Name, CidrSet? RemoteAddr, CidrSet? ServerAddr, int? ServerPort, string? Sni, UpstreamConfig? Upstream,
    string? UpstreamId, string? ServiceId, JsonObject? Plugins);
