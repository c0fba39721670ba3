using System.Buffers;
using System.Buffers.Binary;
using System.Buffers.Text;
using System.Globalization;
using System.Text;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Sluice.Pipeline;
using Sluice.Relay;

namespace Sluice.Plugins.Transform;

/// <summary>Lets browsers talk to gRPC services: gRPC-Web towards the client, gRPC towards the upstream.</summary>
internal sealed partial class GrpcWeb : IPlugin<GrpcWeb, GrpcWeb.Config>, IAccess, IHeaderFilter, IBodyFilter
{
    public static PluginInfo Info { get; } = new(
        Name: "grpc-web",
        Priority: 505,
        Schema: """
            {
              "type": "object",
              "properties": {
                "max_req_body_size": {
                  "description": "bytes; larger bodies of requests are answered 400",
                  "type": "integer", "minimum": 1, "default": 67108864
                },
                "cors_allow_headers": {
                  "description": "what a preflight is told in Access-Control-Allow-Headers",
                  "type": "string", "default": "content-type,x-grpc-web,x-user-agent"
                }
              }
            }
            """,
        Summary: """
            Lets browsers talk to gRPC services: they speak gRPC-Web over any version of HTTP, the upstream (`scheme: grpc` or `grpcs`) gets gRPC. `Content-Type` is one of `application/grpc-web`,
            `application/grpc-web+proto` (binary), `application/grpc-web-text`, `application/grpc-web-text+proto` (Base64); others are answered 400, other methods than POST 405, `OPTIONS` 204 with the
            headers of CORS. With a route `/prefix/*` what stands for the star is the path that the upstream gets.

            **Each piece of a stream leaves at once**, also of the request in the binary form: what a client streams goes on message by message. Only a text form's request is read whole, to decode it. Base64 ends with each message, and
            nowhere else: within a message at most two bytes wait for the next piece. The trailers are the last frame of the body, `grpc-status` and `grpc-message` first, then what else the service says, as `grpc-status-details-bin`. An answer that
            has its status in the head has no body.
            The limits of [`streaming`](streaming.md) that count messages know the binary form's only.

            What the gateway answers itself once a request was taken (no node, time-outs) has gRPC's form, too: status 200, `grpc-status` and `grpc-message` in the head. A stream that breaks off ends with
            a frame of trailers that says why, unless half a message was sent.
            """)
    {
        Example = """
            ```json
            {"uri": "/api/*", "plugins": {"grpc-web": {}}, "upstream": {"scheme": "grpc", "nodes": {"127.0.0.1:50051": 1}}}
            ```

            `POST /api/helloworld.Greeter/SayHello` with `Content-Type: application/grpc-web` is a call of `SayHello`.
            """,
    };

    public sealed record Config(int MaxReqBodySize = 64 << 20, string CorsAllowHeaders = "content-type,x-grpc-web,x-user-agent");

    readonly Config _config;
    readonly ILogger _logger;

    GrpcWeb(Config config, PluginContext context) => (_config, _logger) = (config, context.Services.Loggers.CreateLogger<GrpcWeb>());

    public static JsonTypeInfo<Config> ConfigType => GrpcWebJson.Default.Config;

    public static GrpcWeb Create(Config config, PluginContext context) => new(config, context);

    public async ValueTask<Answer?> AccessAsync(Exchange exchange)
    {
        var request = exchange.Request;
        if (HttpMethods.IsOptions(request.Method))
        {
            return Answer.Bare(204);
        }
        if (!HttpMethods.IsPost(request.Method))
        {
            LogMethod(request.Method);
            return Answer.Bare(405);
        }
        var type = request.ContentType;
        if (type is not ("application/grpc-web" or "application/grpc-web+proto" or "application/grpc-web-text"
            or "application/grpc-web-text+proto"))
        {
            LogContentType(type);
            return Answer.Bare(400);
        }
        var isText = type.StartsWith("application/grpc-web-text", StringComparison.Ordinal);
        if (await RefusalAsync(exchange, isText) is { } refusal)
        {
            LogBody(refusal);
            return Answer.Bare(400);
        }
        if (exchange.UriParameters.Get("") is { Length: > 0 } rest)
        {
            exchange.Uri = rest[0] == '/' ? rest : "/" + rest;
            var path = RequestTarget.Escape(exchange.Uri);
            exchange.UpstreamUri = exchange.Args.Length == 0 ? path : $"{path}?{exchange.Args}";
        }
        request.ContentType = "application/grpc";
        exchange.TrailersInBody = new Frames(exchange, type, isText);
        return null;
    }

