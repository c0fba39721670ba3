using System.Globalization;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Primitives;
using Sluice.Net;
using Sluice.Net.Http;
using Sluice.Pipeline;
using Sluice.Relay.Cache;

namespace Sluice.Plugins.Traffic;

/// <summary>What a plugin stores, and when it gives that again.</summary>
/// <param name="Lifetime">How long a response is fresh; null: as it says itself, or else as the zone says.</param>
/// <param name="OfRequests">Requests and responses say how long, with <c>Cache-Control</c> and <c>Expires</c>.</param>
/// <param name="SetsCookies">Also responses that set cookies are stored.</param>
sealed record CacheRules(
    string[] Methods, int[] Statuses, CacheText? Bypass, CacheText? NoCache, TimeSpan? Lifetime, bool OfRequests, bool HideHeaders,
    bool SetsCookies, long MaxBody);

/// <summary>Text made of values: variables and what stands for itself, one behind the other.</summary>
sealed class CacheText(string[] parts)
{
    public bool Names(params ReadOnlySpan<string> variables)
    {
        foreach (var part in parts)
        {
            if (variables.Contains(part))
            {
                return true;
            }
        }
        return false;
    }

    public string Of(Exchange exchange) => string.Concat(parts.Select(part => part[0] == '$' ? exchange.Get(part[1..]) ?? "" : part));

    public bool Holds(Exchange exchange) => Of(exchange) is not ("" or "0");
}

/// <summary>The stored responses of a plugin: gives them, and copies those that pass. What APISIX leaves open is as RFC 9111
/// says.</summary>
sealed class ResponseCache
{
    public const string StatusHeader = "Apisix-Cache-Status";

    readonly object _owner;
    readonly CacheRules _rules;
    readonly CacheZone _zone;
    readonly TimeSpan _zoneLifetime;
    readonly TimeProvider _time;

    /// <param name="owner">The plugin, under which things are kept for a request.</param>
    /// <exception cref="ConfigException">The zone is none for this.</exception>
    public ResponseCache(object owner, PluginContext context, string zone, bool inMemory, CacheRules rules)
    {
        var settings = context.ProxyCache.Zones.FirstOrDefault(one => one.Name == zone)
            ?? throw new ConfigException($"cache_zone {zone} not found");
        if (settings.Directory is null != inMemory)
        {
            throw new ConfigException($"invalid or empty cache_zone for cache_strategy: {(inMemory ? "memory" : "disk")}");
        }
        (_owner, _rules, _zoneLifetime, _time) = (owner, rules, context.ProxyCache.Lifetime, context.Services.Time);
        _zone = context.Share(
            $"proxy-cache/{zone}/{settings.Directory}/{string.Join(':', settings.Levels)}/{settings.Bytes}",
            () => new CacheZone(settings.Directory, settings.Levels, settings.Bytes, _time,
                context.Services.Loggers.CreateLogger<CacheZone>()).Load());
    }

    /// <summary>Whose response it is, where responses of one are not for another; null: everybody's.</summary>
    public static string? IdentityOf(Exchange exchange) =>
        exchange.Consumer?.Username is { Length: > 0 } consumer ? consumer : exchange.Get("remote_user") is { Length: > 0 } user ? user
        : null;

    sealed record Asked(string Key, bool MayKeep, bool IsPersonal)
    {
        public CacheFill? Fill { get; set; }
    }

    public bool Purge(string key) => _zone.Purge(key);

    /// <summary>In the access phase: the stored response goes out in the place of the upstream's, or the upstream's may be
    /// copied.</summary>
    /// <param name="isPersonal">The key has no identity in it, and its plugin wants one.</param>
    public Answer? Ask(Exchange exchange, string key, bool isPersonal)
    {
        var request = exchange.Request;
        if (exchange.ExtendedConnect is not null || request.Headers.Upgrade.Count > 0 || GrpcStatus.IsAsked(request))
        {
            return null;
        }
        var of = Directives.Parse(_rules.OfRequests && _zone.IsInMemory ? request.Headers.CacheControl : default);
        if (!_rules.Methods.Contains(request.Method))
        {
            Say(exchange, _zone.IsInMemory ? "MISS" : "BYPASS");
            exchange.Items[_owner] = new Asked(key, false, isPersonal);
            return null;
        }
        if (_rules.Bypass?.Holds(exchange) == true || of.Has("no-store") || of.Has("no-cache"))
        {
            Say(exchange, "BYPASS");
            Keep(exchange, new(key, !_zone.IsInMemory, isPersonal));
            return null;
        }
        var entry = _zone.Find(key, name => request.Headers[name].ToString());
        if (entry is null && of.Has("only-if-cached"))
        {
            return Answer.Bare(504).With(StatusHeader, "MISS");
        }
        var status = entry is null ? "MISS" : !_zone.IsFresh(entry) ? "EXPIRED" : Wants(of, entry) ? "HIT" : "STALE";
        if (status == "HIT" && _zone.Open(entry!) is { } body)
        {
            exchange.Items[_owner] = new Asked(key, false, isPersonal);
            exchange.Through = _ => new(new Opened(new Stored(entry!.Head, body, _zone.AgeOf(entry)), null));
            return null;
        }
        Say(exchange, status == "HIT" ? "MISS" : status);
        Keep(exchange, new(key, !HttpMethods.IsHead(request.Method), isPersonal));
        return null;
    }

