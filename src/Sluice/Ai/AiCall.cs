using System.Buffers;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Primitives;
using Sluice.Ai.Protocols;
using Sluice.Model.Json;
using Sluice.Pipeline;

namespace Sluice.Ai;

/// <summary>A request to a language model: read once, sent to the instance that was picked, and when that fails to the next one.</summary>
internal partial class AiCall : AiFacts, IUpstreamTries
{
    static readonly JsonWriterOptions s_writing = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    readonly AiSettings _settings;
    readonly ILogger _logger;
    JsonObject _body;
    ReadOnlyMemory<byte> _bytes;
    bool _begun;
    KeyValuePair<string, StringValues>[] _headers = [];
    string _target = "", _method = "";

    protected AiCall(AiProtocol protocol, JsonObject body, ReadOnlyMemory<byte> bytes, AiSettings settings, ILogger logger)
    {
        (Protocol, _body, _bytes, _settings, _logger) = (protocol, body, bytes, settings, logger);
        IsStream = protocol.WantsStream(body);
        RequestModel = body["model"] switch
        {
            null => null,
            JsonValue value => value.ToString(),
            _ => "<non-scalar>",
        };
        LogsSummaries = settings.LogsSummaries;
        LogsPayloads = settings.LogsPayloads;
        Text = LogsPayloads ? new() : null;
    }

    /// <summary>The one that is asked.</summary>
    public AiInstance Target
    {
        get;
        set
        {
            field = value;
            Instance = value.Name;
        }
    } = null!;

    /// <summary>What the client speaks, and the provider too.</summary>
    public AiProtocol Protocol { get; }

    public AiSettings Settings => _settings;

    protected ILogger Logger => _logger;

    /// <summary>The client did not ask for the chunk with the usage, which the gateway needs.</summary>
    public bool HidesUsage { get; private set; }

    /// <summary>The request of an exchange as one to a model; without one the answer says why.</summary>
    public static async ValueTask<(AiCall? Call, Answer? Refusal)> ReadAsync(
        Exchange exchange, AiSettings settings, ILogger logger, Func<AiProtocol, JsonObject, ReadOnlyMemory<byte>, AiCall>? make = null)
    {
        if (exchange.Request.ContentType is { Length: > 0 } type && !type.StartsWith("application/json", StringComparison.Ordinal))
        {
            return (null, Answer.Text(400, $"unsupported content-type: {type}, only application/json is supported"));
        }
        ReadOnlyMemory<byte> bytes;
        try
        {
            bytes = await exchange.Body.ReadAsync(settings.MaxReqBodySize);
        }
        catch (BadHttpRequestException e) when (e.StatusCode == StatusCodes.Status413PayloadTooLarge)
        {
            exchange.Response.Headers.Connection = "close";
            var size = exchange.Request.ContentLength is { } length ? $"request size {length} is" : "request size is";
            LogTooLarge(logger, $"{size} greater than the maximum size {settings.MaxReqBodySize} allowed");
            return (null,
                Answer.Message(413, $"could not get body: {size} greater than the maximum size {settings.MaxReqBodySize} allowed"));
        }
        if (bytes.IsEmpty)
        {
            return (null, Answer.Message(400, "could not get body: request body is empty"));
        }
        JsonNode? parsed;
        try
        {
            parsed = CjsonReader.Parse(bytes.Span);
        }
        catch (JsonTextException e)
        {
            return (null, Answer.Message(400, $"could not parse JSON request body: {e.Message}"));
        }
        if (parsed is not JsonObject body || AiProtocols.Detect(exchange.Uri, body) is not { } protocol)
        {
            return (null, Answer.Text(400, "no matching AI protocol for the request"));
        }
        return (make?.Invoke(protocol, body, bytes) ?? new(protocol, body, bytes, settings, logger), null);
    }

    // -- The request

