using System.Collections.Concurrent;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Microsoft.Extensions.Logging;
using Sluice.Model.Json;
using Sluice.Model.Schema;
using Sluice.Net;
using Sluice.Net.Http;
using Sluice.Pipeline;
using Sluice.Pipeline.References;

namespace Sluice.Plugins.Auth;

/// <summary>Lets only requests pass that bear a token of an OpenID provider.</summary>
sealed partial class OpenIdConnect : IPlugin<OpenIdConnect, OpenIdConnect.Config>, IRewrite
{
    public static PluginInfo Info { get; } = new(
        Name: "openid-connect",
        Priority: 2599,
        Schema: """
            {
              "type": "object",
              "properties": {
                "client_id": { "type": "string", "description": "who the gateway is to the provider" },
                "client_secret": { "type": "string", "description": "its secret; not needed for bearer_only with public_key or use_jwks" },
                "discovery": { "type": "string", "description": "address of the provider's discovery document" },
                "scope": { "type": "string", "default": "openid", "description": "has no effect with bearer_only" },
                "ssl_verify": { "type": "boolean", "default": true, "description": "check the provider's certificate" },
                "timeout": { "type": "integer", "minimum": 1, "default": 3, "description": "timeout of a call in seconds; a multiple of 1000 is milliseconds" },
                "introspection_endpoint": { "type": "string", "description": "asked for each token that is not known; unset: what the discovery document says" },
                "introspection_endpoint_auth_method": { "type": "string", "default": "client_secret_basic", "description": "client_secret_basic, client_secret_post, client_secret_jwt, private_key_jwt" },
                "token_endpoint_auth_method": { "type": "string", "default": "client_secret_basic", "description": "has no effect with bearer_only" },
                "bearer_only": { "type": "boolean", "default": false, "description": "must be true: only requests with a token pass" },
                "session": {
                  "type": "object",
                  "properties": {
                    "secret": { "type": "string", "minLength": 16, "description": "has no effect with bearer_only, like all of the session" }
                  },
                  "required": ["secret"]
                },
                "realm": { "type": "string", "default": "apisix", "description": "realm in WWW-Authenticate" },
                "claim_validator": {
                  "type": "object",
                  "properties": {
                    "issuer": {
                      "type": "object",
                      "properties": {
                        "valid_issuers": { "type": "array", "items": { "type": "string" }, "description": "whose tokens are taken; unset: the issuer that the discovery document names" }
                      }
                    },
                    "audience": {
                      "type": "object",
                      "properties": {
                        "claim": { "type": "string", "default": "aud", "description": "the claim that names the audience" },
                        "required": { "type": "boolean", "default": false, "description": "a token must have it" },
                        "match_with_client_id": { "type": "boolean", "default": false, "description": "it must be, or hold, client_id" }
                      }
                    }
                  }
                },
                "logout_path": { "type": "string", "default": "/logout", "description": "has no effect with bearer_only" },
                "redirect_uri": { "type": "string", "description": "has no effect with bearer_only" },
                "post_logout_redirect_uri": { "type": "string", "description": "has no effect with bearer_only" },
                "unauth_action": { "type": "string", "default": "auth", "enum": ["auth", "deny", "pass"], "description": "has no effect with bearer_only" },
                "public_key": { "type": "string", "description": "PEM: tokens are checked with it, and the provider is not asked" },
                "use_jwks": { "type": "boolean", "default": false, "description": "tokens are checked with the keys that the provider publishes, and it is not asked" },
                "token_signing_alg_values_expected": { "type": "string", "description": "the only algorithm that tokens may be signed by" },
                "use_pkce": { "type": "boolean", "default": false, "description": "has no effect with bearer_only" },
                "par": {
                  "type": "object",
                  "properties": { "enabled": { "type": "boolean", "default": false, "description": "has no effect with bearer_only" } }
                },
                "dpop": {
                  "type": "object",
                  "properties": { "enabled": { "type": "boolean", "default": false, "description": "has no effect with bearer_only" } }
                },
                "set_access_token_header": { "type": "boolean", "default": true, "description": "the upstream gets the token in X-Access-Token" },
                "access_token_in_authorization_header": { "type": "boolean", "default": false, "description": "in Authorization instead" },
                "set_id_token_header": { "type": "boolean", "default": true, "description": "has no effect with bearer_only" },
                "set_raw_id_token_header": { "type": "boolean", "default": false, "description": "has no effect with bearer_only" },
                "set_userinfo_header": { "type": "boolean", "default": true, "description": "the upstream gets what the token or its introspection says in X-Userinfo, as base64 of JSON" },
                "set_refresh_token_header": { "type": "boolean", "default": false, "description": "has no effect with bearer_only" },
                "proxy_opts": {
                  "type": "object",
                  "properties": {
                    "http_proxy": { "type": "string", "description": "through which http addresses of the provider are reached: http://proxy:80" },
                    "https_proxy": { "type": "string", "description": "through which https addresses of the provider are reached" },
                    "no_proxy": { "type": "string", "description": "hosts, separated by commas, that are reached without" }
                  }
                },
                "client_rsa_private_key": { "type": "string", "description": "PEM, signs assertions for private_key_jwt" },
                "client_rsa_private_key_id": { "type": "string", "description": "its id" },
                "client_jwt_assertion_expires_in": { "type": "integer", "default": 60, "description": "how long an assertion holds, in seconds" },
                "client_jwt_assertion_alg": { "type": "string", "enum": ["HS256", "HS512", "RS256", "RS512", "ES256", "ES512"], "description": "RS256 for private_key_jwt, HS256 for client_secret_jwt when unset" },
                "client_jwt_assertion_audience": { "type": "string", "description": "whom an assertion is for; unset: the address that is asked" },
                "iat_slack": { "type": "integer", "default": 120, "description": "how far clocks may be apart, in seconds" },
                "jwk_expires_in": { "type": "integer", "default": 86400, "description": "how long the provider's keys are kept, in seconds; an unknown one is looked for at once" },
                "introspection_interval": { "type": "integer", "default": 0, "description": "how long what introspection says holds at the most, in seconds; 0: until the token expires" },
                "introspection_expiry_claim": { "type": "string", "description": "the claim that says how long it holds; unset: exp" },
                "introspection_addon_headers": { "type": "array", "minItems": 1, "items": { "type": "string", "pattern": "^[^:]+$" }, "description": "headers of the request that introspection gets, too" },
                "required_scopes": { "type": "array", "items": { "type": "string" }, "description": "what the token's scope must have" },
                "claim_schema": { "type": "object", "description": "JSON schema of what the token or its introspection says" }
              },
              "encrypt_fields": ["client_secret", "client_rsa_private_key", "dpop.private_key", "session.secret", "session.redis.password"],
              "required": ["client_id", "discovery"]
            }
            """,
        Summary: """
            Lets only requests pass that bear a token of an OpenID provider (RFC 6750): in `Authorization: Bearer …`, or in `X-Access-Token` when there is no `Authorization`. The
            token is checked with `public_key`, with the provider's published keys (`use_jwks`), which may change at any time, or by asking the provider (introspection, RFC 7662). The headers
            `X-Access-Token`, `X-Userinfo`, `X-ID-Token`, `X-Refresh-Token` and `X-Raw-ID-Token` of a client never reach the upstream. Logging in with a browser, sessions, PAR and DPoP
            are **not there yet**: a configuration without `"bearer_only": true` is refused.
            """)
    {
        Version = "0.2",
        Warnings = static (config, _) => AuthService.Warnings("openid-connect", config, "discovery", "introspection_endpoint"),
        Example = """
            ```json
            {"openid-connect": {"client_id": "shop", "discovery": "https://login.test/.well-known/openid-configuration", "bearer_only": true, "use_jwks": true, "required_scopes": ["orders"]}}
            ```

            Without a token the answer is 401 with `WWW-Authenticate: Bearer realm="apisix"`; without the scope it is `403 {"error":"required scopes orders not present"}`.
            """,
    };

