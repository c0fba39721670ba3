using System.Globalization;
using System.Net;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Primitives;
using Sluice.Net.Http;
using Sluice.Net.Http1;
using Sluice.Pipeline.Tls;
using Sluice.Scripting;

namespace Sluice.Pipeline;

/// <summary>The variables of a request, by nginx's and APISIX's names (nginx: "Alphabetical index of variables"; APISIX:
/// apisix-variable).</summary>
public sealed partial class Exchange
{
    public string? Get(string name)
    {
        if (_custom is not null && _custom.TryGetValue(name, out var custom))
        {
            return custom;
        }
        if (Services.HasScriptVariable(name) && !_scriptsEnded && OpenScript().Variable(name) is { } registered)
        {
            return registered;
        }
        return name switch
        {
            "uri" or "document_uri" => Uri,
            "request_uri" => Args.Length == 0 ? Uri : $"{Uri}?{Args}",
            "real_request_uri" => RawTarget,
            "args" or "query_string" => Args,
            "is_args" => Args.Length == 0 ? "" : "?",
            "host" => Host,
            "hostname" => Environment.MachineName,
            "http_host" => Request.Headers.Host.ToString() is { Length: > 0 } host ? host : null,
            "method" or "request_method" => UpstreamMethod,
            // empty: what came was no request
            "request" => Request.Protocol.Length == 0 ? "" : $"{Request.Method} {RawTarget} {Request.Protocol}",
            "scheme" => Request.Scheme,
            "https" => Request.IsHttps ? "on" : "",
            "server_protocol" => Request.Protocol is "HTTP/2" ? "HTTP/2.0" : Request.Protocol,
            "server_addr" => Http.Connection.LocalIpAddress is { } local ? Text(local) : null,
            "server_port" => Number(Http.Connection.LocalPort),
            "remote_addr" => Text(RemoteAddress),
            "realip_remote_addr" => Http.Connection.RemoteIpAddress is { } peer ? Text(peer) : null,
            "remote_port" => RemotePort == 0 ? "" : Number(RemotePort),
            "realip_remote_port" => Number(Http.Connection.RemotePort),
            "proxy_protocol_addr" => Http.Features.Get<IProxiedConnection>()?.Source is { } source ? Text(source.Address) : null,
            "proxy_protocol_port" => Http.Features.Get<IProxiedConnection>()?.Source is { } source ? Number(source.Port) : null,
            "proxy_protocol_server_addr" => Http.Features.Get<IProxiedConnection>()?.Destination is { } local ? Text(local.Address) : null,
            "proxy_protocol_server_port" => Http.Features.Get<IProxiedConnection>()?.Destination is { } local ? Number(local.Port) : null,
            "remote_user" => BasicUser(),
            "content_type" => Request.ContentType,
            "content_length" => Request.ContentLength is { } length ? Number(length) : null,
            "request_length" => Number(RequestLength),
            "request_time" => Seconds(ElapsedMs / 1000),
            "request_completion" => Failure is null && _end != 0 ? "OK" : "",
            "request_id" => RequestId,
            "apisix_request_id" => NamedId ?? RequestId,
            "status" => Number(Response.StatusCode),
            "body_bytes_sent" or "bytes_sent" => Number(BodyBytesSent),
            "connection" => Counts is { } connection ? Number(connection.Serial) : null,
            "connection_requests" => ConnectionRequests > 0 ? Number(ConnectionRequests) : Counts is { } at ? Number(at.Requests) : null,
            "pid" => Number(Environment.ProcessId),
            "pipe" => ".",
            "msec" => (Services.Time.GetUtcNow().ToUnixTimeMilliseconds() / 1000.0).ToString("F3", CultureInfo.InvariantCulture),
            "time_local" => LogTime.Of(Services.Time.GetUtcNow(), Services.Time).Local,
            "time_iso8601" => LogTime.Of(Services.Time.GetUtcNow(), Services.Time).Iso8601,
            "ssl_protocol" => Http.Features.Get<ITlsHandshakeFeature>()?.Protocol switch
            {
                null => null,
                System.Security.Authentication.SslProtocols.Tls12 => "TLSv1.2",
                System.Security.Authentication.SslProtocols.Tls13 => "TLSv1.3",
                var other => other.ToString(),
            },
            "ssl_client_verify" => Http.Features.Get<TlsPeer>()?.ClientVerify,
            "ssl_client_s_dn" => Http.Features.Get<TlsPeer>()?.Client?.Subject,
            "ssl_client_i_dn" => Http.Features.Get<TlsPeer>()?.Client?.Issuer,
            "ssl_client_serial" => Http.Features.Get<TlsPeer>()?.Client?.SerialNumber,
            "ssl_client_fingerprint" => Http.Features.Get<TlsPeer>()?.Client?.Thumbprint.ToLowerInvariant(),
            "ssl_cipher" => Http.Features.Get<ITlsHandshakeFeature>()?.NegotiatedCipherSuite?.ToString(),
            "ssl_server_name" => Http.Features.Get<ITlsHandshakeFeature>()?.HostName,

            "upstream_addr" => Upstream.Addresses,
            "upstream_status" => Upstream.Statuses,
            "upstream_scheme" => Upstream.Scheme ?? Request.Scheme,
            "upstream_host" => Upstream.Host ?? Request.Headers.Host.ToString(),
            "upstream_uri" => Upstream.Uri ?? "",
            "upstream_connect_time" => Seconds(Upstream.ConnectSeconds),
            "upstream_header_time" => Seconds(Upstream.HeaderSeconds),
            "upstream_response_time" => Seconds(Upstream.ResponseSeconds),
            "upstream_bytes_received" or "upstream_response_length" => Upstream.Addresses is null ? null : Number(Upstream.BytesReceived),

            "route_id" => Route?.Id,
            "route_name" => Route?.Config.Name,
            "service_id" => Route?.Config.ServiceId,
            "service_name" => Route?.Service?.Name,
            "matched_uri" => MatchedUri,
            "consumer_name" => Consumer?.Username,
            "consumer_group_id" => Consumer?.GroupId,
            "balancer_ip" => Upstream.NodeIp,
            "upstream_unresolved_host" => Upstream.UnresolvedHost,
            "balancer_port" => Upstream.NodeIp is null ? null : Number(Upstream.NodePort),
            "apisix_upstream_response_time" => Ai is { } ai ? Number(ai.ResponseMs ?? 0) : Seconds(Upstream.ResponseSeconds),

            "sluice_buffering" => Buffering is { } rule ? rule.On ? "on" : "off" : null,
            "sluice_buffering_rule" => Buffering?.ToString(),
            "sluice_failure" => Failure?.Kind,
            "sluice_shielded_status" => ShieldedStatus == 0 ? null : Number(ShieldedStatus),
            "sluice_stream_id" => Live?.Id,
            "sluice_stream_kind" => Live is { } live ? KindText(live.Kind) : null,
            "sluice_stream_mode" => Live?.Mode,
            "sluice_stream_phase" => Live?.Phase,
            "sluice_stream_end" => Live is null || _end == 0 ? null : StreamEnd,
            "sluice_events" => Events is { } events ? Number(events.Count) : null,
            "sluice_first_event_time" => Events is { FirstTimestamp: > 0 and var first }
                ? Seconds(Services.Time.GetElapsedTime(StartTimestamp, first).TotalSeconds) : null,
            "sluice_max_gap" => Events is { Count: > 1, MaxGap: var gap } ? Seconds(gap.TotalSeconds) : null,
            "sluice_dropped" => Live?.Body is { } queued ? Number(queued.Queue.Dropped) : null,
            "sluice_heartbeats" => Live?.Body is { } body ? Number(body.Heartbeats) : null,
            "sluice_paused_time" => Seconds(Live?.Body?.Paused?.TotalSeconds),
            "sluice_detached_time" => Detached is null ? null : Seconds(Topic?.DetachedTime.TotalSeconds),
            "sluice_topic" => Topic?.Mark,
            "rate_limiting_info" => RateLimit?.ToJson(),
            "sluice_resumed_from" => ResumedFrom,
            "proxy_add_x_forwarded_for" => ForwardedFor,
            "request_type" or "request_llm_model" => AiFacts.Variable(name, Ai),
            _ => ByPrefix(name) ?? AiFacts.Variable(name, Ai) ?? Mapped(name),
        };
    }

