using System.Net;
using System.Text.Json.Nodes;
using Sluice.Model.Nginx;
using Sluice.Observability;

namespace Sluice.Model.Settings;

/// <summary>What <c>conf/config.yaml</c> and <c>conf/nginx.conf</c> say. Immutable; a reload makes a new one.</summary>
internal sealed record GatewaySettings
{
    /// <summary>The instance's directory: what relative paths are relative to.</summary>
    public required string Prefix { get; init; }

    public required ConfigProvider ConfigProvider { get; init; }

    /// <summary>The resources come from a file: <c>conf/apisix.yaml</c> or <c>conf/apisix.json</c>, or from what is pushed in its
    /// place.</summary>
    public bool IsStandalone => ConfigProvider is ConfigProvider.Yaml or ConfigProvider.Json;

    /// <summary>
    /// The whole configuration is pushed through <c>/apisix/admin/configs</c>: provider yaml, role traditional, and there is no
    /// conf/apisix.yaml.
    /// </summary>
    public bool IsPushed { get; init; }

    /// <summary>Null: the provider is not etcd.</summary>
    public EtcdSettings? Etcd { get; init; }

    /// <summary>Of secrets in the store.</summary>
    public DataEncryption Encryption { get; init; } = DataEncryption.None;

    /// <summary>Of the resources' keys.</summary>
    public string KeyPrefix => Etcd?.Prefix ?? "/apisix";

    /// <summary>Where requests to proxy come in: node_listen, ssl.listen and nginx's listen, each address once. Empty for a control
    /// plane.</summary>
    public required IReadOnlyList<ListenSettings> Listens { get; init; }

    /// <summary>Null: no HTTPS.</summary>
    public required TlsSettings? Tls { get; init; }

    /// <summary>Null: no Admin API.</summary>
    public required AdminSettings? Admin { get; init; }

    /// <summary><c>deployment.admin.admin_key</c>, whether there is an Admin API or not: the Control API asks for one where something is
    /// changed.</summary>
    public IReadOnlyList<AdminKey> AdminKeys { get; init; } = [];

    /// <summary>Where a key stands, for messages about what it asked for: <c>conf/config.yaml:7 (apisix.status.port)</c>.</summary>
    public Func<string, string> PlaceOf { get; init; } = static key => $"conf/config.yaml ({key})";

    /// <summary><c>sluice.ui.hosts</c>: names by which the gateway's own interfaces may be asked.</summary>
    public IReadOnlyList<string> OwnHosts { get; init; } = [];

    /// <summary>Whether <c>apisix.proxy_mode</c> has TCP and UDP in it, so that stream routes have an effect.</summary>
    public bool StreamMode { get; init; }

    /// <summary>Null: no Control API.</summary>
    public required IPEndPoint? Control { get; init; }

    public required IPEndPoint Status { get; init; }

    public required DnsSettings Dns { get; init; }

    public required DiscoverySettings Discovery { get; init; }

    public required LogSettings Logs { get; init; }

    public required HttpSettings Http { get; init; }

    /// <summary>Null: all that there are.</summary>
    public required IReadOnlyList<string>? Plugins { get; init; }

    /// <summary><c>sluice.streams.defaults</c>: what holds for streams that no plugin speaks for; null: nothing was said.</summary>
    public System.Text.Json.Nodes.JsonObject? StreamDefaults { get; init; }

    /// <summary><c>sluice.streams.tcp_keepalive</c>: how clients that say nothing are asked whether they are there.</summary>
    public KeepAliveSettings KeepAlive { get; init; } = new(TimeSpan.FromSeconds(60), TimeSpan.FromSeconds(15), 4);

    /// <summary><c>sluice.streams.drain</c>: how streams end when the gateway stops in good order.</summary>
    public DrainSettings Drain { get; init; } = new(TimeSpan.Zero, TimeSpan.FromSeconds(30), TimeSpan.FromSeconds(1),
        TimeSpan.FromSeconds(10));

    /// <summary><c>apisix.proxy_cache</c>.</summary>
    public required ProxyCacheSettings ProxyCache { get; init; }

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

    /// <summary>Responses that are streams.</summary>
    public required LiveSettings Live { get; init; }

    /// <summary><c>sluice.streams.tail_memory</c>: bytes that all tails of resumable streams hold together.</summary>
    public long TailMemory { get; init; } = 256 << 20;

    /// <summary><c>sluice.streams.queue_memory</c>: bytes that wait for all clients that are behind.</summary>
    public long QueueMemory { get; init; } = 256 << 20;