    public sealed record Config(
        string ClientId, string Discovery, string? ClientSecret = null, bool SslVerify = true, long Timeout = 3,
        string? IntrospectionEndpoint = null,
        string IntrospectionEndpointAuthMethod = "client_secret_basic", string TokenEndpointAuthMethod = "client_secret_basic",
        bool BearerOnly = false,
        JsonObject? Session = null, string Realm = "apisix", Claims? ClaimValidator = null, string? PublicKey = null, bool UseJwks = false,
        string? TokenSigningAlgValuesExpected = null, bool UsePkce = false, bool SetAccessTokenHeader = true,
        bool AccessTokenInAuthorizationHeader = false,
        bool SetUserinfoHeader = true, Proxies? ProxyOpts = null, string? ClientRsaPrivateKey = null, string? ClientRsaPrivateKeyId = null,
        long ClientJwtAssertionExpiresIn = 60, string? ClientJwtAssertionAlg = null, string? ClientJwtAssertionAudience = null,
        double IatSlack = 120,
        double JwkExpiresIn = 86400, double IntrospectionInterval = 0, string? IntrospectionExpiryClaim = null,
        string[]? IntrospectionAddonHeaders = null,
        string[]? RequiredScopes = null, JsonObject? ClaimSchema = null);

    public sealed record Claims(Issuers? Issuer = null, Audiences? Audience = null);

