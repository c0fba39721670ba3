using System.Globalization;
using System.Net;
using Sluice.Observability;

namespace Sluice.Pipeline.TcpUdp;

/// <summary>A TCP connection or a UDP conversation on its way to an upstream.</summary>
internal sealed class StreamSession(
    Snapshot snapshot, PluginServices services, bool isUdp, IPEndPoint remote, IPEndPoint local, string? serverName,
    Func<int, ValueTask<ReadOnlyMemory<byte>>> peek) : IVariables
{
    Dictionary<string, string>? _custom;

    /// <summary>The configuration that it runs under to its end.</summary>
    public Snapshot Snapshot { get; } = snapshot;

    /// <summary>Where it is counted among those that use the snapshot.</summary>
    internal int? Seat { get; init; }

    public PluginServices Services { get; } = services;

    public bool IsUdp { get; } = isUdp;

    /// <summary>The client: the connection's other end, or whom a PROXY header names.</summary>
    public IPEndPoint Remote { get; } = remote;

    public IPEndPoint Local { get; } = local;

    /// <summary>The SNI of a TLS client.</summary>
    public string? ServerName { get; } = serverName;

    public StreamRoute? Route { get; set; }

    /// <summary>The address of the node that took it.</summary>
    public string? UpstreamAddress { get; set; }

    /// <summary>As nginx's <c>$status</c> of streams: 200, 403 refused by a plugin, 502 no node could be reached, 503 there is no route or
    /// no upstream.</summary>
    public int Status { get; set; } = 200;

    public long StartTimestamp { get; } = services.Time.GetTimestamp();

    long _bytesReceived, _bytesSent;

    /// <summary>Bytes of the client that the upstream got.</summary>
    public long BytesReceived => Interlocked.Read(ref _bytesReceived);

    /// <summary>Bytes of the upstream that the client got.</summary>
    public long BytesSent => Interlocked.Read(ref _bytesSent);

    public void Received(int bytes) => Interlocked.Add(ref _bytesReceived, bytes);

    public void Sent(int bytes) => Interlocked.Add(ref _bytesSent, bytes);

    /// <summary>State that a plugin keeps from beginning to end, by the plugin's object.</summary>
    public Dictionary<object, object> Items => field ??= new(ReferenceEqualityComparer.Instance);

    /// <summary>The plugins that have let it in and want to know of its end.</summary>
    internal List<IStreamEnd> LetIn { get; } = [];

    /// <summary>The first bytes that the client sends, without taking them: so many, or fewer when it sends no more. Of UDP the first
    /// datagram.</summary>
    public ValueTask<ReadOnlyMemory<byte>> PeekAsync(int count) => peek(count);

    public void Set(string name, string value) => (_custom ??= [])[name] = value;

    public string? Get(string name) => _custom?.GetValueOrDefault(name) ?? name switch
    {
        "remote_addr" => Text(Remote.Address),
        "remote_port" => Number(Remote.Port),
        "server_addr" => Text(Local.Address),
        "server_port" => Number(Local.Port),
        "protocol" => IsUdp ? "UDP" : "TCP",
        "ssl_server_name" or "ssl_preread_server_name" => ServerName,
        "route_id" => Route?.Config.Id,
        "route_name" => Route?.Config.Name,
        "service_id" => Route?.Config.ServiceId,
        "upstream_addr" => UpstreamAddress,
        "bytes_received" or "upstream_bytes_sent" => Number(BytesReceived),
        "bytes_sent" or "upstream_bytes_received" => Number(BytesSent),
        "status" => Number(Status),
        "msec" => (Services.Time.GetUtcNow().ToUnixTimeMilliseconds() / 1000.0).ToString("F3", CultureInfo.InvariantCulture),
        "time_local" => LogTime.Of(Services.Time.GetUtcNow(), Services.Time).Local,
        "time_iso8601" => LogTime.Of(Services.Time.GetUtcNow(), Services.Time).Iso8601,
        "session_time" =>
            (Services.Time.GetElapsedTime(StartTimestamp).TotalMilliseconds / 1000).ToString("F3", CultureInfo.InvariantCulture),
        "hostname" => Environment.MachineName,
        _ => null,
    };

    static string Text(IPAddress address) => (address.IsIPv4MappedToIPv6 ? address.MapToIPv4() : address).ToString();

    static string Number(long number) => number.ToString(CultureInfo.InvariantCulture);
}

/// <summary>Allow or refuse a session before a node is picked (APISIX's preread phase).</summary>
internal interface IStreamAccess
{
    /// <summary>Null: go on. Else why the session ends, for the log.</summary>
    ValueTask<string?> AdmitAsync(StreamSession session);
}

/// <summary>The session has ended; runs for every session that the plugin has let in.</summary>
internal interface IStreamEnd
{
    void Ended(StreamSession session);
}
