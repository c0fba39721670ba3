using System.Net;
using System.Text.Json.Nodes;
using Sluice.Model.Nginx;
using Sluice.Observability;

namespace Sluice.Model.Settings;

/// <summary>What <c>conf/config.yaml</c> and <c>conf/nginx.conf</c> say. Immutable; a reload makes a new one.</summary>
public sealed record GatewaySettings
{
    /// <summary>The instance's directory: what relative paths are relative to.</summary>
    public required string Prefix { get; init; }

    public required DeploymentRole Role { get; init; }

    public required ConfigProvider ConfigProvider { get; init; }

    /// <summary>
    /// The whole configuration is pushed through <c>/apisix/admin/configs</c>: provider yaml, role traditional, and there is no conf/apisix.yaml.
    /// </summary>
    public bool IsPushed { get; init; }

    /// <summary>Null: the provider is not etcd.</summary>
    public EtcdSettings? Etcd { get; init; }

    /// <summary>Of secrets in the store.</summary>
    public DataEncryption Encryption { get; init; } = DataEncryption.None;

    /// <summary>Of the resources' keys.</summary>
    public string KeyPrefix => Etcd?.Prefix ?? "/apisix";

    /// <summary>Where requests to proxy come in: node_listen, ssl.listen and nginx's listen, each address once. Empty for a control plane.</summary>
    public required IReadOnlyList<ListenSettings> Listens { get; init; }

    /// <summary>Null: no HTTPS.</summary>
    public required TlsSettings? Tls { get; init; }

    /// <summary>Null: no Admin API.</summary>
    public required AdminSettings? Admin { get; init; }

    /// <summary>Null: no Control API.</summary>
    public required IPEndPoint? Control { get; init; }

    public required IPEndPoint Status { get; init; }

    public required DnsSettings Dns { get; init; }

    public required DiscoverySettings Discovery { get; init; }

    public required LogSettings Logs { get; init; }

    public required HttpSettings Http { get; init; }

    /// <summary>Null: all that there are.</summary>
    public required IReadOnlyList<string>? Plugins { get; init; }

    /// <summary><c>plugin_attr</c>, by plugin.</summary>
    public required IReadOnlyDictionary<string, JsonObject> PluginAttributes { get; init; }

    /// <summary>TCP and UDP.</summary>
    public required StreamSettings Streams { get; init; }

    /// <summary>How long secrets that were found, and those that were not, are kept.</summary>
    public required (TimeSpan Found, TimeSpan NotFound) SecretTimes { get; init; }

    /// <summary>Buffers, time-outs and headers by address, server name and path.</summary>
    public required NginxConfig Nginx { get; init; }

    public required bool DebugHeaders { get; init; }

    public required TransportSettings Transport { get; init; }

    public required TimeSpan ShutdownTimeout { get; init; }

    /// <summary>Absolute.</summary>
    public required string DataDirectory { get; init; }

    /// <summary>conf/config.yaml and the defaults as JSON, without secrets: what scripts see of it.</summary>
    public string Local { get; init; } = "{}";

    /// <summary><c>apisix.id</c>; empty: none is given.</summary>
    public string InstanceId { get; init; } = "";

    /// <summary>Lua's search path, as written.</summary>
    public required string ExtraLuaPath { get; init; }

    /// <summary>Scripts cannot reach the machine.</summary>
    public required bool LuaSandbox { get; init; }

    /// <summary>LuaJIT compiles; a script that runs away cannot be stopped then.</summary>
    public required bool LuaJit { get; init; }

    /// <summary>Bytes that each Lua state may use.</summary>
    public required long LuaMemoryLimit { get; init; }

    /// <summary>A path of the configuration as an absolute one.</summary>
    public string Absolute(string path) => Path.GetFullPath(Path.Combine(Prefix, path));
}

public enum DeploymentRole
{
    Traditional,
    DataPlane,
    ControlPlane,
}

public enum ConfigProvider
{
    Embedded,
    Yaml,
    Etcd,
}

/// <param name="Epoll">Event loops where the system has them; false: the framework's sockets.</param>
public sealed record TransportSettings(bool Epoll, int EventLoops);

/// <param name="Port">0: a free one.</param>
/// <param name="Ipv6Only">False: <c>[::]</c> takes IPv4 connections as well.</param>
/// <param name="Optional">The IPv6 half of an address without an IP: no harm when the machine has no IPv6.</param>
public sealed record ListenSettings(
    IPAddress Ip, int Port, bool Http2, bool Tls, string Place, bool Ipv6Only = true, bool Optional = false, int? Backlog = null)
{
    /// <summary>HTTP/3 on the UDP port of the same number.</summary>
    public bool Http3 { get; init; }

    /// <summary>Connections begin with a PROXY header.</summary>
    public bool ProxyProtocol { get; init; }

    public IPEndPoint EndPoint => new(Ip, Port);
}

/// <param name="CertificateFile">Absolute path of a PEM chain for all names that no ssl resource has; null: none.</param>
/// <param name="KeyFile">Absolute path of its key.</param>
/// <param name="FallbackSni">The name of clients that send none.</param>
/// <param name="Tickets">Sessions may be resumed.</param>
public sealed record TlsSettings(string? CertificateFile, string? KeyFile, bool Tls12, bool Tls13, string Place, string? FallbackSni, bool Tickets)
{
    /// <summary>For TLS 1.2; null: the platform's choice.</summary>
    internal IReadOnlyList<System.Net.Security.TlsCipherSuite>? CipherSuites { get; init; }
}

