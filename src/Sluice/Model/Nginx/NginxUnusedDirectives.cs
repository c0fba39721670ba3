using System.Collections.Frozen;

namespace Sluice.Model.Nginx;

/// <summary>
/// Every directive that nginx's documentation names and that has no effect here, with what to use instead. That none is missing is tested
/// against the list of nginx's own documentation.
/// </summary>
static class NginxUnusedDirectives
{
    /// <summary>What to use instead, or why nothing is needed; null when nginx's documentation does not name the directive.</summary>
    public static string? Instead(string directive) => ByName.GetValueOrDefault(directive);

    public static IEnumerable<string> Names => ByName.Keys;

    /// <summary>A line that is not indented says what to use, the indented ones below it the directives for which that holds.</summary>
    const string Text = """
        paths are matched with slashes merged; redirects go where they say
            absolute_redirect merge_slashes port_in_redirect server_name_in_redirect
        one process serves all cores, and ./sluice starts it
            accept_mutex accept_mutex_delay daemon debug_connection debug_points env events google_perftools_profiles load_module
            lock_file master_process multi_accept pcre_jit pid stall_threshold timer_resolution use user worker_aio_requests
            worker_connections worker_cpu_affinity worker_priority worker_rlimit_core worker_rlimit_nofile working_directory
        certificates are resources: PUT /apisix/admin/ssls/ID
            accept_terms_of_service account_key acme_certificate acme_issuer acme_shared_zone challenge common_name_in_csr contact
            external_account_key preferred_chain profile state_path uri
        use nginx_config.http.access_log in conf/config.yaml
            access_log log_subrequest open_log_file_cache
        bodies are changed by the plugin response-rewrite or by body_filter in Lua
            add_after_body add_before_body addition_types image_filter image_filter_buffer image_filter_interlace
            image_filter_jpeg_quality image_filter_sharpen image_filter_transparency image_filter_webp_quality ssi ssi_last_modified
            ssi_min_file_chunk ssi_silent_errors ssi_types ssi_value_length xml_entities xml_external_entities xslt_last_modified
            xslt_param xslt_string_param xslt_stylesheet xslt_types
        use the plugin response-rewrite: headers
            add_header_inherit add_trailer add_trailer_inherit expires grpc_hide_header grpc_pass_header proxy_cookie_domain
            proxy_cookie_flags proxy_cookie_path proxy_redirect
        how sockets, files and memory are used is decided by the gateway
            aio aio_write connection_pool_size directio directio_alignment grpc_socket_keepalive grpc_socket_rcvbuf
            grpc_socket_sndbuf lingering_close lingering_time lingering_timeout memcached_socket_keepalive output_buffers
            postpone_output preread_buffer_size proxy_send_lowat proxy_socket_keepalive proxy_socket_rcvbuf proxy_socket_sndbuf
            read_ahead request_pool_size reset_timedout_connection send_lowat sendfile sendfile_max_chunk
            subrequest_output_buffer_size tcp_nopush thread_pool tunnel_send_lowat tunnel_socket_keepalive tunnel_socket_rcvbuf
            tunnel_socket_sndbuf
        use the plugin ip-restriction
            allow deny
        use a plugin or Lua: serverless-pre-function
            ancient_browser ancient_browser_value early_hints geoip_city geoip_country geoip_org geoip_proxy geoip_proxy_recursive
            modern_browser modern_browser_value msie_padding msie_refresh secure_link secure_link_md5 secure_link_secret session_log
            session_log_format session_log_zone userid userid_domain userid_expires userid_flags userid_mark userid_name userid_p3p
            userid_path userid_service
        use the plugin prometheus, or /v1/… of the Control API
            api status status_format status_zone stub_status upstream_conf
        use APISIX's plugin basic-auth
            auth_basic auth_basic_user_file
        a request without credentials is answered at once
            auth_delay
        mail is not proxied here
            auth_http auth_http_header auth_http_pass_client_cert auth_http_timeout imap_auth imap_capabilities imap_client_buffer
            mail max_errors pop3_auth pop3_capabilities protocol proxy proxy_buffer proxy_pass_error_message proxy_smtp_auth
            smtp_auth smtp_capabilities smtp_client_buffer smtp_greeting_delay starttls timeout xclient
        use APISIX's plugin jwt-auth
            auth_jwt auth_jwt_claim_set auth_jwt_header_set auth_jwt_key_cache auth_jwt_key_file auth_jwt_key_request
            auth_jwt_leeway auth_jwt_require auth_jwt_type auth_require
        use APISIX's plugin openid-connect
            auth_oidc client_id client_secret config_url cookie_name extra_auth_args frontchannel_logout_uri issuer
            logout_token_hint logout_uri oidc_provider pkce post_logout_uri redirect_uri scope session_store session_timeout
            userinfo
        use APISIX's plugin forward-auth
            auth_request auth_request_set
        files are not served; routes say where requests go
            autoindex autoindex_exact_size autoindex_format autoindex_localtime create_full_put_path dav_access dav_methods
            disable_symlinks empty_gif etag f4f f4f_buffer_size flv hls hls_buffers hls_forward_args hls_fragment
            hls_mp4_buffer_size hls_mp4_max_buffer_size if_modified_since index log_not_found max_ranges min_delete_depth mp4
            mp4_buffer_size mp4_max_buffer_size mp4_start_key_frame open_file_cache open_file_cache_errors open_file_cache_events
            open_file_cache_min_uses open_file_cache_valid perl perl_modules perl_require perl_set random_index try_files types
        use the plugin proxy-rewrite or redirect on a route
            break rewrite rewrite_log uninitialized_variable_warn
        what the upstream says is left alone; use the plugin response-rewrite
            charset charset_map charset_types override_charset source_charset
        request bodies follow proxy_request_buffering, client_body_buffer_size and proxy_temp_path
            client_body_in_file_only client_body_in_single_buffer client_body_temp_path
        there is no licence to report to
            enforce_initial_report license_token mgmt proxy_password proxy_username usage_report
        use nginx_config.error_log in conf/config.yaml
            error_log error_log_tag
        upstreams speak HTTP or gRPC; put a server that speaks it in between
            fastcgi_allow_upstream fastcgi_bind fastcgi_bind_dynamic fastcgi_buffer_size fastcgi_buffering fastcgi_buffers
            fastcgi_busy_buffers_size fastcgi_cache fastcgi_cache_background_update fastcgi_cache_bypass fastcgi_cache_key
            fastcgi_cache_lock fastcgi_cache_lock_age fastcgi_cache_lock_timeout fastcgi_cache_max_range_offset
            fastcgi_cache_methods fastcgi_cache_min_uses fastcgi_cache_path fastcgi_cache_purge fastcgi_cache_revalidate
            fastcgi_cache_use_stale fastcgi_cache_valid fastcgi_catch_stderr fastcgi_connect_timeout fastcgi_force_ranges
            fastcgi_hide_header fastcgi_ignore_client_abort fastcgi_ignore_headers fastcgi_index fastcgi_intercept_errors
            fastcgi_keep_conn fastcgi_limit_rate fastcgi_max_temp_file_size fastcgi_next_upstream fastcgi_next_upstream_timeout
            fastcgi_next_upstream_tries fastcgi_no_cache fastcgi_param fastcgi_pass fastcgi_pass_header fastcgi_pass_request_body
            fastcgi_pass_request_headers fastcgi_read_timeout fastcgi_request_buffering fastcgi_request_dynamic fastcgi_send_lowat
            fastcgi_send_timeout fastcgi_socket_keepalive fastcgi_socket_rcvbuf fastcgi_socket_sndbuf fastcgi_split_path_info
            fastcgi_store fastcgi_store_access fastcgi_temp_file_write_size fastcgi_temp_path memcached_buffer_size
            memcached_connect_timeout memcached_gzip_flag memcached_pass memcached_read_timeout memcached_send_timeout
            scgi_allow_upstream scgi_bind scgi_bind_dynamic scgi_buffer_size scgi_buffering scgi_buffers scgi_busy_buffers_size
            scgi_cache scgi_cache_background_update scgi_cache_bypass scgi_cache_key scgi_cache_lock scgi_cache_lock_age
            scgi_cache_lock_timeout scgi_cache_max_range_offset scgi_cache_methods scgi_cache_min_uses scgi_cache_path
            scgi_cache_purge scgi_cache_revalidate scgi_cache_use_stale scgi_cache_valid scgi_connect_timeout scgi_force_ranges
            scgi_hide_header scgi_ignore_client_abort scgi_ignore_headers scgi_intercept_errors scgi_limit_rate
            scgi_max_temp_file_size scgi_next_upstream scgi_next_upstream_timeout scgi_next_upstream_tries scgi_no_cache scgi_param
            scgi_pass scgi_pass_header scgi_pass_request_body scgi_pass_request_headers scgi_read_timeout scgi_request_buffering
            scgi_request_dynamic scgi_send_timeout scgi_socket_keepalive scgi_socket_rcvbuf scgi_socket_sndbuf scgi_store
            scgi_store_access scgi_temp_file_write_size scgi_temp_path uwsgi_allow_upstream uwsgi_bind uwsgi_bind_dynamic
            uwsgi_buffer_size uwsgi_buffering uwsgi_buffers uwsgi_busy_buffers_size uwsgi_cache uwsgi_cache_background_update
            uwsgi_cache_bypass uwsgi_cache_key uwsgi_cache_lock uwsgi_cache_lock_age uwsgi_cache_lock_timeout
            uwsgi_cache_max_range_offset uwsgi_cache_methods uwsgi_cache_min_uses uwsgi_cache_path uwsgi_cache_purge
            uwsgi_cache_revalidate uwsgi_cache_use_stale uwsgi_cache_valid uwsgi_connect_timeout uwsgi_force_ranges
            uwsgi_hide_header uwsgi_ignore_client_abort uwsgi_ignore_headers uwsgi_intercept_errors uwsgi_limit_rate
            uwsgi_max_temp_file_size uwsgi_modifier1 uwsgi_modifier2 uwsgi_next_upstream uwsgi_next_upstream_timeout
            uwsgi_next_upstream_tries uwsgi_no_cache uwsgi_param uwsgi_pass uwsgi_pass_header uwsgi_pass_request_body
            uwsgi_pass_request_headers uwsgi_read_timeout uwsgi_request_buffering uwsgi_request_dynamic uwsgi_send_timeout
            uwsgi_socket_keepalive uwsgi_socket_rcvbuf uwsgi_socket_sndbuf uwsgi_ssl_certificate uwsgi_ssl_certificate_cache
            uwsgi_ssl_certificate_key uwsgi_ssl_ciphers uwsgi_ssl_conf_command uwsgi_ssl_crl uwsgi_ssl_key_log uwsgi_ssl_name
            uwsgi_ssl_password_file uwsgi_ssl_protocols uwsgi_ssl_server_name uwsgi_ssl_session_reuse uwsgi_ssl_trusted_certificate
            uwsgi_ssl_verify uwsgi_ssl_verify_depth uwsgi_store uwsgi_store_access uwsgi_temp_file_write_size uwsgi_temp_path
        write the value where it is used, use map, or vars on a route
            geo keyval keyval_zone num_map split_clients
        upstreams are reached from the machine's own address
            grpc_allow_upstream grpc_bind grpc_bind_dynamic memcached_allow_upstream memcached_bind memcached_bind_dynamic
            proxy_allow_upstream proxy_bind proxy_bind_dynamic tunnel_allow_upstream tunnel_bind tunnel_bind_dynamic
        gRPC is forwarded like everything else, with timeout of the upstream: scheme grpc or grpcs
            grpc_buffer_size grpc_connect_timeout grpc_ignore_headers grpc_intercept_errors grpc_read_timeout grpc_send_timeout
        use retries of the upstream
            grpc_next_upstream grpc_next_upstream_tries memcached_next_upstream memcached_next_upstream_timeout
            memcached_next_upstream_tries proxy_next_upstream proxy_next_upstream_tries tunnel_next_upstream
            tunnel_next_upstream_tries
        use retry_timeout of the upstream
            grpc_next_upstream_timeout proxy_next_upstream_timeout tunnel_next_upstream_timeout
        routes say where requests go: PUT /apisix/admin/routes/ID
            grpc_pass pass proxy_pass tunnel_pass
        what the upstream says of ranges passes; bodies follow proxy_buffering and proxy_request_buffering
            grpc_request_dynamic proxy_force_ranges proxy_request_dynamic proxy_temp_file_write_size
        use the plugin proxy-rewrite: headers
            grpc_set_header
        use tls.client_cert and tls.client_key of the upstream
            grpc_ssl_certificate grpc_ssl_certificate_cache grpc_ssl_certificate_key grpc_ssl_password_file proxy_ssl_certificate
            proxy_ssl_certificate_cache proxy_ssl_certificate_key proxy_ssl_password_file
        use scheme and tls of the upstream
            grpc_ssl_ciphers grpc_ssl_conf_command grpc_ssl_key_log grpc_ssl_protocols grpc_ssl_session_reuse proxy_ssl
            proxy_ssl_alpn proxy_ssl_ciphers proxy_ssl_conf_command proxy_ssl_key_log proxy_ssl_protocols proxy_ssl_session_reuse
        use tls.verify of the upstream, and apisix.ssl.ssl_trusted_certificate in conf/config.yaml
            grpc_ssl_crl grpc_ssl_trusted_certificate grpc_ssl_verify grpc_ssl_verify_depth proxy_ssl_crl
            proxy_ssl_trusted_certificate proxy_ssl_verify proxy_ssl_verify_depth
        use nginx_config.http.proxy_ssl_server_name in conf/config.yaml, and pass_host of the upstream
            grpc_ssl_name grpc_ssl_server_name proxy_ssl_name proxy_ssl_server_name
        use APISIX's plugin gzip or brotli
            gunzip gunzip_buffers gzip gzip_buffers gzip_comp_level gzip_disable gzip_http_version gzip_min_length gzip_proxied
            gzip_static gzip_types gzip_vary
        upstreams are resources: PUT /apisix/admin/upstreams/ID (nodes, type, keepalive_pool)
            hash ip_hash least_conn least_time ntlm queue random state sticky upstream zone
        use checks of an upstream
            health_check health_check_timeout match
        bounds of HTTP/2 and HTTP/3 are built in; large_client_header_buffers counts for them too
            http2_body_preread_size http2_chunk_size http2_idle_timeout http2_max_concurrent_pushes http2_max_concurrent_streams
            http2_max_field_size http2_max_header_size http2_max_requests http2_push http2_push_preload http2_recv_buffer_size
            http2_recv_timeout http3_hq http3_max_concurrent_streams http3_stream_buffer_size quic_active_connection_id_limit
            quic_bpf quic_gso quic_host_key quic_retry
        use enable_http3 of apisix.ssl.listen in conf/config.yaml
            http3
        use a route with vars; for requests of the method OPTIONS the plugin cors
            if
        use the plugin redirect, or error_page with a path
            internal_redirect recursive_error_pages
        use the plugin serverless-pre-function or serverless-post-function (Lua)
            js_access js_body_filter js_content js_context_reuse js_engine js_fetch_buffer_size js_fetch_ciphers js_fetch_keepalive
            js_fetch_keepalive_requests js_fetch_keepalive_time js_fetch_keepalive_timeout js_fetch_max_response_buffer_size
            js_fetch_protocols js_fetch_proxy js_fetch_timeout js_fetch_trusted_certificate js_fetch_verify js_fetch_verify_depth
            js_filter js_header_filter js_import js_include js_load_http_native_module js_load_stream_native_module js_path
            js_periodic js_preload_object js_preread js_set js_shared_dict_zone js_var
        use keepalive_pool of an upstream
            keepalive
        a client's connection is kept for keepalive_timeout; towards upstreams use keepalive_pool of an upstream
            keepalive_disable keepalive_min_timeout keepalive_requests keepalive_time
        use the plugin limit-conn
            limit_conn limit_conn_dry_run limit_conn_log_level limit_conn_status limit_conn_zone limit_zone
        use methods of a route
            limit_except
        rates of bodies are not limited here
            limit_rate limit_rate_after mp4_limit_rate mp4_limit_rate_after proxy_download_rate proxy_limit_rate proxy_upload_rate
        use the plugin limit-count, or APISIX's plugin limit-req
            limit_req limit_req_dry_run limit_req_log_level limit_req_status limit_req_zone
        use nginx_config.http.access_log_format in conf/config.yaml
            log_format
        tables need no sizes here
            map_hash_bucket_size map_hash_max_size proxy_headers_hash_bucket_size proxy_headers_hash_max_size
            referer_hash_bucket_size referer_hash_max_size server_names_hash_bucket_size server_names_hash_max_size
            types_hash_bucket_size types_hash_max_size variables_hash_bucket_size variables_hash_max_size
        use APISIX's plugin proxy-mirror
            mirror mirror_request_body
        use apisix.stream_proxy in conf/config.yaml and stream routes
            mqtt mqtt_buffers mqtt_preread mqtt_rewrite_buffer_size mqtt_set_connect preread_timeout proxy_half_close proxy_protocol
            proxy_protocol_timeout proxy_requests proxy_responses proxy_session_drop proxy_timeout ssl_alpn ssl_handshake_timeout
            ssl_preread stream
        use APISIX's plugin opentelemetry
            otel_exporter otel_resource_attr otel_service_name otel_span_attr otel_span_name otel_trace otel_trace_context
        use APISIX's plugin proxy-cache
            proxy_cache proxy_cache_background_update proxy_cache_bypass proxy_cache_convert_head proxy_cache_key proxy_cache_lock
            proxy_cache_lock_age proxy_cache_lock_timeout proxy_cache_max_range_offset proxy_cache_methods proxy_cache_min_uses
            proxy_cache_path proxy_cache_purge proxy_cache_revalidate proxy_cache_use_stale proxy_cache_valid proxy_no_cache slice
        use the plugin response-rewrite: headers.remove
            proxy_hide_header
        use the plugin proxy-rewrite: method
            proxy_method proxy_set_body
        headers of the upstream pass, except Server and X-Accel-*
            proxy_pass_header
        requests pass whole; use the plugin proxy-rewrite: headers.remove
            proxy_pass_request_body proxy_pass_request_headers
        trailers pass where the client understands them
            proxy_pass_trailers
        responses are not stored as files
            proxy_store proxy_store_access
        use nginx_config.http.real_ip_header in conf/config.yaml
            real_ip_header
        use nginx_config.http.real_ip_recursive in conf/config.yaml
            real_ip_recursive
        use apisix.dns_resolver and apisix.resolver_timeout in conf/config.yaml
            resolver resolver_timeout
        plugins of a route must all let a request pass
            satisfy
        use apisix.enable_server_tokens in conf/config.yaml
            server_tokens
        write the value where it is used, or use map
            set
        use nginx_config.http.real_ip_from in conf/config.yaml
            set_real_ip_from
        certificates are resources: PUT /apisix/admin/ssls/ID; one for all: apisix.ssl.ssl_cert in conf/config.yaml
            ssl ssl_certificate ssl_certificate_cache ssl_certificate_compression ssl_certificate_key ssl_dhparam ssl_ecdh_curve
            ssl_ech_file ssl_password_file ssl_reject_handshake
        TLS is the framework's: see apisix.ssl in conf/config.yaml
            ssl_buffer_size ssl_early_data ssl_engine ssl_key_log ssl_object_cache_inheritable
        use apisix.ssl.ssl_ciphers in conf/config.yaml
            ssl_ciphers ssl_conf_command ssl_prefer_server_ciphers
        use client.ca of an ssl: PUT /apisix/admin/ssls/ID
            ssl_client_certificate ssl_crl ssl_ocsp ssl_ocsp_cache ssl_ocsp_responder ssl_stapling ssl_stapling_file
            ssl_stapling_responder ssl_stapling_verify ssl_trusted_certificate ssl_verify ssl_verify_client ssl_verify_depth
        use apisix.ssl.ssl_protocols in conf/config.yaml
            ssl_protocols
        use apisix.ssl.ssl_session_tickets in conf/config.yaml
            ssl_session_cache ssl_session_ticket_key ssl_session_tickets ssl_session_timeout
        use filters of the plugin response-rewrite
            sub_filter sub_filter_last_modified sub_filter_once sub_filter_types
        CONNECT is answered with 405
            tunnel_buffer_size tunnel_connect_timeout tunnel_read_timeout tunnel_send_timeout
        use nginx_config.http.underscores_in_headers in conf/config.yaml
            underscores_in_headers
        use vars on http_referer, or APISIX's plugin referer-restriction
            valid_referers
        use nginx_config.worker_processes in conf/config.yaml
            worker_processes
        use sluice.shutdown_timeout in conf/config.yaml
            worker_shutdown_timeout
        gateways share their configuration through etcd: deployment.role_traditional.config_provider
            zone_sync zone_sync_buffers zone_sync_connect_retry_interval zone_sync_connect_timeout zone_sync_interval
            zone_sync_recv_buffer_size zone_sync_server zone_sync_ssl zone_sync_ssl_certificate zone_sync_ssl_certificate_key
            zone_sync_ssl_ciphers zone_sync_ssl_conf_command zone_sync_ssl_crl zone_sync_ssl_name zone_sync_ssl_password_file
            zone_sync_ssl_protocols zone_sync_ssl_server_name zone_sync_ssl_trusted_certificate zone_sync_ssl_verify
            zone_sync_ssl_verify_depth zone_sync_timeout
        """;

    static readonly FrozenDictionary<string, string> ByName = Read().ToFrozenDictionary(pair => pair.Name, pair => pair.Instead);

    static IEnumerable<(string Name, string Instead)> Read()
    {
        var instead = "";
        foreach (var line in Text.Split('\n'))
        {
            if (line is not [' ', ..])
            {
                instead = line.Trim();
                continue;
            }
            foreach (var name in line.Split(' ', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries))
            {
                yield return (name, instead);
            }
        }
    }
}
