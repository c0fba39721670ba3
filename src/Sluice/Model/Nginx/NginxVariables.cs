using System.Collections.Frozen;

namespace Sluice.Model.Nginx;

/// <summary>Which variables there are, so that a name that nobody fills is refused when the file is read, as nginx does.</summary>
internal static class NginxVariables
{
    /// <summary>What the pipeline answers by name; that this list is the same as the pipeline's is tested.</summary>
    static readonly FrozenSet<string> Filled = Words("""
        uri document_uri request_uri real_request_uri args query_string is_args host hostname http_host method request_method request scheme https
        server_protocol server_addr server_port remote_addr realip_remote_addr remote_port realip_remote_port proxy_protocol_addr proxy_protocol_port
        proxy_protocol_server_addr proxy_protocol_server_port proxy_add_x_forwarded_for remote_user content_type content_length request_length request_time
        request_completion request_id apisix_request_id status body_bytes_sent bytes_sent connection connection_requests pid pipe msec time_local
        time_iso8601 ssl_protocol ssl_client_verify ssl_client_s_dn ssl_client_i_dn ssl_client_serial ssl_client_fingerprint ssl_cipher ssl_server_name
        upstream_addr upstream_status upstream_scheme upstream_host upstream_uri upstream_connect_time upstream_header_time upstream_response_time
        upstream_bytes_received upstream_response_length route_id route_name service_id service_name matched_uri consumer_name consumer_group_id
        balancer_ip balancer_port upstream_unresolved_host apisix_upstream_response_time sluice_buffering sluice_buffering_rule sluice_failure sluice_shielded_status rate_limiting_info
        sluice_stream_id sluice_stream_kind sluice_stream_mode sluice_stream_phase sluice_stream_end sluice_events sluice_dropped sluice_first_event_time sluice_max_gap sluice_heartbeats sluice_paused_time sluice_detached_time sluice_topic sluice_resumed_from
        request_type request_llm_model
        """);

    /// <summary>What sessions of TCP and UDP answer by name.</summary>
    static readonly FrozenSet<string> FilledInStreams = Words("""
        remote_addr remote_port server_addr server_port protocol ssl_server_name ssl_preread_server_name route_id route_name service_id upstream_addr
        bytes_received upstream_bytes_sent bytes_sent upstream_bytes_received status msec time_local time_iso8601 session_time hostname mqtt_client_id
        """);

    static readonly string[] Prefixes = ["arg_", "http_", "cookie_", "sent_http_", "upstream_http_", "uri_param_", "graphql_", "jwt_",
        "llm_", "post_arg"];

