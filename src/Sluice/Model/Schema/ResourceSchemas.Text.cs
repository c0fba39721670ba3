namespace Sluice.Model.Schema;

internal static partial class ResourceSchemas
{
    static string Text(ResourceKind kind) => kind switch
    {
        ResourceKind.Routes => Route,
        ResourceKind.Services => Service,
        ResourceKind.Upstreams => Upstream,
        ResourceKind.Consumers => Consumer,
        ResourceKind.ConsumerGroups or ResourceKind.PluginConfigs => NamedPlugins,
        ResourceKind.GlobalRules => GlobalRule,
        ResourceKind.Credentials => Credential,
        ResourceKind.Protos => Proto,
        ResourceKind.Secrets => Secret,
        ResourceKind.Ssls => Ssl,
        ResourceKind.StreamRoutes => StreamRoute,
        ResourceKind.GraphqlCostDecorations => GraphqlCostDecoration,
        _ => PluginMetadata,
    };

    const string Id = """
        {"anyOf": [
          {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[a-zA-Z0-9-_.]+$"},
          {"type": "integer", "minimum": 1}
        ]}
        """;

    const string Host = """{"type": "string", "pattern": "^\\*$|^\\*?[0-9a-zA-Z-._\\[\\]:]+$"}""";

    const string Name = """{"type": "string", "minLength": 1, "maxLength": 256}""";

    const string Description = """{"type": "string", "maxLength": 256}""";

    const string Timestamp = """{"type": "integer"}""";

    const string Labels = """
        {
          "description": "key/value pairs to specify attributes",
          "type": "object",
          "patternProperties": {".*": {"description": "value of label", "type": "string", "pattern": "^\\S+$", "minLength": 1, "maxLength": 256}}
        }
        """;

    /// <summary>What every resource may carry.</summary>
    const string Common = $$"""
        "id": {{Id}},
        "desc": {{Description}},
        "labels": {{Labels}},
        "create_time": {{Timestamp}},
        "update_time": {{Timestamp}}
        """;

    const string Plugins = """{"type": "object"}""";

    const string Script = """{"type": "string", "minLength": 10, "maxLength": 102400}""";

    const string IPv4Part = "([0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])";

    const string IPv6 = "([a-fA-F0-9]{0,4}:){1,8}(:[a-fA-F0-9]{0,4}){0,8}([a-fA-F0-9]{0,4})?";

    const string RemoteAddress = $$"""
        {
          "description": "client IP",
          "type": "string",
          "anyOf": [
            {"title": "IPv4", "type": "string", "format": "ipv4"},
            {"title": "IPv4/CIDR", "type": "string", "pattern": "^{{IPv4Part}}\\.{{IPv4Part}}\\.{{IPv4Part}}\\.{{IPv4Part}}/([12]?[0-9]|3[0-2])$"},
            {"title": "IPv6", "type": "string", "format": "ipv6"},
            {"title": "IPv6/CIDR", "type": "string", "pattern": "^{{IPv6}}/[0-9]{1,3}$"}
          ]
        }
        """;

    const string Timeout = """
        {
          "type": "object",
          "properties": {
            "connect": {"type": "number", "exclusiveMinimum": 0},
            "send": {"type": "number", "exclusiveMinimum": 0},
            "read": {"type": "number", "exclusiveMinimum": 0}
          },
          "required": ["connect", "send", "read"]
        }
        """;

    const string Statuses = """
        "type": "array", "minItems": 1, "uniqueItems": true, "items": {"type": "integer", "minimum": 200, "maximum": 599}
        """;

    const string CheckType = """{"type": "string", "enum": ["http", "https", "tcp"], "default": "http"}""";

