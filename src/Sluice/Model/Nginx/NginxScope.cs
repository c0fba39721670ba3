namespace Sluice.Model.Nginx;

/// <summary>One explicit <c>proxy_buffering</c> or <c>proxy_request_buffering</c>.</summary>
/// <param name="Level"><c>location</c>, <c>server</c> or <c>http</c>.</param>
/// <param name="Place"><c>conf/nginx.conf:12</c></param>
/// <param name="Block">The block that it stands in: <c>server app1.example.com</c>.</param>
public sealed record BufferingRule(string Level, bool On, string Place, string Block);

/// <summary>A <c>proxy_set_header</c> or <c>add_header</c>.</summary>
/// <param name="Value">With its <c>$variables</c> as written. An empty <c>proxy_set_header</c> takes the header away.</param>
/// <param name="Always"><c>add_header … always</c>: whatever the status is.</param>
public sealed record NginxHeader(string Name, string Value, bool Always);

/// <summary>What the nginx directives say for one location, server or the http level, with everything inherited already.</summary>
public sealed record NginxScope
{
    /// <summary>Nothing is configured: nginx's own defaults, and APISIX's where it has others.</summary>
    public static NginxScope Default { get; } = new();

    /// <summary><c>location ^~ /sse (server app1.example.com)</c>, <c>server app1.example.com</c> or <c>http</c>.</summary>
    public string Block { get; init; } = "http";

    /// <summary>Every explicit <c>proxy_buffering</c> on the way, the innermost first: that one decides.</summary>
    public IReadOnlyList<BufferingRule> ResponseBuffering { get; init; } = [];

    /// <summary>Every explicit <c>proxy_request_buffering</c> on the way, the innermost first.</summary>
    public IReadOnlyList<BufferingRule> RequestBuffering { get; init; } = [];

    /// <summary>No head of an answer and no first piece of its body is larger; what the machine does best where it is not written.</summary>
    public int ProxyBufferSize { get; init; } = BestPiece;

    /// <summary>No later piece is larger: the size in <c>proxy_buffers</c> where it is written, otherwise as the first.</summary>
    public int LargestPiece { get; init; } = BestPiece;

    public const int BestPiece = 64 * 1024;

    public int ProxyBuffersNumber { get; init; } = 8;

    /// <summary>Bounds each later read.</summary>
    public int ProxyBuffersSize { get; init; } = 4096;

    public int ProxyBusyBuffersSize { get; init; } = 8192;

    /// <summary>0: no temporary file.</summary>
    public long ProxyMaxTempFileSize { get; init; } = 1L << 30;

    public string? ProxyTempPath { get; init; }

    public int ClientBodyBufferSize { get; init; } = 16 * 1024;

    /// <summary>Null: unlimited, APISIX's default.</summary>
    public long? ClientMaxBodySize { get; init; }

    /// <summary>Off: an HTTP/1.1 answer without a length ends with its connection.</summary>
    public bool ChunkedTransferEncoding { get; init; } = true;

    public TimeSpan? ProxyConnectTimeout { get; init; }

    public TimeSpan? ProxySendTimeout { get; init; }

    public TimeSpan? ProxyReadTimeout { get; init; }

    /// <summary>Between two writes to the client that make progress.</summary>
    public TimeSpan SendTimeout { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>How long an idle client connection is kept; zero: not at all.</summary>
    public TimeSpan KeepaliveTimeout { get; init; } = TimeSpan.FromSeconds(60);

    public TimeSpan ClientHeaderTimeout { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>Between two reads of a request body.</summary>
    public TimeSpan ClientBodyTimeout { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>An upstream's <c>X-Accel-Buffering</c> is not obeyed.</summary>
    public bool IgnoreAccelBuffering { get; init; }

    public IReadOnlyList<NginxHeader> SetHeaders { get; init; } = [];

    public IReadOnlyList<NginxHeader> AddHeaders { get; init; } = [];
}
