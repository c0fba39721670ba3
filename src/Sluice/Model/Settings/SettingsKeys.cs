using System.Collections.Frozen;
using Sluice.Observability;
using static Sluice.Model.Settings.SettingType;

namespace Sluice.Model.Settings;


/// <summary>What may stand in <c>conf/config.yaml</c>, in the order of the reference.</summary>
static class SettingsKeys
{
    /// <summary>The sections that are shown, with what they are about.</summary>
    public static readonly (string Path, string Doc)[] Sections =
    [
        ("apisix", "The gateway: where it listens and how it treats requests."),
        ("apisix.ssl", "HTTPS towards clients."),
        ("apisix.stream_proxy", "TCP and UDP."),
        ("apisix.proxy_protocol", "PROXY protocol: who is behind a load balancer that relays TCP."),
        ("apisix.proxy_cache", "Responses that are stored."),
        ("apisix.lru", "What is kept in memory."),
        ("apisix.lru.secret", "Secrets that $secret:// refers to."),
        ("apisix.control", "Where the Control API listens."),
        ("apisix.status", "Where /status and /status/ready listen."),
        ("apisix.data_encryption", "How secrets are stored."),
        ("apisix.router", "How routes are matched."),
        ("deployment", "Where the configuration of routes comes from and who may change it."),
        ("deployment.role_traditional", "For role traditional."),
        ("deployment.role_data_plane", "For role data_plane."),
        ("deployment.role_control_plane", "For role control_plane."),
        ("deployment.etcd", "Where etcd is, for config_provider: etcd."),
        ("deployment.etcd.tls", "TLS towards etcd, for endpoints that begin with https."),
        ("deployment.admin", "The Admin API."),
        ("deployment.admin.admin_listen", "Where the Admin API listens."),
        ("nginx_config", "Logs, time-outs and snippets in nginx's language."),
        ("nginx_config.http", "Proxying."),
        ("nginx_config.http.upstream", "Connections to upstreams that do not say otherwise with keepalive_pool."),
        ("nginx_config.stream", "The access log of TCP and UDP."),
        ("discovery", "Where upstreams with a service_name get their nodes from."),
        ("discovery.dns", "discovery_type dns."),
        ("discovery.consul", "discovery_type consul."),
        ("discovery.consul.timeout", "Time-outs towards Consul."),
        ("discovery.consul.dump", "A copy of the nodes on disk, for a start while Consul is away."),
        ("discovery.consul.default_service", "The node of services that Consul knows no node of."),
        ("sluice", "What APISIX does not have."),
        ("sluice.streams.tcp_keepalive", "Clients that are gone without having said so."),
        ("sluice.streams", "Responses that are streams: event streams, NDJSON, gRPC, WebSockets."),
        ("sluice.lua", "Scripts."),
        ("sluice.ui", "The gateway's own interfaces."),
    ];

