using Sluice.Net.Http;

namespace Sluice.Model.Nginx;

/// <summary>One explicit <c>proxy_buffering</c> or <c>proxy_request_buffering</c>.</summary>
/// <param name="Level"><c>location</c>, <c>server</c> or <c>http</c>.</param>
/// <param name="Place"><c>conf/nginx.conf:12</c></param>
/// <param name="Block">The block that it stands in: <c>server app1.example.com</c>.</param>
internal sealed record BufferingRule(string Level, bool On, string Place, string Block);

/// <summary>A <c>proxy_set_header</c> or <c>add_header</c>.</summary>
/// <param name="Value">With its <c>$variables</c> as written. An empty <c>proxy_set_header</c> takes the header away.</param>
/// <param name="Always"><c>add_header … always</c>: whatever the status is.</param>
internal sealed record NginxHeader(string Name, string Value, bool Always);

/// <summary>An <c>error_page</c>.</summary>
/// <param name="Errors">The statuses whose answer it takes the place of.</param>
/// <param name="Status">The status instead; 0: the page's own; null: the error's.</param>
/// <param name="Target">A path of the gateway, a location's <c>@name</c> or a URL to redirect to.</param>
internal sealed record NginxErrorPage(int[] Errors, int? Status, string Target)
{
    public bool IsRedirect => !Target.StartsWith('/') && !Target.StartsWith('@');
}

/// <summary>A <c>return</c>.</summary>
/// <param name="Text">With its <c>$variables</c>: the body, or where a redirect goes; null: nothing but the status.</param>
internal sealed record NginxReturn(int Status, string? Text)
{
    public bool IsRedirect => Status is 301 or 302 or 303 or 307 or 308;
}

/// <summary>How large the heads of requests may be. It holds for an address: which block a request falls under is in its head.</summary>
internal sealed record NginxHeads
{
    public static NginxHeads Default { get; } = new();

    /// <summary>Bytes of the request line: a longer one is answered with 414.</summary>
    public int MaxRequestLine { get; init; } = 8 * 1024;

    /// <summary>Bytes of one header with its name: a longer one is answered with 431.</summary>
    public int MaxHeaderLine { get; init; } = 32 * 1024;

    /// <summary>Bytes of all headers.</summary>
    public int MaxTotal { get; init; } = 32 * 1024;

    public int MaxHeaders { get; init; } = 1000;

    /// <summary>A header whose name has characters that no name has is left out; otherwise the request is answered with 400.</summary>
    public bool IgnoreInvalid { get; init; } = true;
}

/// <summary>What the nginx directives say for one location, server or the http level, with everything inherited already.</summary>
internal sealed record NginxScope
{
    /// <summary>Nothing is configured: nginx's own defaults, and APISIX's where it has others.</summary>
    public static NginxScope Default { get; } = new();

    /// <summary><c>location ^~ /sse (server app1.example.com)</c>, <c>server app1.example.com</c> or <c>http</c>.</summary>
    public string Block { get; init; } = "http";

    /// <summary>Every explicit <c>proxy_buffering</c> on the way, the innermost first: that one decides.</summary>
    public IReadOnlyList<BufferingRule> ResponseBuffering { get; init; } = [];

    /// <summary>Every explicit <c>proxy_request_buffering</c> on the way, the innermost first.</summary>
    public IReadOnlyList<BufferingRule> RequestBuffering { get; init; } = [];

    /// <summary>No head of an answer and no first piece of its body is larger; what the machine does best where it is not
    /// written.</summary>
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

    public NginxHeads Heads { get; init; } = NginxHeads.Default;

    public IReadOnlyList<NginxHeader> SetHeaders
    {
        get;
        init
        {
            field = value;
            Upgrade = value.LastOrDefault(header => HeaderName.Is(header.Name, "Upgrade"))?.Value is { Length: > 0 } upgrade
                && value.LastOrDefault(header => HeaderName.Is(header.Name, "Connection"))?.Value is { Length: > 0 } connection
                    ? (upgrade, connection) : null;
        }
    } = [];

    /// <summary>The values of <c>proxy_set_header Upgrade</c> and <c>Connection</c> where both are there: clients may go on in another
    /// protocol.</summary>
    public (string Upgrade, string Connection)? Upgrade { get; private init; }

    public IReadOnlyList<NginxHeader> AddHeaders { get; init; } = [];

    public IReadOnlyList<NginxErrorPage> ErrorPages { get; init; } = [];

    /// <summary>Error pages also take the place of upstreams' errors.</summary>
    public bool InterceptErrors { get; init; }

    /// <summary>An upstream that is asked comes to its end although the client has left.</summary>
    public bool IgnoreClientAbort { get; init; }

    /// <summary>Answers every request that falls under this block.</summary>
    public NginxReturn? Return { get; init; }

    /// <summary>Only error pages come from here; a client's request finds nothing.</summary>
    public bool IsInternal { get; init; }

    /// <summary>Content-Type of what <see cref="Return"/> answers.</summary>
    public string? DefaultType { get; init; }

    /// <summary>Where the files of error pages are: the path of a page is looked for below <c>root</c>; <c>alias</c> is the file
    /// itself.</summary>
    public (string Directory, bool IsAlias)? Files { get; init; }
}
