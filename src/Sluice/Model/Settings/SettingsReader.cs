using System.Net;
using System.Text.Json.Nodes;
using Sluice.Model.Nginx;
using Sluice.Model.Yaml;
using Sluice.Observability;

namespace Sluice.Model.Settings;

/// <summary>Reads an instance's <c>conf/config.yaml</c> and <c>conf/nginx.conf</c>.</summary>
internal sealed class SettingsReader
{
    const string ConfigFile = "conf/config.yaml";
    const long MaxFile = 16 << 20;

    readonly string _prefix;
    readonly List<Problem> _problems;
    readonly SettingsValues _values;

    SettingsReader(string prefix, List<Problem> problems, SettingsValues values)
    {
        _prefix = prefix;
        _problems = problems;
        _values = values;
    }

    /// <summary>Settings are null exactly when a problem is an error. A file that does not exist means the defaults.</summary>
    public static (GatewaySettings? Settings, IReadOnlyList<Problem> Problems) Load(string prefix, Func<string, string?> environment)
    {
        var problems = new List<Problem>();
        var config = ReadFile(prefix, ConfigFile, problems);
        var nginx = ReadFile(prefix, "conf/nginx.conf", problems);
        return Read(prefix, config, nginx, environment, problems);
    }

    /// <summary>The same for texts that are not on disk.</summary>
    public static (GatewaySettings? Settings, IReadOnlyList<Problem> Problems) Parse(
        string prefix, string config, string? nginx, Func<string, string?> environment) =>
        Read(prefix, config, nginx, environment, []);