    public static readonly SettingsKey[] All =
    [
        new("apisix.node_listen", Listen, "[9080]", "Where the gateway listens: a port, or a list of ports and of {ip, port, enable_http2}. Port 0 takes a free one."),
        new("apisix.node_listen[].ip", Address, "0.0.0.0", "The address; without one, all (IPv6 too, see enable_ipv6)."),
        new("apisix.node_listen[].port", Port, "9080", "The port."),
        new("apisix.node_listen[].enable_http2", TrueOrFalse, "", "HTTP/2 without TLS (h2c) on this port; without it, as apisix.enable_http2 says."),
        new("apisix.node_listen[].enable_http3", Any, "", "HTTP/3.", "HTTP/3 needs TLS: use apisix.ssl.listen"),
        new("apisix.enable_ipv6", TrueOrFalse, "true", "Addresses of node_listen without an ip are opened for IPv6 as well."),
        new("apisix.enable_http2", TrueOrFalse, "true", "HTTP/2 towards clients."),
        new("apisix.enable_admin", TrueOrFalse, "true", "The Admin API."),
        new("apisix.enable_control", TrueOrFalse, "true", "The Control API."),
        new("apisix.control.ip", Address, "127.0.0.1", "Its address."),
        new("apisix.control.port", Port, "9090", "Its port."),
        new("apisix.status.ip", Address, "127.0.0.1", "Its address."),
        new("apisix.status.port", Port, "7085", "Its port."),
        new("apisix.ssl.enable", TrueOrFalse, "true", "HTTPS on the addresses of ssl.listen, as soon as there is a certificate."),
        new("apisix.ssl.listen", Listen, "[{port: 9443}]", "Where HTTPS is spoken, as soon as there is an ssl resource or ssl_cert: a list of {ip, port}."),
        new("apisix.ssl.listen[].ip", Address, "0.0.0.0", "The address; without one, all."),
        new("apisix.ssl.listen[].port", Port, "9443", "The port."),
        new("apisix.ssl.listen[].enable_http2", TrueOrFalse, "", "HTTP/2 on this port; without it, as apisix.enable_http2 says."),
        new("apisix.ssl.listen[].enable_http3", TrueOrFalse, "false", "HTTP/3 on the UDP port of the same number; the machine must have libmsquic."),
        new("apisix.ssl.ssl_cert", Text, "", "File with the certificate chain (PEM) for all names that no ssl resource has. Sluice's own key.", Example: "conf/cert/server.crt"),
        new("apisix.ssl.ssl_cert_key", Text, "", "File with its private key (PEM). Sluice's own key.", Example: "conf/cert/server.key"),
        new("apisix.ssl.ssl_trusted_certificate", Text, "system", "File with the CA certificates that upstreams are checked against; system: the machine's."),
        new("apisix.ssl.ssl_protocols", Text, "TLSv1.2 TLSv1.3", "TLS versions towards clients."),
        new("apisix.ssl.ssl_ciphers", Text, "", "Cipher suites of TLS 1.2, by OpenSSL's names; without it, the platform's choice.", Example: "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"),
        new("apisix.ssl.ssl_session_tickets", TrueOrFalse, "true", "Clients may resume TLS sessions; never where client certificates are checked."),
        new("apisix.ssl.fallback_sni", Text, "", "The name that clients count as which send no SNI.", Example: "my.default.domain"),
        new("apisix.dns_resolver", ListOf(Resolver), "", "DNS servers; without any, those of /etc/resolv.conf.", Example: "[1.1.1.1, 8.8.8.8]"),
        new("apisix.dns_resolver_valid", Seconds, "", "How long a DNS answer holds, instead of its TTL.", Example: "30"),
        new("apisix.resolver_timeout", Seconds, "5", "How long a DNS answer is waited for."),
        new("apisix.delete_uri_tail_slash", TrueOrFalse, "false", "/x/ is matched as /x."),
        new("apisix.normalize_uri_like_servlet", TrueOrFalse, "false", "/x;v=1/y is matched as /x/y, as Java servlets do it; the upstream gets what the client sent."),
        new("apisix.match_uri_encoded_slash", TrueOrFalse, "false", "%2F in a path is no slash when routes are matched, so that it can be part of a :parameter."),
        new("apisix.router.http", Choice("radixtree_host_uri", "radixtree_uri", "radixtree_uri_with_parameter"), "radixtree_host_uri",
            "radixtree_host_uri: host first, then path; radixtree_uri: path first; radixtree_uri_with_parameter: path first, with :name parameters."),
        new("apisix.router.ssl", Choice("radixtree_sni"), "radixtree_sni", "Certificates are found by SNI."),
        new("apisix.enable_server_tokens", TrueOrFalse, "true", "The Server header tells the version."),
        new("apisix.show_upstream_status_in_response_header", TrueOrFalse, "false", "X-APISIX-Upstream-Status on every answer; false: on 5xx only."),
        new("apisix.disable_upstream_healthcheck", TrueOrFalse, "false", "No upstream's checks are made, active or passive."),
        new("apisix.extra_lua_path", Text, "", "Where require() looks for Lua modules besides lua/ under the prefix.", Example: "/opt/lua/?.lua"),
        new("apisix.trusted_addresses", ListOf(AddressRange), "", "Who may send X-Forwarded-*: of all others these headers are replaced.", Example: "[10.0.0.0/8]"),
        new("apisix.data_encryption.enable_encrypt_fields", TrueOrFalse, "true", "Secrets in plugins' configurations (encrypt_fields in their schemas) are stored encrypted, in the embedded store, in etcd and in its copy."),
        new("apisix.data_encryption.keyring", OneOrListOf(EncryptionKey), "[qeddd145sfvddff3, edd1c9f0985e76a2]",
            "Keys of 16 characters: the first encrypts, each is tried to decrypt; an empty list or null: nothing is encrypted. The default is APISIX's and known to all: it keeps secrets from a chance look, your own key keeps them secret."),
        new("apisix.ssl.key_encrypt_salt", ListOf(EncryptionKey), "[]", "Further keys of the same kind, to read what older versions of APISIX stored."),
        new("apisix.lru.secret.ttl", Seconds, "300", "How long a secret of a secret manager is kept before it is asked for again."),
        new("apisix.lru.secret.neg_ttl", Seconds, "60", "How long a secret that could not be had is not asked for again."),
        new("apisix.proxy_cache.cache_ttl", Time, "10s", "How long a response that is stored in files is fresh when it does not say so itself."),
        new("apisix.proxy_cache.zones", Sections_, "", "Where proxy-cache and graphql-proxy-cache store responses. Without any: disk_cache_one (1 GiB in the directory cache of sluice.data_dir) and memory_cache (50 MiB).",
            Example: "[{name: disk_cache_one, disk_path: /var/cache/sluice, disk_size: 1G, cache_levels: \"1:2\"}, {name: memory_cache, memory_size: 50m}]"),
        new("apisix.proxy_cache.zones[].name", Text, "", "What plugins call it."),
        new("apisix.proxy_cache.zones[].memory_size", Size, "50m", "What the responses of a zone in memory take together; without effect for files."),
        new("apisix.proxy_cache.zones[].disk_path", FilePath, "", "The directory of a zone of files; without one it is in memory."),
        new("apisix.proxy_cache.zones[].disk_size", Size, "1G", "What the files take together."),
        new("apisix.proxy_cache.zones[].cache_levels", Text, "", "How many digits of a file's name each directory above it has, as 1:2."),
        new("apisix.proxy_mode", Choice("http", "stream", "http&stream"), "http", "What is proxied: HTTP, TCP and UDP, or both."),
        new("apisix.stream_proxy.tcp", ListOf(StreamAddress), "", "Where TCP is relayed, once proxy_mode has \"stream\" in it; with tls: true the gateway ends TLS there, with the certificates of ssl resources.",
            Example: "[9100, \"127.0.0.1:9101\", {addr: 9102, tls: true}]"),
        new("apisix.stream_proxy.udp", ListOf(StreamAddress), "", "Where UDP is relayed.", Example: "[9200, \"127.0.0.1:9201\"]"),
        new("apisix.stream_proxy.only", Any, "", "TCP and UDP only.", "use proxy_mode"),
        new("apisix.proxy_protocol.listen_http_port", Port, "", "A further port for HTTP, on which connections begin with a PROXY header (version 1 or 2).", Example: "9181"),
        new("apisix.proxy_protocol.listen_https_port", Port, "", "The same for HTTPS.", Example: "9182"),
        new("apisix.proxy_protocol.enable_tcp_pp", TrueOrFalse, "false", "Connections to the addresses of stream_proxy.tcp begin with a PROXY header."),
        new("apisix.proxy_protocol.enable_tcp_pp_to_upstream", TrueOrFalse, "false", "Upstreams of TCP are sent a PROXY header (version 1)."),
        new("apisix.id", Text, "", "The instance's name for scripts (core.id.get()) until conf/apisix.uid is there; without it, one is made.", Example: "gateway-1"),
        new("apisix.extra_lua_cpath", Any, "", "Native Lua modules.", "native modules are not loaded"),
        new("apisix.lua_module_hook", Any, "", "A module that changes the gateway itself.", "it changes APISIX's own code"),
        .. NoEffect("apisix.", "it belongs to APISIX's inner workings", "enable_dev_mode", "enable_reuseport", "enable_resolv_search_opt", "disable_sync_configuration_during_start",
            "worker_startup_time_threshold", "events", "stream_lua_shared_dict", "tracing"),
        // where keys of APISIX 2 have gone
        new("apisix.allow_admin", Any, "", "Of APISIX 2.", "use deployment.admin.allow_admin"),
        new("apisix.admin_key", Any, "", "Of APISIX 2.", "use deployment.admin.admin_key"),
        new("apisix.admin_listen", Any, "", "Of APISIX 2.", "use deployment.admin.admin_listen"),
        new("apisix.port_admin", Any, "", "Of APISIX 2.", "use deployment.admin.admin_listen.port"),
        new("apisix.https_admin", Any, "", "Of APISIX 2.", "it is deployment.admin.https_admin in APISIX 3, which comes later"),
        new("apisix.admin_api_mtls", Any, "", "Of APISIX 2.", "it is deployment.admin.admin_api_mtls in APISIX 3, which comes later"),
        new("apisix.admin_api_version", Any, "", "Of APISIX 2.", "the Admin API is v3"),
        new("apisix.enable_admin_cors", Any, "", "Of APISIX 2.", "use deployment.admin.enable_admin_cors"),
        new("apisix.config_center", Any, "", "Of APISIX 2.", "use deployment.role and deployment.role_traditional.config_provider"),
        new("apisix.enable_debug", Any, "", "Of APISIX 2.", "use nginx_config.error_log_level: debug"),
        new("apisix.ssl.listen_port", Any, "", "Of APISIX 2.", "use apisix.ssl.listen"),
        new("apisix.ssl.enable_http2", Any, "", "Of APISIX 2.", "use apisix.enable_http2, or enable_http2 of apisix.ssl.listen"),

        new("deployment.role", Choice("traditional", "data_plane", "control_plane"), "traditional",
            "traditional: gateway and Admin API in one; data_plane: only the gateway; control_plane: only the Admin API."),
        new("deployment.role_traditional.config_provider", Choice("embedded", "yaml", "etcd"), "embedded",
            "embedded: a store in data_dir, changed through the Admin API; yaml: the file conf/apisix.yaml, or where there is none, what is put to /apisix/admin/configs; etcd: see deployment.etcd."),
        new("deployment.role_data_plane.config_provider", Choice("yaml", "json", "etcd", "xds"), "yaml", "yaml: the file conf/apisix.yaml; json: the same as conf/apisix.json, without #END; etcd: see deployment.etcd."),
        new("deployment.role_control_plane.config_provider", Choice("embedded", "etcd"), "embedded", "embedded: a store in data_dir; etcd: see deployment.etcd."),
        new("deployment.admin.admin_key_required", TrueOrFalse, "true", "Requests need a key. Without it, whoever reaches the port may change everything."),
        new("deployment.admin.admin_key", Sections_, "[]", "Who may use the Admin API. Without any, a key is made at the first start, printed once and kept here.",
            Example: "[{name: admin, key: \"${{ADMIN_KEY}}\", role: admin}]"),
        new("deployment.admin.admin_key[].name", Text, "", "For the logs."),
        new("deployment.admin.admin_key[].key", Text, "", "The key: what X-API-KEY must say.") { IsSecret = true },
        new("deployment.admin.admin_key[].role", Choice("admin", "viewer"), "admin", "admin: may change everything; viewer: may only read."),
        new("deployment.admin.admin_listen.ip", Address, "127.0.0.1", "Its address. APISIX listens on all; here that must be asked for."),
        new("deployment.admin.admin_listen.port", Port, "9180", "Its port."),
        new("deployment.admin.allow_admin", ListOf(AddressRange), "[127.0.0.0/24, \"::1\"]", "Who may connect; an empty list: everybody."),
        new("deployment.admin.enable_admin_cors", TrueOrFalse, "true", "Answers carry Access-Control-Allow-Origin: *."),
        new("deployment.admin.enable_admin_ui", Any, "", "Dashboard.", "it comes later"),
        new("deployment.admin.https_admin", Any, "", "HTTPS for the Admin API.", "it comes later"),
        new("deployment.admin.admin_api_mtls", Any, "", "Client certificates for the Admin API.", "it comes later"),
        new("deployment.admin.admin_api_version", Any, "", "Version of the Admin API.", "it is v3"),
        new("deployment.etcd.host", ListOf(Text), "[\"http://127.0.0.1:2379\"]", "Endpoints of one etcd cluster, for config_provider: etcd. The first that answers is used."),
        new("deployment.etcd.prefix", Text, "/apisix", "Where the keys begin."),
        new("deployment.etcd.user", Text, "", "User, where etcd asks for one.", Example: "apisix"),
        new("deployment.etcd.password", Text, "", "Password.", Example: "\"${{ETCD_PASSWORD}}\"") { IsSecret = true },
        new("deployment.etcd.timeout", Seconds, "30", "How long an answer is waited for."),
        new("deployment.etcd.watch_timeout", Seconds, "50", "A watch that is silent for so long is opened anew."),
        new("deployment.etcd.startup_retry", Count, "2", "How often a start asks again, a second apart, before it goes on with the local copy or gives up."),
        new("deployment.etcd.tls.cert", FilePath, "", "Certificate shown to etcd (PEM).", Example: "conf/cert/etcd-client.crt"),
        new("deployment.etcd.tls.key", FilePath, "", "Its private key (PEM).", Example: "conf/cert/etcd-client.key"),
        new("deployment.etcd.tls.verify", TrueOrFalse, "true", "etcd's certificate is checked, against apisix.ssl.ssl_trusted_certificate."),
        new("deployment.etcd.tls.sni", Text, "", "The name that etcd's certificate is for, if it is not the endpoint's.", Example: "etcd.internal"),
        .. NoEffect("deployment.etcd.", "connections are watched and taken up again without it", "resync_delay", "health_check_timeout", "use_grpc"),
        new("deployment.certs", Any, "", "Certificates between planes.", "use deployment.etcd.tls"),

        new("nginx_config.error_log", FilePath, "logs/error.log", "Where errors are logged, under the prefix; \"stderr\" or /dev/stderr: the terminal."),
        new("nginx_config.error_log_level", Choice("debug", "info", "notice", "warn", "error", "crit", "alert", "emerg"), "warn", "From which level on."),
        new("nginx_config.http_configuration_snippet", Snippet, "", "Directives for http { … }, see the reference of nginx directives.", Example: "proxy_buffering off;"),
        new("nginx_config.http_server_configuration_snippet", Snippet, "", "Directives for the server { … } that answers on node_listen.", Example: "proxy_read_timeout 1h;"),
        new("nginx_config.http_server_location_configuration_snippet", Snippet, "", "Directives for that server's location / { … }.", Example: "proxy_request_buffering off;"),
        new("nginx_config.http_end_configuration_snippet", Snippet, "", "Directives for the end of http { … }: servers of your own, whose addresses are opened too.",
            Example: "server { listen 127.0.0.1:9092; location = /healthz { return 200 ok; } }"),
        .. NoEffect("nginx_config.", "there is nothing of this kind here", "main_configuration_snippet", "http_admin_configuration_snippet", "stream_configuration_snippet"),
        .. NoEffect("nginx_config.", "one process serves all cores", "enable_cpu_affinity", "worker_rlimit_nofile", "max_pending_timers", "max_running_timers", "event",
            "worker_rlimit_core", "user", "envs", "meta", "pcre"),
        new("nginx_config.worker_processes", Workers, "auto", "Event loops, each with a thread of its own; auto: one for each core."),
        new("nginx_config.worker_shutdown_timeout", Time, "", "How long streams may go on after quit.", "use sluice.shutdown_timeout"),

        new("nginx_config.http.enable_access_log", TrueOrFalse, "true", "Requests are logged."),
        new("nginx_config.http.access_log", FilePath, "logs/access.log", "Where, under the prefix; /dev/stdout: the terminal."),
        new("nginx_config.http.access_log_format", Text, "'" + AccessLogFormat.Default + "'", "How, with nginx's and APISIX's variables."),
        new("nginx_config.http.access_log_format_escape", Choice("default", "json", "none"), "default", "How values are escaped."),
        new("nginx_config.http.access_log_buffer", Any, "", "Buffer of the access log.", "it is written as fast as the disk takes it"),
        new("nginx_config.http.keepalive_timeout", Time, "60s", "How long an idle client connection is kept."),
        new("nginx_config.http.client_header_timeout", Time, "60s", "How long a request's head may take."),
        new("nginx_config.http.client_body_timeout", Time, "60s", "How long a request's body may pause."),
        new("nginx_config.http.client_max_body_size", Size, "0", "The largest request body; 0: any. A larger one is answered with 413."),
        new("nginx_config.http.proxy_request_buffering", OnOff, "", "Request bodies are read whole before the upstream is asked; as the directive in http { … }, inner blocks and plugins win. Neither: on, but off for streams.", Example: "\"off\""),
        new("nginx_config.http.send_timeout", Time, "10s", "How long a client may take nothing of an answer that waits for it."),
        new("nginx_config.http.underscores_in_headers", OnOff, "\"on\"", "Request headers with _ in their names are taken; off: dropped."),
        new("nginx_config.http.real_ip_header", Text, "X-Real-IP", "The header that tells the client's address, when the connection comes from real_ip_from."),
        new("nginx_config.http.real_ip_recursive", OnOff, "\"off\"", "Of several addresses the last that is not trusted; off: the last."),
        new("nginx_config.http.real_ip_from", ListOf(RealIpSource), "[127.0.0.1, \"unix:\"]", "Whose real_ip_header is believed."),
        new("nginx_config.http.proxy_ssl_server_name", TrueOrFalse, "true", "TLS towards upstreams names the host (SNI); where the certificate is checked (tls.verify), always."),
        new("nginx_config.http.upstream.keepalive", Count, "320", "Idle connections kept per upstream."),
        new("nginx_config.http.upstream.keepalive_requests", Count, "1000", "Requests after which a connection is not used again."),
        new("nginx_config.http.upstream.keepalive_timeout", Time, "60s", "How long an idle connection is kept."),
        .. NoEffect("nginx_config.http.", "memory needs no sizes here", "lua_shared_dict", "custom_lua_shared_dict", "variables_hash_max_size"),
        new("nginx_config.http.charset", Any, "", "Charset added to Content-Type.", "what the upstream says is left alone"),
        new("nginx_config.http.custom_log_formats", Any, "", "More log formats.", "there is one access log"),
        new("nginx_config.stream.enable_access_log", TrueOrFalse, "false", "Sessions of TCP and UDP are logged when they end."),
        new("nginx_config.stream.access_log", FilePath, "logs/access_stream.log", "Where, under the prefix."),
        new("nginx_config.stream.access_log_format", Text, "'" + AccessLogFormat.StreamDefault + "'", "How."),
        new("nginx_config.stream.access_log_format_escape", Choice("default", "json", "none"), "default", "How values are escaped."),
        .. NoEffect("nginx_config.stream.", "one process serves all cores", "lua_shared_dict"),

        new("plugins", ListOf(Text, mayBeNull: true), "", "The plugins that may be used; without it, all that there are; with nothing behind it, none.", Example: "[proxy-rewrite, proxy-buffering, key-auth, prometheus]"),
        new("plugin_attr", SettingType.Object, "", "Settings of plugins for the whole gateway, by the plugin's name.", Example: "{prometheus: {export_addr: {ip: 127.0.0.1, port: 9091}}}"),
        new("stream_plugins", ListOf(Text, mayBeNull: true), "", "The plugins that stream routes may use; without it, all that there are; with nothing behind it, none.", Example: "[ip-restriction, limit-conn, mqtt-proxy]"),
        new("discovery.dns.servers", ListOf(Resolver), "", "Name servers; without them those of apisix.dns_resolver or of resolv_conf.", Example: "[\"127.0.0.1:8600\"]"),
        new("discovery.dns.resolv_conf", FilePath, "", "A file with name servers.", Example: "/etc/resolv.conf"),
        new("discovery.dns.order", ListOf(Choice("last", "SRV", "A", "AAAA", "CNAME")), "[last, SRV, A, AAAA, CNAME]", "Which records are asked for; last: those that there were before."),
        new("discovery.consul.servers", ListOf(HttpServer), "", "Consul's addresses.", Example: "[\"http://127.0.0.1:8500\"]"),
        new("discovery.consul.token", Text, "", "Token for Consul's ACLs.", Example: "\"${{CONSUL_TOKEN}}\"") { IsSecret = true },
        new("discovery.consul.keepalive", TrueOrFalse, "true", "Long polls: a change is known at once; false: one question each fetch_interval."),
        new("discovery.consul.fetch_interval", Seconds, "3", "Seconds between two questions when keepalive is false."),
        new("discovery.consul.weight", Count, "1", "Weight of nodes."),
        new("discovery.consul.skip_services", ListOf(Text), "", "Services that are not looked up.", Example: "[service_a]"),
        new("discovery.consul.timeout.connect", Count, "2000", "Milliseconds to connect."),
        new("discovery.consul.timeout.read", Count, "2000", "Milliseconds to answer; on top of wait for a long poll."),
        new("discovery.consul.timeout.wait", Count, "60", "Seconds that a long poll may wait for a change."),
        new("discovery.consul.dump.path", FilePath, "", "The file, under the prefix.", Example: "logs/consul.dump"),
        new("discovery.consul.dump.load_on_init", TrueOrFalse, "true", "It is read at start."),
        new("discovery.consul.dump.expire", Count, "0", "Seconds after which it is too old to be read; 0: never."),
        new("discovery.consul.default_service.host", Text, "", "Its host.", Example: "127.0.0.1"),
        new("discovery.consul.default_service.port", Port, "80", "Its port."),
        new("discovery.consul.default_service.metadata", Any, "", "Metadata of that node.", "APISIX does not use it either"),
        .. NoEffect("discovery.consul.", "nodes are what Consul says", "shared_size", "sort_type"),
        .. NoEffect("discovery.", "there are dns and consul", "eureka", "nacos", "kubernetes", "consul_kv", "tars"),
        .. NoEffect("", "there is nothing of this kind here", "ext-plugin", "wasm", "xrpc", "graphql"),
        .. NoEffect("", "use deployment.etcd", "etcd"),

        new("sluice.debug_headers", TrueOrFalse, "false", "Answers tell in X-Sluice-* headers what the gateway did: which rule decided on buffering, which node answered."),
        new("sluice.shutdown_timeout", Seconds, "240", "How many seconds streams may go on after quit or restart."),
        new("sluice.transport", Choice("epoll", "sockets"), "epoll", "How connections are served: epoll = event loops of our own; sockets = the framework's, also taken where there is no epoll."),
        new("sluice.stream_sessions", Count, "10000", "The most TCP connections, or UDP sessions, that an address of stream_proxy holds at a time."),
        new("sluice.streams.defaults", SettingType.Object, "", "What holds for streams that no plugin streaming speaks for, and what such a plugin leaves out: the same properties as there.",
            Shipped: "{heartbeat: {interval: 15}, ending: {mode: dialect}}"),
        new("sluice.streams.tcp_keepalive.idle", Seconds, "60", "Seconds of silence after which TCP asks a client whether it is there, so that one that lost its power or network is gone without heartbeats, too; 0: never."),
        new("sluice.streams.tcp_keepalive.interval", Seconds, "15", "Seconds between two questions."),
        new("sluice.streams.tcp_keepalive.probes", Count, "4", "So many without an answer, and the client is gone. What was sent may wait as long as all of them take: idle + interval × probes (TCP_USER_TIMEOUT)."),
        new("sluice.streams.max", Count, "0", "The most streams at a time; beyond it new ones are answered 503, other requests go on. 0: half of the file descriptors less 1000, at least a quarter of them."),
        new("sluice.streams.control_write", TrueOrFalse, "false", "The Control API ends streams without an administrator's key."),
        new("sluice.streams.access_log_start", TrueOrFalse, "false", "A stream has a line in the access log when it begins, too: $sluice_stream_phase is head in it."),
        new("sluice.streams.tail_memory", Size, "256m", "What the tails of all resumable streams (plugin sse-resume) hold together: ended streams go first, then the tails of those without a client are cut, then the longest."),
        new("sluice.streams.queue_memory", Size, "256m", "What waits for all clients that are slower than their streams (streaming.slow_consumer) together; beyond it each queue holds its share only, at least 16k."),
        new("sluice.streams.max_detached", Count, "1000", "Upstreams that run on without a client (plugin sse-resume); the oldest is let go when there are more."),
        new("sluice.lua.sandbox", TrueOrFalse, "true", "Scripts cannot start processes, remove files, use ffi or native modules; false: they can."),
        new("sluice.lua.jit", TrueOrFalse, "false", "LuaJIT compiles what scripts do often: for scripts that compute. One that never ends holds its event loop for ever, as it would in nginx."),
        new("sluice.lua.memory_limit", Count, "256", "MiB that a Lua state may use, 8 at least; there is a state for each core."),
        new("sluice.ui.hosts", ListOf(Text), "", "Names, beside IP addresses and localhost, by which the Control API on a loopback address and an Admin API without key may be asked.", Example: "[gateway.example.com]"),
        new("sluice.data_dir", FilePath, "data", "Where the embedded store is, under the prefix."),
    ];

    static SettingType Sections_ => SettingType.Sections;

    static IEnumerable<SettingsKey> NoEffect(string parent, string why, params string[] names) =>
        names.Select(name => new SettingsKey(parent + name, Any, "", "", why));

    public static FrozenDictionary<string, SettingsKey> ByPath { get; } = All.ToFrozenDictionary(key => key.Path);

    /// <summary>Everything that has keys under it, and their names.</summary>
    public static FrozenDictionary<string, string[]> Children { get; } = All
        .SelectMany(key => Ancestors(key.Path))
        .Distinct()
        .GroupBy(pair => pair.Parent)
        .ToFrozenDictionary(group => group.Key, group => group.Select(pair => pair.Name).ToArray());

    static IEnumerable<(string Parent, string Name)> Ancestors(string path)
    {
        while (true)
        {
            var dot = path.LastIndexOf('.');
            yield return (dot < 0 ? "" : path[..dot], path[(dot + 1)..]);
            if (dot < 0)
            {
                yield break;
            }
            path = path[..dot];
            if (path.EndsWith("[]", StringComparison.Ordinal))
            {
                yield break;
            }
        }
    }
}
