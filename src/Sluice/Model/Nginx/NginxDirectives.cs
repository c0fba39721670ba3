using System.Collections.Frozen;
using System.Globalization;
using Sluice.Net.Http;

namespace Sluice.Model.Nginx;

[Flags]
enum NginxContexts
{
    Main = 1,
    Http = 2,
    Server = 4,
    Location = 8,
    Everywhere = Http | Server | Location,
}

/// <summary>One directive that has an effect: where it may stand, how many arguments it takes, what it does to its level.</summary>
/// <param name="Set">Returns what is wrong with its arguments, null when nothing is.</param>
sealed record NginxRule(int MinArguments, int MaxArguments, bool Repeatable, Func<NginxLevel, string[], Action<string>, string?> Set)
{
    public NginxContexts Where { get; init; } = NginxContexts.Everywhere;

    /// <summary>What a wrong value should have been: <c>it must be "on" or "off"</c>.</summary>
    public static string Invalid(string value, string directive, string expected) =>
        $"invalid value \"{value}\" in \"{directive}\" directive, {expected}";
}

/// <summary>
/// The directives that the gateway knows. Those in <see cref="Effective"/> may stand in http, server and location; <c>http</c>,
/// <c>server</c>,
/// <c>location</c>, <c>listen</c>, <c>server_name</c>, <c>http2</c> and <c>include</c> are read by <see cref="NginxConfigReader"/> itself.
/// </summary>
static class NginxDirectives
{
    /// <summary>nginx would take more, and then fail to allocate it.</summary>
    const long MaxBuffer = 1L << 30;

    /// <summary>The most that one request's head may be allowed to take.</summary>
    const long MaxHead = 64L << 20;

    public static FrozenDictionary<string, NginxRule> Effective { get; } = new Dictionary<string, NginxRule>
    {
        ["proxy_buffering"] = Flag("proxy_buffering", (level, on) => level.ProxyBuffering = on),
        ["proxy_request_buffering"] = Flag("proxy_request_buffering", (level, on) => level.ProxyRequestBuffering = on),
        ["chunked_transfer_encoding"] = Flag("chunked_transfer_encoding", (level, on) => level.ChunkedTransferEncoding = on),
        ["tcp_nodelay"] = WithoutEffect(Flag("tcp_nodelay", (_, _) => { }), "off", "tcp_nodelay", "small pieces are never held back"),
        ["proxy_buffer_size"] = Size("proxy_buffer_size", 1, MaxBuffer, (level, size) => level.ProxyBufferSize = (int)size),
        ["proxy_busy_buffers_size"] = Size("proxy_busy_buffers_size", 1, MaxBuffer,
            (level, size) => level.ProxyBusyBuffersSize = (int)size),
        ["proxy_max_temp_file_size"] = Size("proxy_max_temp_file_size", 0, long.MaxValue,
            (level, size) => level.ProxyMaxTempFileSize = size),
        ["client_body_buffer_size"] = Size("client_body_buffer_size", 1, MaxBuffer,
            (level, size) => level.ClientBodyBufferSize = (int)size),
        ["client_max_body_size"] = Size("client_max_body_size", 0, long.MaxValue, (level, size) => level.ClientMaxBodySize = size),
        ["proxy_connect_timeout"] = Time("proxy_connect_timeout", (level, time) => level.ProxyConnectTimeout = time),
        ["proxy_send_timeout"] = Time("proxy_send_timeout", (level, time) => level.ProxySendTimeout = time),
        ["proxy_read_timeout"] = Time("proxy_read_timeout", (level, time) => level.ProxyReadTimeout = time),
        ["send_timeout"] = Time("send_timeout", (level, time) => level.SendTimeout = time),
        ["client_header_timeout"] = Time("client_header_timeout", (level, time) => level.ClientHeaderTimeout = time),
        ["client_body_timeout"] = Time("client_body_timeout", (level, time) => level.ClientBodyTimeout = time),
        ["keepalive_timeout"] = Time("keepalive_timeout", (level, time) => level.KeepaliveTimeout = time) with { MaxArguments = 2 },
        ["proxy_buffers"] = new(2, 2, false, SetBuffers),
        ["proxy_temp_path"] = new(1, 4, false, SetTempPath),
        ["proxy_ignore_headers"] = new(1, int.MaxValue, true, IgnoreHeaders),
        ["proxy_http_version"] = WithoutEffect(new(1, 1, false, CheckHttpVersion), "1.0", "proxy_http_version",
            "upstreams are spoken to in HTTP/1.1"),
        ["proxy_set_header"] = new(2, 2, true, SetHeader),
        ["add_header"] = new(2, 3, true, (level, arguments, _) => AddTo(level.AddHeaders, arguments, "add_header")),
        ["error_page"] = new(2, int.MaxValue, true, AddErrorPage),
        ["proxy_ignore_client_abort"] = Flag("proxy_ignore_client_abort", (level, on) => level.IgnoreClientAbort = on),
        ["proxy_intercept_errors"] = Flag("proxy_intercept_errors", (level, on) => level.InterceptErrors = on),
        ["return"] = new(1, 2, true, SetReturn) { Where = NginxContexts.Server | NginxContexts.Location },
        ["internal"] = new(0, 0, false, SetInternal) { Where = NginxContexts.Location },
        ["default_type"] = new(1, 1, false, SetDefaultType),
        ["large_client_header_buffers"] = new(2, 2, false, SetHeaderBuffers) { Where = NginxContexts.Http | NginxContexts.Server },
        ["client_header_buffer_size"] =
            Size("client_header_buffer_size", 1, MaxHead,
                (level, size) => level.HeaderBuffer = (int)size) with { Where = NginxContexts.Http | NginxContexts.Server },
        ["max_headers"] = new(1, 1, false, SetMaxHeaders) { Where = NginxContexts.Http | NginxContexts.Server },
        ["ignore_invalid_headers"] =
            Flag("ignore_invalid_headers",
                (level, on) => level.IgnoreInvalidHeaders = on) with { Where = NginxContexts.Http | NginxContexts.Server },
        ["root"] = new(1, 1, false, (level, arguments, warn) => SetFiles(level, "root", arguments[0], warn)),
        ["alias"] = new(1, 1, false, (level, arguments, warn) =>
            SetFiles(level, "alias", arguments[0], warn)) { Where = NginxContexts.Location },
    }.ToFrozenDictionary();