    /// <summary><c>sluice.streams.max_detached</c>: upstreams that run on without a client.</summary>
    public int MaxDetached { get; init; } = 1000;

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

/// <summary>Where responses are stored.</summary>
/// <param name="Lifetime">How long a response in files is fresh that does not say so itself.</param>
internal sealed record ProxyCacheSettings(TimeSpan Lifetime, IReadOnlyList<CacheZoneSettings> Zones);

/// <summary>One place for stored responses.</summary>
/// <param name="Directory">Where the files are, absolute; null: memory.</param>
/// <param name="Levels">Digits in the names of the directories above a file.</param>
/// <param name="Bytes">What all stored responses take together.</param>
internal sealed record CacheZoneSettings(string Name, string? Directory, int[] Levels, long Bytes);

internal enum DeploymentRole
{
    Traditional,
    DataPlane,
    ControlPlane,
}

internal enum ConfigProvider
{
    Embedded,
    Yaml,
    Json,
    Etcd,
}

/// <summary>How clients that say nothing are asked whether they are still there.</summary>
/// <param name="Idle">After so much silence; zero: never.</param>
/// <param name="Interval">Between two questions, of which there are <paramref name="Probes"/>. As long as all of them take what was sent
/// may wait for its acknowledgement.</param>
internal sealed record KeepAliveSettings(TimeSpan Idle, TimeSpan Interval, int Probes);

/// <param name="Max">More streams at a time are refused.</param>
/// <param name="ControlWrite">The Control API asks for no key where it ends streams.</param>
/// <param name="AccessLogStart">A stream is in the access log from its head on.</param>
internal sealed record LiveSettings(long Max, bool ControlWrite, bool AccessLogStart);

/// <param name="Epoll">Event loops where the system has them; false: the framework's sockets.</param>
internal sealed record TransportSettings(bool Epoll, int EventLoops);

/// <param name="Port">0: a free one.</param>
/// <param name="Ipv6Only">False: <c>[::]</c> takes IPv4 connections as well.</param>
/// <param name="Optional">The IPv6 half of an address without an IP: no harm when the machine has no IPv6.</param>
internal sealed record ListenSettings(
    IPAddress Ip, int Port, bool Http2, bool Tls, string Place, bool Ipv6Only = true, bool Optional = false)
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
internal sealed record TlsSettings(string? CertificateFile, string? KeyFile, bool Tls12, bool Tls13, string Place, string? FallbackSni,
    bool Tickets)
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
internal sealed record EtcdSettings(
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
internal sealed record AdminSettings(IPEndPoint Listen, IReadOnlyList<AdminKey> Keys, bool KeyRequired, IReadOnlyList<Cidr> Allow,
    bool Cors);

/// <param name="Viewer">May only read.</param>
internal sealed record AdminKey(string Name, string Key, bool Viewer);

/// <param name="Servers">Null: those of /etc/resolv.conf.</param>
/// <param name="Valid">Null: as long as an answer's TTL says.</param>
internal sealed record DnsSettings(IReadOnlyList<IPEndPoint>? Servers, TimeSpan? Valid, TimeSpan Timeout);

/// <param name="Consul">Null: there is none.</param>
internal sealed record DiscoverySettings(DnsDiscoverySettings Dns, ConsulSettings? Consul);

/// <param name="Servers">Null: those of the file.</param>
/// <param name="Order">Of <c>last</c>, <c>SRV</c>, <c>A</c>, <c>AAAA</c>, <c>CNAME</c>.</param>
internal sealed record DnsDiscoverySettings(IReadOnlyList<IPEndPoint>? Servers, string ResolvConf, IReadOnlyList<string> Order,
    TimeSpan Timeout, TimeSpan? Valid);

/// <param name="LongPolls">False: one question each <paramref name="FetchInterval"/>.</param>
/// <param name="ReadTimeout">On top of <paramref name="Wait"/> for a long poll.</param>
/// <param name="DumpFile">Absolute; null: none.</param>
/// <param name="DumpExpiry">Zero: never.</param>
internal sealed record ConsulSettings(
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
internal sealed record LogSettings(string ErrorLog, string ErrorLevel, AccessLogSettings Access, AccessLogSettings StreamAccess);

/// <param name="Path">Absolute; null: there is no access log.</param>
internal sealed record AccessLogSettings(string? Path, AccessLogFormat Format);

/// <param name="TrustedAddresses">Whose <c>X-Forwarded-*</c> is believed.</param>
/// <param name="TrustedCaFile">Absolute path; null: the machine's.</param>
internal sealed record HttpSettings(
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
internal sealed record StreamSettings(
    IReadOnlyList<StreamListen> Listens, bool ProxyProtocolIn, bool ProxyProtocolOut, IReadOnlyList<string>? Plugins, int MaxSessions);

internal sealed record StreamListen(IPEndPoint EndPoint, bool IsUdp, bool Tls, string Place);

internal enum RouterMode
{
    HostUri,
    Uri,
    UriWithParameter,
}

/// <summary>How streams end when the gateway stops in good order.</summary>
/// <param name="Wait">How long everything goes on first.</param>
/// <param name="Over">How long their ends are spread over; zero: they are not ended.</param>
/// <param name="RetryMin">The least after which a client is told to come back.</param>
internal sealed record DrainSettings(TimeSpan Wait, TimeSpan Over, TimeSpan RetryMin, TimeSpan RetryMax);
