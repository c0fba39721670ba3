using System.Buffers;
using System.IO.Pipelines;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Sluice.Net.Http1;
using Sluice.Relay;
using Sluice.Scripting;

namespace Sluice.Pipeline;

/// <summary>An exchange as scripts see it.</summary>
sealed class ScriptExchange(Exchange exchange) : IScriptExchange
{
    ArrayBufferWriter<byte>? _filtered;
    BodyFilters? _filters;
    FileStream? _file;

    public HttpContext Http => exchange.Http;

    public IScriptConsumers Consumers => field ??= new ScriptConsumers(exchange);

    public string? Get(string name) => exchange.Get(name);

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

    public bool IsSubrequest => InnerRequest.Is(exchange);

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
        var body = new ArrayBufferWriter<byte>();
        while (true)
        {
            var read = await exchange.Request.BodyReader.ReadAsync(exchange.Http.RequestAborted);
            foreach (var piece in read.Buffer)
            {
                await KeepAsync(body, piece);
            }
            exchange.BodyBytesRead += read.Buffer.Length;
            exchange.Request.BodyReader.AdvanceTo(read.Buffer.End);
            if (read.IsCompleted)
            {
                break;
            }
        }
        if (_file is null)
        {
            ReplaceBody(body.WrittenMemory);
            return new(body.WrittenMemory);
        }
        await _file.FlushAsync(exchange.Http.RequestAborted);
        _file.Position = 0;
        ReplaceBody(_file, _file.Length);
        return new(default, _file.Name);
    }

    /// <summary>In memory as long as the body is no larger than <c>client_body_buffer_size</c>, then all of it in a file.</summary>
    async ValueTask KeepAsync(ArrayBufferWriter<byte> body, ReadOnlyMemory<byte> piece)
    {
        if (_file is null && body.WrittenCount + piece.Length <= exchange.Scope.ClientBodyBufferSize)
        {
            body.Write(piece.Span);
            return;
        }
        if (_file is null)
        {
            _file = CreateFile(exchange.Services.TemporaryDirectory);
            await _file.WriteAsync(body.WrittenMemory, exchange.Http.RequestAborted);
            body.Clear();
        }
        await _file.WriteAsync(piece, exchange.Http.RequestAborted);
    }

    /// <summary>Others may read it by its name; closing it deletes it.</summary>
    static FileStream CreateFile(string directory)
    {
        var options = new FileStreamOptions
        {
            Mode = FileMode.CreateNew,
            Access = FileAccess.ReadWrite,
            Share = FileShare.ReadWrite | FileShare.Delete,
            Options = FileOptions.Asynchronous | FileOptions.DeleteOnClose,
        };
        if (!OperatingSystem.IsWindows())
        {
            options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        }
        return new(Path.Combine(directory, Guid.NewGuid().ToString("N")), options);
    }

    public void Dispose() => _file?.Dispose();

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

    void Begin()
    {
        if (Answered)
        {
            return;
        }
        Answered = true;
        exchange.AnsweredByGateway = true;
        if (exchange.Response.StatusCode == StatusCodes.Status101SwitchingProtocols)
        {
            exchange.Response.Headers.Connection = "upgrade";
        }
        else
        {
            exchange.Response.ContentType ??= Answer.PlainText;
        }
        HeaderPhase.Run(exchange);
        _filters = BodyFilters.Open(exchange);
        if (_filters is not null)
        {
            exchange.Response.ContentLength = null;
        }
    }

    bool HasBody => HeaderPhase.MayHaveBody(exchange.Response.StatusCode) && !HttpMethods.IsHead(exchange.Request.Method);

    public async ValueTask SendAsync(ReadOnlyMemory<byte> piece)
    {
        Begin();
        await WriteAsync(Filter(piece, last: false));
    }

    public async ValueTask FinishAsync(ReadOnlyMemory<byte> piece)
    {
        var whole = !Answered;
        Begin();
        piece = Filter(piece, last: true);
        if (whole && !exchange.Response.HasStarted && HeaderPhase.MayHaveBody(exchange.Response.StatusCode))
        {
            exchange.Response.ContentLength = piece.Length;
        }
        await WriteAsync(piece);
        await exchange.Response.CompleteAsync();
        Finished = true;
    }

    ReadOnlyMemory<byte> Filter(ReadOnlyMemory<byte> piece, bool last)
    {
        if (_filters is null)
        {
            return piece;
        }
        _filtered ??= new();
        _filtered.ResetWrittenCount();
        _filters.Filter(piece, last, _filtered);
        return _filtered.WrittenMemory;
    }

    async ValueTask WriteAsync(ReadOnlyMemory<byte> piece)
    {
        var client = exchange.Http.RequestAborted;
        if (!piece.IsEmpty && HasBody)
        {
            exchange.FirstByteTimestamp = exchange.FirstByteTimestamp == 0 ? exchange.Services.Time.GetTimestamp() : exchange.FirstByteTimestamp;
            if ((await exchange.Response.BodyWriter.WriteAsync(piece, client)).IsCompleted)
            {
                throw new ConnectionAbortedException("the client closed the connection");
            }
            exchange.BodyBytesSent += piece.Length;
        }
        else if (!exchange.Response.HasStarted)
        {
            await exchange.Response.StartAsync(client);
        }
        client.ThrowIfCancellationRequested();
    }

    public bool MayCapture => InnerRequest.MayMake(exchange);

    public async Task<(int Status, IHeaderDictionary Headers, ReadOnlyMemory<byte> Body)?> CaptureAsync(
        string method, string target, IHeaderDictionary headers, ReadOnlyMemory<byte> body, SubrequestOptions options) =>
        await new InnerRequest(method, target, headers, body) { Options = options }.RunAsync(exchange, Timeout.InfiniteTimeSpan) is { } answer
            ? (answer.Status, answer.Headers, answer.Body)
            : null;
}