    /// <summary>The argument of a directive that takes variables; null when it takes none.</summary>
    public static string? TextOf(NginxDirective directive) => directive.Name switch
    {
        "add_header" or "proxy_set_header" => directive.Arguments[1],
        "return" or "error_page" => directive.Arguments[^1],
        _ => null,
    };

    static NginxRule Flag(string name, Action<NginxLevel, bool> set) => new(1, 1, false, (level, arguments, _) =>
    {
        var value = arguments[0].ToLowerInvariant();
        if (value is not ("on" or "off"))
        {
            return NginxRule.Invalid(arguments[0], name, "it must be \"on\" or \"off\"");
        }
        set(level, value == "on");
        return null;
    });

    static NginxRule Size(string name, long min, long max, Action<NginxLevel, long> set) => new(1, 1, false, (level, arguments, _) =>
    {
        if (!NginxUnits.TryParseSize(arguments[0], out var size) || size < min || size > max)
        {
            return NginxRule.Invalid(arguments[0], name, "it must be a size like 4096, 4k or 1m" + Limits(min, max));
        }
        set(level, size);
        return null;
    });

    static string Limits(long min, long max) => max == MaxBuffer ? $", from {min} byte to 1g" : "";

    static NginxRule Time(string name, Action<NginxLevel, TimeSpan> set) => new(1, 1, false, (level, arguments, warn) =>
    {
        if (!NginxUnits.TryParseTime(arguments[0], out var time))
        {
            return NginxRule.Invalid(arguments[0], name, "it must be a time like 60s, 5m, 1h30m or 500ms");
        }
        if (arguments.Length > 1)
        {
            warn($"the second value of \"{name}\" has no meaning here: no Keep-Alive header is sent");
        }
        set(level, time);
        return null;
    });

