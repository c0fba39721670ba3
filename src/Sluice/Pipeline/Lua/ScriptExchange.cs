using System.Buffers;
using System.IO.Pipelines;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Sluice.Model;
using Sluice.Net.Http;
using Sluice.Net.Http1;
using Sluice.Relay;
using Sluice.Scripting;

namespace Sluice.Pipeline;

/// <summary>An exchange as scripts see it.</summary>
sealed class ScriptExchange(Exchange exchange) : IScriptExchange
{
    OpenResponse? _response;
    ReplayableBody? _kept;

    public HttpContext Http => exchange.Http;

    public IScriptConsumers Consumers => field ??= new ScriptConsumers(exchange);

    // ngx.var is nginx's; ctx.var decodes arguments itself
    public string? Get(string name) => name.StartsWith("arg_", StringComparison.Ordinal) ? exchange.InNginx.Get(name) : exchange.Get(name);

    public void Set(string name, string? value)
    {
        if (name == "upstream_uri")
        {
            exchange.UpstreamUri = value;
        }
        else if (name == "upstream_host")
        {
            exchange.UpstreamHost = value;
        }
        else if (name == "upstream_scheme")
        {
            exchange.UpstreamScheme = value;
        }
        exchange.Set(name, value);
    }

    public string Uri
    {
        get => exchange.Uri;
        set
        {
            exchange.Uri = value;
            Retarget();
        }
    }

    public string Args
    {
        get => exchange.Args;
        set
        {
            exchange.SetArgs(value);
            if (exchange.UpstreamUri is not null)
            {
                Retarget();
            }
        }
    }

    void Retarget()
    {
        var path = RequestTarget.Escape(exchange.Uri);
        exchange.UpstreamUri = exchange.Args.Length == 0 ? path : $"{path}?{exchange.Args}";
    }

    public string Method
    {
        get => exchange.UpstreamMethod;
        set => exchange.UpstreamMethod = value;
    }

    public string RawTarget => exchange.RawTarget;

    public bool IsAdded(string header) => (exchange.HasOwnProto && HeaderName.Is(header, "X-Forwarded-Proto"))
        || (exchange.HasOwnHost && HeaderName.Is(header, "X-Forwarded-Host"))
            || (exchange.HasOwnPort && HeaderName.Is(header, "X-Forwarded-Port"));

    public bool IsSubrequest => InnerRequest.Is(exchange);

    public JsonObject? MatchedRoute =>
        exchange.Route is { } route ? exchange.Snapshot.Documents.Find(ResourceKind.Routes, route.Id)?.Value : null;

    public double StartTime => (exchange.Services.Time.GetUtcNow().ToUnixTimeMilliseconds() - exchange.ElapsedMs) / 1000;

    public void HeaderChanged(string name)
    {
        if (name.Equals("Host", StringComparison.OrdinalIgnoreCase))
        {
            exchange.HostChanged();
            exchange.UpstreamHost = exchange.Request.Headers.Host.ToString() is { Length: > 0 } host ? host : null;
        }
    }

    public async ValueTask<ScriptBody> ReadBodyAsync()
    {
        if (!exchange.CanHaveBody)
        {
            return default;
        }
        using var before = _kept;
        _kept = new(exchange.Scope.ClientBodyBufferSize, exchange.Services.TemporaryDirectory, named: true);
        while (true)
        {
            var read = await exchange.ReadBodyAsync(exchange.Http.RequestAborted);
            foreach (var piece in read.Buffer)
            {
                await _kept.AppendAsync(piece);
            }
            exchange.BodyBytesRead += read.Buffer.Length;
            exchange.AdvanceBody(read.Buffer.End);
            if (read.IsCompleted)
            {
                break;
            }
        }
        _kept.Seal();
        if (_kept.File is { } file)
        {
            ReplaceBody(file, file.Length);
            return new(default, file.Name);
        }
        var body = _kept.ToArray();
        _kept.Dispose();
        ReplaceBody(body);
        return new(body);
    }

    public void Dispose() => _kept?.Dispose();

    public Stream? OpenBody() => exchange.CanHaveBody ? exchange.Request.BodyReader.AsStream(leaveOpen: true) : null;