    public async ValueTask<(ForwardTo.To? Upstream, Answer? Answer)> NextAsync(Exchange exchange)
    {
        if (!_begun)
        {
            Begin(exchange);
        }
        else if (await PickAgainAsync(exchange) is { } refusal)
        {
            return (null, refusal);
        }
        var (instance, request) = (Target, exchange.Request);
        var speech = instance.Provider.In(Protocol.Name);
        if (speech is null && Protocol is not Passthrough)
        {
            return (null,
                Answer.Text(400,
                    $"provider {instance.Provider.Name} does not support {Protocol.Name} protocol (supported: {instance.Provider.Spoken})"));
        }
        Model = instance.ModelOf(_body);
        if (instance.TargetOf(speech, Model, Protocol is Passthrough ? _target : null) is not { } target)
        {
            return (null, Answer.ErrorMessage(
                400,
                "could not resolve upstream path: ensure the route or request body specifies a model, or that override.endpoint includes "
                    + "a path"));
        }
        var body = BodyFor(instance, speech);
        WriteHeaders(exchange, instance);
        exchange.Body.Replace(body, "application/json");
        exchange.UpstreamMethod = Protocol is Passthrough ? _method : "POST";
        (exchange.UpstreamUri, exchange.UpstreamHost, exchange.UpstreamScheme) = (target, null, null);
        AskedTimestamp = exchange.Services.Time.GetTimestamp();
        return (instance.Upstream, null);
    }

    /// <summary>Makes another instance <see cref="Target"/>; the answer when there is none.</summary>
    protected virtual ValueTask<Answer?> PickAgainAsync(Exchange exchange) => default;

    void Begin(Exchange exchange)
    {
        _begun = true;
        if (exchange.Body.Known is { } known && !known.Equals(_bytes))
        {
            // another plugin has changed the prompt meanwhile
            _bytes = known;
            _body = CjsonReader.Parse(known.Span) as JsonObject ?? [];
        }
        var headers = exchange.Request.Headers;
        foreach (var (isOwn, name) in ((bool, string)[])[(exchange.HasOwnProto, "X-Forwarded-Proto"),
            (exchange.HasOwnHost, "X-Forwarded-Host"), (exchange.HasOwnPort, "X-Forwarded-Port")])
        {
            if (isOwn)
            {
                headers.Remove(name);
            }
        }
        headers.Remove("Accept-Encoding");
        headers.Remove("Expect");
        if (!_settings.IsApisix)
        {
            headers.Remove("Cookie");
            if (exchange.Consumer is not null)
            {
                headers.Remove("Authorization");
            }
        }
        _headers = [.. headers];
        _target = exchange.Target;
        _method = exchange.UpstreamMethod;
        if (LogsPayloads)
        {
            RequestContent = Protocol.Content(_body)?.DeepClone();
        }
    }

    void WriteHeaders(Exchange exchange, AiInstance instance)
    {
        var headers = exchange.Request.Headers;
        Restore(headers);
        foreach (var (name, value) in instance.Headers)
        {
            headers[name] = value;
        }
    }

    void Restore(IHeaderDictionary headers)
    {
        headers.Clear();
        foreach (var (name, values) in _headers)
        {
            headers[name] = values;
        }
    }

    /// <summary>The client's bytes where nothing is to be changed; else JSON whose keys are sorted, so that providers find it in their
    /// caches.</summary>
    ReadOnlyMemory<byte> BodyFor(AiInstance instance, Providers.AiSpeech? speech)
    {
        var asksUsage = Protocol is OpenAiChat && IsStream;
        var body = asksUsage || instance.ChangesBody(speech, Protocol, _body) ? _body.DeepClone().AsObject() : _body;
        if (asksUsage)
        {
            var options = body["stream_options"] as JsonObject;
            HidesUsage = !_settings.IsApisix
                && (options?["include_usage"] is not JsonValue asked || !asked.TryGetValue(out bool wants) || !wants);
            if (_settings.IsApisix || options is null)
            {
                Protocol.Prepare(body);
            }
            else
            {
                options["include_usage"] = true;
            }
        }
        if (!ReferenceEquals(body, _body))
        {
            instance.Change(body, speech, Protocol);
        }
        Tools = body["tools"] is JsonArray tools ? tools.Count : 0;
        EndUser = Protocol.EndUser(body);
        return ReferenceEquals(body, _body) ? _bytes : Sorted(body);
    }

    /// <summary>JSON whose keys are sorted.</summary>
    public static ReadOnlyMemory<byte> Sorted(JsonObject body)
    {
        var bytes = new ArrayBufferWriter<byte>();
        using (var writer = new Utf8JsonWriter(bytes, s_writing))
        {
            Write(writer, body);
        }
        return bytes.WrittenMemory;
    }