    static string? ReadFile(string prefix, string name, List<Problem> problems)
    {
        var path = Path.Combine(prefix, name);
        try
        {
            if (!File.Exists(path) && !Directory.Exists(path))
            {
                return null;
            }
            if (new FileInfo(path) is { Exists: true, Length: > MaxFile })
            {
                problems.Add(Problem.Error(name, $"is larger than {MaxFile >> 20} MB"));
                return null;
            }
            return File.ReadAllText(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            problems.Add(Problem.Error(name, $"cannot be read: {e.Message.ReplaceLineEndings(" ")}"));
            return null;
        }
    }

    static (GatewaySettings? Settings, IReadOnlyList<Problem> Problems) Read(
        string prefix, string? config, string? nginx, Func<string, string?> environment, List<Problem> problems)
    {
        prefix = Path.GetFullPath(prefix);
        try
        {
            var tree = YamlReader.Parse(config ?? "", ConfigFile, environment);
            problems.AddRange(tree.Problems);
            var values = new SettingsValues(tree, problems);
            // a value of the wrong type has no meaning to go on with
            var readable = problems.TrueForAll(problem => problem.Severity != Severity.Error);
            var nginxConfig = ReadNginx(prefix, nginx, readable ? values : null, problems);
            var settings = readable ? new SettingsReader(prefix, problems, values).Build(nginxConfig) : null;
            return (problems.Exists(problem => problem.Severity == Severity.Error) ? null : settings, problems);
        }
        catch (YamlTextException e)
        {
            problems.Add(e.ToProblem());
            ReadNginx(prefix, nginx, null, problems);
            return (null, problems);
        }
    }

    static NginxConfig ReadNginx(string prefix, string? conf, SettingsValues? values, List<Problem> problems)
    {
        string? Snippet(string key) => values?.Text("nginx_config." + key);
        (string Name, string Value, string Place) Directive(string name, string? value = null) =>
            (name, value ?? values!.Text("nginx_config.http." + name), values!.Place("nginx_config.http." + name));
        const string requestBuffering = "proxy_request_buffering";
        string[] directives = ["keepalive_timeout", "client_header_timeout", "client_body_timeout", "client_max_body_size", "send_timeout"];
        var (config, found) = NginxConfigReader.Read(new(
            conf,
            Path.Combine(prefix, "conf"),
            Snippet("http_configuration_snippet"),
            Snippet("http_server_configuration_snippet"),
            Snippet("http_server_location_configuration_snippet"),
            Snippet("http_end_configuration_snippet"),
            values is null ? null :
            [
                .. directives.Select(name => Directive(name)),
                // where nobody says it, a stream is another matter than anything else
                .. values.IsGiven("nginx_config.http." + requestBuffering)
                    ? [Directive(requestBuffering, values.Flag("nginx_config.http." + requestBuffering) ? "on" : "off")]
                    : Array.Empty<(string, string, string)>(),
            ],
            values is null ? null : [.. Listens(values, "apisix.node_listen", tls: false).Select(listen => listen.EndPoint)]));
        problems.AddRange(found);
        return config;
    }

    GatewaySettings Build(NginxConfig nginx)
    {
        var role = _values.Text("deployment.role") switch
        {
            "data_plane" => DeploymentRole.DataPlane,
            "control_plane" => DeploymentRole.ControlPlane,
            _ => DeploymentRole.Traditional,
        };
        var provider = Provider();
        var tls = Tls(nginx);
        var keys = AdminKeys();
        var isPushed = provider == ConfigProvider.Yaml && role == DeploymentRole.Traditional && _values.Flag("apisix.enable_admin")
            && !File.Exists(Absolute("conf/apisix.yaml"));
        var settings = new GatewaySettings
        {
            Prefix = _prefix,
            ConfigProvider = provider,
            IsPushed = isPushed,
            Encryption = new([.. _values.Texts("apisix.data_encryption.keyring") ?? [],
                .. _values.Texts("apisix.ssl.key_encrypt_salt") ?? []], _values.Flag("apisix.data_encryption.enable_encrypt_fields")),
            Etcd = provider == ConfigProvider.Etcd ? Etcd() : null,
            Tls = tls,
            Listens = role == DeploymentRole.ControlPlane || _values.Text("apisix.proxy_mode") == "stream" ? [] : AllListens(nginx, tls),
            Streams = Streams(role),
            // who reads a file has nothing that the Admin API could change
            Admin = role == DeploymentRole.DataPlane || (provider == ConfigProvider.Yaml && !isPushed)
                || !_values.Flag("apisix.enable_admin") ? null : Admin(keys),
            AdminKeys = keys,
            PlaceOf = _values.PlaceOrKey,
            OwnHosts = _values.Texts("sluice.ui.hosts") ?? [],
            StreamMode = _values.Text("apisix.proxy_mode").Contains("stream", StringComparison.Ordinal),
            Control = _values.Flag("apisix.enable_control") ? EndPoint("apisix.control") : null,
            Status = EndPoint("apisix.status"),
            Dns = new(
                _values.Texts("apisix.dns_resolver") is { Count: > 0 } servers ? [.. servers.Select(Resolver)] : null,
                _values.Seconds("apisix.dns_resolver_valid"),
                _values.Seconds("apisix.resolver_timeout")!.Value),
            Discovery = new(DnsDiscovery(), Consul()),
            Logs = Logs(nginx),
            Http = Http(),
            Plugins = _values.Texts("plugins"),
            StreamDefaults = _values.Get("sluice.streams.defaults") as JsonObject,
            KeepAlive = new(
                _values.Seconds("sluice.streams.tcp_keepalive.idle") ?? TimeSpan.Zero,
                _values.Seconds("sluice.streams.tcp_keepalive.interval")!.Value,
                (int)_values.Whole("sluice.streams.tcp_keepalive.probes")),
            Drain = new(
                _values.Seconds("sluice.streams.drain.wait") ?? TimeSpan.Zero,
                _values.Seconds("sluice.streams.drain.over") ?? TimeSpan.Zero,
                _values.Seconds("sluice.streams.drain.retry_min") ?? TimeSpan.Zero,
                _values.Seconds("sluice.streams.drain.retry_max") ?? TimeSpan.Zero),
            ProxyCache = ProxyCache(),
            PluginAttributes = PluginAttributes(),
            SecretTimes = (_values.Seconds("apisix.lru.secret.ttl")!.Value, _values.Seconds("apisix.lru.secret.neg_ttl")!.Value),
            Nginx = nginx,
            DebugHeaders = _values.Flag("sluice.debug_headers"),
            Transport = new(
                _values.Text("sluice.transport") == "epoll",
                int.TryParse(_values.Text("nginx_config.worker_processes"), out var count) ? count : Environment.ProcessorCount),
            ShutdownTimeout = _values.Seconds("sluice.shutdown_timeout")!.Value,
            Live = new(_values.Whole("sluice.streams.max"), _values.Flag("sluice.streams.control_write"),
                _values.Flag("sluice.streams.access_log_start")),
            TailMemory = NginxUnits.TryParseSize(_values.Text("sluice.streams.tail_memory"), out var tailMemory) ? tailMemory : 0,
            QueueMemory = NginxUnits.TryParseSize(_values.Text("sluice.streams.queue_memory"), out var queueMemory) ? queueMemory : 0,
            MaxDetached = (int)_values.Whole("sluice.streams.max_detached"),
            DataDirectory = Absolute(_values.Text("sluice.data_dir")),
            Local = _values.Whole().ToJsonString(),
            InstanceId = _values.Text("apisix.id"),
            ExtraLuaPath = _values.Text("apisix.extra_lua_path"),
            LuaSandbox = _values.Flag("sluice.lua.sandbox"),
            LuaJit = _values.Flag("sluice.lua.jit"),
            LuaMemoryLimit = Math.Max(8L, _values.Whole("sluice.lua.memory_limit")) << 20,
        };
        CheckPorts(settings);
        return settings;
    }

    string Absolute(string path) => Path.GetFullPath(Path.Combine(_prefix, path));

    ConfigProvider Provider()
    {
        var path = $"deployment.role_{_values.Text("deployment.role")}.config_provider";
        switch (_values.Text(path))
        {
            case "embedded":
                return ConfigProvider.Embedded;
            case "yaml":
                return ConfigProvider.Yaml;
            case "json":
                return ConfigProvider.Json;
            case "etcd":
                return ConfigProvider.Etcd;
            case var other:
                var instead = path.Contains("data_plane", StringComparison.Ordinal) ? "yaml, json or etcd"
                    : path.Contains("control_plane", StringComparison.Ordinal) ? "embedded or etcd" : "embedded, yaml or etcd";
                _values.Error(path, $"config_provider \"{other}\" comes later; use {instead}");
                return ConfigProvider.Embedded;
        }
    }

    EtcdSettings Etcd()
    {
        const string section = "deployment.etcd.";
        var hosts = new List<Uri>();
        foreach (var text in _values.Texts(section + "host") ?? [])
        {
            if (Uri.TryCreate(text, UriKind.Absolute, out var host) && host.Scheme is "http" or "https" && host.PathAndQuery == "/"
                && host.UserInfo.Length == 0)
            {
                hosts.Add(host);
            }
            else
            {
                _values.Error(section + "host", $"expected http://HOST:PORT or https://HOST:PORT, got \"{text}\"");
            }
        }
        if (hosts.Count == 0)
        {
            _values.Error(section + "host", "there is no endpoint");
        }
        var prefix = _values.Text(section + "prefix").TrimEnd('/');
        if (prefix.Length < 2 || prefix[0] != '/')
        {
            _values.Error(section + "prefix", "expected a path like /apisix");
        }
        var (cert, key) = (_values.Text(section + "tls.cert"), _values.Text(section + "tls.key"));
        if (cert.Length == 0 != (key.Length == 0))
        {
            _values.Error(section + (cert.Length == 0 ? "tls.key" : "tls.cert"), "certificate and key belong together");
        }
        return new(
            hosts,
            prefix,
            _values.Text(section + "user") is { Length: > 0 } user ? user : null,
            _values.Text(section + "password") is { Length: > 0 } password ? password : null,
            AtLeast(section + "timeout", 0.1),
            AtLeast(section + "watch_timeout", 1),
            _values.Whole(section + "startup_retry"),
            cert.Length > 0 && key.Length > 0 ? (ExistingFile(section + "tls.cert"), ExistingFile(section + "tls.key")) : null,
            _values.Flag(section + "tls.verify"),
            _values.Text(section + "tls.sni") is { Length: > 0 } sni ? sni : null,
            _values.Text("apisix.ssl.ssl_trusted_certificate") is { Length: > 0 } file && file != "system"
            ? ExistingFile("apisix.ssl.ssl_trusted_certificate") : null);
    }

    TimeSpan AtLeast(string path, double seconds) => TimeSpan.FromSeconds(Math.Max(seconds, _values.Seconds(path)!.Value.TotalSeconds));

    List<AdminKey> AdminKeys()
    {
        var keys = new List<AdminKey>();
        var index = 0;
        foreach (var item in _values.List("deployment.admin.admin_key"))
        {
            var key = item["key"] is { } text ? _values.TextOf(text) : "";
            if (key.Length == 0)
            {
                _values.Error($"deployment.admin.admin_key[{index}]" + (item["key"] is null ? "" : ".key"),
                    "the key is empty: write one, or leave admin_key out and the first start makes one");
            }
            else if (keys.Exists(other => other.Key == key))
            {
                _values.Error($"deployment.admin.admin_key[{index}].key", "two entries have the same key");
            }
            else
            {
                keys.Add(new(item["name"] is { } name ? _values.TextOf(name) : "admin", key, (string?)item["role"] == "viewer"));
            }
            index++;
        }
        return keys;
    }

    AdminSettings Admin(IReadOnlyList<AdminKey> keys)
    {
        var required = _values.Flag("deployment.admin.admin_key_required");
        if (!required)
        {
            _values.Warn("deployment.admin.admin_key_required",
                "the Admin API asks for no key: whoever reaches its port may change everything");
        }
        return new(EndPoint("deployment.admin.admin_listen"), keys, required, Ranges("deployment.admin.allow_admin"),
            _values.Flag("deployment.admin.enable_admin_cors"));
    }

    IPEndPoint EndPoint(string section) => new(SettingType.ParseAddress(_values.Text(section + ".ip"))!, _values.Whole(section + ".port"));

    IReadOnlyList<Cidr> Ranges(string path) =>
        [.. (_values.Texts(path) ?? []).Where(text => text != "unix:")
            .Select(text => Cidr.TryParse(text, out var range) ? range : default)];

    static IPEndPoint Resolver(string text)
    {
        if (SettingType.ParseAddress(text) is { } address)
        {
            return new(address, 53);
        }
        return IPEndPoint.Parse(text);
    }

    DnsDiscoverySettings DnsDiscovery() => new(
        (_values.Texts("discovery.dns.servers")
            ?? (_values.IsGiven("discovery.dns.resolv_conf") ? null : _values.Texts("apisix.dns_resolver")))
            is { Count: > 0 } servers ? [.. servers.Select(Resolver)] : null,
        _values.Text("discovery.dns.resolv_conf") is { Length: > 0 } file ? Absolute(file) : "/etc/resolv.conf",
        _values.Texts("discovery.dns.order")!,
        _values.Seconds("apisix.resolver_timeout")!.Value,
        _values.Seconds("apisix.dns_resolver_valid"));

    ConsulSettings? Consul()
    {
        const string Section = "discovery.consul.";
        if (_values.Texts(Section + "servers") is not { Count: > 0 } servers)
        {
            return null;
        }
        TimeSpan Milliseconds(string key) => TimeSpan.FromMilliseconds(Math.Max(1, _values.Whole(Section + key)));
        var weight = Math.Max(1, _values.Whole(Section + "weight"));
        var host = _values.Text(Section + "default_service.host");
        var dump = _values.Text(Section + "dump.path");
        return new(
            [.. servers.Select(server => new Uri(server))],
            _values.Text(Section + "token"),
            _values.Flag(Section + "keepalive"),
            TimeSpan.FromSeconds(Math.Max(0.1, _values.Seconds(Section + "fetch_interval")!.Value.TotalSeconds)),
            weight,
            ["consul", .. _values.Texts(Section + "skip_services") ?? []],
            Milliseconds("timeout.connect"),
            Milliseconds("timeout.read"),
            TimeSpan.FromSeconds(Math.Max(1, _values.Whole(Section + "timeout.wait"))),
            host.Length == 0 ? null : new NodeConfig(host, _values.Whole(Section + "default_service.port"), weight),
            dump.Length == 0 ? null : Absolute(dump),
            _values.Flag(Section + "dump.load_on_init"),
            TimeSpan.FromSeconds(_values.Whole(Section + "dump.expire")));
    }

    LogSettings Logs(NginxConfig nginx)
    {
        var errorLog = _values.Text("nginx_config.error_log");
        return new(
            errorLog is "stderr" or "/dev/stderr" ? "stderr" : Absolute(errorLog),
            _values.Text("nginx_config.error_log_level"),
            AccessLog("nginx_config.http", AccessLogFormat.Default, nginx),
            AccessLog("nginx_config.stream", AccessLogFormat.StreamDefault, null));
    }

    AccessLogSettings AccessLog(string section, string byDefault, NginxConfig? nginx)
    {
        AccessLogFormat? format = null;
        var escape = _values.Text($"{section}.access_log_format_escape") switch
        {
            "json" => AccessLogEscape.Json,
            "none" => AccessLogEscape.None,
            _ => AccessLogEscape.Default,
        };
        try
        {
            format = AccessLogFormat.Compile(Unquoted(_values.Text($"{section}.access_log_format")), escape);
            CheckVariables($"{section}.access_log_format", format, nginx);
        }
        catch (FormatException e)
        {
            _values.Error($"{section}.access_log_format", e.Message);
        }
        return new(
            _values.Flag($"{section}.enable_access_log") ? Absolute(_values.Text($"{section}.access_log")) : null,
            format ?? AccessLogFormat.Compile(byDefault));
    }

    void CheckVariables(string path, AccessLogFormat format, NginxConfig? nginx)
    {
        foreach (var name in format.Variables.Distinct())
        {
            var (error, warning) = NginxVariables.Check(name, nginx is null ? null : [.. nginx.Maps.Keys], inStream: nginx is null);
            if (error is not null && nginx is null)
            {
                _values.Error(path, error);
            }
            else if ((error is null ? warning : $"{error}: it is empty unless a script registers it") is { } word)
            {
                _values.Warn(path, word);
            }
        }
    }

    // APISIX puts the format into a quoted string of nginx.conf: its escapes count. '"$a" "$b"' there are two quoted strings, joined.
    static string Unquoted(string format)
    {
        var trimmed = format.Trim();
        if (trimmed is not ['"' or '\'', ..])
        {
            return NginxParser.Unescape(trimmed);
        }
        try
        {
            return NginxParser.Parse(new("", $"log_format {trimmed};")) is [var only] ? string.Concat(only.Arguments) : trimmed;
        }
        catch (NginxSyntaxException)
        {
            return trimmed;
        }
    }

    HttpSettings Http() => new(
        _values.Text("apisix.router.http") switch
        {
            "radixtree_uri" => RouterMode.Uri,
            "radixtree_uri_with_parameter" => RouterMode.UriWithParameter,
            _ => RouterMode.HostUri,
        },
        _values.Flag("apisix.delete_uri_tail_slash"),
        _values.Flag("apisix.normalize_uri_like_servlet"),
        _values.Flag("apisix.match_uri_encoded_slash"),
        _values.Flag("apisix.enable_server_tokens"),
        _values.Flag("apisix.show_upstream_status_in_response_header"),
        Ranges("apisix.trusted_addresses"),
        _values.Flag("nginx_config.http.underscores_in_headers"),
        _values.Text("nginx_config.http.real_ip_header"),
        Ranges("nginx_config.http.real_ip_from"),
        _values.Flag("nginx_config.http.real_ip_recursive"),
        _values.Text("apisix.ssl.ssl_trusted_certificate") is { } file && file != "system"
        ? ExistingFile("apisix.ssl.ssl_trusted_certificate") : null,
        _values.Flag("nginx_config.http.proxy_ssl_server_name"),
        new(
            _values.Whole("nginx_config.http.upstream.keepalive"),
            _values.Time("nginx_config.http.upstream.keepalive_timeout").TotalSeconds,
            _values.Whole("nginx_config.http.upstream.keepalive_requests")),
        !_values.Flag("apisix.disable_upstream_healthcheck"));

    string ExistingFile(string path)
    {
        var file = Absolute(_values.Text(path));
        if (!File.Exists(file))
        {
            _values.Error(path, $"there is no file {_values.Text(path)}");
        }
        return file;
    }

    ProxyCacheSettings ProxyCache()
    {
        const string Path = "apisix.proxy_cache.zones";
        List<CacheZoneSettings> zones = [];
        foreach (var (index, item) in _values.List(Path).OfType<JsonObject>().Index())
        {
            var name = Text("name") ?? "";
            var (directory, levels) = (Text("disk_path"), (Text("cache_levels") ?? "").Split(':', StringSplitOptions.RemoveEmptyEntries));
            if (name.Length == 0 || zones.Exists(other => other.Name == name))
            {
                _values.Error($"{Path}[{index}]", name.Length == 0 ? "a zone has a name" : $"there are two zones \"{name}\"");
            }
            else if (levels.Length > 3 || Array.Exists(levels, static digits => digits is not ("1" or "2")))
            {
                _values.Error($"{Path}[{index}].cache_levels", "up to three numbers that are 1 or 2, like 1:2");
            }
            var size = Text(directory is null ? "memory_size" : "disk_size") ?? (directory is null ? "50m" : "1G");
            zones.Add(new(name, directory is null ? null : Absolute(directory), [.. levels.Select(static digits => digits is "2" ? 2 : 1)],
                NginxUnits.TryParseSize(size, out var bytes) ? bytes : 0));

            string? Text(string key) => item[key] is { } node && _values.TextOf(node) is { Length: > 0 } text ? text : null;
        }
        if (!_values.IsGiven(Path))
        {
            zones.Add(new("disk_cache_one", System.IO.Path.Combine(Absolute(_values.Text("sluice.data_dir")), "cache", "disk_cache_one"),
                [1, 2], 1L << 30));
            zones.Add(new("memory_cache", null, [], 50L << 20));
        }
        return new(_values.Time("apisix.proxy_cache.cache_ttl"), zones);
    }

    Dictionary<string, JsonObject> PluginAttributes()
    {
        var attributes = new Dictionary<string, JsonObject>();
        foreach (var (name, value) in _values.Get("plugin_attr") as JsonObject ?? [])
        {
            if (value is JsonObject settings)
            {
                attributes.Add(name, settings);
            }
            else if (value is not null)
            {
                _values.Error(YamlPath.Append("plugin_attr", name), $"wrong type: expected a mapping, got {SettingType.Describe(value)}");
            }
        }
        return attributes;
    }

    // --- listening

    TlsSettings? Tls(NginxConfig nginx)
    {
        var (certificate, key) = (_values.Text("apisix.ssl.ssl_cert"), _values.Text("apisix.ssl.ssl_cert_key"));
        if (!_values.Flag("apisix.ssl.enable"))
        {
            foreach (var listen in nginx.Listens.Where(listen => listen.Ssl))
            {
                _problems.Add(Problem.Error(listen.Place, "\"listen … ssl\" cannot be: apisix.ssl.enable is false in conf/config.yaml"));
            }
            return null;
        }
        if (certificate.Length == 0 != (key.Length == 0))
        {
            var (given, missing) = certificate.Length == 0 ? ("ssl_cert_key", "ssl_cert") : ("ssl_cert", "ssl_cert_key");
            _values.Error("apisix.ssl." + given, $"apisix.ssl.{missing} is missing: certificate and key belong together");
            return null;
        }
        var protocols = _values.Text("apisix.ssl.ssl_protocols").Split(' ', StringSplitOptions.RemoveEmptyEntries);
        foreach (var unknown in protocols.Except(["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"]))
        {
            _values.Error("apisix.ssl.ssl_protocols", $"unknown protocol \"{unknown}\", there are TLSv1.2 and TLSv1.3");
        }
        foreach (var old in protocols.Intersect(["TLSv1", "TLSv1.1"]))
        {
            _values.Warn("apisix.ssl.ssl_protocols", $"{old} is broken and is not offered");
        }
        if (!protocols.Contains("TLSv1.2") && !protocols.Contains("TLSv1.3"))
        {
            _values.Error("apisix.ssl.ssl_protocols", "neither TLSv1.2 nor TLSv1.3 is left");
        }
        var isStatic = certificate.Length > 0;
        return new(isStatic ? ExistingFile("apisix.ssl.ssl_cert") : null, isStatic ? ExistingFile("apisix.ssl.ssl_cert_key") : null,
            protocols.Contains("TLSv1.2"), protocols.Contains("TLSv1.3"), _values.Place(isStatic ? "apisix.ssl.ssl_cert" : "apisix.ssl"),
            _values.Text("apisix.ssl.fallback_sni") is { Length: > 0 } sni ? sni.ToLowerInvariant() : null,
            _values.Flag("apisix.ssl.ssl_session_tickets"))
        {
            CipherSuites = CipherSuites(_values.Text("apisix.ssl.ssl_ciphers")),
        };
    }

    List<System.Net.Security.TlsCipherSuite>? CipherSuites(string names)
    {
        if (names.Length == 0)
        {
            return null;
        }
        var suites = new List<System.Net.Security.TlsCipherSuite>();
        foreach (var name in names.Split([':', ' ', ','], StringSplitOptions.RemoveEmptyEntries))
        {
            if (OpenSslNames.TryGetSuite(name, out var suite))
            {
                suites.Add(suite);
            }
            else
            {
                _values.Warn("apisix.ssl.ssl_ciphers", $"\"{name}\" is left out: it is not the name of a suite of TLS 1.2 that is safe");
            }
        }
        if (suites.Count == 0)
        {
            _values.Error("apisix.ssl.ssl_ciphers", "no cipher suite is left");
        }
        return suites;
    }

    static List<ListenSettings> Listens(SettingsValues values, string path, bool tls)
    {
        var listens = new List<ListenSettings>();
        var http2 = values.Flag("apisix.enable_http2");
        var ipv6 = values.Flag("apisix.enable_ipv6");
        var value = values.Get(path)!;
        var items = value as JsonArray ?? [value.DeepClone()];
        for (var i = 0; i < items.Count; i++)
        {
            var item = items[i]!;
            var place = values.Place(value is JsonArray && values.IsGiven(path) ? YamlPath.Append(path, i) : path);
            var section = item as JsonObject;
            var port = section is null ? item.GetValue<int>() : section["port"]?.GetValue<int>() ?? (tls ? 9443 : 9080);
            var listen = new ListenSettings(
                section?["ip"] is { } ip ? SettingType.ParseAddress(SettingType.Scalar(ip))! : IPAddress.Any,
                port,
                section?["enable_http2"]?.GetValue<bool>() ?? http2,
                tls,
                place)
            {
                Http3 = tls && section?["enable_http3"]?.GetValue<bool>() == true,
            };
            listens.Add(listen);
            // two sockets with port 0 would be two ports
            if (section?["ip"] is null && ipv6 && port != 0)
            {
                listens.Add(listen with { Ip = IPAddress.IPv6Any, Optional = true });
            }
        }
        return listens;
    }

    List<ListenSettings> AllListens(NginxConfig nginx, TlsSettings? tls)
    {
        var all = new List<ListenSettings>();
        var own = Listens(_values, "apisix.node_listen", tls: false)
            .Concat(tls is not null ? Listens(_values, "apisix.ssl.listen", tls: true) : []);
        foreach (var (key, secure) in ((string, bool)[])[("listen_http_port", false), ("listen_https_port", true)])
        {
            var path = "apisix.proxy_protocol." + key;
            if (_values.IsGiven(path) && (!secure || tls is not null))
            {
                own = own.Append(new(IPAddress.Any, _values.Whole(path), _values.Flag("apisix.enable_http2"), secure,
                    _values.Place(path)) { ProxyProtocol = true });
            }
        }
        var mayGiveWay = tls?.CertificateFile is null && !_values.IsGiven("apisix.ssl.listen");
        foreach (var listen in own)
        {
            var first = listen.Port == 0 ? null : all.Find(other => other.EndPoint.Equals(listen.EndPoint));
            if (first is null)
            {
                all.Add(listen);
            }
            else if (!listen.Optional && !(listen.Tls && mayGiveWay))
            {
                _problems.Add(Problem.Error(listen.Place, $"{listen.EndPoint} is listened on twice, first in {first.Place}"));
            }
        }
        var http2 = _values.Flag("apisix.enable_http2");
        foreach (var listen in nginx.Listens)
        {
            var index = all.FindIndex(other => other.EndPoint.Equals(listen.EndPoint));
            if (index < 0)
            {
                all.Add(new(listen.Address, listen.Port, listen.Http2 || http2, listen.Ssl, listen.Place, listen.Ipv6Only));
            }
            else if (!listen.Ssl && all[index].Tls && mayGiveWay)
            {
                all[index] = new(listen.Address, listen.Port, listen.Http2 || http2, false, listen.Place, listen.Ipv6Only);
            }
            else if (listen.Ssl && !all[index].Tls)
            {
                _problems.Add(Problem.Error(listen.Place, $"{listen.EndPoint} cannot speak TLS: {all[index].Place} listens there without"));
            }
            else
            {
                all[index] = all[index] with { Optional = false, Http2 = all[index].Http2 || listen.Http2 };
            }
        }
        return all;
    }

    StreamSettings Streams(DeploymentRole role)
    {
        var listens = new List<StreamListen>();
        var on = _values.Text("apisix.proxy_mode").Contains("stream", StringComparison.Ordinal) && role != DeploymentRole.ControlPlane;
        foreach (var protocol in (string[])["tcp", "udp"])
        {
            var path = "apisix.stream_proxy." + protocol;
            if (!on)
            {
                if (_values.IsGiven(path))
                {
                    _values.Warn(path, "nothing is relayed: apisix.proxy_mode is http, say \"http&stream\"");
                }
                continue;
            }
            var index = 0;
            foreach (var item in _values.List(path))
            {
                var address = SettingType.ParseStreamAddress((item as JsonObject)?["addr"] ?? item)!;
                var place = _values.Place(YamlPath.Append(path, index++));
                if (address.Port != 0 && listens.Exists(other => other.EndPoint.Equals(address) && other.IsUdp == (protocol == "udp")))
                {
                    _problems.Add(Problem.Error(place, $"{address} is listened on twice"));
                }
                listens.Add(new(address, protocol == "udp", protocol == "tcp" && (item as JsonObject)?["tls"]?.GetValue<bool>() == true,
                    place));
            }
        }
        return new(listens, _values.Flag("apisix.proxy_protocol.enable_tcp_pp"),
            _values.Flag("apisix.proxy_protocol.enable_tcp_pp_to_upstream"),
            _values.Texts("stream_plugins"), _values.Whole("sluice.stream_sessions"));
    }

    // Two listeners on one port: the second would fail at start, with less to say.
    void CheckPorts(GatewaySettings settings)
    {
        var others = new (IPEndPoint? EndPoint, string Path)[]
        {
            (settings.Admin?.Listen, "deployment.admin.admin_listen.port"),
            (settings.Control, "apisix.control.port"),
            (settings.Status, "apisix.status.port"),
        };
        // HTTPS opens when there is a certificate; until then its default port is nobody's
        var taken = settings.Listens.Where(listen => !listen.Tls || settings.Tls?.CertificateFile is not null
            || _values.IsGiven("apisix.ssl.listen"))
            .Select(listen => (listen.EndPoint, listen.Place)).ToList();
        foreach (var listen in settings.Streams.Listens.Where(listen => !listen.IsUdp && listen.EndPoint.Port != 0))
        {
            var holder = taken.Find(other => other.EndPoint.Port == listen.EndPoint.Port
                && Overlap(other.EndPoint.Address, listen.EndPoint.Address));
            if (holder.EndPoint is not null)
            {
                _problems.Add(Problem.Error(listen.Place, $"port {listen.EndPoint.Port} is taken already by {holder.Place}"));
            }
        }
        taken.AddRange(settings.Streams.Listens.Where(listen => !listen.IsUdp && listen.EndPoint.Port != 0)
            .Select(listen => (listen.EndPoint, listen.Place)));
        foreach (var (endPoint, path) in others)
        {
            if (endPoint is null || endPoint.Port == 0)
            {
                continue;
            }
            var holder = taken.Find(other => other.EndPoint.Port == endPoint.Port && Overlap(other.EndPoint.Address, endPoint.Address));
            if (holder.EndPoint is not null)
            {
                _values.Error(path, $"port {endPoint.Port} is taken already by {holder.Place}");
            }
            taken.Add((endPoint, _values.Place(path)));
        }
    }

    static bool Overlap(IPAddress a, IPAddress b) =>
        a.AddressFamily == b.AddressFamily
        && (a.Equals(b) || a.Equals(IPAddress.Any) || b.Equals(IPAddress.Any) || a.Equals(IPAddress.IPv6Any)
            || b.Equals(IPAddress.IPv6Any));
}