    /// <summary>Why the stream ended, in a word.</summary>
    public string StreamEnd => Failure?.Kind ?? StreamEndReason ?? "complete";

    /// <summary>What ended the stream before its source did, when that was no failure.</summary>
    public string? StreamEndReason { get; set; }

    /// <summary>What kind of stream the response is, by its head; null: it is none.</summary>
    public string? StreamKind => LiveStream.KindOf(this) is var kind
        && (kind != Pipeline.StreamKind.Body || MediaType.IsStream(Response.ContentType)) ? KindText(kind) : null;

    internal static string KindText(Pipeline.StreamKind kind) => kind switch
    {
        Pipeline.StreamKind.Body => "body",
        Pipeline.StreamKind.Sse => "sse",
        Pipeline.StreamKind.Ndjson => "ndjson",
        Pipeline.StreamKind.Grpc => "grpc",
        Pipeline.StreamKind.EventStream => "eventstream",
        Pipeline.StreamKind.WebSocket => "websocket",
        _ => "tunnel",
    };

    /// <summary>The client's header with the client's address appended (ngx_http_proxy_module).</summary>
    string ForwardedFor => Request.Headers["X-Forwarded-For"] is { Count: > 0 } chain
        ? $"{string.Join(", ", chain.ToArray())}, {RemoteAddressText}" : RemoteAddressText;