    const string HealthChecks = $$"""
        {
          "type": "object",
          "properties": {
            "active": {
              "type": "object",
              "properties": {
                "type": {{CheckType}},
                "timeout": {"type": "number", "default": 1},
                "concurrency": {"type": "integer", "default": 10},
                "host": {{Host}},
                "port": {"type": "integer", "minimum": 1, "maximum": 65535},
                "http_method": {"type": "string", "default": "GET"},
                "http_path": {"type": "string", "default": "/"},
                "https_verify_certificate": {"type": "boolean", "default": true},
                "healthy": {
                  "type": "object",
                  "properties": {
                    "interval": {"type": "integer", "minimum": 1, "default": 1},
                    "http_statuses": { {{Statuses}}, "default": [200, 302] },
                    "successes": {"type": "integer", "minimum": 1, "maximum": 254, "default": 2}
                  }
                },
                "unhealthy": {
                  "type": "object",
                  "properties": {
                    "interval": {"type": "integer", "minimum": 1, "default": 1},
                    "http_statuses": { {{Statuses}}, "default": [429, 404, 500, 501, 502, 503, 504, 505] },
                    "http_failures": {"type": "integer", "minimum": 1, "maximum": 254, "default": 5},
                    "tcp_failures": {"type": "integer", "minimum": 1, "maximum": 254, "default": 2},
                    "timeouts": {"type": "integer", "minimum": 1, "maximum": 254, "default": 3}
                  }
                },
                "req_headers": {"type": "array", "minItems": 1, "items": {"type": "string"} }
              }
            },
            "passive": {
              "type": "object",
              "properties": {
                "type": {{CheckType}},
                "healthy": {
                  "type": "object",
                  "properties": {
                    "http_statuses": { {{Statuses}}, "default": [
                      200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304, 305, 306, 307, 308] },
                    "successes": {"type": "integer", "minimum": 0, "maximum": 254, "default": 5}
                  }
                },
                "unhealthy": {
                  "type": "object",
                  "properties": {
                    "http_statuses": { {{Statuses}}, "default": [429, 500, 503] },
                    "tcp_failures": {"type": "integer", "minimum": 0, "maximum": 254, "default": 2},
                    "timeouts": {"type": "integer", "minimum": 0, "maximum": 254, "default": 7},
                    "http_failures": {"type": "integer", "minimum": 0, "maximum": 254, "default": 5}
                  }
                }
              }
            }
          },
          "anyOf": [{"required": ["active"]}, {"required": ["active", "passive"]}],
          "additionalProperties": false
        }
        """;

    const string Nodes = $$"""
        {
          "anyOf": [
            {
              "type": "object",
              "patternProperties": {".*": {"description": "weight of node", "type": "integer", "minimum": 0} }
            },
            {
              "type": "array",
              "items": {
                "type": "object",
                "properties": {
                  "host": {{Host}},
                  "port": {"description": "port of node", "type": "integer", "minimum": 1, "maximum": 65535},
                  "weight": {"description": "weight of node", "type": "integer", "minimum": 0},
                  "priority": {"description": "priority of node", "type": "integer", "default": 0},
                  "metadata": {"description": "metadata of node", "type": "object"}
                },
                "required": ["host", "weight"]
              }
            }
          ]
        }
        """;

    const string Certificate = """{"type": "string", "minLength": 128, "maxLength": 65536}""";

    const string UpstreamTls = $$"""
        {
          "type": "object",
          "properties": {
            "client_cert_id": {{Id}},
            "client_cert": {"oneOf": [{{Certificate}}, {{SecretReference}}]},
            "client_key": {"oneOf": [{{Certificate}}, {{SecretReference}}]},
            "verify": {"description": "whether the upstream's certificate is checked", "type": "boolean", "default": false}
          },
          "dependencies": {
            "client_cert": {"required": ["client_key"], "not": {"required": ["client_cert_id"]} },
            "client_key": {"required": ["client_cert"], "not": {"required": ["client_cert_id"]} },
            "client_cert_id": {"not": {"required": ["client_cert", "client_key"]} }
          }
        }
        """;

