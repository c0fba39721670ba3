using System.Text.Json.Nodes;
using Sluice.Net;
using Sluice.Pipeline;

namespace Sluice.Plugins.Logging;

/// <summary>One or more addresses of an HTTP server to which batches are posted; each batch goes to one of them, by chance.</summary>
/// <param name="addresses">Each without what the plugin adds (<c>/_bulk</c>).</param>
sealed class LogServer(PluginContext context, IReadOnlyList<string> addresses, OutgoingOptions options)
{
    readonly OutgoingHttp _http = context.Services.Http;

    /// <summary>The addresses of a configuration: <c>endpoint_addrs</c>, or one alone in <c>endpoint_addr</c>.</summary>
    public static LogServer Of(PluginContext context, OutgoingOptions options) => new(context, AddressesOf(context.Config), options);

    static IReadOnlyList<string> AddressesOf(JsonObject config) =>
        (string?)config["endpoint_addr"] is { } only ? [only]
        : [.. config["endpoint_addrs"]!.AsArray().Select(address => (string)address!)];

    /// <param name="verifies">What <c>ssl_verify</c> is when it is not there.</param>
    public static OutgoingOptions Options(JsonObject config, TimeSpan timeout, bool verifies) => new()
    {
        Timeout = timeout,
        Tls = config["ssl_verify"]?.GetValue<bool>() ?? verifies ? OutgoingTls.Verified : OutgoingTls.Unverified,
    };

    public string Any => addresses.Count == 1 ? addresses[0] : addresses[Random.Shared.Next(addresses.Count)];

    /// <exception cref="OutgoingException">It cannot be sent or is not answered.</exception>
    public async Task<OutgoingResponse> SendAsync(
        string method, string uri, byte[]? body, string? contentType, IEnumerable<KeyValuePair<string, string>>? headers,
        CancellationToken cancellation)
    {
        using var request = OutgoingHttp.Request(method, uri, body, contentType, headers);
        return await _http.SendAsync(request, options, cancellation);
    }

    /// <summary>Posts a batch; whatever goes wrong is told as APISIX's loggers that speak HTTP tell it.</summary>
    /// <exception cref="IOException">It cannot be sent, or the answer is 400 or above.</exception>
    public async Task PostAsync(string uri, byte[] body, string contentType, IEnumerable<KeyValuePair<string, string>>? headers,
        CancellationToken cancellation)
    {
        var at = new Uri(uri);
        try
        {
            using var response = await SendAsync("POST", uri, body, contentType, headers, cancellation);
            if (response.Status >= 400)
            {
                throw new IOException(
                    $"server returned status code[{response.Status}] host[{at.Host}] port[{at.Port}] body[{response.Text}]");
            }
        }
        catch (OutgoingException e)
        {
            throw new IOException(
                e.Kind switch
                {
                    OutgoingFailure.Connect => $"failed to connect to host[{at.Host}] port[{at.Port}] {e.Message}",
                    OutgoingFailure.Tls => $"failed to perform SSL with host[{at.Host}] port[{at.Port}] {e.Message}",
                    _ => $"error while sending data to [{at.Host}] port[{at.Port}] {e.Message}",
                }, e);
        }
    }
}