    static string? SetBuffers(NginxLevel level, string[] arguments, Action<string> warn)
    {
        if (!int.TryParse(arguments[0], NumberStyles.None, CultureInfo.InvariantCulture, out var number) || number is < 1 or > 1 << 20)
        {
            return NginxRule.Invalid(arguments[0], "proxy_buffers", "the number of buffers comes first: \"proxy_buffers 8 4k\"");
        }
        if (!NginxUnits.TryParseSize(arguments[1], out var size) || size is < 1 or > MaxBuffer)
        {
            return NginxRule.Invalid(arguments[1], "proxy_buffers", "it must be a size like 4096, 4k or 1m");
        }
        level.ProxyBuffers = (number, (int)size);
        return null;
    }

    static string? SetHeaderBuffers(NginxLevel level, string[] arguments, Action<string> warn)
    {
        const string name = "large_client_header_buffers";
        if (!int.TryParse(arguments[0], NumberStyles.None, CultureInfo.InvariantCulture, out var number) || number is < 1 or > 1 << 16)
        {
            return NginxRule.Invalid(arguments[0], name, "the number of buffers comes first: \"large_client_header_buffers 4 8k\"");
        }
        if (!NginxUnits.TryParseSize(arguments[1], out var size) || size is < 256 or > MaxHead || number * size > MaxHead)
        {
            return NginxRule.Invalid(arguments[1], name, "it must be a size from 256 to 64m, and so must the size of all buffers");
        }
        level.HeaderBuffers = (number, (int)size);
        return null;
    }

    static string? SetMaxHeaders(NginxLevel level, string[] arguments, Action<string> warn)
    {
        if (!int.TryParse(arguments[0], NumberStyles.None, CultureInfo.InvariantCulture, out var most) || most is < 1 or > 10000)
        {
            return NginxRule.Invalid(arguments[0], "max_headers", "it must be a number from 1 to 10000");
        }
        level.MaxHeaders = most;
        return null;
    }

    static string? SetTempPath(NginxLevel level, string[] arguments, Action<string> warn)
    {
        if (arguments[0].Length == 0)
        {
            return NginxRule.Invalid("", "proxy_temp_path", "it must be a directory");
        }
        foreach (var digits in arguments.Skip(1))
        {
            if (digits is not ("1" or "2" or "3"))
            {
                return NginxRule.Invalid(digits, "proxy_temp_path", "a level must be 1, 2 or 3");
            }
        }
        if (arguments.Length > 1)
        {
            warn("the levels of \"proxy_temp_path\" have no meaning here: temporary files have no names");
        }
        level.ProxyTempPath = arguments[0];
        return null;
    }

    static string? IgnoreHeaders(NginxLevel level, string[] arguments, Action<string> warn)
    {
        level.IgnoreAccelBuffering ??= false;
        foreach (var header in arguments)
        {
            switch (header.ToLowerInvariant())
            {
                case "x-accel-buffering":
                    level.IgnoreAccelBuffering = true;
                    break;
                case "x-accel-redirect" or "x-accel-expires" or "x-accel-limit-rate" or "x-accel-charset" or "expires" or "cache-control"
                    or "set-cookie" or "vary":
                    warn($"\"proxy_ignore_headers {header}\" has no effect here: only X-Accel-Buffering is obeyed");
                    break;
                default:
                    return NginxRule.Invalid(header, "proxy_ignore_headers",
                        "it must be one of X-Accel-Buffering, X-Accel-Redirect, X-Accel-Expires, X-Accel-Limit-Rate, X-Accel-Charset, "
                            + "Expires, Cache-Control, Set-Cookie, Vary");
            }
        }
        return null;
    }

    static string? CheckHttpVersion(NginxLevel level, string[] arguments, Action<string> warn) =>
        arguments[0] is "1.0" or "1.1" ? null : NginxRule.Invalid(arguments[0], "proxy_http_version", "it must be \"1.0\" or \"1.1\"");

    /// <summary>One value of the directive asks for what is not done here.</summary>
    static NginxRule WithoutEffect(NginxRule rule, string value, string name, string why) => rule with
    {
        Set = (level, arguments, warn) =>
        {
            if (arguments[0].Equals(value, StringComparison.OrdinalIgnoreCase))
            {
                warn($"\"{name} {value}\" has no effect here: {why}");
            }
            return rule.Set(level, arguments, warn);
        },
    };