    public (Stream? Connection, string? Error) TakeConnection(bool bodyBegun)
    {
        if (exchange.Http.Features.Get<IRawConnection>() is not { } raw)
        {
            return (null, exchange.Request.Protocol == "HTTP/3" ? "http v3 not supported yet" : "http v2 not supported yet");
        }
        if (raw.TakeOver(bodyBegun) is not { } connection)
        {
            return (null, "pending request body reading in some other thread");
        }
        Answered = Finished = true;
        exchange.AnsweredByGateway = true;
        return (connection, null);
    }

    public void Sent(int bytes) => exchange.BodyBytesSent += bytes;

    public void ReplaceBody(ReadOnlyMemory<byte> body) => ReplaceBody(new MemoryStream(body.ToArray(), writable: false), body.Length);

    public void ReplaceBody(Stream body) => ReplaceBody(body, null);

    void ReplaceBody(Stream body, long? length)
    {
        exchange.BodyChanged();
        exchange.Http.Features.Set<IHttpRequestBodyDetectionFeature>(new Detection(length != 0));
        exchange.Http.Features.Set<IRequestBodyPipeFeature>(new BodyPipe(PipeReader.Create(body)));
        exchange.Request.Headers.TransferEncoding = default;
        exchange.Request.ContentLength = length;
    }

    sealed record Detection(bool CanHaveBody) : IHttpRequestBodyDetectionFeature;

    sealed record BodyPipe(PipeReader Reader) : IRequestBodyPipeFeature;

    // -- The answer

    public bool Answered { get; private set; }

    public bool Finished { get; private set; }

    OpenResponse Begin()
    {
        if (_response is not null)
        {
            return _response;
        }
        Answered = true;
        if (exchange.Response.StatusCode == StatusCodes.Status101SwitchingProtocols)
        {
            exchange.Response.Headers.Connection = "upgrade";
        }
        else
        {
            exchange.Response.ContentType ??= Answer.PlainText;
        }
        return _response = ResponseSender.Open(exchange);
    }

    public ValueTask SendAsync(ReadOnlyMemory<byte> piece) => Begin().WriteAsync(piece);

    public async ValueTask FinishAsync(ReadOnlyMemory<byte> piece)
    {
        var whole = !Answered;
        await Begin().FinishAsync(piece, whole);
        Finished = true;
    }

    public bool MayCapture => InnerRequest.MayMake(exchange);

    public async Task<(int Status, IHeaderDictionary Headers, ReadOnlyMemory<byte> Body)?> CaptureAsync(
        string method, string target, IHeaderDictionary headers, ReadOnlyMemory<byte> body, SubrequestOptions options) =>
        await new InnerRequest(method, target, headers, body) { Options = options }.RunAsync(exchange, Timeout.InfiniteTimeSpan)
            is { } answer
            ? (answer.Status, answer.Headers, answer.Body)
            : null;
}

/// <summary>A script's part in the phases of an exchange: what plugins with Lua in them share.</summary>
internal static class ScriptPhases
{
    /// <summary>Runs a phase that may answer.</summary>
    public static ValueTask<Answer?> RunAsync(Exchange exchange, LuaUnit unit, Phase phase)
    {
        var running = exchange.OpenScript().RunAsync(unit, phase.Lua!.Value, phase.Name);
        return running.IsCompletedSuccessfully ? new(AnswerOf(exchange, running.Result, unit)) : AwaitAsync(exchange, running, unit);
    }

    /// <summary>Runs <c>_meta.pre_function</c> before a phase that may answer: its error stands in the log and is nothing more.</summary>
    public static async ValueTask<Answer?> RunBeforeAsync(Exchange exchange, LuaUnit unit, LuaPhase phase, string name)
    {
        var outcome = await exchange.OpenScript().RunAsync(unit, phase, name);
        return outcome.End == LuaEnd.Failed && !exchange.Script!.Exchange!.Answered ? null : AnswerOf(exchange, outcome, unit);
    }

