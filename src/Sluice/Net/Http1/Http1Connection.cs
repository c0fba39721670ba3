using System.Buffers;
using System.IO.Pipelines;
using System.Net;
using System.Net.Sockets;
using System.Runtime.CompilerServices;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Primitives;
using Sluice.Net.Epoll;
using Sluice.Net.Http;
using Sluice.Observability;
using KestrelServerLimits = Microsoft.AspNetCore.Server.Kestrel.Core.KestrelServerLimits;

namespace Sluice.Net.Http1;

/// <summary>What the connections of an address have in common.</summary>
internal sealed class Http1Settings : IDisposable
{
    readonly CancellationTokenSource _stopping = new();

    public Http1Settings(TimeProvider time)
    {
        Time = time;
        Date = new(time);
        Stopping = _stopping.Token;
    }

    /// <summary>Sizes of heads, <c>keepalive_timeout</c>, <c>client_header_timeout</c>; they may change while connections live.</summary>
    public KestrelServerLimits Limits { get; set; } = new();

    internal TimeProvider Time { get; }

    internal DateHeader Date { get; }

    /// <summary>The address is closed: connections end after the request that they are at.</summary>
    internal CancellationToken Stopping { get; }

    public void Stop() => _stopping.Cancel();

    public void Dispose() => _stopping.Dispose();
}

/// <summary>An application that wants to know of what was refused before it was a request (400, 408, 414, 431, 505).</summary>
internal interface IRefusedRequests
{
    /// <summary>As much of the request as was understood, and the status that it was answered with.</summary>
    void Refused(IFeatureCollection features);
}

/// <summary>A request whose client understands interim answers (RFC 9110, section 15.2).</summary>
internal interface IInterimAnswers
{
    /// <summary>Sends a head of status 1xx before the answer; nothing when the answer has begun.</summary>
    ValueTask SendAsync(int status, HeaderList headers);
}

/// <summary>An answer of which nothing has been sent can be made anew.</summary>
internal interface IDiscardableAnswer
{
    /// <summary>Forgets what was written and not flushed yet.</summary>
    void Discard();
}

/// <summary>A feature of requests over HTTP/1: the connection can be had as it is.</summary>
internal interface IRawConnection
{
    /// <summary>What comes behind the request's head, or behind its body if that was read, and whatever the client is to get; the
    /// connection ends with the request.</summary>
    /// <param name="bodyBegun">Somebody reads the body, or has read it.</param>
    /// <returns>Null: it is being read.</returns>
    Stream? TakeOver(bool bodyBegun);
}