    static string? AddErrorPage(NginxLevel level, string[] arguments, Action<string> warn)
    {
        var (codes, status, target) = (arguments[..^1], (int?)null, arguments[^1]);
        if (codes.Length > 1 && codes[^1] is ['=', .. var written])
        {
            if (written.Length > 0 && !TryStatus(written, 200, 999, out _))
            {
                return NginxRule.Invalid(codes[^1], "error_page", "it must be \"=\" or \"=\" and a status");
            }
            status = written.Length == 0 ? 0 : int.Parse(written, CultureInfo.InvariantCulture);
            codes = codes[..^1];
        }
        foreach (var code in codes)
        {
            if (!TryStatus(code, 300, 599, out _) || code == "499")
            {
                return NginxRule.Invalid(code, "error_page", "it must be a status from 300 to 599, not 499");
            }
        }
        if (target is not ['/', ..] and not ['@', _, ..] && !target.Contains("://", StringComparison.Ordinal))
        {
            return NginxRule.Invalid(target, "error_page", "it must be a path, a location's @name or a URL");
        }
        if (target.StartsWith('/') && (target.Contains('$', StringComparison.Ordinal) || target.Split('?')[0].Split('/').Contains("..")))
        {
            return NginxRule.Invalid(target, "error_page", "a path has no variables and no \"..\" here");
        }
        level.ErrorPages.Add(new([.. codes.Select(code => int.Parse(code, CultureInfo.InvariantCulture))], status, target));
        return null;
    }

