using System.Net;
using System.Security.Cryptography;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using Sluice.Pipeline;
using StackExchange.Redis;

namespace Sluice.Plugins.Traffic;

/// <summary>Which Redis a limit is shared over: those of a plugin's properties that say so. Plugins that say the same share one
/// connection.</summary>
sealed record RedisSettings(
    string Policy, string? RedisHost = null, int RedisPort = 6379, string? RedisUsername = null, string? RedisPassword = null,
    int RedisDatabase = 0, int RedisTimeout = 1000,
    bool RedisSsl = false, bool RedisSslVerify = false,
    string[]? RedisClusterNodes = null, string? RedisClusterName = null, bool RedisClusterSsl = false, bool RedisClusterSslVerify = false,
    RedisSettings.Sentinel[]? RedisSentinels = null, string? RedisMasterName = null, string RedisRole = "master",
    int RedisConnectTimeout = 1000, int RedisReadTimeout = 1000,
    string? SentinelUsername = null, string? SentinelPassword = null)
{
    public sealed record Sentinel(string Host, int Port);

    const string Password =
        """ "redis_password": { "type": "string", "minLength": 0, "description": "`$secret://` and `$env://` references work" } """;

    const string Timeouts = """
        "redis_timeout": { "type": "integer", "minimum": 1, "default": 1000, "description": "milliseconds, for connecting and for an answer" },
        "redis_keepalive_timeout": { "type": "integer", "minimum": 1000, "default": 10000, "description": "without effect: one connection stays" },
        "redis_keepalive_pool": { "type": "integer", "minimum": 1, "default": 100, "description": "without effect: one connection takes all requests" }
        """;

    /// <summary>Those of one server, as properties of a schema.</summary>
    public const string Properties = $$"""
        "redis_host": { "type": "string", "minLength": 2 },
        "redis_port": { "type": "integer", "minimum": 1, "default": 6379 },
        "redis_username": { "type": "string", "minLength": 1 },
        {{Password}},
        "redis_database": { "type": "integer", "minimum": 0, "default": 0 },
        "redis_ssl": { "type": "boolean", "default": false, "description": "TLS" },
        "redis_ssl_verify": { "type": "boolean", "default": false, "description": "the server's certificate must be good for redis_host" },
        {{Timeouts}}
        """;

    const string One = $$"""
        {
          "properties": {
            {{Properties}} MORE
          },
          "required": ["redis_host"]
        }
        """;

    const string Cluster = $$"""
        {
          "properties": {
            "redis_cluster_nodes": {
              "type": "array",
              "minItems": 1,
              "items": { "type": "string", "minLength": 2, "maxLength": 100 },
              "description": "some of the cluster's nodes, `host:port`; the others are found"
            },
            "redis_cluster_name": { "type": "string" },
            {{Password}},
            "redis_cluster_ssl": { "type": "boolean", "default": false, "description": "TLS" },
            "redis_cluster_ssl_verify": { "type": "boolean", "default": false, "description": "nodes' certificates must be good for their names" },
            {{Timeouts}} MORE
          },
          "required": ["redis_cluster_nodes", "redis_cluster_name"]
        }
        """;

    const string Sentinels = $$"""
        {
          "properties": {
            "redis_sentinels": {
              "type": "array",
              "minItems": 1,
              "items": {
                "type": "object",
                "properties": { "host": { "type": "string", "minLength": 2 }, "port": { "type": "integer", "minimum": 1, "maximum": 65535 } },
                "required": ["host", "port"],
                "additionalProperties": false
              }
            },
            "redis_master_name": { "type": "string", "minLength": 1 },
            "redis_role": { "type": "string", "enum": ["master", "slave"], "default": "master", "description": "counting is writing: a slave refuses it" },
            "redis_connect_timeout": { "type": "integer", "minimum": 1, "default": 1000, "description": "milliseconds" },
            "redis_read_timeout": { "type": "integer", "minimum": 1, "default": 1000, "description": "milliseconds" },
            "redis_keepalive_timeout": { "type": "integer", "minimum": 1, "default": 60000, "description": "without effect: one connection stays" },
            "redis_database": { "type": "integer", "minimum": 0, "default": 0 },
            "redis_username": { "type": "string", "minLength": 1 },
            {{Password}},
            "sentinel_username": { "type": "string", "minLength": 1 },
            "sentinel_password": { "type": "string", "minLength": 0 }
          },
          "required": ["redis_sentinels", "redis_master_name"]
        }
        """;

    /// <summary>The end of a plugin's schema: what each policy asks for.</summary>
    /// <param name="sentinel">The plugin knows redis-sentinel.</param>
    /// <param name="more">Properties that the plugin adds to those of Redis.</param>
    public static string Schema(bool sentinel = false, string more = "")
    {
        more = more.Length > 0 ? ", " + more : "";
        var last = sentinel ? $$""", "else": { {{If("redis-sentinel", Sentinels)}} } """ : "";
        return $$"""
            {{If("redis", One)}},
            "else": { {{If("redis-cluster", Cluster)}} {{last}} },
            "encrypt_fields": ["redis_password"{{(sentinel ? ", \"sentinel_password\"" : "")}}]
            """;

        string If(string policy, string then) =>
            $$""" "if": { "properties": { "policy": { "enum": ["{{policy}}"] } } }, "then": {{then.Replace(" MORE", more, StringComparison.Ordinal)}} """;
    }

    /// <summary>The connection of a plugin that shares its counts; null when they stay in this process.</summary>
    public static RedisLink? Connect(PluginContext context) => Connect(context, context.Config);

    /// <param name="config">The part of the plugin's configuration that says it.</param>
    public static RedisLink? Connect(PluginContext context, JsonObject config)
    {
        if ((string?)config["policy"] is null or "local")
        {
            return null;
        }
        var settings = config.Deserialize(RedisSettingsJson.Default.RedisSettings)!;
        // the name has a digest of the passwords, never the passwords
        var digest = Convert.ToHexStringLower(
            SHA256.HashData(JsonSerializer.SerializeToUtf8Bytes(settings, RedisSettingsJson.Default.RedisSettings)));
        return context.Share($"redis/{digest}", () => new RedisLink(settings, digest, context.Services));
    }

    /// <summary>The same for the library. Whoever is not connected fails at once: a request that waits for Redis to come back helps
    /// nobody.</summary>
    public ConfigurationOptions Options()
    {
        var (connect, answer) = Policy == "redis-sentinel" ? (RedisConnectTimeout, RedisReadTimeout) : (RedisTimeout, RedisTimeout);
        var options = new ConfigurationOptions
        {
            ClientName = "sluice",
            AbortOnConnectFail = false,
            ConnectTimeout = connect,
            AsyncTimeout = answer,
            SyncTimeout = answer,
            ConnectRetry = 1,
            ReconnectRetryPolicy = new LinearRetry(Math.Clamp(connect, 100, 1000)),
            // who looks for silence looks that often
            HeartbeatInterval = TimeSpan.FromMilliseconds(Math.Clamp(answer / 2, 100, 1000)),
            BacklogPolicy = BacklogPolicy.FailFast,
            User = RedisUsername,
            Password = string.IsNullOrEmpty(RedisPassword) ? null : RedisPassword,
        };
        switch (Policy)
        {
            case "redis-cluster":
                foreach (var node in RedisClusterNodes!)
                {
                    options.EndPoints.Add(node);
                }
                Secure(options, RedisClusterSsl, RedisClusterSslVerify);
                break;
            case "redis-sentinel":
                foreach (var sentinel in RedisSentinels!)
                {
                    options.EndPoints.Add(sentinel.Host, sentinel.Port);
                }
                options.DefaultDatabase = RedisDatabase;
                break;
            default:
                options.EndPoints.Add(RedisHost!, RedisPort);
                options.DefaultDatabase = RedisDatabase;
                Secure(options, RedisSsl, RedisSslVerify);
                break;
        }
        return options;
    }

    [System.Diagnostics.CodeAnalysis.SuppressMessage("Security", "CA5359",
        Justification = "without verify any certificate is good, as in APISIX")]
    static void Secure(ConfigurationOptions options, bool tls, bool verify)
    {
        options.Ssl = tls;
        if (tls && !verify)
        {
            options.CertificateValidation += static (_, _, _, _) => true;
        }
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(RedisSettings))]
sealed partial class RedisSettingsJson : JsonSerializerContext;
