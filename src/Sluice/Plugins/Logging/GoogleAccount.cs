using System.Buffers.Text;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Sluice.Net;
using Sluice.Pipeline;

namespace Sluice.Plugins.Logging;

/// <summary>A service account of Google's: its key buys access tokens (RFC 7523), each of which is used until a minute before its
/// end.</summary>
sealed class GoogleAccount
{
    readonly TimeProvider _time;
    readonly LogServer _server;
    readonly string _email;
    readonly string _key;
    readonly string _tokenUri;
    readonly string _scope;
    Token? _token;

    sealed record Token(string Authorization, DateTimeOffset End);

    /// <exception cref="ConfigException">The file cannot be read or says too little.</exception>
    public GoogleAccount(PluginContext context)
    {
        var config = context.Config["auth_config"] as JsonObject ?? Read((string)context.Config["auth_file"]!);
        _time = context.Services.Time;
        _email = Needed(config, "client_email");
        _key = Needed(config, "private_key");
        Project = Needed(config, "project_id");
        _tokenUri = (string?)config["token_uri"] ?? "https://oauth2.googleapis.com/token";
        EntriesUri = (string?)config["entries_uri"] ?? "https://logging.googleapis.com/v2/entries:write";
        _scope = (config["scopes"] ?? config["scope"]) switch
        {
            JsonArray scopes => string.Join(' ', scopes.Select(scope => (string)scope!)),
            { } one => (string)one!,
            null => "https://www.googleapis.com/auth/cloud-platform",
        };
        _server = new(context, [_tokenUri], LogServer.Options(context.Config, TimeSpan.FromSeconds(60), verifies: true));
    }

    public string Project { get; }

    public string EntriesUri { get; }

    static JsonObject Read(string path)
    {
        try
        {
            return JsonNode.Parse(File.ReadAllText(path)) as JsonObject
                ?? throw new ConfigException($"config parse failure, file: {path}, err: it is no JSON object");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new ConfigException($"failed to read configuration, file: {path} err: {e.Message}");
        }
        catch (JsonException e)
        {
            throw new ConfigException($"config parse failure, file: {path}, err: {e.Message}");
        }
    }

    static string Needed(JsonObject config, string name) =>
        config[name] is JsonValue value && value.TryGetValue(out string? text) ? text
        : throw new ConfigException($"property \"{name}\" is required in the service account's key");

    /// <summary>The value of <c>Authorization</c>. One call at a time: a queue sends one batch after the other.</summary>
    /// <exception cref="IOException">No token is to be had.</exception>
    public async Task<string> AuthorizationAsync(CancellationToken cancellation)
    {
        if (_token is null || _time.GetUtcNow() > _token.End - TimeSpan.FromMinutes(1))
        {
            _token = await AskAsync(cancellation);
        }
        return _token.Authorization;
    }

    async Task<Token> AskAsync(CancellationToken cancellation)
    {
        try
        {
            var form = $"grant_type={Uri.EscapeDataString("urn:ietf:params:oauth:grant-type:jwt-bearer")}&assertion={Assertion()}";
            using var response = await _server.SendAsync("POST", _tokenUri, Encoding.ASCII.GetBytes(form),
                "application/x-www-form-urlencoded", null, cancellation);
            if (response.Status != 200)
            {
                throw new IOException($"failed to refresh google oauth access token: {response.Text}");
            }
            return JsonNode.Parse(response.Text) is JsonObject answer && (string?)answer["access_token"] is { } token
                && (double?)answer["expires_in"] is { } seconds
                ? new($"{(string?)answer["token_type"] ?? "Bearer"} {token}", _time.GetUtcNow().AddSeconds(seconds))
                : throw new IOException("failed to parse google oauth response data: access_token or expires_in is missing");
        }
        catch (Exception e) when (e is OutgoingException or CryptographicException or ArgumentException)
        {
            throw new IOException($"failed to refresh google oauth access token, {e.Message}", e);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw new IOException($"failed to parse google oauth response data: {e.Message}", e);
        }
    }

    /// <summary>A JWT signed with the account's key, good for an hour.</summary>
    string Assertion()
    {
        var now = _time.GetUtcNow().ToUnixTimeSeconds();
        var claims = new JsonObject { ["iss"] = _email, ["aud"] = _tokenUri, ["scope"] = _scope, ["iat"] = now, ["exp"] = now + 3600 };
        var text =
            $"{Base64Url.EncodeToString("""{"alg":"RS256","typ":"JWT"}"""u8)}.{Base64Url.EncodeToString(Encoding.UTF8.GetBytes(claims.ToJsonString()))}";
        using var key = RSA.Create();
        key.ImportFromPem(_key);
        var signature = key.SignData(Encoding.ASCII.GetBytes(text), HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1);
        return $"{text}.{Base64Url.EncodeToString(signature)}";
    }
}