    /// <summary>nginx and APISIX have these, and here nothing fills them.</summary>
    static readonly FrozenSet<string> Empty = Words("""
        acme_certificate acme_certificate_key ancient_browser binary_remote_addr bytes_received connection_time connections_active connections_reading
        connections_waiting connections_writing date_gmt date_local document_root fastcgi_path_info fastcgi_script_name geoip_area_code geoip_city
        geoip_city_continent_code geoip_city_country_code geoip_city_country_code3 geoip_city_country_name geoip_country_code geoip_country_code3
        geoip_country_name geoip_dma_code geoip_latitude geoip_longitude geoip_org geoip_postal_code geoip_region geoip_region_name gzip_ratio http2 http3
        invalid_referer is_request_port jwt_payload limit_conn_status limit_rate limit_req_status memcached_key modern_browser mqtt_preread_clientid
        mqtt_preread_username msie nginx_version oidc_access_token oidc_id_token oidc_userinfo otel_parent_id otel_parent_sampled otel_span_id
        otel_trace_id protocol proxy_host proxy_port realpath_root request_body request_body_file request_filename request_port secure_link
        secure_link_expires server_name session_log_binary_id session_log_id session_time slice_range ssl_alpn_protocol ssl_ciphers ssl_client_cert
        ssl_client_escaped_cert ssl_client_i_dn_legacy ssl_client_raw_cert ssl_client_s_dn_legacy ssl_client_sigalg ssl_client_v_end ssl_client_v_remain
        ssl_client_v_start ssl_curve ssl_curves ssl_early_data ssl_ech_outer_server_name ssl_ech_status ssl_preread_alpn_protocols ssl_preread_protocol
        ssl_preread_server_name ssl_session_id ssl_session_reused ssl_sigalg ssl_sigalgs time_iso8601_ms uid_got uid_reset uid_set
        upstream_bytes_sent upstream_cache_status upstream_first_byte_time upstream_last_addr upstream_last_server_name upstream_queue_time
        upstream_session_time set_http_header upstream_upgrade upstream_connection upstream_cache_zone upstream_cache_zone_info upstream_no_cache
        upstream_cache_bypass upstream_cache_key upstream_hdr_expires upstream_hdr_cache_control upstream_mirror_host upstream_mirror_uri
        upstream_sni ctx_ref dubbo_service_name dubbo_service_version dubbo_method wasm_process_req_body wasm_process_resp_body
        original_forwarded original_x_forwarded_for original_x_forwarded_host original_x_forwarded_port
        original_x_forwarded_proto upstream_mirror_grpc_path opentelemetry_context_traceparent opentelemetry_trace_id opentelemetry_span_id zipkin_context_traceparent zipkin_trace_id
        zipkin_span_id apisix_upstream_response_length request_line resp_body
        """);

    static readonly string[] EmptyPrefixes =
        ["jwt_claim_", "jwt_header_", "oidc_claim_", "proxy_protocol_tlv_", "sent_trailer_", "tcpinfo_", "upstream_cookie_",
            "upstream_trailer_"];

    static FrozenSet<string> Words(string text) => text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries).ToFrozenSet();

    /// <summary>Every name that stands for one value, for suggestions and tests.</summary>
    internal static IEnumerable<string> Names => Filled;

    internal static IEnumerable<string> StreamNames => FilledInStreams;

    /// <summary>What is wrong with a variable of this name; null when it has a value. Only the second kind of finding is no reason to
    /// refuse the text.</summary>
    /// <param name="declared">Names that <c>map</c> makes.</param>
    public static (string? Error, string? Warning) Check(string name, IReadOnlyCollection<string>? declared = null, bool inStream = false)
    {
        var filled = inStream ? FilledInStreams : Filled;
        if (filled.Contains(name) || declared?.Contains(name) == true
            || (!inStream && HasPrefix(Prefixes, name) && !HasPrefix(EmptyPrefixes, name)))
        {
            return (null, null);
        }
        if (name.All(char.IsAsciiDigit))
        {
            return (null, $"\"${name}\" is always empty here: captures of regular expressions are not kept");
        }
        return Empty.Contains(name) || HasPrefix(EmptyPrefixes, name) || (inStream && Filled.Contains(name))
            ? (null, $"the variable \"{name}\" is always empty here")
            : ($"unknown \"{name}\" variable{Suggestion.For(name, [.. filled, .. declared ?? []])}", null);
    }

    static bool HasPrefix(string[] prefixes, string name) =>
        Array.Exists(prefixes, prefix => name.StartsWith(prefix, StringComparison.Ordinal) && name.Length > prefix.Length);

    /// <summary>The names behind dollar signs in a text, as they are read when it is expanded.</summary>
    public static IEnumerable<string> In(string text)
    {
        for (var dollar = text.IndexOf('$', StringComparison.Ordinal); dollar >= 0; dollar = text.IndexOf('$', dollar + 1))
        {
            if (dollar > 0 && text[dollar - 1] == '\\')
            {
                continue;
            }
            var start = dollar + (dollar + 1 < text.Length && text[dollar + 1] == '{' ? 2 : 1);
            var end = start;
            while (end < text.Length && (char.IsAsciiLetterOrDigit(text[end]) || text[end] == '_'))
            {
                end++;
            }
            if (end > start)
            {
                yield return text[start..end];
            }
        }
    }
}
