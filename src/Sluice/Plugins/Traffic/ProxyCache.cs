using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Pipeline;

namespace Sluice.Plugins.Traffic;

/// <summary>Stores responses, and answers later requests with them.</summary>
internal sealed class ProxyCache : IPlugin<ProxyCache, ProxyCache.Config>, IAccess, IHeaderFilter, IHolds
{
    public static PluginInfo Info { get; } = new(
        Name: "proxy-cache",
        Priority: 1085,
        Schema: """
            {
              "type": "object",
              "properties": {
                "max_resp_body_size": { "type": "integer", "minimum": 1, "default": 67108864, "description": "larger bodies pass and are not stored, in memory and in files" },
                "cache_zone": { "type": "string", "minLength": 1, "maxLength": 100, "default": "disk_cache_one", "description": "one of `apisix.proxy_cache.zones` in conf/config.yaml" },
                "cache_strategy": { "type": "string", "enum": ["disk", "memory"], "default": "disk" },
                "cache_key": {
                  "type": "array", "minItems": 1,
                  "items": { "type": "string", "pattern": "(^[^\\$].+$|^\\$[0-9a-zA-Z_]+$)", "description": "a variable, or text" },
                  "default": ["$host", "$request_uri"],
                  "description": "what responses are found by, one behind the other"
                },
                "cache_http_status": {
                  "type": "array", "minItems": 1, "uniqueItems": true,
                  "items": { "type": "integer", "minimum": 200, "maximum": 599 },
                  "default": [200, 301, 404],
                  "description": "204, 206 and 304 are never stored"
                },
                "cache_method": {
                  "type": "array", "minItems": 1, "uniqueItems": true,
                  "items": { "type": "string", "enum": ["GET", "POST", "HEAD"] },
                  "default": ["GET", "HEAD"],
                  "description": "what is answered from the cache; a response to HEAD is never stored"
                },
                "hide_cache_headers": { "type": "boolean", "default": false, "description": "clients do not get `Cache-Control` and `Expires`" },
                "cache_control": { "type": "boolean", "default": false, "description": "in memory: `Cache-Control` of requests counts, and responses say how long they are fresh" },
                "cache_bypass": {
                  "type": "array", "minItems": 1, "items": { "type": "string", "pattern": "(^[^\\$].+$|^\\$[0-9a-zA-Z_]+$)" },
                  "description": "a request for which this is neither empty nor 0 is not answered from the cache"
                },
                "no_cache": {
                  "type": "array", "minItems": 1, "items": { "type": "string", "pattern": "(^[^\\$].+$|^\\$[0-9a-zA-Z_]+$)" },
                  "description": "a response for which this is neither empty nor 0 is not stored"
                },
                "cache_ttl": { "type": "integer", "minimum": 1, "default": 300, "description": "in memory without `cache_control`: for how many seconds a response is fresh" },
                "consumer_isolation": { "type": "boolean", "default": true, "description": "each consumer, or user of basic authentication, has responses of its own, unless the key says who asks" },
                "cache_set_cookie": { "type": "boolean", "default": false, "description": "in memory: responses that set cookies are stored too" }
              }
            }
            """,
        Summary: """
            Stores responses of upstreams and answers later requests with them. `Apisix-Cache-Status` says what happened: `HIT`, `MISS`, `EXPIRED`, `STALE` (the request wants a fresher one), `BYPASS`.
            A response is copied while it passes and never held for it; several requests that miss at the same time all go to the upstream. Streams (event streams, NDJSON, gRPC, WebSockets, what says
            `X-Accel-Buffering: no`) are never stored, and say `BYPASS`; neither is what did not come completely, or whose end is the end of its connection. With files the response says how long it is
            fresh (`X-Accel-Expires`, `Cache-Control`, `Expires`, else `apisix.proxy_cache.cache_ttl`), in memory `cache_ttl` does, or the response with `cache_control`. Never stored: what says `private`,
            `no-store` or `no-cache`, sets a cookie or says `Vary: *`; and with `consumer_isolation`, what a request with `Authorization` got that nobody here knows, unless it says `public`, `s-maxage` or
            `must-revalidate`. `Vary` is followed, for at most 64 variants. `PURGE` on the same path forgets all variants (200, or 404 where there is none), and so does a POST, PUT, PATCH or DELETE with a good
            answer where the key is the same. Stored responses answer `If-None-Match` and `If-Modified-Since`. A zone holds as much as its size says; what was used longest ago goes.
            """)
    {
        Version = "0.2",
        Example = """
            ```json
            {"proxy-cache": {"cache_strategy": "memory", "cache_zone": "memory_cache", "cache_ttl": 60}}
            ```

            The second request within a minute is answered with `Apisix-Cache-Status: HIT` and `Age`.
            """,
    };

    public sealed record Config(
        string[]? CacheKey = null, int[]? CacheHttpStatus = null, string[]? CacheMethod = null, string[]? CacheBypass = null,
        string[]? NoCache = null,
        long MaxRespBodySize = 67108864, string CacheZone = "disk_cache_one", string CacheStrategy = "disk", bool HideCacheHeaders = false,
        bool CacheControl = false,
        int CacheTtl = 300, bool ConsumerIsolation = true, bool CacheSetCookie = false);

    readonly ResponseCache _cache;
    readonly CacheText _key;
    readonly bool _isolates;

    ProxyCache(Config config, PluginContext context)
    {
        var key = config.CacheKey ?? ["$host", "$request_uri"];
        if (key.Contains("$request_method"))
        {
            throw new ConfigException("cache_key variable $request_method unsupported");
        }
        var inMemory = config.CacheStrategy == "memory";
        _key = new(key);
        _isolates = config.ConsumerIsolation && !_key.Names("$consumer_name", "$consumer_group_id", "$remote_user", "$http_authorization");
        _cache = new(this, context, config.CacheZone, inMemory, new(
            config.CacheMethod ?? ["GET", "HEAD"], config.CacheHttpStatus ?? [200, 301, 404],
            config.CacheBypass is { } bypass ? new(bypass) : null, config.NoCache is { } no ? new(no) : null,
            inMemory ? TimeSpan.FromSeconds(config.CacheTtl) : null, inMemory && config.CacheControl, config.HideCacheHeaders,
            inMemory && config.CacheSetCookie,
            config.MaxRespBodySize));
    }

    public static JsonTypeInfo<Config> ConfigType => ProxyCacheJson.Default.Config;

    public static ProxyCache Create(Config config, PluginContext context) => new(config, context);

    public ValueTask<Answer?> AccessAsync(Exchange exchange)
    {
        var key = _key.Of(exchange);
        var identity = _isolates ? ResponseCache.IdentityOf(exchange) : null;
        if (identity is not null)
        {
            key = $"{identity}\u0001{key}";
        }
        return new(exchange.Request.Method == "PURGE" ? Answer.Bare(_cache.Purge(key) ? 200 : 404)
            : _cache.Ask(exchange, key, _isolates && identity is null));
    }

    public void FilterHeaders(Exchange exchange) => _cache.FilterHeaders(exchange);

    public void Release(Exchange exchange) => _cache.Release(exchange);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(ProxyCache.Config))]
sealed partial class ProxyCacheJson : JsonSerializerContext;