/// <summary>A script's part in the phases of an exchange: what plugins with Lua in them share.</summary>
public static class ScriptPhases
{
    /// <summary>What APISIX calls a phase.</summary>
    public static string NameOf<TPhase>() => typeof(TPhase).Name switch
    {
        nameof(IRewrite) => "rewrite",
        nameof(IAccess) => "access",
        nameof(IBeforeProxy) => "before_proxy",
        nameof(IHeaderFilter) => "header_filter",
        nameof(IBodyFilter) => "body_filter",
        nameof(ILog) => "log",
        var other => other,
    };

    /// <summary>Runs a phase that may answer.</summary>
    public static ValueTask<Answer?> RunAsync(Exchange exchange, LuaUnit unit, LuaPhase phase, string name)
    {
        var running = exchange.OpenScript().RunAsync(unit, phase, name);
        return running.IsCompletedSuccessfully ? new(AnswerOf(exchange, running.Result, unit)) : AwaitAsync(exchange, running, unit);
    }

    /// <summary>Runs <c>_meta.pre_function</c> before a phase that may answer: its error stands in the log and is nothing more.</summary>
    public static async ValueTask<Answer?> RunBeforeAsync(Exchange exchange, LuaUnit unit, LuaPhase phase, string name)
    {
        var outcome = await exchange.OpenScript().RunAsync(unit, phase, name);
        return outcome.End == LuaEnd.Failed && !exchange.Script!.Exchange!.Answered ? null : AnswerOf(exchange, outcome, unit);
    }

    static async ValueTask<Answer?> AwaitAsync(Exchange exchange, ValueTask<LuaOutcome> running, LuaUnit unit) => AnswerOf(exchange, await running, unit);

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
                exchange.Http.Abort();
                return Answer.Sent;
            case { End: LuaEnd.Answered }:
                return Answer.Bare(outcome.Status);
            case { End: LuaEnd.Failed } when exchange.Script!.Exchange!.Finished:
                // the client has the whole answer
                return Answer.Sent;
            default:
                exchange.Failure = new(FailureSource.Gateway, "script_failed", $"Lua failed in {unit.Where}, see the error log", 500);
                if (exchange.Script!.Exchange!.Answered)
                {
                    exchange.Http.Abort();
                    return Answer.Sent;
                }
                exchange.StartAnswerAgain();
                return Answer.Bare(500);
        }
    }

    /// <summary>The header_filter phase.</summary>
    public static void FilterHeaders(Exchange exchange, LuaUnit unit) => exchange.OpenScript().Run(unit, LuaPhase.HeaderFilter, "header_filter");

    public static void Log(Exchange exchange, LuaUnit unit) => exchange.OpenScript().Run(unit, LuaPhase.Log, "log");

    public static IPieceFilter OpenBody(Exchange exchange, LuaUnit unit) => new Pieces(exchange.OpenScript(), unit);

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