    bool Wants(Directives of, CacheEntry entry)
    {
        var age = _zone.AgeOf(entry).TotalSeconds;
        var left = (entry.Head.Lifetime / 1000.0) - (age - (entry.Head.Age / 1000.0));
        return !(of.Seconds("max-age") < age) && !(of.Seconds("max-stale") < -left) && !(of.Seconds("min-fresh") > left);
    }

    static void Say(Exchange exchange, string status) => exchange.Response.Headers[StatusHeader] = status;

    void Keep(Exchange exchange, Asked asked)
    {
        exchange.Items[_owner] = asked;
        if (asked.MayKeep)
        {
            exchange.Keep = (exchange, source) => Begin(exchange, source, asked);
        }
    }

    /// <summary>In the header phase.</summary>
    public void FilterHeaders(Exchange exchange)
    {
        if (exchange.Find(_owner) is not Asked asked)
        {
            return;
        }
        if (_rules.HideHeaders)
        {
            exchange.Response.Headers.Remove("Cache-Control");
            exchange.Response.Headers.Remove("Expires");
        }
        var method = exchange.Request.Method;
        if (exchange is { AnsweredByGateway: false, Response.StatusCode: >= 200 and < 400 } && !_rules.Methods.Contains(method)
            && (HttpMethods.IsPost(method) || HttpMethods.IsPut(method) || HttpMethods.IsPatch(method) || HttpMethods.IsDelete(method)))
        {
            // what it was about is another thing now (RFC 9111, section 4.4)
            _zone.Purge(asked.Key);
        }
    }

    /// <summary>At the end, whatever it was: what is not complete by now is not kept.</summary>
    public void Release(Exchange exchange) => (exchange.Find(_owner) as Asked)?.Fill?.Abandon();

    Copy? Begin(Exchange exchange, IResponseSource source, Asked asked)
    {
        if (source.IsStream || exchange.StreamKind is not null || source.BufferingWish == "no")
        {
            Say(exchange, "BYPASS");
            return null;
        }
        if (HeadOf(exchange, asked) is { } head && (asked.Fill = _zone.Begin(head, source.Length, _rules.MaxBody)) is { } fill)
        {
            return new(fill);
        }
        return null;
    }

    /// <summary>The head of a response that may be stored; null: it may not.</summary>
    CachedHead? HeadOf(Exchange exchange, Asked asked)
    {
        var response = exchange.Response;
        var of = Directives.Parse(response.Headers.CacheControl);
        if (!_rules.Statuses.Contains(response.StatusCode) || response.StatusCode is 204 or 206 or 304
            || _rules.NoCache?.Holds(exchange) == true
            || of.Has("private") || of.Has("no-store") || of.Has("no-cache")
            || (!_rules.SetsCookies && response.Headers.SetCookie.Count > 0)
            || (asked.IsPersonal && exchange.Request.Headers.Authorization.Count > 0 && !of.Has("public") && !of.Has("s-maxage")
                && !of.Has("must-revalidate"))
            || VaryOf(response.Headers.Vary) is not { } vary)
        {
            return null;
        }
        var now = _time.GetUtcNow();
        var age = TimeSpan.FromSeconds(Directives.Number(response.Headers.Age.ToString()) ?? 0);
        var lifetime = LifetimeOf(exchange, of, now, age);
        return lifetime <= TimeSpan.Zero ? null : new(
            asked.Key, vary, CacheZone.VariantOf(vary, name => exchange.Request.Headers[name].ToString()), response.StatusCode,
            [.. exchange.SourceHeaders.Where(static header => IsKept(header.Key))
                .Select(static header => new CachedHeader(header.Key, [.. header.Value.Select(static value => value ?? "")]))],
            now.ToUnixTimeMilliseconds(), (long)lifetime.TotalMilliseconds, (long)age.TotalMilliseconds);
    }

    static bool IsKept(string name) => !HopByHop.Contains(name) && !HeaderName.Is(name, "Age") && !HeaderName.Is(name, StatusHeader)
        && !HeaderName.Is(name, "Proxy-Authenticate") && !HeaderName.Is(name, "Trailer")
        && !name.Contains("ratelimit-remaining", StringComparison.OrdinalIgnoreCase);

