using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Primitives;
using Sluice.Net;
using Sluice.Net.Http;
using Sluice.Pipeline;

namespace Sluice.Plugins.Auth;

/// <summary>What plugins have in common that ask a service of somebody else's whether a request may pass.</summary>
static class AuthService
{
    /// <summary>How the service is called: the properties that all of them have.</summary>
    public const string Schema = """
        "ssl_verify": { "type": "boolean", "default": true, "description": "check the service's certificate" },
        "timeout": { "type": "integer", "minimum": 1, "maximum": 60000, "default": 3000, "description": "timeout in milliseconds" },
        "keepalive": { "type": "boolean", "default": true, "description": "keep connections for the next call" },
        "keepalive_timeout": { "type": "integer", "minimum": 1000, "default": 60000, "description": "how long a connection waits for the next call, in milliseconds" },
        "keepalive_pool": { "type": "integer", "minimum": 1, "default": 5, "description": "has no effect: connections wait until keepalive_timeout, however many there are" }
        """;

    static readonly TimeSpan LongestWait = TimeSpan.FromDays(1);

    /// <param name="timeout">Of the whole call, in milliseconds.</param>
    public static OutgoingOptions Options(bool sslVerify, long timeout, bool keepalive, long keepaliveTimeout) => new()
    {
        Timeout = TimeSpan.FromMilliseconds(timeout),
        Tls = sslVerify ? OutgoingTls.Verified : OutgoingTls.Unverified,
        KeepAlive = keepalive,
        IdleTimeout = TimeSpan.FromMilliseconds(Math.Min(keepaliveTimeout, LongestWait.TotalMilliseconds)),
    };

    /// <summary>Says what of a configuration lets others listen or take the service's place.</summary>
    /// <param name="urls">Names of the properties that hold addresses.</param>
    public static IEnumerable<string> Warnings(string plugin, JsonObject config, params string[] urls)
    {
        foreach (var name in urls)
        {
            if (config[name] is JsonValue value && value.TryGetValue<string>(out var url)
                && url.StartsWith("http://", StringComparison.OrdinalIgnoreCase))
            {
                yield return $"Using {plugin} {name} with no TLS is a security risk";
            }
        }
        if (config["ssl_verify"] is JsonValue verify && verify.TryGetValue<bool>(out var verifies) && !verifies)
        {
            yield return $"Keeping ssl_verify disabled in {plugin} configuration is a security risk";
        }
    }

    /// <exception cref="ConfigException">It is no address of an HTTP server.</exception>
    public static void CheckUrl(string property, string url)
    {
        if (!Uri.TryCreate(url, UriKind.Absolute, out var uri) || (uri.Scheme != Uri.UriSchemeHttp && uri.Scheme != Uri.UriSchemeHttps)
            || uri.Host.Length == 0)
        {
            throw new ConfigException($"property \"{property}\" must be a URL that begins with http:// or https://");
        }
    }

    /// <summary>The service has said what this header of the request is; a client's own never passes for it.</summary>
    /// <param name="values">Empty: the service has not said anything.</param>
    public static void Tell(Exchange exchange, string header, StringValues values)
    {
        if (!HeaderName.IsToken(header) || HopByHop.ContainsOfRequest(header))
        {
            return;
        }
        if (values.Count == 0)
        {
            exchange.Request.Headers.Remove(header);
        }
        else
        {
            exchange.Request.Headers[header] = new StringValues([.. values.Select(value => HeaderText.Escape(value!))]);
        }
    }

    /// <summary>The answer with a header that the service has given; those that belong to the service's own connection are left
    /// out.</summary>
    public static Answer With(Answer answer, string header, string value) =>
        !HeaderName.IsToken(header) || HopByHop.Contains(header) ? answer
        : HeaderName.Is(header, "Content-Type") ? answer with { ContentType = HeaderText.Escape(value) }
        : answer.With(header, HeaderText.Escape(value));

    /// <summary>All values of a header of the service's response.</summary>
    public static StringValues Values(OutgoingResponse response, string header) =>
        new([.. response.Headers.Where(one => HeaderName.Is(one.Key, header)).Select(one => one.Value)]);

    /// <summary>The first value of a header of the client's request; null when there is none.</summary>
    public static string? First(IHeaderDictionary headers, string name) =>
        headers.TryGetValue(name, out var values) && values.Count > 0 ? values[0] : null;
}
