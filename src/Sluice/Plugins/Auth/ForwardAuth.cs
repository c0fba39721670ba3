using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Sluice.Net;
using Sluice.Net.Http;
using Sluice.Pipeline;

namespace Sluice.Plugins.Auth;

/// <summary>Asks a service whether a request may pass.</summary>
sealed partial class ForwardAuth : IPlugin<ForwardAuth, ForwardAuth.Config>, IAccess, INeedsRequestBody
{
    public static PluginInfo Info { get; } = new(
        Name: "forward-auth",
        Priority: 2002,
        Schema: $$"""
            {
              "type": "object",
              "properties": {
                "uri": { "type": "string", "description": "address of the authorization service" },
                "allow_degradation": { "type": "boolean", "default": false, "description": "requests pass while the service cannot be asked" },
                "status_on_error": { "type": "integer", "minimum": 200, "maximum": 599, "default": 403, "description": "answer while the service cannot be asked" },
                {{AuthService.Schema}},
                "request_method": { "type": "string", "enum": ["GET", "POST"], "default": "GET", "description": "POST sends the request's body, too" },
                "max_req_body_size": { "type": "integer", "minimum": 1, "default": 67108864, "description": "a larger body is answered 413 when request_method is POST" },
                "request_headers": { "type": "array", "items": { "type": "string" }, "default": [], "description": "headers of the request that the service gets" },
                "extra_headers": {
                  "type": "object",
                  "minProperties": 1,
                  "patternProperties": { "^[^:]+$": { "type": "string", "description": "may contain variables like $remote_addr, $request_uri" } },
                  "description": "more headers for the service"
                },
                "upstream_headers": { "type": "array", "items": { "type": "string" }, "default": [], "description": "headers of the service's response that the upstream gets; the client's own are removed" },
                "client_headers": { "type": "array", "items": { "type": "string" }, "default": [], "description": "headers of the service's response that the client gets when it refuses" }
              },
              "required": ["uri"]
            }
            """,
        Summary: """
            Asks a service of your own whether a request may pass: a status below 300 lets it, any other is the answer, with its body. The service gets
            `X-Forwarded-Proto`, `-Method`, `-Host`, `-Uri` and `-For`, what `extra_headers` says, and the request's headers that `request_headers` names, which never replace
            the others. It is asked before anything of the request's body is read; only `request_method` `POST` **needs the whole request body**. The call ends when the client leaves.
            """)
    {
        TakesPart = static (config, phase) => phase != Phase.BufferingRule || (string?)config["request_method"] == "POST",
        Warnings = static (config, _) => AuthService.Warnings("forward-auth", config, "uri"),
        Example = """
            ```json
            {"forward-auth": {"uri": "https://auth.internal/check", "request_headers": ["Authorization"], "upstream_headers": ["X-User-ID"], "client_headers": ["Location"]}}
            ```

            While the service does not answer, nobody passes: the answer is 403, or `status_on_error`.
            """,
    };

    public sealed record Config(
        string Uri, bool AllowDegradation = false, int StatusOnError = 403, bool SslVerify = true, string RequestMethod = "GET",
        long MaxReqBodySize = 67108864,
        string[]? RequestHeaders = null, Dictionary<string, string>? ExtraHeaders = null, string[]? UpstreamHeaders = null,
        string[]? ClientHeaders = null,
        long Timeout = 3000, bool Keepalive = true, long KeepaliveTimeout = 60000);

    readonly Config _config;
    readonly OutgoingHttp _http;
    readonly OutgoingOptions _options;
    readonly bool _sendsBody;
    readonly ILogger _logger;

    ForwardAuth(Config config, PluginContext context)
    {
        AuthService.CheckUrl("uri", config.Uri);
        if (config.ExtraHeaders?.Keys.FirstOrDefault(static name => !HeaderName.IsToken(name)
            || HopByHop.ContainsOfRequest(name)) is { } wrong)
        {
            throw new ConfigException($"property \"extra_headers\" has \"{wrong}\", which is no name of a header that can be sent on");
        }
        (_config, _http, _sendsBody) = (config, context.Services.Http, config.RequestMethod == "POST");
        _options = AuthService.Options(config.SslVerify, config.Timeout, config.Keepalive, config.KeepaliveTimeout);
        _logger = context.Services.Loggers.CreateLogger<ForwardAuth>();
    }