    const string Upstream = $$"""
        {
          "type": "object",
          "properties": {
            "name": {{Name}},
            "nodes": {{Nodes}},
            "retries": {"type": "integer", "minimum": 0},
            "retry_timeout": {"type": "number", "minimum": 0},
            "timeout": {{Timeout}},
            "tls": {{UpstreamTls}},
            "keepalive_pool": {
              "type": "object",
              "properties": {
                "size": {"type": "integer", "default": 320, "minimum": 1},
                "idle_timeout": {"type": "number", "default": 60, "minimum": 0},
                "requests": {"type": "integer", "default": 1000, "minimum": 1}
              }
            },
            "type": {
              "description": "algorithms of load balancing",
              "type": "string",
              "enum": ["roundrobin", "chash", "ewma", "least_conn"],
              "default": "roundrobin"
            },
            "checks": {{HealthChecks}},
            "hash_on": {"type": "string", "default": "vars", "enum": ["vars", "header", "cookie", "consumer", "vars_combinations"]},
            "key": {"description": "the key of chash for dynamic load balancing", "type": "string"},
            "scheme": {
              "description": "the scheme used towards the nodes",
              "enum": ["grpc", "grpcs", "http", "https", "tcp", "tls", "udp", "kafka"],
              "default": "http"
            },
            "discovery_type": {"description": "discovery type", "type": "string"},
            "discovery_args": {"type": "object"},
            "pass_host": {"description": "mod of host passing", "type": "string", "enum": ["pass", "node", "rewrite"], "default": "pass"},
            "upstream_host": {{Host}},
            "service_name": {"type": "string", "minLength": 1, "maxLength": 256},
            {{Common}}
          },
          "oneOf": [{"required": ["nodes"]}, {"required": ["service_name", "discovery_type"]}],
          "additionalProperties": false
        }
        """;

    const string HashVariableText = """
        {
          "type": "string",
          "pattern": "^((uri|server_name|server_addr|request_uri|remote_port|remote_addr|query_string|host|hostname|mqtt_client_id)|arg_[0-9a-zA-z_-]+)$"
        }
        """;

    const string HashHeaderText = """{"type": "string", "pattern": "^[a-zA-Z0-9-_]+$"}""";

    const string Route = $$"""
        {
          "type": "object",
          "properties": {
            "uri": {"type": "string", "minLength": 1, "maxLength": 4096},
            "uris": {
              "type": "array",
              "items": {"description": "HTTP uri", "type": "string"},
              "minItems": 1,
              "uniqueItems": true
            },
            "name": {{Name}},
            "priority": {"type": "integer", "default": 0},
            "methods": {
              "type": "array",
              "items": {
                "description": "HTTP method",
                "type": "string",
                "enum": ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE", "PURGE"]
              },
              "uniqueItems": true
            },
            "host": {{Host}},
            "hosts": {"type": "array", "items": {{Host}}, "minItems": 1, "uniqueItems": true},
            "remote_addr": {{RemoteAddress}},
            "remote_addrs": {"type": "array", "items": {{RemoteAddress}}, "minItems": 1, "uniqueItems": true},
            "timeout": {{Timeout}},
            "vars": {"type": "array"},
            "filter_func": {"type": "string", "minLength": 10, "pattern": "^function"},
            "script": {{Script}},
            "script_id": {{Id}},
            "plugins": {{Plugins}},
            "plugin_config_id": {{Id}},
            "upstream": {{Upstream}},
            "service_id": {{Id}},
            "upstream_id": {{Id}},
            "enable_websocket": {"description": "enable websocket for request", "type": "boolean"},
            "status": {"description": "route status, 1 to enable, 0 to disable", "type": "integer", "enum": [1, 0], "default": 1},
            {{Common}}
          },
          "allOf": [
            {"oneOf": [{"required": ["uri"]}, {"required": ["uris"]}]},
            {"oneOf": [
              {"not": {"anyOf": [{"required": ["host"]}, {"required": ["hosts"]}]} },
              {"required": ["host"]},
              {"required": ["hosts"]}
            ]},
            {"oneOf": [
              {"not": {"anyOf": [{"required": ["remote_addr"]}, {"required": ["remote_addrs"]}]} },
              {"required": ["remote_addr"]},
              {"required": ["remote_addrs"]}
            ]}
          ],
          "anyOf": [
            {"required": ["plugins", "uri"]},
            {"required": ["upstream", "uri"]},
            {"required": ["upstream_id", "uri"]},
            {"required": ["service_id", "uri"]},
            {"required": ["plugins", "uris"]},
            {"required": ["upstream", "uris"]},
            {"required": ["upstream_id", "uris"]},
            {"required": ["service_id", "uris"]},
            {"required": ["script", "uri"]},
            {"required": ["script", "uris"]}
          ],
          "not": {"anyOf": [{"required": ["script", "plugins"]}, {"required": ["script", "plugin_config_id"]}]},
          "additionalProperties": false
        }
        """;

