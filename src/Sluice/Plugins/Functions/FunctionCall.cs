using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Sluice.Net;
using Sluice.Net.Http;
using Sluice.Pipeline;
using Sluice.Plugins.Auth;

namespace Sluice.Plugins.Functions;

/// <summary>
/// Sends requests to a function of a cloud in the place of an upstream: what the plugins for them have in common. Its response is passed on
/// as it comes.
/// </summary>
sealed partial class FunctionCall
{
    /// <summary>Properties that all of them have, without <c>authorization</c>.</summary>
    public const string Schema = """
        "max_req_body_size": { "type": "integer", "minimum": 1, "default": 67108864, "description": "bytes; larger bodies are answered 400" },
        "function_uri": { "type": "string", "description": "where the function is: http:// or https://" },
        "timeout": { "type": "integer", "minimum": 100, "default": 3000, "description": "milliseconds until the head of the response is there, and that its body may be silent" },
        "ssl_verify": { "type": "boolean", "default": true, "description": "check the function's certificate" },
        "keepalive": { "type": "boolean", "default": true, "description": "keep connections for the next call" },
        "keepalive_timeout": { "type": "integer", "minimum": 1000, "default": 60000, "description": "how long a connection waits for the next call, in milliseconds" },
        "keepalive_pool": { "type": "integer", "minimum": 1, "default": 5, "description": "has no effect: connections wait until keepalive_timeout, however many there are" }
        """;

    public const string Summary = """
        Method, headers, query and body of the request go there (with the function's `Host`), and what stands for the star of a route `/prefix/*` is appended to its path. **The request is read whole** before the function is asked; its response
        is passed on as it comes, streams too. A function that cannot be reached, or does not answer in time, is a 503; a request body over its limit a 400.
        """;

    readonly string _plugin;
    readonly Uri _uri;
    readonly OutgoingHttp _http;
    readonly OutgoingOptions _options;
    readonly TimeProvider _time;
    readonly ILogger _logger;

    /// <param name="maxBody">Of the request, in bytes.</param>
    public FunctionCall(string plugin, string uri, bool sslVerify, long timeout, bool keepalive, long keepaliveTimeout, int maxBody,
        PluginContext context)
    {
        AuthService.CheckUrl("function_uri", uri);
        (_plugin, _uri, MaxBody) = (plugin, new Uri(uri), maxBody);
        (_http, _time, _logger) = (context.Services.Http, context.Services.Time,
            context.Services.Loggers.CreateLogger($"Sluice.Plugins.Functions.{plugin}"));
        _options = AuthService.Options(sslVerify, timeout, keepalive, keepaliveTimeout);
    }

    public int MaxBody { get; }

    /// <param name="owner">The plugin, which lets the response go when nobody takes it.</param>
    /// <param name="authorize">Adds credentials.</param>
    public async ValueTask<Answer?> RunAsync(Exchange exchange, object owner, Action<FunctionRequest> authorize)
    {
        if (await RequestAsync(exchange) is not { } call)
        {
            return Answer.Bare(400);
        }
        authorize(call);
        try
        {
            using var request = OutgoingHttp.Request(
                call.Method, $"{_uri.GetLeftPart(UriPartial.Authority)}{call.Path}{(call.Query.Length == 0 ? "" : "?")}{call.Query}",
                HasBody(call) ? call.Body : (ReadOnlyMemory<byte>?)null, headers: call.Headers);
            var response = await _http.OpenAsync(request, _options, exchange.ClientGone);
            var source = new FunctionResponse(response, _options.Timeout, _time);
            exchange.Items[owner] = source;
            exchange.ForwardTo = new ForwardTo.From((_, _) => new(source));
            return null;
        }
        catch (Exception e) when (e is OutgoingException or UriFormatException or FormatException)
        {
            LogFailure(_plugin, e.Message);
            return Answer.Bare(503);
        }
    }

    /// <summary>The response was not taken, or is over.</summary>
    public static void Release(Exchange exchange, object owner) => (exchange.Find(owner) as FunctionResponse)?.Close();

    static bool HasBody(FunctionRequest call) =>
        !call.Body.IsEmpty || HttpMethods.IsPost(call.Method) || HttpMethods.IsPut(call.Method) || HttpMethods.IsPatch(call.Method);

    async ValueTask<FunctionRequest?> RequestAsync(Exchange exchange)
    {
        ReadOnlyMemory<byte> body;
        try
        {
            body = await exchange.Body.ReadAsync(MaxBody);
        }
        catch (BadHttpRequestException e) when (e.StatusCode == StatusCodes.Status413PayloadTooLarge)
        {
            LogBody(e.Message);
            exchange.Response.Headers.Connection = "close";
            return null;
        }
        var own = _uri.Query.TrimStart('?');
        var call = new FunctionRequest
        {
            Method = exchange.UpstreamMethod.ToUpperInvariant(),
            Path = PathFor(exchange),
            Query = own.Length == 0 || exchange.Args.Length == 0 ? own + exchange.Args : $"{own}&{exchange.Args}",
            Headers = new(StringComparer.OrdinalIgnoreCase) { ["Host"] = _uri.Host },
            Body = body,
        };
        if (exchange.Chain.CutsEvents || exchange.Snapshot.GlobalRules.CutsEvents)
        {
            // who looks at events cannot read a compressed body
            exchange.Request.Headers.Remove("Accept-Encoding");
        }
        var named = exchange.Request.Headers.Connection;
        foreach (var (name, values) in exchange.Request.Headers)
        {
            if (HopByHop.ContainsOfRequest(name) || HopByHop.IsNamed(named, name) || name.StartsWith(':') || !HeaderName.IsToken(name)
                || HeaderName.Is(name, "Host") || HeaderName.Is(name, "Content-Length") || HeaderName.Is(name, "Expect")
                || (!HasBody(call) && name.StartsWith("Content-", StringComparison.OrdinalIgnoreCase)))
            {
                continue;
            }
            call.Headers[name] = string.Join(HeaderName.Is(name, "Cookie") ? "; " : ", ", values.ToArray());
        }
        return call;
    }

    string PathFor(Exchange exchange)
    {
        var path = _uri.AbsolutePath;
        if (exchange.UriParameters.Get("") is not { } rest)
        {
            return path;
        }
        rest = RequestTarget.Escape(rest);
        return path.EndsWith('/') && rest.StartsWith('/') ? path + rest[1..] : path.EndsWith('/') || rest.StartsWith('/') ? path + rest
            : $"{path}/{rest}";
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "error while reading request body: {Error}")]
    partial void LogBody(string error);

    [LoggerMessage(Level = LogLevel.Error, Message = "failed to process {Plugin}, err: {Error}")]
    partial void LogFailure(string plugin, string error);
}