    /// <summary>
    /// Ends what scripts have printed. As with nginx, a plugin's answer after it adds its body and cannot change the head.
    /// </summary>
    public static async ValueTask<Answer> EndPrintedAsync(Exchange exchange, Answer answer)
    {
        if (exchange.Script is { HasPrinted: true, Exchange.Finished: false } script)
        {
            await script.EndPrintedAsync(answer.Body);
            return Answer.Sent;
        }
        return answer;
    }

    static async ValueTask<Answer?> AwaitAsync(Exchange exchange, ValueTask<LuaOutcome> running, LuaUnit unit) =>
        AnswerOf(exchange, await running, unit);

    static Answer? AnswerOf(Exchange exchange, LuaOutcome outcome, LuaUnit unit)
    {
        switch (outcome)
        {
            case { End: LuaEnd.Continue }:
                return null;
            case { End: LuaEnd.Again }:
                return Answer.Again;
            case { End: LuaEnd.Answered, Status: 0 }:
                return Answer.Sent;
            case { End: LuaEnd.Answered, Status: 444 }:
                exchange.Script!.DiscardPrinted();
                exchange.Http.Abort();
                return Answer.Sent;
            case { End: LuaEnd.Answered }:
                return Answer.Bare(outcome.Status);
            case { End: LuaEnd.Failed } when exchange.Script!.Exchange!.Finished:
                // the client has the whole answer
                return Answer.Sent;
            default:
                exchange.Failure = new(FailureSource.Gateway, "script_failed", $"Lua failed in {unit.Where}, see the error log", 500);
                exchange.Script!.DiscardPrinted();
                if (exchange.Script.Exchange!.Answered)
                {
                    exchange.Http.Abort();
                    return Answer.Sent;
                }
                exchange.StartAnswerAgain();
                return Answer.Bare(500);
        }
    }

    /// <summary>The header_filter phase.</summary>
    public static void FilterHeaders(Exchange exchange, LuaUnit unit) =>
        exchange.OpenScript().Run(unit, LuaPhase.HeaderFilter, "header_filter");

    public static void Log(Exchange exchange, LuaUnit unit) => exchange.OpenScript().Run(unit, LuaPhase.Log, "log");

    public static IPieceFilter OpenBody(Exchange exchange, LuaUnit unit) => new Pieces(exchange.OpenScript(), unit);

    public static IEventStep? OpenEvents(Exchange exchange, LuaUnit unit) =>
        UnitFramings.Of(exchange) is { } framing ? new Units(exchange, unit, framing) : null;

    sealed class Units(Exchange exchange, LuaUnit unit, UnitFraming framing) : IEventStep
    {
        readonly LuaContext _context = exchange.OpenScript();
        long _number;

        public bool Ended { get; private set; }

        public IEventFramer CreateFramer() => UnitFramings.Open(framing);

        public void Filter(in Frame frame, IBufferWriter<byte> output)
        {
            if (frame.Kind != FrameKind.Event)
            {
                // what is cut may be the beginning of a unit that must not pass
                output.Write(frame.Kind == FrameKind.Incomplete ? default : frame.Raw.Span);
                return;
            }
            if (!_context.FilterEvent(unit, framing, frame.Raw.Span, ++_number, output, out var finished))
            {
                throw new BodyFilterException($"Lua failed in {unit.Where}, see the error log");
            }
            if (finished is not null)
            {
                // the reasons that metrics know are a closed set
                exchange.StreamEndReason = StreamReason.Names.Contains(finished) ? finished : "complete";
                Ended = true;
            }
        }
    }

    sealed class Pieces(LuaContext context, LuaUnit unit) : IPieceFilter
    {
        bool _ended;
        bool _last;

        public bool Ended => _ended;

        public void Filter(ReadOnlyMemory<byte> piece, bool last, IBufferWriter<byte> output)
        {
            if (_last)
            {
                return;
            }
            // a script that sets ngx.arg[2] has had its last piece
            _last = last;
            var ended = last;
            if (!context.Filter(unit, piece.Span, ref ended, output))
            {
                throw new BodyFilterException($"Lua failed in {unit.Where}, see the error log");
            }
            _ended = ended && !last;
            _last |= _ended;
        }
    }
}