    TimeSpan LifetimeOf(Exchange exchange, Directives of, DateTimeOffset now, TimeSpan age)
    {
        if (_rules.Lifetime is { } fixedOne && !_rules.OfRequests)
        {
            return fixedOne;
        }
        if (!_zone.IsInMemory && exchange.AccelExpires is { Length: > 0 } accel)
        {
            return accel[0] == '@' && Directives.Number(accel[1..]) is { } at ? DateTimeOffset.FromUnixTimeSeconds(at) - now
                : TimeSpan.FromSeconds(Directives.Number(accel) ?? 0);
        }
        if ((of.Seconds("s-maxage") ?? of.Seconds("max-age")) is { } seconds)
        {
            return TimeSpan.FromSeconds(seconds) - age;
        }
        var expires = exchange.Response.Headers.Expires;
        if (expires.Count > 0)
        {
            // what is no date is in the past (RFC 9111, section 5.3)
            return HttpDate(expires[^1]) is { } until ? until - now - age : TimeSpan.Zero;
        }
        return _rules.OfRequests && _zone.IsInMemory ? TimeSpan.Zero : _zoneLifetime;
    }

    static DateTimeOffset? HttpDate(string? text) =>
        DateTimeOffset.TryParseExact(text, "r", CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal, out var date) ? date : null;

    /// <summary>Names of headers, in lower case and sorted; null: the response is for this request alone.</summary>
    static string[]? VaryOf(StringValues vary)
    {
        var names = vary.ToString().Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
        return names.Contains("*") ? null
            : [.. names.Select(static name => name.ToLowerInvariant()).Distinct().Order(StringComparer.Ordinal)];
    }

    sealed class Copy(CacheFill fill) : ResponseCopy
    {
        public override void OnPiece(ReadOnlySpan<byte> piece, bool last) => fill.Write(piece);

        public override void End(bool complete)
        {
            if (complete)
            {
                fill.Commit();
            }
            else
            {
                fill.Abandon();
            }
        }
    }

    /// <summary>A stored response on its way to a client: with no body when the client has it already (RFC 9110, section 13).</summary>
    sealed class Stored(CachedHead head, CachedBody body, TimeSpan age) : IResponseSource
    {
        bool _isKnown, _isHead;

        public bool IsStream => false;

        public bool NeverBuffered => true;

        public long? Length => _isKnown ? null : body.Length;

        public void WriteHead(Exchange exchange)
        {
            var response = exchange.Response;
            _isHead = HttpMethods.IsHead(exchange.Request.Method);
            _isKnown = head.Status == 200 && (_isHead || HttpMethods.IsGet(exchange.Request.Method)) && IsKnown(exchange.Request.Headers);
            response.StatusCode = _isKnown ? 304 : head.Status;
            foreach (var (name, values) in head.Headers)
            {
                if (!_isKnown || !name.StartsWith("Content-", StringComparison.OrdinalIgnoreCase))
                {
                    response.Headers[name] = values;
                }
            }
            response.Headers.Age = ((long)age.TotalSeconds).ToString(CultureInfo.InvariantCulture);
            Say(exchange, "HIT");
        }

        string? Header(string name) =>
            Array.Find(head.Headers, header => HeaderName.Is(header.Name, name)) is { Values: [var value, ..] } ? value : null;

        bool IsKnown(IHeaderDictionary request)
        {
            if (request.IfNoneMatch is { Count: > 0 } tags)
            {
                return Header("ETag") is { } tag
                    && tags.ToString().Split(',', StringSplitOptions.TrimEntries).Any(one => one == "*" || Weak(one) == Weak(tag));
            }
            return HttpDate(request.IfModifiedSince) is { } since && HttpDate(Header("Last-Modified")) is { } changed && changed <= since;

            static string Weak(string tag) => tag.StartsWith("W/", StringComparison.Ordinal) ? tag[2..] : tag;
        }

        public IBodySource? TakeBody() => _isKnown || _isHead ? null : body;

        public ValueTask DisposeAsync()
        {
            body.Dispose();
            return default;
        }
    }

    /// <summary>What <c>Cache-Control</c> says.</summary>
    readonly struct Directives(Dictionary<string, string>? all)
    {
        public static Directives Parse(StringValues header)
        {
            if (StringValues.IsNullOrEmpty(header))
            {
                return default;
            }
            var all = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
            foreach (var part in header.ToString().Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries))
            {
                var equals = part.IndexOf('=', StringComparison.Ordinal);
                all.TryAdd(equals < 0 ? part : part[..equals].TrimEnd(), equals < 0 ? "" : part[(equals + 1)..].Trim().Trim('"'));
            }
            return new(all);
        }

        public bool Has(string name) => all?.ContainsKey(name) == true;

        /// <summary>What is no number is 0: such a response is stale (RFC 9111, section 4.2.1).</summary>
        public long? Seconds(string name) => all?.TryGetValue(name, out var text) == true ? Number(text) ?? 0 : null;

        /// <summary>No longer than a few decades.</summary>
        public static long? Number(string text) =>
            long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? Math.Min(number, int.MaxValue) : null;
    }
}