    /// <summary>Why the body cannot be forwarded; null: it can.</summary>
    async ValueTask<string?> RefusalAsync(Exchange exchange, bool isText)
    {
        if (!exchange.CanHaveBody || exchange.Request.ContentLength == 0)
        {
            return "there is none";
        }
        if (exchange.Request.ContentLength is { } length && length > _config.MaxReqBodySize)
        {
            return $"request size {length} is greater than the maximum size {_config.MaxReqBodySize} allowed";
        }
        if (!isText)
        {
            return null;
        }
        try
        {
            var decoded = Decode((await exchange.Body.ReadAsync(_config.MaxReqBodySize)).Span);
            if (decoded is not null)
            {
                exchange.Body.Replace(decoded);
            }
            return decoded is null ? "it is not Base64" : null;
        }
        catch (BadHttpRequestException e) when (e.StatusCode == StatusCodes.Status413PayloadTooLarge)
        {
            exchange.Response.Headers.Connection = "close";
            return e.Message;
        }
    }

    /// <summary>Base64 that may have been put together of several, each with padding of its own; null: it is none.</summary>
    internal static byte[]? Decode(ReadOnlySpan<byte> text)
    {
        text = text.TrimEnd("\r\n"u8);
        var bytes = new byte[Base64.GetMaxDecodedFromUtf8Length(text.Length) + 3];
        var written = 0;
        while (!text.IsEmpty)
        {
            var padding = text.IndexOf((byte)'=');
            var end = padding < 0 ? text.Length : Math.Min(text.Length, (padding + 4) & ~3);
            if (!Convert.TryFromBase64Chars(Encoding.Latin1.GetString(text[..end]), bytes.AsSpan(written), out var part))
            {
                return null;
            }
            written += part;
            text = text[end..];
        }
        return bytes[..written];
    }

    public void FilterHeaders(Exchange exchange)
    {
        var headers = exchange.Response.Headers;
        if (HttpMethods.IsOptions(exchange.Request.Method))
        {
            headers.AccessControlAllowMethods = "POST";
            headers.AccessControlAllowHeaders = _config.CorsAllowHeaders;
        }
        if (!exchange.HasOriginRule)
        {
            headers.AccessControlAllowOrigin = "*";
        }
        headers.AccessControlExposeHeaders = "grpc-message,grpc-status";
        if (exchange.TrailersInBody is Frames frames)
        {
            frames.Begin();
            exchange.Response.ContentType = frames.ContentType;
            headers.ContentLength = null;
        }
    }

    public IPieceFilter? OpenBody(Exchange exchange) => exchange.TrailersInBody as Frames;

    /// <summary>The body of one response: gRPC's messages as they come, and the trailers as the last frame.</summary>
    sealed class Frames(Exchange exchange, string contentType, bool isText) : IPieceFilter, ITrailersInBody
    {
        MessageCursor _messages;
        int _left;      // bytes of a message that are not whole in Base64 yet
        byte _first, _second;
        bool _isOver;

        public string ContentType => contentType;

        /// <summary>Another response may have begun before, and failed before its first byte.</summary>
        public void Begin() => (_messages, _left, _isOver) = (default, 0, false);

        public bool IsForGrpc => true;

        public IResponseSource? Source { get; set; }