    const string Service = $$"""
        {
          "type": "object",
          "properties": {
            "name": {{Name}},
            "plugins": {{Plugins}},
            "upstream": {{Upstream}},
            "upstream_id": {{Id}},
            "script": {{Script}},
            "enable_websocket": {"description": "enable websocket for request", "type": "boolean"},
            "hosts": {"type": "array", "items": {{Host}}, "minItems": 1, "uniqueItems": true},
            {{Common}}
          },
          "additionalProperties": false
        }
        """;

    const string Consumer = $$"""
        {
          "type": "object",
          "properties": {
            "username": {"type": "string", "minLength": 1, "maxLength": 256, "pattern": "^[a-zA-Z0-9_\\-]+$"},
            "group_id": {{Id}},
            "plugins": {{Plugins}},
            {{Common}}
          },
          "required": ["username"],
          "additionalProperties": false
        }
        """;

    /// <summary>Consumer groups and plugin configurations.</summary>
    const string NamedPlugins = $$"""
        {
          "type": "object",
          "properties": {
            "name": {{Name}},
            "plugins": {{Plugins}},
            {{Common}}
          },
          "required": ["id", "plugins"],
          "additionalProperties": false
        }
        """;

    const string GlobalRule = $$"""
        {
          "type": "object",
          "properties": {
            "id": {{Id}},
            "plugins": {{Plugins}},
            "create_time": {{Timestamp}},
            "update_time": {{Timestamp}}
          },
          "required": ["plugins"],
          "additionalProperties": false
        }
        """;

    /// <summary>What may authenticate a consumer besides its own plugins: one auth plugin each.</summary>
    const string Credential = $$"""
        {
          "type": "object",
          "properties": {
            "name": {{Name}},
            "plugins": {"type": "object", "maxProperties": 1},
            {{Common}}
          },
          "additionalProperties": false
        }
        """;

    const string ArgumentNames = """{"type": "array", "items": {"type": "string", "minLength": 1}}""";

    /// <summary>What a place in the upstream's GraphQL schema costs; the service is the path's.</summary>
    const string GraphqlCostDecoration = $$"""
        {
          "type": "object",
          "properties": {
            "name": {{Name}},
            "service_id": {{Id}},
            "field_path": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*(\\.[A-Za-z_][A-Za-z0-9_]*)*$"},
            "add_value": {"type": "number", "minimum": 0, "default": 1},
            "add_arguments": {{ArgumentNames}},
            "mul_value": {"type": "number", "minimum": 0, "default": 1},
            "mul_arguments": {{ArgumentNames}},
            {{Common}}
          },
          "required": ["field_path"],
          "additionalProperties": false
        }
        """;

    const string Proto = $$"""
        {
          "type": "object",
          "properties": {
            "name": {{Name}},
            "content": {"type": "string", "minLength": 1, "maxLength": 1048576},
            {{Common}}
          },
          "required": ["content"],
          "additionalProperties": false
        }
        """;

    const string Uri = """{"type": "string", "pattern": "^[^\\/]+:\\/\\/([\\da-zA-Z.-]+|\\[[\\da-fA-F:]+\\])(:\\d+)?"}""";

    /// <summary>By the first part of a secret's id.</summary>
    static (string Type, string Schema)[] SecretTypes =>
    [
        ("vault", $$"""
            {
              "type": "object",
              "properties": {
                "uri": {{Uri}},
                "prefix": {"type": "string"},
                "token": {"type": "string"},
                "namespace": {"type": "string"}
              },
              "required": ["uri", "prefix", "token"]
            }
            """),
        ("aws", $$"""
            {
              "type": "object",
              "properties": {
                "access_key_id": {"type": "string"},
                "secret_access_key": {"type": "string"},
                "session_token": {"type": "string"},
                "region": {"type": "string", "default": "us-east-1"},
                "endpoint_url": {{Uri}}
              },
              "required": ["access_key_id", "secret_access_key"]
            }
            """),
        ("gcp", """
            {
              "type": "object",
              "properties": {
                "auth_config": {
                  "type": "object",
                  "properties": {
                    "client_email": {"type": "string"},
                    "private_key": {"type": "string"},
                    "project_id": {"type": "string"},
                    "token_uri": {"type": "string", "default": "https://oauth2.googleapis.com/token"},
                    "scope": {
                      "type": "array",
                      "items": {"type": "string"},
                      "default": ["https://www.googleapis.com/auth/cloud-platform"]
                    },
                    "entries_uri": {"type": "string", "default": "https://secretmanager.googleapis.com/v1"}
                  },
                  "required": ["client_email", "private_key", "project_id"]
                },
                "ssl_verify": {"type": "boolean", "default": true},
                "auth_file": {"type": "string"}
              },
              "oneOf": [{"required": ["auth_config"]}, {"required": ["auth_file"]}]
            }
            """),
    ];