/// <summary><c>deployment.etcd</c>.</summary>
/// <param name="Hosts">Endpoints: <c>http://127.0.0.1:2379</c>. At least one.</param>
/// <param name="Prefix">Of all keys: <c>/apisix</c>.</param>
/// <param name="User">Null: no login.</param>
/// <param name="Timeout">For an answer.</param>
/// <param name="WatchTimeout">A watch that is silent for so long is opened anew.</param>
/// <param name="StartupRetry">How often a start asks again when no endpoint answers.</param>
/// <param name="Certificate">Shown to etcd; absolute paths.</param>
/// <param name="Verify">Whether etcd's certificate is checked.</param>
/// <param name="ServerName">SNI, and the name in etcd's certificate; null: the endpoint's.</param>
/// <param name="TrustedCaFile">What etcd's certificate is checked against; null: the machine's.</param>
public sealed record EtcdSettings(
    IReadOnlyList<Uri> Hosts,
    string Prefix,
    string? User,
    string? Password,
    TimeSpan Timeout,
    TimeSpan WatchTimeout,
    int StartupRetry,
    (string File, string Key)? Certificate,
    bool Verify,
    string? ServerName,
    string? TrustedCaFile);

/// <param name="KeyRequired">False: whoever reaches the port may change everything.</param>
/// <param name="Allow">Empty: everybody.</param>
public sealed record AdminSettings(IPEndPoint Listen, IReadOnlyList<AdminKey> Keys, bool KeyRequired, IReadOnlyList<Cidr> Allow, bool Cors);

/// <param name="Viewer">May only read.</param>
public sealed record AdminKey(string Name, string Key, bool Viewer);

/// <param name="Servers">Null: those of /etc/resolv.conf.</param>
/// <param name="Valid">Null: as long as an answer's TTL says.</param>
public sealed record DnsSettings(IReadOnlyList<IPEndPoint>? Servers, TimeSpan? Valid, TimeSpan Timeout);

/// <param name="Consul">Null: there is none.</param>
public sealed record DiscoverySettings(DnsDiscoverySettings Dns, ConsulSettings? Consul);

/// <param name="Servers">Null: those of the file.</param>
/// <param name="Order">Of <c>last</c>, <c>SRV</c>, <c>A</c>, <c>AAAA</c>, <c>CNAME</c>.</param>
public sealed record DnsDiscoverySettings(IReadOnlyList<IPEndPoint>? Servers, string ResolvConf, IReadOnlyList<string> Order, TimeSpan Timeout, TimeSpan? Valid);

/// <param name="LongPolls">False: one question each <paramref name="FetchInterval"/>.</param>
/// <param name="ReadTimeout">On top of <paramref name="Wait"/> for a long poll.</param>
/// <param name="DumpFile">Absolute; null: none.</param>
/// <param name="DumpExpiry">Zero: never.</param>
public sealed record ConsulSettings(
    IReadOnlyList<Uri> Servers,
    string Token,
    bool LongPolls,
    TimeSpan FetchInterval,
    int Weight,
    IReadOnlyList<string> SkipServices,
    TimeSpan ConnectTimeout,
    TimeSpan ReadTimeout,
    TimeSpan Wait,
    NodeConfig? DefaultNode,
    string? DumpFile = null,
    bool LoadDump = true,
    TimeSpan DumpExpiry = default);

/// <param name="ErrorLog">Absolute path, or <c>stderr</c>.</param>
/// <param name="ErrorLevel">nginx's name: <c>warn</c>.</param>
/// <param name="Access">Of requests.</param>
/// <param name="StreamAccess">Of sessions of TCP and UDP.</param>
public sealed record LogSettings(string ErrorLog, string ErrorLevel, AccessLogSettings Access, AccessLogSettings StreamAccess);

/// <param name="Path">Absolute; null: there is no access log.</param>
public sealed record AccessLogSettings(string? Path, AccessLogFormat Format);

/// <param name="TrustedAddresses">Whose <c>X-Forwarded-*</c> is believed.</param>
/// <param name="TrustedCaFile">Absolute path; null: the machine's.</param>
public sealed record HttpSettings(
    RouterMode Router,
    bool DeleteUriTailSlash,
    bool NormalizeUriLikeServlet,
    bool MatchUriEncodedSlash,
    bool ServerTokens,
    bool ShowUpstreamStatus,
    IReadOnlyList<Cidr> TrustedAddresses,
    bool UnderscoresInHeaders,
    string RealIpHeader,
    IReadOnlyList<Cidr> RealIpFrom,
    bool RealIpRecursive,
    TimeSpan ClientHeaderTimeout,
    TimeSpan KeepaliveTimeout,
    string? TrustedCaFile,
    bool UpstreamServerName,
    KeepalivePoolConfig UpstreamKeepalive,
    bool HealthChecks = true)
{
    /// <summary><see cref="RealIpFrom"/>, made for asking.</summary>
    internal CidrSet RealIpSources { get; } = new(RealIpFrom);

    internal CidrSet TrustedSources { get; } = new(TrustedAddresses);
}

/// <summary><c>apisix.stream_proxy</c> and what belongs to it; no addresses when <c>proxy_mode</c> is http.</summary>
/// <param name="ProxyProtocolIn">TCP connections begin with a PROXY header.</param>
/// <param name="ProxyProtocolOut">Upstreams are sent one.</param>
/// <param name="Plugins">Null: all that there are.</param>
/// <param name="MaxSessions">For each address.</param>
public sealed record StreamSettings(
    IReadOnlyList<StreamListen> Listens, bool ProxyProtocolIn, bool ProxyProtocolOut, IReadOnlyList<string>? Plugins, int MaxSessions);

public sealed record StreamListen(IPEndPoint EndPoint, bool IsUdp, bool Tls, string Place);

public enum RouterMode
{
    HostUri,
    Uri,
    UriWithParameter,
}