    public sealed record Issuers(string[]? ValidIssuers = null);

    public sealed record Audiences(string Claim = "aud", bool Required = false, bool MatchWithClientId = false);

    public sealed record Proxies(string? HttpProxy = null, string? HttpsProxy = null, string? HttpProxyAuthorization = null,
        string? HttpsProxyAuthorization = null, string? NoProxy = null);

    /// <summary>APISIX gives these names to its library, whatever their owners say.</summary>
    static readonly (string Name, string Owner)[] Flat =
    [
        ("use_par", "par.enabled"), ("pushed_authorization_request_endpoint", "par.endpoint"),
        ("pushed_authorization_request_endpoint_auth_method", "par.endpoint_auth_method"),
        ("use_dpop", "dpop.enabled"), ("dpop_signing_alg", "dpop.signing_alg"), ("dpop_private_key", "dpop.private_key"),
        ("dpop_public_jwk", "dpop.public_jwk"),
    ];

    /// <summary>What only the plugin says to the upstream.</summary>
    static readonly string[] OwnHeaders = ["X-Access-Token", "X-Userinfo", "X-ID-Token", "X-Refresh-Token", "X-Raw-ID-Token"];

    static readonly string[] Algorithms = ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "EdDSA"];

    /// <summary>So many answers of the provider are kept.</summary>
    const int MostKnown = 10_000;

    readonly Config _config;
    readonly TimeProvider _time;
    readonly ILogger _logger;
    readonly OutgoingOptions _options;
    readonly OpenIdProvider _provider;
    readonly OpenIdClient _client;
    readonly JsonSchema? _claims;
    readonly ConcurrentDictionary<string, JwtKey?> _publicKeys = new();
    readonly ConcurrentDictionary<string, (JsonObject Said, DateTimeOffset Until)> _known = new(StringComparer.Ordinal);

    OpenIdConnect(Config config, PluginContext context)
    {
        Check(config, context.Config);
        _config = config;
        try
        {
            _claims = config.ClaimSchema is null ? null : JsonSchema.Compile(config.ClaimSchema);
        }
        catch (ArgumentException e)
        {
            throw new ConfigException($"check claim_schema failed: {e.Message}");
        }
        _time = context.Services.Time;
        _logger = context.Services.Loggers.CreateLogger<OpenIdConnect>();
        _options = new OutgoingOptions
        {
            // it was multiplied before it was stored, once
            Timeout = TimeSpan.FromMilliseconds(config.Timeout >= 1000 && config.Timeout % 1000 == 0 ? config.Timeout
                : Math.Min(config.Timeout, 86400) * 1000),
            Tls = config.SslVerify ? OutgoingTls.Verified : OutgoingTls.Unverified,
        };
        _provider = new(config.Discovery, context.Services.Http, OptionsFor, _time,
            TimeSpan.FromSeconds(Math.Clamp(config.JwkExpiresIn, 0, 365 * 86400)));
        _client = new(
            config.ClientId, config.ClientSecret, config.ClientRsaPrivateKey, config.ClientRsaPrivateKeyId, config.ClientJwtAssertionAlg,
            config.ClientJwtAssertionAudience, config.ClientJwtAssertionExpiresIn);
    }

    public static JsonTypeInfo<Config> ConfigType => OpenIdConnectJson.Default.Config;

    public static OpenIdConnect Create(Config config, PluginContext context) => new(config, context);

    static void Check(Config config, JsonObject written)
    {
        var checksItself = config.PublicKey is not null || config.UseJwks;
        if (!config.BearerOnly && config.Session is null)
        {
            throw new ConfigException("property \"session.secret\" is required when \"bearer_only\" is false");
        }
        var needsNoSecret = config.BearerOnly
            ? checksItself || config.IntrospectionEndpointAuthMethod == "private_key_jwt"
            : config.TokenEndpointAuthMethod == "private_key_jwt" || config.UsePkce;
        if (config.ClientSecret is null && !needsNoSecret)
        {
            throw new ConfigException("property \"client_secret\" is required");
        }
        foreach (var (name, owner) in Flat)
        {
            if (written.ContainsKey(name))
            {
                throw new ConfigException($"property \"{name}\" is not allowed, use \"{owner}\" instead");
            }
        }
        if (!config.BearerOnly)
        {
            throw new ConfigException("property \"bearer_only\" must be true: logging in with a browser is not there yet");
        }
        if (!checksItself && config.ClientJwtAssertionAlg is { } algorithm)
        {
            CheckAssertion(config, algorithm);
        }
        if (config.ProxyOpts is { HttpProxyAuthorization: not null } or { HttpsProxyAuthorization: not null })
        {
            throw new ConfigException("property \"proxy_opts\" cannot have credentials for the proxy yet");
        }
        AuthService.CheckUrl("discovery", config.Discovery);
        CheckUrl("introspection_endpoint", config.IntrospectionEndpoint);
        CheckUrl("proxy_opts.http_proxy", config.ProxyOpts?.HttpProxy);
        CheckUrl("proxy_opts.https_proxy", config.ProxyOpts?.HttpsProxy);

        static void CheckUrl(string property, string? url)
        {
            if (url is not null)
            {
                AuthService.CheckUrl(property, url);
            }
        }
    }

    static void CheckAssertion(Config config, string algorithm)
    {
        var isSymmetric = algorithm.StartsWith("HS", StringComparison.Ordinal);
        switch (config.IntrospectionEndpointAuthMethod)
        {
            case "private_key_jwt" when isSymmetric:
                throw new ConfigException(
                    $"property \"client_jwt_assertion_alg\" \"{algorithm}\" is symmetric and cannot be used with the private_key_jwt selected by \"introspection_endpoint_auth_method\"");
            case "client_secret_jwt" when !isSymmetric:
                throw new ConfigException(
                    $"property \"client_jwt_assertion_alg\" \"{algorithm}\" is asymmetric and cannot be used with the client_secret_jwt selected by \"introspection_endpoint_auth_method\"");
            case "private_key_jwt" when config.ClientRsaPrivateKey is { } key && !SecretReference.Is(key):
                CheckKey(algorithm, key);
                break;
            default:
                break;
        }
    }

    static void CheckKey(string algorithm, string pem)
    {
        try
        {
            using AsymmetricAlgorithm key = algorithm[0] == 'R' ? RSA.Create() : ECDsa.Create();
            key.ImportFromPem(pem);
        }
        catch (Exception e) when (e is CryptographicException or ArgumentException)
        {
            throw new ConfigException(
                $"property \"client_jwt_assertion_alg\" \"{algorithm}\" requires an {(algorithm[0] == 'R' ? "RSA" : "EC")} \"client_rsa_private_key\"");
        }
    }

    OutgoingOptions OptionsFor(Uri uri)
    {
        var proxy = uri.Scheme == Uri.UriSchemeHttps ? _config.ProxyOpts?.HttpsProxy : _config.ProxyOpts?.HttpProxy;
        return proxy is null || (_config.ProxyOpts?.NoProxy ?? "").Split(',', StringSplitOptions.TrimEntries)
            .Contains(uri.Host, StringComparer.OrdinalIgnoreCase)
            ? _options : _options with { Proxy = new Uri(proxy) };
    }

    public async ValueTask<Answer?> RewriteAsync(Exchange exchange)
    {
        var headers = exchange.Request.Headers;
        var given = AuthService.First(headers, "X-Access-Token");
        foreach (var name in OwnHeaders)
        {
            headers.Remove(name);
        }
        if (AuthService.First(headers, "Authorization") is { } authorization)
        {
            if (authorization.Split(' ', 2) is not [var scheme, var rest])
            {
                LogIntrospection("Invalid Authorization header format.");
                return Answer.Bare(400);
            }
            given = scheme.Equals("bearer", StringComparison.OrdinalIgnoreCase) ? rest : null;
        }
        if (given is not { } token)
        {
            LogIntrospection("No bearer token found in request.");
            return Answer.Bare(401).With("WWW-Authenticate", HeaderText.Escape($"Bearer realm=\"{_config.Realm}\""));
        }
        JsonObject said;
        try
        {
            said = _config.PublicKey is not null || _config.UseJwks ? await VerifyAsync(token, exchange.ClientGone)
                : await IntrospectAsync(exchange, token);
        }
        catch (TokenException e)
        {
            LogIntrospection(e.Message);
            return Invalid(e.Message);
        }
        if (Refusal(said) is { } refusal)
        {
            return refusal;
        }
        if (_config.SetAccessTokenHeader)
        {
            headers[_config.AccessTokenInAuthorizationHeader ? "Authorization" : "X-Access-Token"] =
                HeaderText.Escape(_config.AccessTokenInAuthorizationHeader ? $"Bearer {token}" : token);
        }
        if (_config.SetUserinfoHeader)
        {
            headers["X-Userinfo"] = Convert.ToBase64String(Encoding.UTF8.GetBytes(JsonBytes.Text(said)));
        }
        return null;
    }

    /// <summary>A token that cannot be taken; the message is what the client is told.</summary>
    sealed class TokenException(string message, Exception? inner = null) : Exception(message, inner);

    /// <summary>Quotes and backslashes cannot stand in the text (RFC 6750, section 3).</summary>
    Answer Invalid(string description) => Answer.Bare(401).With(
        "WWW-Authenticate",
        HeaderText.Escape(
            $"Bearer realm=\"{_config.Realm}\", error=\"invalid_token\", error_description=\"{description.Replace('"', '\'').Replace('\\', '/')}\""));

    /// <summary>Whether a good token is good enough here.</summary>
    Answer? Refusal(JsonObject said)
    {
        if (_config.RequiredScopes is { } required)
        {
            var scopes = (OpenIdProvider.Text(said, "scope") ?? "").Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
            if (!required.All(scope => scopes.Contains(scope, StringComparer.Ordinal)))
            {
                LogIntrospection("required scopes not present");
                return Forbidden($"required scopes {string.Join(", ", required)} not present");
            }
        }
        var audience = _config.ClaimValidator?.Audience ?? new Audiences();
        var value = said[audience.Claim];
        if ((audience.Required || audience.MatchWithClientId) && value is null)
        {
            LogIntrospection($"required audience ({audience.Claim}) not present");
            return Forbidden("required audience claim not present");
        }
        if (audience.MatchWithClientId && !(value is JsonArray several ? several.Any(IsClient) : IsClient(value)))
        {
            LogIntrospection(value is JsonArray ? "audience list does not contain the client id" : "audience does not match the client id");
            return Forbidden("mismatched audience");
        }
        if (_claims?.Validate(said) is { } fault)
        {
            LogClaims(fault);
            return Invalid(fault);
        }
        return null;

        bool IsClient(JsonNode? one) => LuaText.Kind(one) == JsonValueKind.String && one!.GetValue<string>() == _config.ClientId;

        static Answer Forbidden(string error) => Answer.Text(403, JsonBytes.Text(new JsonObject { ["error"] = error }));
    }

    /// <summary>The payload of a token that is signed by the provider.</summary>
    async ValueTask<JsonObject> VerifyAsync(string token, CancellationToken cancel)
    {
        var issuers = _config.ClaimValidator?.Issuer?.ValidIssuers ?? await IssuersAsync(cancel);
        if (token.Split('.') is not [var head, var body, var signed])
        {
            throw new TokenException("invalid jwt: invalid jwt string");
        }
        var header = Decode(head) ?? throw new TokenException($"invalid jwt: invalid header: {head}");
        var payload = Decode(body) ?? throw new TokenException("invalid jwt: invalid payload");
        var algorithm = OpenIdProvider.Text(header, "alg") ?? "no algorithm at all";
        // never by a secret, and never by nothing: the token does not choose how it is checked
        if ((_config.TokenSigningAlgValuesExpected is { } expected && algorithm != expected) || !Algorithms.Contains(algorithm))
        {
            throw new TokenException($"token is signed by unexpected algorithm \"{algorithm}\"");
        }
        if (NginxBase64.DecodeUrl(signed) is not { } signature
            || !await IsSignedAsync($"{head}.{body}", signature, OpenIdProvider.Text(header, "kid"), algorithm, cancel))
        {
            throw new TokenException("jwt signature verification failed: signature mismatch");
        }
        var issuer = OpenIdProvider.Text(payload, "iss");
        if (issuer is null || !issuers.Contains(issuer, StringComparer.Ordinal))
        {
            throw new TokenException($"jwt signature verification failed: Claim 'iss' ('{issuer ?? "nil"}') returned failure");
        }
        var now = _time.GetUtcNow().ToUnixTimeSeconds();
        if (payload["nbf"] is { } begins
            && !(LuaText.Kind(begins) == JsonValueKind.Number && LuaText.ToDouble(begins) <= now + _config.IatSlack))
        {
            throw new TokenException("jwt signature verification failed: 'nbf' claim not valid yet");
        }
        if (payload["exp"] is { } ends && !(LuaText.Kind(ends) == JsonValueKind.Number && LuaText.ToDouble(ends) + _config.IatSlack > now))
        {
            throw new TokenException("JWT expired");
        }
        return payload;
    }

    async ValueTask<string[]> IssuersAsync(CancellationToken cancel)
    {
        try
        {
            return OpenIdProvider.Text(await _provider.DocumentAsync(cancel), "issuer") is { } issuer ? [issuer]
                : throw new IOException("it names no issuer");
        }
        catch (IOException e)
        {
            // without an issuer whoever has a key of the provider's could make tokens
            LogDiscovery(e.Message);
            throw new TokenException("issuer validation unavailable", e);
        }
    }

    static JsonObject? Decode(string part)
    {
        try
        {
            return NginxBase64.DecodeUrl(part) is { } text ? CjsonReader.Parse(text) as JsonObject : null;
        }
        catch (JsonTextException)
        {
            return null;
        }
    }

    async ValueTask<bool> IsSignedAsync(string text, byte[] signature, string? keyId, string algorithm, CancellationToken cancel)
    {
        if (_config.PublicKey is { } pem)
        {
            return _publicKeys.GetOrAdd(algorithm, static (name, text) => KeyOf(name, text), pem)?.Verify(text, signature) == true;
        }
        try
        {
            var known = await _provider.KeysAsync(anew: false, cancel);
            if (known.Find(keyId, algorithm).Any(key => key.Verify(text, signature)))
            {
                return true;
            }
            // the provider may have another key by now
            var current = await _provider.KeysAsync(anew: true, cancel);
            return current != known && current.Find(keyId, algorithm).Any(key => key.Verify(text, signature));
        }
        catch (IOException e)
        {
            throw new TokenException($"accessing jwks url failed: {e.Message}", e);
        }
    }

    static JwtKey? KeyOf(string algorithm, string pem)
    {
        try
        {
            if (pem.Contains("BEGIN CERTIFICATE", StringComparison.Ordinal))
            {
                using var certificate = X509Certificate2.CreateFromPem(pem);
                pem = PemEncoding.WriteString("PUBLIC KEY", certificate.PublicKey.ExportSubjectPublicKeyInfo());
            }
            return JwtKey.OfPem(algorithm, pem);
        }
        catch (CryptographicException)
        {
            return null;
        }
    }

    /// <summary>What the provider says of a token.</summary>
    async ValueTask<JsonObject> IntrospectAsync(Exchange exchange, string token)
    {
        var now = _time.GetUtcNow();
        if (_known.TryGetValue(token, out var known) && now < known.Until)
        {
            return known.Said.DeepClone().AsObject();
        }
        var endpoint = _config.IntrospectionEndpoint;
        JsonObject said;
        try
        {
            endpoint ??= OpenIdProvider.Text(await _provider.DocumentAsync(exchange.ClientGone), "introspection_endpoint")
                ?? throw new TokenException("no endpoint URI for introspection");
            var headers = (_config.IntrospectionAddonHeaders ?? [])
                .Where(static name => HeaderName.IsToken(name) && !HopByHop.ContainsOfRequest(name) && !HeaderName.Is(name, "Content-Type"))
                .Select(name => KeyValuePair.Create(name, AuthService.First(exchange.Request.Headers, name)))
                .Where(static header => header.Value is not null).Select(static header => KeyValuePair.Create(header.Key, header.Value!));
            using var request = _client.Post(endpoint, _config.IntrospectionEndpointAuthMethod, [new("token", token)], headers, now);
            said = await _provider.SendAsync(request, exchange.ClientGone);
        }
        catch (OutgoingException e)
        {
            throw new TokenException($"accessing introspection endpoint ({endpoint ?? _config.Discovery}) failed: {e.Message}", e);
        }
        catch (Exception e) when (e is IOException or UriFormatException or CryptographicException)
        {
            throw new TokenException(e is IOException ? e.Message : "introspection endpoint cannot be asked", e);
        }
        if (said["active"] is not JsonValue active || LuaText.Kind(active) != JsonValueKind.True)
        {
            throw new TokenException("invalid token");
        }
        Keep(token, said, now);
        return said;
    }

    void Keep(string token, JsonObject said, DateTimeOffset now)
    {
        var claim = _config.IntrospectionExpiryClaim ?? "exp";
        if (said[claim] is not { } told || LuaText.Kind(told) != JsonValueKind.Number)
        {
            return;
        }
        var seconds = LuaText.ToDouble(told) - (claim == "exp" ? now.ToUnixTimeSeconds() : 0);
        if (_config.IntrospectionInterval > 0)
        {
            seconds = Math.Min(seconds, _config.IntrospectionInterval);
        }
        if (!(seconds > 0))
        {
            return;
        }
        if (_known.Count >= MostKnown)
        {
            foreach (var (old, one) in _known)
            {
                if (one.Until <= now)
                {
                    _known.TryRemove(old, out _);
                }
            }
            if (_known.Count >= MostKnown)
            {
                _known.Clear();
            }
        }
        _known[token] = (said.DeepClone().AsObject(), now.AddSeconds(Math.Min(seconds, 86400)));
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "OIDC introspection failed: {Error}")]
    partial void LogIntrospection(string error);

    [LoggerMessage(Level = LogLevel.Error, Message = "OIDC claim validation failed: {Error}")]
    partial void LogClaims(string error);

    [LoggerMessage(Level = LogLevel.Error, Message = "OIDC access discovery url failed : {Error}")]
    partial void LogDiscovery(string error);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(OpenIdConnect.Config))]
sealed partial class OpenIdConnectJson : JsonSerializerContext;
