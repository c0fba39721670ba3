using System.Buffers;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.WebUtilities;
using Microsoft.Extensions.Logging;
using Sluice.Model;
using Sluice.Model.Json;
using Sluice.Model.Protobuf;
using Sluice.Pipeline;
using Sluice.Relay;

namespace Sluice.Plugins.Transform;

/// <summary>Calls a gRPC service for a client that sends and reads JSON.</summary>
internal sealed partial class GrpcTranscode
    : IPlugin<GrpcTranscode, GrpcTranscode.Config>, IAccess, IRequestBodyFilter, IHeaderFilter, IBodyFilter, INeedsRequestBody
{
    public static PluginInfo Info { get; } = new(
        Name: "grpc-transcode",
        Priority: 506,
        Schema: """
            {
              "type": "object",
              "properties": {
                "proto_id": {
                  "description": "id of the proto (/apisix/admin/protos) that declares the service",
                  "anyOf": [
                    { "type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[a-zA-Z0-9-_.]+$" },
                    { "type": "integer", "minimum": 1 }
                  ]
                },
                "service": { "description": "name of the service, with its package", "type": "string" },
                "method": { "description": "name of the method", "type": "string" },
                "deadline": { "description": "milliseconds that the service has to answer; 0: no limit", "type": "number", "default": 0 },
                "pb_option": {
                  "description": "how messages are written as JSON: one of each group",
                  "type": "array",
                  "items": {
                    "type": "string",
                    "anyOf": [
                      { "type": "string", "enum": ["enum_as_name", "enum_as_value"] },
                      { "type": "string", "enum": ["int64_as_number", "int64_as_string", "int64_as_hexstring"] },
                      { "type": "string", "enum": ["auto_default_values", "no_default_values", "use_default_values", "use_default_metatable"] },
                      { "type": "string", "enum": ["enable_hooks", "disable_hooks"] }
                    ]
                  },
                  "minItems": 1,
                  "default": ["enum_as_name", "int64_as_number", "auto_default_values", "disable_hooks"]
                },
                "show_status_in_body": { "description": "an error has a body that says which one, with its details", "type": "boolean", "default": false },
                "status_detail_type": { "description": "type of the messages in an error's details; they are shown undecoded without it", "type": "string" },
                "max_resp_body_size": {
                  "description": "bytes; a larger message ends the response with an error",
                  "type": "integer", "minimum": 1, "default": 67108864
                }
              },
              "additionalProperties": true,
              "required": ["proto_id", "service", "method"]
            }
            """,
        Summary: """
            Calls a method of a gRPC service (an upstream with `scheme: grpc` or `grpcs`) for a client of plain HTTP. The request's message is made of a JSON body (`POST`, `PUT`, `PATCH` with `application/json`), of a form (`POST`),
            or of the query: fields have the names of the .proto, enums are names or numbers, 64-bit integers numbers or texts (`"12"`, `"#12"`, `"0xC"`), what is no field is ignored. The response is JSON with
            the same names, with fields at their default values (`pb_option` says otherwise). The .proto is a resource of the [Admin API](../admin-api.md), `/apisix/admin/protos/ID`: its text, or a set of file descriptors
            (`protoc --include_imports --descriptor_set_out`) in Base64.

            A request that is no message is answered 400, a method that the proto does not have 503, an answer that is no message 502. A status of the service becomes one of HTTP, whether it comes in the head or in
            the trailers: `INVALID_ARGUMENT`, `FAILED_PRECONDITION`, `OUT_OF_RANGE` 400, `UNAUTHENTICATED` 401, `PERMISSION_DENIED` 403, `NOT_FOUND` 404, `ALREADY_EXISTS`, `ABORTED` 409, `RESOURCE_EXHAUSTED` 429, `CANCELLED` 499,
            `UNKNOWN`, `INTERNAL`, `DATA_LOSS` 500, `UNIMPLEMENTED` 501, `UNAVAILABLE` 503, `DEADLINE_EXCEEDED` 504; `grpc-status` and `grpc-message` are among the headers.

            **Streams**, which APISIX's plugin does not have. What a service streams leaves message by message: as events (`data: {…}`) for a client with `Accept: text/event-stream`, as lines with `application/x-ndjson`, else as the
            items of one JSON array. An error at its end is the last thing in it: an event `error`, a line or an item, each `{"error": {"code": …, "message": …}}`. What a client streams to a method that takes a stream is a body of lines, `Content-Type:
            application/x-ndjson`, of which each goes on as it comes, or one JSON array. A response that is one message is read whole before the client gets it.
            """)
    {
        Example = """
            ```json
            {"grpc-transcode": {"proto_id": "1", "service": "helloworld.Greeter", "method": "SayHello"}}
            ```

            `GET /hello?name=world` is answered `{"message":"Hello world"}`.
            """,
    };

    public sealed record Config(
        JsonValue ProtoId, string Service, string Method, double Deadline = 0, string[]? PbOption = null, bool ShowStatusInBody = false,
        string? StatusDetailType = null,
        int MaxRespBodySize = 64 << 20);

    const int MaxBody = 64 << 20;

    /// <summary>A proto is compiled once, for all that use it.</summary>
    static readonly ConditionalWeakTable<Document, ProtoSchema> s_schemas = [];

    readonly Config _config;
    readonly string _protoId;
    readonly ProtoForm _form;
    readonly ILogger _logger;

    GrpcTranscode(Config config, PluginContext context)
    {
        (_config, _protoId, _form) = (config, config.ProtoId.ToString(), FormOf(config.PbOption ?? []));
        _logger = context.Services.Loggers.CreateLogger<GrpcTranscode>();
    }

    public static JsonTypeInfo<Config> ConfigType => GrpcTranscodeJson.Default.Config;

    public static GrpcTranscode Create(Config config, PluginContext context) => new(config, context);

    static ProtoForm FormOf(string[] options) => options.Aggregate(new ProtoForm(), static (form, option) => option switch
    {
        "enum_as_name" => form with { EnumAsName = true },
        "enum_as_value" => form with { EnumAsName = false },
        "int64_as_number" => form with { Int64 = Int64Form.Number },
        "int64_as_string" => form with { Int64 = Int64Form.Text },
        "int64_as_hexstring" => form with { Int64 = Int64Form.HexText },
        "auto_default_values" => form with { Defaults = ProtoDefaults.OfProto3 },
        "use_default_values" => form with { Defaults = ProtoDefaults.All },
        "no_default_values" or "use_default_metatable" => form with { Defaults = ProtoDefaults.None },
        _ => form,
    });

    public int MaxRequestBodyBytes => MaxBody;

    // -- The request

    public async ValueTask<Answer?> AccessAsync(Exchange exchange)
    {
        if (SchemaOf(exchange) is not { } schema)
        {
            return null;
        }
        if (schema.FindMethod(_config.Service, _config.Method) is not { } method)
        {
            LogRequest($"Undefined service method: {_config.Service}/{_config.Method} end");
            return Answer.Bare(503);
        }
        var readsLines = method.ClientStreams && exchange.CanHaveBody && IsLines(exchange.Request.ContentType);
        if (!readsLines)
        {
            var message = new ArrayBufferWriter<byte>();
            try
            {
                foreach (var json in MessagesOf(await DataAsync(exchange), method))
                {
                    WriteMessage(method.Input, json, message);
                }
            }
            catch (ProtoException e)
            {
                LogRequest($"failed to encode request data to protobuf: {e.Message}");
                return Answer.Bare(400);
            }
            exchange.Body.Replace(message.WrittenMemory);
        }
        var headers = exchange.Request.Headers;
        exchange.UpstreamMethod = HttpMethods.Post;
        exchange.Uri = exchange.UpstreamUri = $"/{_config.Service}/{_config.Method}";
        headers.ContentType = "application/grpc";
        headers.Remove("Content-Encoding");
        headers.Remove("grpc-encoding");
        headers.Remove("grpc-accept-encoding");
        if (_config.Deadline > 0)
        {
            headers["grpc-timeout"] = $"{LuaText.Number(_config.Deadline)}m";
        }
        exchange.TrailersInBody = new Call(this, exchange, schema, method, readsLines);
        return null;
    }

    ProtoSchema? SchemaOf(Exchange exchange)
    {
        if (exchange.Snapshot.Documents.Find(ResourceKind.Protos, _protoId) is not { } document)
        {
            LogNoProto($"failed to find proto by id: {_protoId}");
            return null;
        }
        try
        {
            return s_schemas.GetValue(document, static document => ProtoSchema.Parse((string)document.Value["content"]!));
        }
        catch (ProtoException e)
        {
            LogNoProto(e.Message);
            return null;
        }
    }

    static bool IsLines(string? types) => types is not null
        && Array.Exists(s_lines, type => types.Contains(type, StringComparison.OrdinalIgnoreCase));

    static readonly string[] s_lines = ["application/x-ndjson", "application/ndjson", "application/jsonl", "application/stream+json"];

    static async ValueTask<JsonNode?> DataAsync(Exchange exchange)
    {
        var (method, type) = (exchange.Request.Method, exchange.Request.ContentType ?? "");
        var isPost = HttpMethods.IsPost(method);
        if (type.Contains("application/json", StringComparison.Ordinal)
            && (isPost || HttpMethods.IsPut(method) || HttpMethods.IsPatch(method)))
        {
            try
            {
                var body = await exchange.Body.ReadAsync(MaxBody);
                if (!body.IsEmpty && CjsonReader.Parse(body.Span, ProtoWriter.MaxDepth * 2) is { } json)
                {
                    return json;
                }
            }
            catch (JsonTextException)
            {
                // then it is what any other body is
            }
        }
        var text = isPost ? Encoding.UTF8.GetString((await exchange.Body.ReadAsync(MaxBody)).Span) : exchange.Args;
        return new JsonObject(QueryHelpers.ParseQuery(text).DistinctBy(static pair => pair.Key)
            .Select(static pair => KeyValuePair.Create(pair.Key,
                pair.Value.Count == 1 ? (JsonNode?)pair.Value[0]
                : new JsonArray([.. pair.Value.Select(static value => (JsonNode?)value)]))));
    }

    static IEnumerable<JsonObject> MessagesOf(JsonNode? data, ProtoMethod method) => data switch
    {
        JsonObject json => [json],
        JsonArray items when method.ClientStreams =>
            items.Select(static item => item as JsonObject ?? throw new ProtoException("a message must be an object")),
        _ => throw new ProtoException("the message must be an object"),
    };

    static void WriteMessage(ProtoMessage type, JsonObject json, IBufferWriter<byte> output)
    {
        var message = new ArrayBufferWriter<byte>();
        ProtoWriter.Write(type, json, message);
        MessageFramer.WritePrefix(output, 0, message.WrittenCount);
        output.Write(message.WrittenSpan);
    }

    public IPieceFilter? OpenRequestBody(Exchange exchange) =>
        exchange.TrailersInBody is Call { ReadsLines: true } call ? new Lines(this, call.Method.Input, new LineFramer()) : null;

    /// <summary>Each line is a message, and goes on as it comes.</summary>
    sealed class Lines(GrpcTranscode plugin, ProtoMessage type, LineFramer framer) : IPieceFilter
    {
        int _count;

        public void Filter(ReadOnlyMemory<byte> piece, bool last, IBufferWriter<byte> output)
        {
            if (!piece.IsEmpty)
            {
                framer.Push(piece);
                Drain(output);
            }
            if (last)
            {
                framer.End();
                Drain(output);
                framer.Dispose();
            }
        }

        void Drain(IBufferWriter<byte> output)
        {
            while (framer.TryRead(out var frame))
            {
                if (frame.Kind == FrameKind.TooLarge)
                {
                    throw new BadHttpRequestException($"line {_count + 1} of the body is too long", StatusCodes.Status413PayloadTooLarge);
                }
                if (frame.Kind == FrameKind.Event || !frame.Raw.Span.Trim(" \t\r\n"u8).IsEmpty)
                {
                    _count++;
                    Write(frame.Raw.Span, output);
                }
            }
        }

        void Write(ReadOnlySpan<byte> line, IBufferWriter<byte> output)
        {
            try
            {
                WriteMessage(type, CjsonReader.Parse(line, ProtoWriter.MaxDepth * 2) as JsonObject
                    ?? throw new ProtoException("the message must be an object"), output);
            }
            catch (Exception e) when (e is ProtoException or JsonTextException)
            {
                var problem = $"line {_count} of the body: {e.Message}";
                plugin.LogRequest(problem);
                throw new BadHttpRequestException(problem);
            }
        }
    }

    // -- The response

    public void FilterHeaders(Exchange exchange)
    {
        if (exchange.TrailersInBody is not Call call)
        {
            return;
        }
        // another response may have begun before, and failed before its first byte
        call.IsTranscoded = !exchange.AnsweredByGateway && exchange.Response.StatusCode < 300;
        if (call.IsTranscoded)
        {
            call.Begin(call.Method.ServerStreams ? new MessageFramer(_config.MaxRespBodySize) : null);
        }
    }

    public IPieceFilter? OpenBody(Exchange exchange) => exchange.TrailersInBody is Call { IsTranscoded: true } call ? call : null;

    enum Output
    {
        /// <summary>One message.</summary>
        Object,

        /// <summary>Any number of them, in one value.</summary>
        Array,
        Lines,
        Events,
    }

    /// <summary>One call of a service.</summary>
    sealed class Call : IPieceFilter, ITrailersInBody
    {
        readonly GrpcTranscode _plugin;
        readonly Exchange _exchange;
        readonly ProtoSchema _schema;
        readonly Output _form;
        readonly ProtoReader _reader;
        MessageFramer? _framer;
        ArrayBufferWriter<byte>? _whole;
        bool _isFailed, _isOver;
        int _count;

        public Call(GrpcTranscode plugin, Exchange exchange, ProtoSchema schema, ProtoMethod method, bool readsLines)
        {
            (_plugin, _exchange, _schema, Method, ReadsLines) = (plugin, exchange, schema, method, readsLines);
            var accept = exchange.Request.Headers.Accept.ToString();
            _form = !method.ServerStreams ? Output.Object
                : accept.Contains("text/event-stream", StringComparison.OrdinalIgnoreCase) ? Output.Events
                : IsLines(accept) ? Output.Lines : Output.Array;
            _reader = new(plugin._form);
        }

        public ProtoMethod Method { get; }

        public bool ReadsLines { get; }

        /// <summary>The response is gRPC's.</summary>
        public bool IsTranscoded { get; set; }

        public bool IsForGrpc => false;

        public IResponseSource? Source { get; set; }

        /// <summary>One message waits for its status, which may be in the trailers; the head waits with it.</summary>
        public bool Holds => _whole is not null && !_isOver;

        public ReadOnlyMemory<byte>? LastWords(int status, string message) => null;

        public void Begin(MessageFramer? framer)
        {
            var response = _exchange.Response;
            (_framer, _whole) = (framer, framer is null ? new() : null);
            (_isFailed, _isOver, _count) = (false, false, 0);
            response.ContentLength = null;
            response.ContentType = _form switch
            {
                Output.Lines => "application/x-ndjson",
                Output.Events => "text/event-stream",
                _ => "application/json",
            };
            if (response.Headers.TryGetValue("grpc-status", out var status) && status != "0")
            {
                Fail(status.ToString());
            }
            else
            {
                response.Headers["Trailer"] = "grpc-status, grpc-message";
            }
        }

        void Fail(string? status)
        {
            _isFailed = true;
            _exchange.Response.StatusCode = HttpStatus(status);
            _exchange.Response.ContentType = "application/json";
        }

        public void Filter(ReadOnlyMemory<byte> piece, bool last, IBufferWriter<byte> output)
        {
            if (_whole is { } whole)
            {
                if (whole.WrittenCount + piece.Length > (long)_plugin._config.MaxRespBodySize + MessageCursor.Prefix)
                {
                    throw new BodyFilterException(
                        $"plugin grpc-transcode: the message is over its limit of {_plugin._config.MaxRespBodySize} bytes");
                }
                whole.Write(piece.Span);
            }
            else if (!piece.IsEmpty)
            {
                _framer!.Push(piece);
                Drain(output);
            }
            if (!last)
            {
                return;
            }
            _isOver = true;
            if (_framer is not null)
            {
                _framer.End();
                Drain(output);
                _framer.Dispose();
            }
            End(output);
        }

        void End(IBufferWriter<byte> output)
        {
            string? status = null, message = null, details = null;
            foreach (var (name, value) in _isFailed ? HeadersAsTrailers() : Source?.Trailers ?? [])
            {
                (status, message, details) = name.ToLowerInvariant() switch
                {
                    "grpc-status" => (value, message, details),
                    "grpc-message" => (status, value, details),
                    "grpc-status-details-bin" => (status, message, value),
                    _ => (status, message, details),
                };
            }
            var isError = status is not (null or "0");
            if (isError && !_isFailed && _count == 0 && !_exchange.Response.HasStarted)
            {
                Fail(status);
                Show("grpc-status", status);
                Show("grpc-message", message);
                Show("grpc-status-details-bin", details);
            }
            if (_isFailed)
            {
                if (_plugin._config.ShowStatusInBody)
                {
                    output.Write(Error(status, message, details));
                }
                return;
            }
            if (_whole is not null)
            {
                WriteWhole(output);
                return;
            }
            if (isError)
            {
                var error = Error(status, message, details);
                output.Write(_form == Output.Events ? "event: error\n"u8 : default);
                Wrap(error, output);
            }
            if (_form == Output.Array)
            {
                output.Write(_count == 0 ? "[]"u8 : "]"u8);
            }
        }

        IEnumerable<KeyValuePair<string, string>> HeadersAsTrailers() =>
            _exchange.Response.Headers.Select(static header => KeyValuePair.Create(header.Key, header.Value.ToString()));

        void Show(string name, string? value)
        {
            if (value is not null)
            {
                _exchange.Response.Headers[name] = value;
            }
        }

        void WriteWhole(IBufferWriter<byte> output)
        {
            try
            {
                var body = _whole!.WrittenSpan;
                var json = new ArrayBufferWriter<byte>();
                _reader.Write(Method.Output, body.Length < MessageCursor.Prefix ? default : MessageOf(body), json);
                output.Write(json.WrittenSpan);
            }
            catch (ProtoException e)
            {
                _plugin.LogResponse($"failed to decode response data by protobuf: {e.Message}");
                if (!_exchange.Response.HasStarted)
                {
                    (_exchange.Response.StatusCode, _exchange.Response.ContentType) = (502, Answer.PlainText);
                }
                output.Write("failed to decode response data by protobuf"u8);
            }
        }

        static ReadOnlySpan<byte> MessageOf(ReadOnlySpan<byte> raw) =>
            raw[0] == 0 ? MessageFramer.MessageOf(raw) : throw new ProtoException("it is compressed");

        void Drain(IBufferWriter<byte> output)
        {
            while (_framer!.TryRead(out var frame))
            {
                if (frame.Kind != FrameKind.Event)
                {
                    throw frame.Kind == FrameKind.TooLarge
                        ? new BodyFilterException(
                            $"plugin grpc-transcode: a message is over the limit of {_plugin._config.MaxRespBodySize} bytes",
                            "event_too_large")
                        : new BodyFilterException("plugin grpc-transcode: the stream ends in the middle of a message");
                }
                var json = new ArrayBufferWriter<byte>(frame.Raw.Length + 64);
                try
                {
                    _reader.Write(Method.Output, MessageOf(frame.Raw.Span), json);
                }
                catch (ProtoException e)
                {
                    throw new BodyFilterException($"plugin grpc-transcode: failed to decode response data by protobuf: {e.Message}");
                }
                Wrap(json.WrittenSpan, output);
            }
        }

        /// <summary>One value in its place in the stream.</summary>
        void Wrap(ReadOnlySpan<byte> json, IBufferWriter<byte> output)
        {
            output.Write(_form switch
            {
                Output.Events => "data: "u8,
                Output.Array => _count == 0 ? "["u8 : ","u8,
                _ => default,
            });
            output.Write(json);
            output.Write(_form switch
            {
                Output.Events => "\n\n"u8,
                Output.Lines => "\n"u8,
                _ => default,
            });
            _count++;
        }

        /// <summary>What a status is as JSON; a text that says why it cannot be shown.</summary>
        ReadOnlySpan<byte> Error(string? status, string? message, string? details)
        {
            if (details is null)
            {
                return Json(writer =>
                {
                    writer.WriteNumber("code", int.TryParse(status, NumberStyles.None, CultureInfo.InvariantCulture, out var code) ? code
                        : 2);
                    writer.WriteString("message", Uri.UnescapeDataString(message ?? ""));
                }).Span;
            }
            string problem;
            try
            {
                return Json(writer => WriteDetails(Convert.FromBase64String(details.PadRight((details.Length + 3) & ~3, '=')),
                    writer)).Span;
            }
            catch (FormatException e) when (e is not ProtoException)
            {
                problem = "grpc-status-details-bin is not base64 format";
            }
            catch (InvalidProtocolBufferException)
            {
                problem = "failed to call pb.decode to decode grpc-status-details-bin";
            }
            catch (ProtoException e)
            {
                problem = "failed to call pb.decode to decode details in grpc-status-details-bin";
                _plugin.LogResponse($"{problem}, err: {e.Message}");
                return Encoding.UTF8.GetBytes(problem);
            }
            _plugin.LogResponse(problem);
            return Encoding.UTF8.GetBytes(problem);
        }

        static ReadOnlyMemory<byte> Json(Action<Utf8JsonWriter> write) => JsonBytes.Write(writer =>
        {
            writer.WriteStartObject();
            writer.WriteStartObject("error");
            write(writer);
            writer.WriteEndObject();
            writer.WriteEndObject();
        });

        /// <summary>A <c>google.rpc.Status</c>.</summary>
        void WriteDetails(byte[] bytes, Utf8JsonWriter writer)
        {
            var (code, message, details) = (0, "", new List<Any>());
            using var input = new CodedInputStream(bytes);
            while (input.ReadTag() is not 0 and var tag)
            {
                switch (tag)
                {
                    case 8:
                        code = input.ReadInt32();
                        break;
                    case 18:
                        message = input.ReadString();
                        break;
                    case 26:
                        details.Add(Any.Parser.ParseFrom(input.ReadBytes()));
                        break;
                    default:
                        input.SkipLastField();
                        break;
                }
            }
            writer.WriteNumber("code", code);
            writer.WriteString("message", message);
            writer.WriteStartArray("details");
            var type = _plugin._config.StatusDetailType is { } name
                ? _schema.FindMessage(name) ?? throw new ProtoException($"type {name} does not exists") : null;
            foreach (var detail in details)
            {
                if (type is not null)
                {
                    _reader.Write(type, detail.Value.Span, writer);
                    continue;
                }
                writer.WriteStartObject();
                writer.WriteString("type_url", detail.TypeUrl);
                writer.WritePropertyName("value");
                ProtoReader.WriteText(writer, detail.Value.Span);
                writer.WriteEndObject();
            }
            writer.WriteEndArray();
        }
    }

    static int HttpStatus(string? status) => status switch
    {
        "1" => 499,
        "2" or "13" or "15" => 500,
        "3" or "9" or "11" => 400,
        "4" => 504,
        "5" => 404,
        "6" or "10" => 409,
        "7" => 403,
        "8" => 429,
        "12" => 501,
        "14" => 503,
        "16" => 401,
        _ => 599,
    };

    [LoggerMessage(Level = LogLevel.Error, Message = "proto load error: {Error}")]
    partial void LogNoProto(string error);

    [LoggerMessage(Level = LogLevel.Error, Message = "transform request error: {Error}")]
    partial void LogRequest(string error);

    [LoggerMessage(Level = LogLevel.Error, Message = "transform response error: {Error}")]
    partial void LogResponse(string error);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(GrpcTranscode.Config))]
sealed partial class GrpcTranscodeJson : JsonSerializerContext;