    /// <summary>What a <c>map</c> makes of its source.</summary>
    string? Mapped(string name) => Snapshot.Settings.Nginx.Maps.TryGetValue(name, out var map)
        ? Template.Expand(map.Find(Template.Expand(map.Source, InNginx)), InNginx) : null;

    /// <summary>The variables as nginx's own directives and its access log see them: there <c>$request_uri</c> is what the client
    /// sent.</summary>
    public Observability.IVariables InNginx => field ??= new NginxView(this);

    /// <summary>The variables for texts that become a URL: there an argument stays as the client wrote it, so that none becomes
    /// two.</summary>
    internal Observability.IVariables InUrl => new UrlView(this);

    sealed class UrlView(Exchange exchange) : Observability.IVariables
    {
        public string? Get(string name) =>
            name.StartsWith("arg_", StringComparison.Ordinal) ? exchange.RawArgument(name[4..]) : exchange.Get(name);
    }

    sealed class NginxView(Exchange exchange) : Observability.IVariables
    {
        public string? Get(string name) => name == "request_uri" ? RequestTarget.OriginForm(exchange.RawTarget)
            : name.StartsWith("arg_", StringComparison.Ordinal) ? exchange.RawArgument(name[4..])
            : exchange.Get(name);
    }

    BodyVariables? _bodyVariables;

    /// <summary>A variable of the request's body was asked for before the body was read.</summary>
    internal bool WantsBody { get; private set; }

    /// <summary>Gives the variables of the body their values, for a request that asked for one.</summary>
    internal async ValueTask ReadBodyVariablesAsync()
    {
        _bodyVariables = await BodyVariables.ReadAsync(this);
        WantsBody = false;
    }

    string? BodyVariable(string name)
    {
        WantsBody |= _bodyVariables is null;
        return _bodyVariables?.Get(name);
    }

    internal string RemoteAddressText => Text(RemoteAddress);

    internal string LocalPortText =>
        s_port is { } port && port.Number == Http.Connection.LocalPort ? port.Text
        : (s_port = new(Http.Connection.LocalPort, Number(Http.Connection.LocalPort))).Text;

    /// <summary>There are few ports, and mostly one.</summary>
    static PortText? s_port;

    sealed record PortText(int Number, string Text);

    /// <summary>The request target exactly as the client sent it.</summary>
    public string RawTarget => Http is Http1Context own ? own.RawTarget
        : Http.Features.Get<IHttpRequestFeature>()?.RawTarget ?? Request.Path;

    /// <summary>The host as names are compared (nginx's <c>$host</c>, <see cref="HostName"/>).</summary>
    public string Host
    {
        get => field ??= Request.Headers.Host.ToString() is var authority && HostName.Of(authority) is { } name ? name
            : HostName.WithoutPort(authority).ToLowerInvariant();
        private set;
    }