        public void Filter(ReadOnlyMemory<byte> piece, bool last, IBufferWriter<byte> output)
        {
            for (var rest = piece.Span; !rest.IsEmpty;)
            {
                var part = rest[.._messages.Follow(rest, out _)];
                rest = rest[part.Length..];
                if (isText)
                {
                    Encode(part, _messages.IsBetween, output);
                }
            }
            if (!isText)
            {
                output.Write(piece.Span);
            }
            if (last)
            {
                if (isText)
                {
                    Encode(default, true, output);
                }
                _isOver = true;
                if (!exchange.Response.Headers.ContainsKey("grpc-status"))
                {
                    output.Write(Trailers());
                }
            }
        }

        public ReadOnlyMemory<byte>? LastWords(int status, string message) =>
            _isOver ? ReadOnlyMemory<byte>.Empty : _messages.IsBetween ? Frame(Line(status, message)) : null;

        byte[] Trailers()
        {
            if (exchange.EndReason is { } reason)
            {
                return Frame(Line(StreamReason.Of(reason).Grpc, StreamEnding.GrpcMessage(reason)));
            }
            string? status = null, message = null;
            var others = new StringBuilder();
            foreach (var (name, value) in Source?.Trailers ?? [])
            {
                if (name.Equals("grpc-status", StringComparison.OrdinalIgnoreCase))
                {
                    status = value;
                }
                else if (name.Equals("grpc-message", StringComparison.OrdinalIgnoreCase))
                {
                    message = value;
                }
                else
                {
                    others.Append(name.ToLowerInvariant()).Append(':').Append(value).Append("\r\n");
                }
            }
            return Frame(string.IsNullOrEmpty(status) ? Line(2, "upstream grpc status not received") + others
                : $"grpc-status:{status}\r\ngrpc-message:{message}\r\n{others}");
        }

        static string Line(int status, string message) =>
            string.Create(CultureInfo.InvariantCulture, $"grpc-status:{status}\r\ngrpc-message:{message}\r\n");

        byte[] Frame(string trailers)
        {
            var frame = new byte[MessageCursor.Prefix + trailers.Length];
            frame[0] = 0x80;
            BinaryPrimitives.WriteInt32BigEndian(frame.AsSpan(1), trailers.Length);
            Encoding.Latin1.GetBytes(trailers, frame.AsSpan(MessageCursor.Prefix));
            return isText ? Encoding.ASCII.GetBytes(Convert.ToBase64String(frame)) : frame;
        }

        /// <summary>What is left of a group of three waits for the rest of its message, which is not whole without it.</summary>
        void Encode(ReadOnlySpan<byte> part, bool isEnd, IBufferWriter<byte> output)
        {
            Span<byte> group = stackalloc byte[3];
            while (_left > 0 && _left + part.Length >= 3)
            {
                (group[0], group[1]) = (_first, _left == 2 ? _second : part[0]);
                part = part[(2 - _left)..];
                group[2] = part[0];
                part = part[1..];
                _left = 0;
                Write(group, output);
            }
            if (_left == 0)
            {
                var whole = isEnd ? part.Length : part.Length / 3 * 3;
                Write(part[..whole], output);
                part = part[whole..];
            }
            foreach (var one in part)
            {
                (_first, _second, _left) = _left == 0 ? (one, _second, 1) : (_first, one, 2);
            }
            if (isEnd && _left > 0)
            {
                (group[0], group[1]) = (_first, _second);
                Write(group[.._left], output);
                _left = 0;
            }
        }

        static void Write(ReadOnlySpan<byte> bytes, IBufferWriter<byte> output)
        {
            if (!bytes.IsEmpty)
            {
                Base64.EncodeToUtf8(bytes, output.GetSpan(Base64.GetMaxEncodedToUtf8Length(bytes.Length)), out _, out var written);
                output.Advance(written);
            }
        }
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "request method: `{Method}` invalid")]
    partial void LogMethod(string method);

    [LoggerMessage(Level = LogLevel.Error, Message = "request Content-Type: `{Type}` invalid")]
    partial void LogContentType(string? type);

    [LoggerMessage(Level = LogLevel.Error, Message = "failed to read request body, err: {Error}")]
    partial void LogBody(string error);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(GrpcWeb.Config))]
sealed partial class GrpcWebJson : JsonSerializerContext;