    /// <summary>What all of them share; <see cref="SecretTypes"/> has the rest.</summary>
    const string Secret = """{"type": "object"}""";

    const string ServerName = """{"type": "string", "pattern": "^\\*$|^\\*?[0-9a-zA-Z-._\\[\\]:]+$"}""";

    const string SecretReference = """{"type": "string", "pattern": "^\\$(secret|env|ENV)://"}""";

    const string Ssl = $$"""
        {
          "type": "object",
          "properties": {
            "type": {
              "description": "server: shown to clients; client: shown to upstreams",
              "type": "string",
              "default": "server",
              "enum": ["server", "client"]
            },
            "cert": {"oneOf": [{{Certificate}}, {{SecretReference}}]},
            "key": {"oneOf": [{{Certificate}}, {{SecretReference}}]},
            "sni": {{ServerName}},
            "snis": {"type": "array", "items": {{ServerName}}, "minItems": 1},
            "certs": {"type": "array", "items": {"oneOf": [{{Certificate}}, {{SecretReference}}]} },
            "keys": {"type": "array", "items": {"oneOf": [{{Certificate}}, {{SecretReference}}]} },
            "client": {
              "type": "object",
              "properties": {
                "ca": {"oneOf": [{{Certificate}}, {{SecretReference}}]},
                "depth": {"type": "integer", "minimum": 0, "default": 1},
                "skip_mtls_uri_regex": {
                  "type": "array",
                  "minItems": 1,
                  "uniqueItems": true,
                  "items": {"description": "uri regular expression", "type": "string"}
                }
              },
              "required": ["ca"]
            },
            "status": {"description": "1 to enable, 0 to disable", "type": "integer", "enum": [1, 0], "default": 1},
            "ssl_protocols": {
              "description": "TLS versions for these names",
              "type": "array",
              "maxItems": 3,
              "uniqueItems": true,
              "items": {"enum": ["TLSv1.1", "TLSv1.2", "TLSv1.3"]}
            },
            "ocsp_stapling": {
              "description": "the certificate's OCSP answer is sent along in handshakes",
              "type": "object",
              "properties": {"enabled": {"type": "boolean", "default": false}, "skip_verify": {"type": "boolean", "default": false}, "cache_ttl": {"type": "integer", "minimum": 60, "default": 3600} }
            },
            "validity_start": {{Timestamp}},
            "validity_end": {{Timestamp}},
            "exptime": {{Timestamp}},
            "name": {{Name}},
            {{Common}}
          },
          "if": {"properties": {"type": {"enum": ["server"]} } },
          "then": {"oneOf": [{"required": ["sni", "key", "cert"]}, {"required": ["snis", "key", "cert"]}]},
          "else": {"required": ["key", "cert"]},
          "additionalProperties": false
        }
        """;

    const string StreamRoute = $$"""
        {
          "type": "object",
          "properties": {
            "name": {{Name}},
            "remote_addr": {{RemoteAddress}},
            "server_addr": {{RemoteAddress}},
            "server_port": {"description": "server port", "type": "integer"},
            "sni": {"description": "server name indication", "type": "string", "pattern": "^\\*$|^\\*?[0-9a-zA-Z-._\\[\\]:]+$"},
            "upstream": {{Upstream}},
            "upstream_id": {{Id}},
            "service_id": {{Id}},
            "plugins": {{Plugins}},
            "protocol": {"type": "object", "properties": {"name": {"type": "string"} }, "required": ["name"]},
            {{Common}}
          },
          "additionalProperties": false
        }
        """;

    /// <summary>Each plugin has its own metadata schema; this is what they share.</summary>
    const string PluginMetadata = """{"type": "object"}""";
}