    /// <summary>Somebody has set the request's Host.</summary>
    public void HostChanged() => Host = null!;

    /// <summary>32 hex digits, the same for the whole exchange (nginx's <c>$request_id</c>).</summary>
    public string RequestId => field ??= Guid.NewGuid().ToString("N");

    /// <summary>The id that a plugin has given the request, or found with it (<c>$apisix_request_id</c>); null: none has.</summary>
    internal string? NamedId
    {
        get => _items?.GetValueOrDefault(s_namedId) as string;
        set => Items[s_namedId] = value!;
    }

    static readonly object s_namedId = new();



    /// <summary>What the client has sent so far: request line, headers, body. Those of HTTP/2 count as if they were written as
    /// HTTP/1.1.</summary>
    long RequestLength => Http is Http1Context own ? own.ReceivedBytes
        : HeadLength() + (BodyBytesRead > 0 ? BodyBytesRead : BodyBytesReceived);

    long HeadLength()
    {
        var length = Request.Method.Length + RawTarget.Length + Request.Protocol.Length + 6L;
        foreach (var (name, values) in Request.Headers)
        {
            foreach (var value in values)
            {
                length += name.Length + (value?.Length ?? 0) + 4;
            }
        }
        return length;
    }

    Dictionary<string, string>? _custom;

    /// <summary>Sets a variable; it wins over a computed one of the same name.</summary>
    public void Set(string name, string? value)
    {
        if (value is null)
        {
            _custom?.Remove(name);
            return;
        }
        (_custom ??= [])[name] = value;
    }

    /// <summary>For a request made by <paramref name="outer"/>.</summary>
    internal void TakeVariables(Exchange outer, SubrequestOptions variables)
    {
        _custom = variables.Sharing switch
        {
            VariableSharing.Shared => outer._custom ??= [],
            VariableSharing.Copied when outer._custom is { } set => new(set),
            _ => null,
        };
        foreach (var (name, value) in variables.Set)
        {
            Set(name, value);
        }
    }

    string? ByPrefix(string name)
    {
        if (BodyVariables.Is(name))
        {
            return BodyVariable(name);
        }
        var split = name.IndexOf('_', StringComparison.Ordinal);
        if (split < 0)
        {
            return null;
        }
        var rest = name[(split + 1)..];
        return name.AsSpan(0, split) switch
        {
            "arg" => QueryArguments.FindWire(Args, rest),
            "http" => Header(Request.Headers, rest),
            "cookie" => Request.Cookies[rest],
            "sent" when rest.StartsWith("http_", StringComparison.Ordinal) => Header(Response.Headers, rest[5..]),
            "upstream" when rest.StartsWith("http_", StringComparison.Ordinal) => Header(Response.Headers, rest[5..]),
            "uri" when rest.StartsWith("param_", StringComparison.Ordinal) => UriParameters.Get(rest[6..]),
            _ => null,
        };
    }

    static string? Header(Microsoft.AspNetCore.Http.IHeaderDictionary headers, string name) =>
        Header(headers, name, name.Replace('_', '-'));

    /// <summary>An underscore stands for a hyphen, or for itself.</summary>
    static string? Header(Microsoft.AspNetCore.Http.IHeaderDictionary headers, string name, string hyphened)
    {
        var value = headers[hyphened];
        if (value.Count == 0 && !ReferenceEquals(hyphened, name))
        {
            value = headers[name];
        }
        return StringValues.IsNullOrEmpty(value) ? null : value.Count == 1 ? value[0] : string.Join(", ", value.ToArray());
    }

    /// <summary>The first argument of this name that has an equals sign, not decoded, as nginx's <c>$arg_x</c>.</summary>
    string? RawArgument(string name)
    {
        foreach (var range in Args.AsSpan().Split('&'))
        {
            var pair = Args.AsSpan(range);
            var equals = pair.IndexOf('=');
            if (equals >= 0 && pair[..equals].Equals(name, StringComparison.OrdinalIgnoreCase))
            {
                return pair[(equals + 1)..].ToString();
            }
        }
        return null;
    }