    static bool TryStatus(string text, int min, int max, out int status) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out status) && status >= min && status <= max;

    static string? SetReturn(NginxLevel level, string[] arguments, Action<string> warn)
    {
        var isCode = TryStatus(arguments[0], 0, 999, out var status);
        if (!isCode && (arguments.Length > 1 || !(arguments[0].StartsWith("http://", StringComparison.OrdinalIgnoreCase)
            || arguments[0].StartsWith("https://", StringComparison.OrdinalIgnoreCase)
            || arguments[0].StartsWith("$scheme", StringComparison.Ordinal))))
        {
            return NginxRule.Invalid(arguments[0], "return", "it must be a status or a URL");
        }
        // 444: the connection is closed
        if (isCode && status is < 200 or (> 599 and not 444))
        {
            return NginxRule.Invalid(arguments[0], "return", "it must be a status from 200 to 599");
        }
        var written = isCode ? new NginxReturn(status, arguments.Length > 1 ? arguments[1] : null) : new NginxReturn(302, arguments[0]);
        if (written is { IsRedirect: true, Text: null })
        {
            return $"\"return {status}\" has to say where to";
        }
        // the first one ends what nginx does with the request
        level.Return ??= written;
        return null;
    }

    static string? SetInternal(NginxLevel level, string[] arguments, Action<string> warn)
    {
        level.IsInternal = true;
        return null;
    }

    static string? SetDefaultType(NginxLevel level, string[] arguments, Action<string> warn)
    {
        if (arguments[0].AsSpan().ContainsAny("\r\n\0"))
        {
            return NginxRule.Invalid(arguments[0].ReplaceLineEndings("\\n"), "default_type", "it must be a media type");
        }
        level.DefaultType = arguments[0];
        return null;
    }

    static string? SetFiles(NginxLevel level, string name, string path, Action<string> warn)
    {
        if (path.Length == 0 || path.Contains('$', StringComparison.Ordinal) || path.Contains('\0', StringComparison.Ordinal))
        {
            return NginxRule.Invalid(path, name, "it must be a path without variables");
        }
        if (level.Context != NginxContexts.Location)
        {
            warn($"\"{name}\" counts for pages of \"error_page\" only: routes say where requests go");
        }
        level.Files = (path, name == "alias");
        return null;
    }

    static string? SetHeader(NginxLevel level, string[] arguments, Action<string> warn)
    {
        var (name, value) = (arguments[0], arguments[1]);
        // both lines of "WebSocket proxying" do what they do in nginx; kept connections are what Connection "" asks for
        if (HopByHop.ContainsOfRequest(name) && !HeaderName.Is(name, "Upgrade")
            && !(HeaderName.Is(name, "Connection") && MayUpgrade(value)))
        {
            warn($"\"proxy_set_header {name}\" has no effect here: "
                + (HeaderName.Is(name, "Connection") ? "connections to upstreams are kept as keepalive_pool of the upstream says"
                    : "the gateway frames requests itself"));
        }
        return AddTo(level.SetHeaders, arguments, "proxy_set_header");

        static bool MayUpgrade(string value) =>
            value.Length == 0 || value.Contains("upgrade", StringComparison.OrdinalIgnoreCase)
            || value.Contains('$', StringComparison.Ordinal);
    }

    static string? AddTo(List<NginxHeader> headers, string[] arguments, string directive)
    {
        var (name, value) = (arguments[0], arguments[1]);
        if (!HeaderName.IsToken(name))
        {
            return NginxRule.Invalid(name, directive, "it must be the name of a header");
        }
        if (directive == "add_header" && HopByHop.IsFraming(name))
        {
            return NginxRule.Invalid(name, directive, "the gateway frames answers itself");
        }
        if (value.AsSpan().ContainsAny("\r\n\0"))
        {
            return NginxRule.Invalid(value.ReplaceLineEndings("\\n"), directive, "a header has one line");
        }
        if (arguments.Length == 3 && arguments[2] != "always")
        {
            return $"invalid parameter \"{arguments[2]}\" in \"{directive}\" directive, it must be \"always\"";
        }
        headers.Add(new(name, value, Always: arguments.Length == 3));
        return null;
    }

    /// <summary>What to use instead of a directive that has no meaning here, null when there is nothing; false when nobody knows the
    /// name.</summary>
    public static bool IsIgnored(string name, out string? instead)
    {
        instead = NginxUnusedDirectives.Instead(name) ?? OfOpenResty(name);
        return instead is not null || (OtherModules.Any(prefix => name.StartsWith(prefix, StringComparison.Ordinal))
            // a typing error in a directive that matters must not pass for one of another module
            && Suggestion.Nearest(name, Effective.Keys, most: 2) is null);
    }

    static string? OfOpenResty(string name) => name switch
    {
        "lua_package_path" => "use apisix.extra_lua_path in conf/config.yaml",
        "lua_shared_dict" => "shared dictionaries need no sizes here: whoever asks for one gets it",
        _ when name.EndsWith("_by_lua_block", StringComparison.Ordinal) || name.EndsWith("_by_lua_file", StringComparison.Ordinal)
            || name.EndsWith("_by_lua", StringComparison.Ordinal) => "use the plugin serverless-pre-function or serverless-post-function",
        _ when name.StartsWith("more_", StringComparison.Ordinal) => "use the plugin proxy-rewrite or response-rewrite: headers",
        _ => null,
    };

    /// <summary>Modules that are not nginx's own: what their directives begin with.</summary>
    static readonly string[] OtherModules =
    [
        "lua_", "brotli", "zstd", "geoip2", "opentelemetry", "opentracing", "vhost_traffic_status", "set_by", "set_escape", "set_unescape",
        "set_quote",
        "set_md5", "set_sha", "set_base", "set_encode", "set_decode", "set_hash", "set_if", "set_random", "set_secure", "set_encrypt",
        "set_form",
        "set_local", "set_rotate", "echo", "push_stream", "nchan_", "upload_", "postgres_", "drizzle_", "redis", "apisix_", "wasm_",
        "modsecurity",
        "encrypted_session", "array_", "rds_", "srcache_", "xss_", "memc_", "headers_more", "dav_ext", "fancyindex", "pagespeed",
        "passenger", "rtmp",
        "auth_ldap", "auth_pam", "auth_spnego", "cookie_flag", "security_headers", "testcookie", "naxsi", "sysguard", "concat", "upsync",
        "dyups",
        "check_", "check", "lua", "spdy_", "kqueue_", "epoll_", "eventport_", "devpoll_", "aio_", "proxy_dubbo", "dubbo_",
        "real_ip_recursive_",
    ];
}