    public static JsonTypeInfo<Config> ConfigType => ForwardAuthJson.Default.Config;

    public static ForwardAuth Create(Config config, PluginContext context) => new(config, context);

    public int MaxRequestBodyBytes => (int)Math.Min(_config.MaxReqBodySize, int.MaxValue);

    public async ValueTask<Answer?> AccessAsync(Exchange exchange)
    {
        var body = _sendsBody ? await ReadBodyAsync(exchange) : (ReadOnlyMemory<byte>?)null;
        var headers = HeadersFor(exchange);
        string failure;
        if (headers.Values.Any(static value => value.AsSpan().ContainsAny('\r', '\n', '\0')))
        {
            failure = "invalid characters found in header value";
        }
        else
        {
            try
            {
                // a header of a body, such as Content-Type, needs one to stand with
                body ??= headers.Keys.Any(static name => name.StartsWith("Content-", StringComparison.OrdinalIgnoreCase))
                    ? ReadOnlyMemory<byte>.Empty : (ReadOnlyMemory<byte>?)null;
                using var request = OutgoingHttp.Request(_config.RequestMethod, _config.Uri, body, headers: headers);
                using var response = await _http.SendAsync(request, _options, exchange.ClientGone);
                return Decide(exchange, response);
            }
            catch (OutgoingException e)
            {
                failure = e.Message;
            }
        }
        LogFailure(failure);
        return _config.AllowDegradation ? null : Answer.Bare(_config.StatusOnError);
    }

    async ValueTask<ReadOnlyMemory<byte>> ReadBodyAsync(Exchange exchange)
    {
        try
        {
            return await exchange.Body.ReadAsync(MaxRequestBodyBytes);
        }
        catch (BadHttpRequestException e) when (e.StatusCode == StatusCodes.Status413PayloadTooLarge)
        {
            LogBody(e.Message);
            throw;
        }
    }

    Dictionary<string, string> HeadersFor(Exchange exchange)
    {
        var headers = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase)
        {
            ["X-Forwarded-Proto"] = exchange.Get("scheme") ?? "",
            ["X-Forwarded-Method"] = exchange.Request.Method,
            ["X-Forwarded-Host"] = ByteText.ToWire(exchange.Get("host") ?? ""),
            ["X-Forwarded-Uri"] = ByteText.ToWire(exchange.Get("request_uri") ?? ""),
            ["X-Forwarded-For"] = exchange.Get("remote_addr") ?? "",
        };
        if (_sendsBody && AuthService.First(exchange.Request.Headers, "Content-Encoding") is { } encoding)
        {
            headers["Content-Encoding"] = encoding;
        }
        foreach (var (name, value) in _config.ExtraHeaders ?? [])
        {
            headers[name] = Template.ExpandWire(value, exchange);
        }
        foreach (var name in _config.RequestHeaders ?? [])
        {
            if (!HopByHop.ContainsOfRequest(name) && AuthService.First(exchange.Request.Headers, name) is { } value)
            {
                headers.TryAdd(name, value);
            }
        }
        return headers;
    }

    Answer? Decide(Exchange exchange, OutgoingResponse response)
    {
        if (response.Status < 300)
        {
            foreach (var name in _config.UpstreamHeaders ?? [])
            {
                AuthService.Tell(exchange, name, AuthService.Values(response, name));
            }
            return null;
        }
        var answer = new Answer(response.Status, response.Body, Answer.PlainText);
        foreach (var name in _config.ClientHeaders ?? [])
        {
            foreach (var value in AuthService.Values(response, name))
            {
                answer = AuthService.With(answer, name, value!);
            }
        }
        return answer;
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "failed to process forward auth, err: {Error}")]
    partial void LogFailure(string error);

    [LoggerMessage(Level = LogLevel.Error, Message = "failed to read request body: {Error}")]
    partial void LogBody(string error);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(ForwardAuth.Config))]
sealed partial class ForwardAuthJson : JsonSerializerContext;