/// <summary>
/// HTTP/1.1 and 1.0 on one connection, request after request (RFC 9112). It is its own collection of features and used again for each of
/// them, so that an idle stream costs little memory and a small request little garbage; whatever carries bytes both ways can be below (an
/// event loop, sockets, TLS).
/// </summary>
internal sealed class Http1Connection :
    IFeatureCollection, IHttpRequestFeature, IHttpRequestBodyDetectionFeature, IRequestBodyPipeFeature, IHttpMaxRequestBodySizeFeature,
    IHttpRequestTrailersFeature, IHttpResponseFeature, IHttpResponseBodyFeature, IHttpResponseTrailersFeature, IHttpConnectionFeature,
    IHttpRequestLifetimeFeature, IHttpUpgradeFeature, IInterimAnswers, IDiscardableAnswer, IConnectionCounts, IRawConnection
{
    /// <summary>How long a client may go on sending what nobody reads, and how long it may be silent meanwhile (nginx's lingering_time and
    /// _timeout).</summary>
    static readonly TimeSpan s_lingeringTime = TimeSpan.FromSeconds(30), s_lingeringTimeout = TimeSpan.FromSeconds(5);

    readonly ConnectionContext _connection;
    readonly Http1Settings _settings;
    readonly PipeReader _input;
    readonly PipeWriter _output;
    readonly ResponseWriter _writer;
    EventLoop? _ownLoop;
    Http1Context? _context;
    RequestBodyReader? _body;
    IdleDeadline? _silence;
    List<KeyValuePair<Type, object>>? _features;
    HeaderList? _trailers, _answerTrailers;
    string? _path;
    int _revision;
    bool _first = true;
    bool _continueAwaited, _endAfterAnswer, _goesOn, _aborted, _upgraded;

    public Http1Connection(ConnectionContext connection, Http1Settings settings)
    {
        _connection = connection;
        _settings = settings;
        _input = connection.Transport.Input;
        _output = connection.Transport.Output;
        _writer = new(_output, this);
    }

    internal ConnectionContext Connection => _connection;

    internal RequestHead Head { get; } = new();

    public long Serial { get; } = ConnectionCounts.NextSerial();

    public long Requests { get; private set; }

    /// <summary>Of the present request, head and body as they came over the connection.</summary>
    internal long ReceivedBytes => Head.Size + (_body?.RawBytes ?? 0);

    /// <summary>The answer's headers.</summary>
    internal HeaderList Answer { get; } = new(checks: true);

    internal KestrelServerLimits Limits => _settings.Limits;

    internal DateHeader Date => _settings.Date;

    /// <summary>One context for all requests of the connection.</summary>
    public HttpContext Context => _context ??= new(this);

    // -- Request after request

    /// <summary>Serves the connection until it ends. One frame from the first request to the last: a stream may stay in it for
    /// hours.</summary>
    /// <param name="http2">Who goes on with a connection that begins with HTTP/2's preface, nothing of which was taken; null: nobody looks
    /// for it.</param>
    /// <param name="ended">
    /// For a connection straight from its loop: told when it has been disposed, here; <see cref="Stop"/> can be called until then. Null:
    /// disposing the connection is the caller's.
    /// </param>
    internal async Task RunAsync<TContext>(IHttpApplication<TContext> application, Func<ConnectionContext, Task>? http2,
        Action<Http1Connection>? ended)
        where TContext : notnull
    {
        _ownLoop = ended is null ? null : ((EpollConnection)_connection).Loop;
        try
        {
            while (true)
            {
                Received received;
                do
                {
                    received = Receive(_input.TryRead(out var read) ? read : await WaitAsync(), http2 is not null);
                }
                while (received == Received.Part);
                if (received == Received.Http2)
                {
                    await http2!(_connection);
                }
                else if (received == Received.Refused)
                {
                    EndAnswer(await _writer.EndAsync(null));
                    (application as IRefusedRequests)?.Refused(this);
                    await LingerAsync();
                }
                if (received != Received.Request)
                {
                    break;
                }
                var context = application.CreateContext(this);
                Exception? failure = null;
                try
                {
                    await application.ProcessRequestAsync(context);
                    if (!_aborted && !_upgraded)
                    {
                        EndAnswer(await _writer.EndAsync(_answerTrailers));
                    }
                }
                catch (Exception e)
                {
                    failure = e;
                    Abort();
                }
                application.DisposeContext(context, failure);
                if (!await MayGoOnAsync())
                {
                    break;
                }
                Next();
            }
        }
        catch (Exception e) when (e is IOException or OperationCanceledException or ObjectDisposedException or BadHttpRequestException)
        {
            // the client is gone
        }
        finally
        {
            _silence?.Dispose();
            _body?.Release();
            _writer.Discard();
            await _input.CompleteAsync();
            await _output.CompleteAsync();
            if (ended is not null)
            {
                await _connection.DisposeAsync();
                ended(this);
            }
        }
    }

    void EndAnswer(FlushResult ended)
    {
        if (!_writer.IsComplete && Head.Method != "HEAD")
        {
            // fewer bytes than announced: never a clean end
            Abort();
        }
        _goesOn &= !ended.IsCompleted;
    }

    void Next()
    {
        Head.Next();
        Answer.Next();
        _writer.Next();
        _trailers = _answerTrailers = null;
        _path = null;
        _continueAwaited = _endAfterAnswer = false;
        StatusCode = StatusCodes.Status200OK;
        ReasonPhrase = null;
        RequestAborted = default;
        if (_features is { Count: > 0 })
        {
            _features.Clear();
            _revision++;
        }
    }

    // -- The head

    enum Received
    {
        Request,

        /// <summary>More has to come.</summary>
        Part,

        /// <summary>The connection ended between two requests, or is wanted no longer.</summary>
        End,
        Refused,
        Http2,
    }

    enum Wait
    {
        ForNothing,
        ForNext,
        ForHead,
    }

    Wait _wait;

    static ReadOnlySpan<byte> Http2Line => "PRI * HTTP/2.0\r\n"u8;

    Received Receive(in ReadResult read, bool http2)
    {
        try
        {
            if (http2 && _first && !Head.Begun && SpeaksHttp2(read.Buffer) is not false and var decided)
            {
                _input.AdvanceTo(read.Buffer.Start, decided is null && !read.IsCompleted ? read.Buffer.End : read.Buffer.Start);
                return decided is true ? Received.Http2
                    : read.IsCompleted || (read.IsCanceled && IsOver()) ? Received.End
                    : Received.Part;
            }
            return Take(read);
        }
        catch (BadHttpRequestException e)
        {
            // thrown before anything was taken
            _input.AdvanceTo(read.Buffer.End);
            Refuse(e);
            return Received.Refused;
        }
    }

    /// <summary>True: it is HTTP/2's preface; null: it may become that.</summary>
    static bool? SpeaksHttp2(in ReadOnlySequence<byte> buffer)
    {
        Span<byte> start = stackalloc byte[Http2Line.Length];
        var length = (int)Math.Min(buffer.Length, start.Length);
        buffer.Slice(0, length).CopyTo(start);
        return !start[..length].SequenceEqual(Http2Line[..length]) ? false : length == start.Length ? true : null;
    }

    Received Take(in ReadResult read)
    {
        if (read.IsCanceled && IsOver())
        {
            _input.AdvanceTo(read.Buffer.Start);
            return Received.End;
        }
        var rest = read.Buffer;
        var complete = Head.Advance(ref rest, Limits);
        if (complete)
        {
            BeginRequest();
            _input.AdvanceTo(rest.Start);
            return Received.Request;
        }
        var ended = read.IsCompleted;
        _input.AdvanceTo(rest.Start, rest.End);
        return ended ? Received.End : Received.Part;
    }

    /// <summary>Asked after a canceled read: too long without a request, or the gateway wants no more of them.</summary>
    bool IsOver()
    {
        if (_silence?.Expired == true)
        {
            return !Head.Begun ? true
                : throw new BadHttpRequestException("the head took longer than client_header_timeout", StatusCodes.Status408RequestTimeout);
        }
        return _settings.Stopping.IsCancellationRequested && !Head.Begun;
    }

    ValueTask<ReadResult> WaitAsync()
    {
        _silence ??= new(_settings.Time, static connection => ((Http1Connection)connection!)._input.CancelPendingRead(), this,
            (_connection as EpollConnection)?.Loop);
        var wanted = _first || Head.Begun ? Wait.ForHead : Wait.ForNext;
        if (_wait != wanted)
        {
            // the whole head has to come in its time, not each piece of it
            _wait = wanted;
            _silence.Start(wanted == Wait.ForHead ? Limits.RequestHeadersTimeout : Limits.KeepAliveTimeout);
        }
        if (_ownLoop is null && !Head.Begun)
        {
            return StoppableAsync();
        }
        if (!Head.Begun && _settings.Stopping.IsCancellationRequested)
        {
            _input.CancelPendingRead();
        }
        return _input.ReadAsync();
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    async ValueTask<ReadResult> StoppableAsync()
    {
        using var registration = _settings.Stopping.UnsafeRegister(
            static connection => ((Http1Connection)connection!)._input.CancelPendingRead(), this);
        return await _input.ReadAsync();
    }

    /// <summary>Of a connection straight from a loop: no more requests are wanted, as <see cref="Http1Settings.Stopping"/> says. If it
    /// waits for one, it ends.</summary>
    internal void Stop() => _ownLoop!.Post(
        static connection =>
        {
            if (connection is Http1Connection { _wait: Wait.ForNext or Wait.ForHead } waiting && !waiting.Head.Begun)
            {
                waiting._input.CancelPendingRead();
            }
        },
        this);

    void BeginRequest()
    {
        if (_first)
        {
            // a stream is often all that a connection carries: it keeps no deadline for requests that never come
            _first = false;
            _silence?.Dispose();
            _silence = null;
        }
        _silence?.Stop();
        _wait = Wait.ForNothing;
        Requests++;
        _continueAwaited = Head.ExpectsContinue;
        if (CanHaveBody || _body is not null)
        {
            Body.Begin(Head.Headers.ContentLength, Head.IsChunked);
        }
        DecideWhetherToGoOn();
    }

    RequestBodyReader Body => _body ??= new(_input, this);

    void Refuse(BadHttpRequestException reason)
    {
        StatusCode = reason.StatusCode;
        Answer.Clear();
        Answer["Server"] = "Sluice";
        Answer["Content-Type"] = "application/json";
        _endAfterAnswer = true;
        var body = System.Text.Encoding.UTF8.GetBytes(
            $$"""{"error_msg":"{{StatusText.WithCode(reason.StatusCode)}}: {{reason.Message.Replace("\"", "'", StringComparison.Ordinal)}}"}""" + "\n");
        if (Head.Method != "HEAD")
        {
            _writer.Write(body);
        }
    }

    // -- Between two requests

    void DecideWhetherToGoOn() =>
        _goesOn = Head.KeepAlive && !_endAfterAnswer && Limits.KeepAliveTimeout.Ticks > 1 && !_settings.Stopping.IsCancellationRequested;

    /// <summary>Asked when the answer's head is written: what it says must stay true.</summary>
    internal bool KeepsAlive
    {
        get
        {
            DecideWhetherToGoOn();
            // a client that waits for 100 (Continue) and gets this answer may send the body or not
            _goesOn &= !_continueAwaited && !SaysClose(Answer["Connection"]);
            return _goesOn;
        }
    }

    static bool SaysClose(StringValues connection)
    {
        foreach (var value in connection)
        {
            if (value is not null && value.Contains("close", StringComparison.OrdinalIgnoreCase))
            {
                return true;
            }
        }
        return false;
    }

    /// <summary>The answer ends with the connection.</summary>
    internal void EndAfterAnswer()
    {
        _endAfterAnswer = true;
        _goesOn = false;
    }

    bool GoesOn => _goesOn && !_settings.Stopping.IsCancellationRequested;

    ValueTask<bool> MayGoOnAsync() =>
        _aborted || _upgraded ? new(false)
        : _body is null || _body.IsDone ? new(GoesOn)
        : EndBodyAsync(_body);

    /// <summary>Nobody read all of the request's body: the next request begins behind it.</summary>
    async ValueTask<bool> EndBodyAsync(RequestBodyReader body)
    {
        if (GoesOn && !body.HasFailed)
        {
            body.MaxBytes = null;
            return await DiscardAsync(body);
        }
        await LingerAsync();
        return false;
    }

    /// <summary>The connection ends, but the client may still be sending: an RST for what nobody reads would take the answer from
    /// it.</summary>
    async ValueTask LingerAsync()
    {
        if (_connection is EpollConnection connection)
        {
            connection.IsStillSending = true;
            return;
        }
        if (_connection.Features.Get<ITlsConnectionFeature>() is null && _connection.Features.Get<IConnectionSocketFeature>() is { } plain)
        {
            plain.Socket.Shutdown(SocketShutdown.Send);
        }
        using var stop = _settings.Stopping.UnsafeRegister(static input => ((PipeReader)input!).CancelPendingRead(), _input);
        await DiscardAsync(_input);
    }

    /// <summary>Receives and throws away; false: it did not end in time.</summary>
    async ValueTask<bool> DiscardAsync(PipeReader unread)
    {
        using var silence = new IdleDeadline(_settings.Time, static input => ((PipeReader)input!).CancelPendingRead(), _input,
            (_connection as EpollConnection)?.Loop);
        var began = _settings.Time.GetTimestamp();
        while (_settings.Time.GetElapsedTime(began) < s_lingeringTime)
        {
            silence.Start(s_lingeringTimeout);
            var read = await unread.ReadAsync();
            unread.AdvanceTo(read.Buffer.End);
            if (read.IsCompleted || read.IsCanceled)
            {
                return read.IsCompleted;
            }
        }
        return false;
    }

    /// <summary>Somebody wants the body: a client that waits to be asked for it is.</summary>
    internal ValueTask ContinueAsync()
    {
        if (!_continueAwaited || _writer.HasStarted)
        {
            return default;
        }
        _continueAwaited = false;
        return SendInterimAsync(StatusCodes.Status100Continue, s_none);
    }

    static readonly HeaderList s_none = new();

    /// <summary>On a loop nobody waits until the client has it: what it does not take now goes with the next flush.</summary>
    ValueTask SendInterimAsync(int status, HeaderList headers)
    {
        var flush = _writer.SendInterimAsync(status, headers);
        return flush.IsCompleted || _output is EpollOutput ? default : new(flush.AsTask());
    }

    ValueTask IInterimAnswers.SendAsync(int status, HeaderList headers) =>
        _writer.HasStarted || !Head.IsHttp11 ? default : SendInterimAsync(status, headers);

    void IDiscardableAnswer.Discard() => _writer.Discard();

    /// <summary>Ends the connection at once, so that nobody takes an answer for complete.</summary>
    public void Abort()
    {
        if (!_aborted)
        {
            _aborted = true;
            _connection.Abort(new ConnectionAbortedException("the answer broke off"));
        }
    }

    // -- The request

    string IHttpRequestFeature.Protocol { get => Head.Protocol; set => throw Fixed(); }

    string IHttpRequestFeature.Scheme { get => field ??= _connection.Features.Get<ITlsHandshakeFeature>() is null ? "http" : "https"; set; }

    string IHttpRequestFeature.Method { get => Head.Method; set => throw Fixed(); }

    string IHttpRequestFeature.PathBase { get; set; } = "";

    string IHttpRequestFeature.Path { get => _path ??= PathOf(Head.Target); set => _path = value; }

    string IHttpRequestFeature.QueryString
    {
        get => Head.Target.IndexOf('?', StringComparison.Ordinal) is >= 0 and var question ? Head.Target[question..] : "";
        set => throw Fixed();
    }

    string IHttpRequestFeature.RawTarget { get => Head.Target; set => throw Fixed(); }

    IHeaderDictionary IHttpRequestFeature.Headers { get => Head.Headers; set => throw Fixed(); }

    Stream IHttpRequestFeature.Body { get => Body.AsStream(leaveOpen: true); set => throw Fixed(); }

    static string PathOf(string target)
    {
        var question = target.IndexOf('?', StringComparison.Ordinal);
        var path = question < 0 ? target : target[..question];
        return path is ['/', ..] ? Uri.UnescapeDataString(path) : "/";
    }

    public bool CanHaveBody => Head.IsChunked || Head.Headers.ContentLength > 0;

    PipeReader IRequestBodyPipeFeature.Reader => Body;

    bool IHttpMaxRequestBodySizeFeature.IsReadOnly => false;

    long? IHttpMaxRequestBodySizeFeature.MaxRequestBodySize { get => _body?.MaxBytes; set => _body?.MaxBytes = value; }

    bool IHttpRequestTrailersFeature.Available => _body is null || _body.IsDone;

    IHeaderDictionary IHttpRequestTrailersFeature.Trailers => _trailers ??= TrailersOf(_body?.Trailers ?? HeaderFields.Empty);

    static HeaderList TrailersOf(HeaderFields fields)
    {
        var list = new HeaderList();
        for (var i = 0; i < fields.Count; i++)
        {
            list.Receive(fields.NameBytes(i), fields.ValueBytes(i));
        }
        return list;
    }

    // -- The answer

    public int StatusCode
    {
        get;
        set => field = !_writer.HasStarted ? value : throw new InvalidOperationException("the answer has begun");
    } = StatusCodes.Status200OK;

    public string? ReasonPhrase { get; set; }

    IHeaderDictionary IHttpResponseFeature.Headers { get => Answer; set => throw Fixed(); }

    Stream IHttpResponseFeature.Body { get => ((IHttpResponseBodyFeature)this).Stream; set => throw Fixed(); }

    bool IHttpResponseFeature.HasStarted => _writer.HasStarted;

    void IHttpResponseFeature.OnStarting(Func<object, Task> callback, object state) =>
        throw new NotSupportedException("header filters run before the head is sent");

    void IHttpResponseFeature.OnCompleted(Func<object, Task> callback, object state) =>
        throw new NotSupportedException("log phases run when an answer is complete");

    PipeWriter IHttpResponseBodyFeature.Writer => _writer;

    Stream IHttpResponseBodyFeature.Stream => _writer.AsStream(leaveOpen: true);

    void IHttpResponseBodyFeature.DisableBuffering()
    {
    }

    async Task IHttpResponseBodyFeature.StartAsync(CancellationToken cancellationToken) => await _writer.FlushAsync(cancellationToken);

    Task IHttpResponseBodyFeature.SendFileAsync(string path, long offset, long? count, CancellationToken cancellationToken) =>
        SendFileFallback.SendFileAsync(((IHttpResponseBodyFeature)this).Stream, path, offset, count, cancellationToken);

    async Task IHttpResponseBodyFeature.CompleteAsync() => EndAnswer(await _writer.EndAsync(_answerTrailers));

    IHeaderDictionary IHttpResponseTrailersFeature.Trailers { get => _answerTrailers ??= new(checks: true); set => throw Fixed(); }

    // -- Upgrade

    bool IHttpUpgradeFeature.IsUpgradableRequest => Head.AsksUpgrade;

    async Task<Stream> IHttpUpgradeFeature.UpgradeAsync()
    {
        StatusCode = StatusCodes.Status101SwitchingProtocols;
        Answer["Connection"] = "upgrade";
        await _writer.FlushAsync();
        return GiveAway();
    }

    Stream? IRawConnection.TakeOver(bool bodyBegun)
    {
        if (bodyBegun && _body is { IsDone: false })
        {
            return null;
        }
        return GiveAway();
    }

    /// <summary>From here on it is no HTTP any more.</summary>
    UpgradedStream GiveAway()
    {
        _upgraded = true;
        return new(_input, _output);
    }

    // -- The connection

    public CancellationToken RequestAborted { get => field.CanBeCanceled ? field : field = _connection.ConnectionClosed; set; }

    string IHttpConnectionFeature.ConnectionId { get => _connection.ConnectionId; set => throw Fixed(); }

    IPAddress? IHttpConnectionFeature.RemoteIpAddress { get => (_connection.RemoteEndPoint as IPEndPoint)?.Address; set => throw Fixed(); }

    IPAddress? IHttpConnectionFeature.LocalIpAddress { get => (_connection.LocalEndPoint as IPEndPoint)?.Address; set => throw Fixed(); }

    int IHttpConnectionFeature.RemotePort { get => (_connection.RemoteEndPoint as IPEndPoint)?.Port ?? 0; set => throw Fixed(); }

    int IHttpConnectionFeature.LocalPort { get => (_connection.LocalEndPoint as IPEndPoint)?.Port ?? 0; set => throw Fixed(); }

    static NotSupportedException Fixed() => new("it is what the client sent");

    /// <summary>Something was put in the place of the connection's own features for this request.</summary>
    internal bool HasFeatures => _features is { Count: > 0 };

    // -- IFeatureCollection: what was set for this request, this connection itself, what is below it

    bool IFeatureCollection.IsReadOnly => false;

    int IFeatureCollection.Revision => _revision;

    object? IFeatureCollection.this[Type key]
    {
        get
        {
            if (_features is not null)
            {
                foreach (var (type, feature) in _features)
                {
                    if (type == key)
                    {
                        return feature;
                    }
                }
            }
            return key.IsInstanceOfType(this) ? this : _connection.Features[key];
        }
        set
        {
            _features ??= [];
            _features.RemoveAll(feature => feature.Key == key);
            if (value is not null)
            {
                _features.Add(new(key, value));
            }
            _revision++;
        }
    }

    TFeature? IFeatureCollection.Get<TFeature>()
        where TFeature : default =>
        _features is not { Count: > 0 } && this is TFeature feature ? feature
        : _connection is TFeature below ? below
        : _features is not { Count: > 0 } && _connection is EpollConnection { HasFeatures: false } ? default
        : (TFeature?)((IFeatureCollection)this)[typeof(TFeature)];

    void IFeatureCollection.Set<TFeature>(TFeature? instance)
        where TFeature : default => ((IFeatureCollection)this)[typeof(TFeature)] = instance;

    IEnumerator<KeyValuePair<Type, object>> IEnumerable<KeyValuePair<Type, object>>.GetEnumerator() => (_features ?? []).GetEnumerator();

    System.Collections.IEnumerator System.Collections.IEnumerable.GetEnumerator() => (_features ?? []).GetEnumerator();
}