    static void Write(Utf8JsonWriter writer, JsonNode? node)
    {
        switch (node)
        {
            case JsonObject members:
                writer.WriteStartObject();
                foreach (var (name, value) in members.OrderBy(static member => member.Key, StringComparer.Ordinal))
                {
                    writer.WritePropertyName(name);
                    Write(writer, value);
                }
                writer.WriteEndObject();
                break;
            case JsonArray items:
                writer.WriteStartArray();
                foreach (var item in items)
                {
                    Write(writer, item);
                }
                writer.WriteEndArray();
                break;
            case null:
                writer.WriteNullValue();
                break;
            default:
                node.WriteTo(writer);
                break;
        }
    }

    // -- The response

    /// <summary>Whether another instance shall be asked, as the one that was has answered so.</summary>
    protected virtual bool TryAgain(Exchange exchange, int status) => false;

    public bool Takes(Exchange exchange, int status)
    {
        HideSecrets(exchange);
        return !TryAgain(exchange, status);
    }

    public virtual void Refused(Exchange exchange, ReadOnlyMemory<byte> body)
    {
    }

    public Answer? Failed(Exchange exchange, Answer answer)
    {
        HideSecrets(exchange);
        ResponseMs = Elapsed(exchange);
        // APISIX knows timeouts, and all else is its own fault
        var status = _settings.IsApisix && answer.Status != 504 ? 500 : answer.Status;
        if (TryAgain(exchange, status))
        {
            Refused(exchange, default);
            return null;
        }
        return _settings.IsApisix ? Answer.Bare(status) with { Headers = answer.Headers } : answer;
    }

    /// <summary>Milliseconds since the provider was asked.</summary>
    public long Elapsed(Exchange exchange) => (long)exchange.Services.Time.GetElapsedTime(AskedTimestamp).TotalMilliseconds;

    /// <summary>The request is out: what has said who asks is in no log, only what the client sent.</summary>
    void HideSecrets(Exchange exchange)
    {
        exchange.Upstream.Uri = exchange.Upstream.Uri?.Split('?')[0];
        if (_begun)
        {
            Restore(exchange.Request.Headers);
        }
    }

    static readonly string[] s_passed = ["retry-after", "retry-after-ms", "x-should-retry", "x-request-id", "request-id",
        "x-amzn-requestid"];
    static readonly string[] s_prefixes = ["x-ratelimit-", "anthropic-", "openai-"];

    public bool Passes(string header) => Is(header, "content-type") || Is(header, "content-encoding")
        || (!_settings.IsApisix
            && (Array.Exists(s_passed, name => Is(header, name))
                || Array.Exists(s_prefixes, prefix => header.StartsWith(prefix, StringComparison.OrdinalIgnoreCase))));

    static bool Is(string name, string other) => name.Equals(other, StringComparison.OrdinalIgnoreCase);

    [LoggerMessage(Level = LogLevel.Error, Message = "failed to read request body: {Error}")]
    static partial void LogTooLarge(ILogger logger, string error);

    [LoggerMessage(Level = LogLevel.Warning,
        Message = "aborting AI stream: {Limit} exceeded; bytes={Bytes} duration_ms={Duration} route_id={Route}")]
    static partial void LogAborted(ILogger logger, string limit, long bytes, long duration, string? route);

    [LoggerMessage(Level = LogLevel.Information, Message = "client disconnected during AI streaming")]
    static partial void LogClientGone(ILogger logger);

    public void LogAborted(Exchange exchange, string limit, long bytes) =>
        LogAborted(_logger, limit, bytes, Elapsed(exchange), exchange.Route?.Id);

    /// <summary>All is over.</summary>
    public void Conclude(Exchange exchange)
    {
        HideSecrets(exchange);
        // what metrics and logs know as the node is the instance
        exchange.Upstream.NodeIp = Instance;
        if (AskedTimestamp != 0)
        {
            ResponseMs ??= Elapsed(exchange);
        }
        if (exchange.Failure?.Kind == "client_gone" && exchange.StreamKind is not null)
        {
            LogClientGone(_logger);
        }
    }
}
