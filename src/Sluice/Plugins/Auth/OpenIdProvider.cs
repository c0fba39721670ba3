using System.Collections.Concurrent;
using System.Security.Cryptography;
using System.Text.Json;
using System.Text.Json.Nodes;
using Sluice.Model.Json;
using Sluice.Net;

namespace Sluice.Plugins.Auth;

/// <summary>What an OpenID provider publishes: its discovery document and its keys, each fetched once for all that need it and kept for a
/// time.</summary>
/// <param name="options">How an address is called.</param>
/// <param name="keysHold">How long its keys are kept; a key that is not among them is looked for earlier.</param>
sealed class OpenIdProvider(string discovery, OutgoingHttp http, Func<Uri, OutgoingOptions> options, TimeProvider time, TimeSpan keysHold)
{
    static readonly TimeSpan DocumentHolds = TimeSpan.FromDays(1);

    readonly Kept<JsonObject> _document = new(time, DocumentHolds);
    readonly Kept<JwtKeySet> _keys = new(time, keysHold);

    /// <exception cref="IOException">It cannot be had.</exception>
    public ValueTask<JsonObject> DocumentAsync(CancellationToken cancel) => _document.GetAsync(() => FetchAsync(discovery), false, cancel);

    /// <summary>A provider changes its keys when it likes: those of a key set without the wanted one are fetched again.</summary>
    /// <exception cref="IOException">They cannot be had.</exception>
    public ValueTask<JwtKeySet> KeysAsync(bool anew, CancellationToken cancel) => _keys.GetAsync(FetchKeysAsync, anew, cancel);

    async Task<JwtKeySet> FetchKeysAsync()
    {
        var document = await DocumentAsync(CancellationToken.None);
        return Text(document, "jwks_uri") is { } uri ? new(await FetchAsync(uri))
            : throw new IOException("the discovery document has no jwks_uri");
    }

    async Task<JsonObject> FetchAsync(string uri)
    {
        using var request = OutgoingHttp.Request("GET", uri);
        return await SendAsync(request, CancellationToken.None);
    }

    /// <summary>Calls the provider, which answers with an object.</summary>
    /// <exception cref="IOException">It does not.</exception>
    public async Task<JsonObject> SendAsync(HttpRequestMessage request, CancellationToken cancel)
    {
        using var response = await http.SendAsync(request, options(request.RequestUri!), cancel);
        if (response.Status != 200)
        {
            throw new IOException($"response indicates failure, status={response.Status}");
        }
        try
        {
            return CjsonReader.Parse(response.Body.Span) as JsonObject ?? throw new IOException("JSON decoding failed");
        }
        catch (JsonTextException e)
        {
            throw new IOException("JSON decoding failed", e);
        }
    }

    /// <summary>A property that is a text; null when there is none.</summary>
    public static string? Text(JsonObject value, string property) =>
        value[property] is JsonValue text && LuaText.Kind(text) == JsonValueKind.String ? text.GetValue<string>() : null;

    /// <summary>A thing that is fetched by the first that needs it, for all that come meanwhile and a time after.</summary>
    sealed class Kept<T>(TimeProvider time, TimeSpan holds)
        where T : class
    {
        /// <summary>Between two fetches that somebody wants although there is one: unknown keys cost nothing to make up.</summary>
        static readonly TimeSpan Pause = TimeSpan.FromSeconds(10);

        readonly Lock _lock = new();
        Task<T>? _last;
        DateTimeOffset _since;

        public ValueTask<T> GetAsync(Func<Task<T>> fetch, bool anew, CancellationToken cancel)
        {
            lock (_lock)
            {
                var age = time.GetUtcNow() - _since;
                if (_last is { IsCompletedSuccessfully: true } && age < holds && !(anew && age >= Pause))
                {
                    return new(_last);
                }
                if (_last is not { IsCompleted: false })
                {
                    (_since, _last) = (time.GetUtcNow(), Task.Run(fetch, CancellationToken.None));
                }
                return new(_last.WaitAsync(cancel));
            }
        }
    }
}

/// <summary>A provider's public keys (RFC 7517).</summary>
sealed class JwtKeySet
{
    /// <summary>A token that does not name its key is tried with so many.</summary>
    const int MostTries = 16;

    readonly JsonObject[] _keys;
    readonly ConcurrentDictionary<(int Key, string Algorithm), JwtKey?> _read = new();

    public JwtKeySet(JsonObject document) =>
        _keys = [.. (document["keys"] as JsonArray ?? []).OfType<JsonObject>()
            .Where(static key => OpenIdProvider.Text(key, "use") is null or "sig")];

    /// <summary>The keys that a token's signature may be of.</summary>
    /// <param name="id">Its <c>kid</c>; null: any that fits the algorithm.</param>
    public IEnumerable<JwtKey> Find(string? id, string algorithm) => Enumerable.Range(0, _keys.Length)
        .Where(index => id is null || OpenIdProvider.Text(_keys[index], "kid") == id)
        .Where(index => OpenIdProvider.Text(_keys[index], "alg") is not { } only || only == algorithm)
        .Select(index => _read.GetOrAdd((index, algorithm), static (place, keys) => Read(place.Algorithm, keys[place.Key]), _keys))
        .OfType<JwtKey>().Take(MostTries);

    static JwtKey? Read(string algorithm, JsonObject key)
    {
        try
        {
            return JwtKey.OfJwk(algorithm, key);
        }
        catch (CryptographicException)
        {
            return null;
        }
    }
}