    string? BasicUser()
    {
        var header = Request.Headers.Authorization.ToString();
        if (!header.StartsWith("Basic ", StringComparison.OrdinalIgnoreCase))
        {
            return null;
        }
        Span<byte> decoded = stackalloc byte[512];
        if (header.Length > 512 || !Convert.TryFromBase64String(header[6..].Trim(), decoded, out var length))
        {
            return null;
        }
        var text = System.Text.Encoding.UTF8.GetString(decoded[..length]);
        var colon = text.IndexOf(':', StringComparison.Ordinal);
        return colon > 0 ? text[..colon] : null;
    }

    /// <summary>
    /// How a variable of this name is read, for those who read it for every request: without a search for what it is. Null: there is
    /// nothing quicker than <see cref="Get"/>.
    /// </summary>
    public static Func<Observability.IVariables, string?>? Reader(string name)
    {
        Func<Exchange, string?>? read = name switch
        {
            "remote_addr" => static exchange => Text(exchange.RemoteAddress),
            "remote_user" => static exchange => exchange.BasicUser(),
            "time_local" => static exchange => LogTime.Of(exchange.Services.Time.GetUtcNow(), exchange.Services.Time).Local,
            "time_iso8601" => static exchange => LogTime.Of(exchange.Services.Time.GetUtcNow(), exchange.Services.Time).Iso8601,
            "request_method" or "method" => static exchange => exchange.UpstreamMethod,
            "host" => static exchange => exchange.Host,
            "uri" => static exchange => exchange.Uri,
            // for plugins it is made of the path that was matched; what is logged is what came
            "request_uri" => static exchange => RequestTarget.OriginForm(exchange.RawTarget),
            "status" => static exchange => Number(exchange.Response.StatusCode),
            "body_bytes_sent" or "bytes_sent" => static exchange => Number(exchange.BodyBytesSent),
            "request_time" => static exchange => Seconds(exchange.ElapsedMs / 1000),
            "upstream_addr" => static exchange => exchange.Upstream.Addresses,
            "upstream_status" => static exchange => exchange.Upstream.Statuses,
            "upstream_response_time" => static exchange => Seconds(exchange.Upstream.ResponseSeconds),
            "upstream_scheme" => static exchange => exchange.Upstream.Scheme ?? exchange.Request.Scheme,
            "upstream_host" => static exchange => exchange.Upstream.Host ?? exchange.Request.Headers.Host.ToString(),
            "upstream_uri" => static exchange => exchange.Upstream.Uri ?? "",
            _ when name.StartsWith("arg_", StringComparison.Ordinal) => ArgumentReader(name[4..]),
            _ when name.StartsWith("http_", StringComparison.Ordinal) => HeaderReader(name[5..], name[5..].Replace('_', '-')),
            _ => null,
        };
        return read is null ? null
            : name == "request_uri" || name.StartsWith("arg_", StringComparison.Ordinal) ? variables => variables is Exchange exchange
            ? read(exchange) : variables.Get(name)
            : variables => variables is Exchange { _custom: null } exchange ? read(exchange) : variables.Get(name);
    }

    static Func<Exchange, string?> ArgumentReader(string name) => exchange => exchange.RawArgument(name);

    static Func<Exchange, string?> HeaderReader(string name, string hyphened) =>
        exchange => Header(exchange.Request.Headers, name, hyphened);

    static string Text(IPAddress address) => (address.IsIPv4MappedToIPv6 ? address.MapToIPv4() : address).ToString();

    static readonly string[] Numbers = [.. Enumerable.Range(0, 1000).Select(number => number.ToString(CultureInfo.InvariantCulture))];

    internal static string Number(long number) =>
        number is >= 0 and < 1000 ? Numbers[number] : number.ToString(CultureInfo.InvariantCulture);

    /// <summary>Short times, which most are, as nginx writes them.</summary>
    static readonly string[] Milliseconds =
        [.. Enumerable.Range(0, 1000).Select(ms => string.Create(CultureInfo.InvariantCulture, $"0.{ms:D3}"))];

    static string? Seconds(double? seconds) => seconds switch
    {
        null => null,
        >= 0 and < 0.9995 and var little => Milliseconds[(int)((little * 1000) + 0.5)],
        var much => much.Value.ToString("F3", CultureInfo.InvariantCulture),
    };
}
