using System.Buffers;
using System.IO.Pipelines;
using System.Net;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Primitives;
using Sluice.Model.Nginx;
using Sluice.Net;
using Sluice.Net.Epoll;
using Sluice.Net.Http1;
using Sluice.Observability;
using Sluice.Relay.Topics;
using Sluice.Scripting;

namespace Sluice.Pipeline;

/// <summary>
/// One request and its answer on their way through the pipeline. Plugins read and change the client's request headers in place
/// (<c>Request.Headers</c>: the upstream gets them as they are when the request is forwarded) and the answer's head in
/// <c>Response</c> during header_filter. Lives until the log phase has run; nobody keeps it longer.
/// </summary>
public sealed partial class Exchange : IVariables
{
    internal Exchange(HttpContext http, Snapshot snapshot, PluginServices services, long startTimestamp)
    {
        (Http, Snapshot, Services, StartTimestamp) = (http, snapshot, services, startTimestamp);
        (Request, Response, UpstreamMethod) = (http.Request, http.Response, http.Request.Method);
        Connection = http is Http1Context own ? own.LoopConnection : http.Features.Get<EpollConnection>();
        (RemoteAddress, RemotePort) = (http.Connection.RemoteIpAddress ?? IPAddress.None, http.Connection.RemotePort);
    }

    public HttpContext Http { get; }

    /// <summary>The event loop of the client's connection; null on the framework's sockets.</summary>
    internal EventLoop? Loop => Connection?.Loop;

    /// <summary>The client's connection when it is one of an event loop.</summary>
    internal EpollConnection? Connection { get; }

    /// <summary>Nothing has been sent: what was meant to be is forgotten, head and body.</summary>
    public void StartAnswerAgain()
    {
        Response.Clear();
        DiscardBody();
    }

    KeyValuePair<string, StringValues>[]? _before;
    bool _responseBegun;

    /// <summary>A response from elsewhere begins: what plugins have put into the head by now belongs to whatever is sent in the
    /// end.</summary>
    internal void BeginResponse()
    {
        _responseBegun = true;
        if (Response.Headers.Count > 0)
        {
            _before = [.. Response.Headers];
        }
    }

    /// <summary>The response that has begun failed before anything of it was sent: the next one starts from what there was before
    /// it.</summary>
    internal void TakeResponseBack()
    {
        if (!_responseBegun)
        {
            return;
        }
        _responseBegun = false;
        DropCopy();
        StartAnswerAgain();
        (ReplacedBody, Buffering) = (null, null);
        (EndReason, Edge) = (null, null);
        foreach (var (name, values) in _before ?? [])
        {
            Response.Headers[name] = values;
        }
        _before = null;
    }

    /// <summary>Forgets what was written of the body, of which nothing has been sent.</summary>
    public void DiscardBody() => Http.Features.Get<IDiscardableAnswer>()?.Discard();

    /// <summary>The client left. With HTTP/1 that is its connection's end, for which no request needs a source of its own.</summary>
    public CancellationToken ClientGone => Http.RequestAborted;

    /// <summary>The head says that a body follows, or a script has given the request one.</summary>
    public bool CanHaveBody => Http is Http1Context own ? own.CanHaveBody
        : ExtendedConnect is null && Http.Features.Get<IHttpRequestBodyDetectionFeature>()?.CanHaveBody == true;

    /// <summary>The client asked for a WebSocket over HTTP/2 (RFC 8441); null otherwise. <see cref="Request"/> is then the GET of
    /// HTTP/1.1's handshake.</summary>
    internal IHttpExtendedConnectFeature? ExtendedConnect
    {
        get => _rare is { } rare ? rare.ExtendedConnect : default;
        set => Rarely(value is not null)?.ExtendedConnect = value;
    }

    /// <summary>This answer is the one that opens a tunnel.</summary>
    internal bool OpensTunnel { get; set; }

    long? _maxBody;

    /// <summary>How large the body may be, in bytes; null: as large as it is. Beyond it reading ends in a 413.</summary>
    public void LimitBody(long? bytes)
    {
        _maxBody = bytes;
        if (Http.Features.Get<IHttpMaxRequestBodySizeFeature>() is { IsReadOnly: false } size)
        {
            size.MaxRequestBodySize = bytes;
        }
    }

    /// <summary>What the client announces is over the limit.</summary>
    internal bool IsBodyTooLarge => Request.ContentLength > _maxBody;

    /// <summary>The request's body, for plugins that need all of it.</summary>
    public WholeRequestBody Body => _body ??= new(this);

    WholeRequestBody? _body;

    /// <summary>Another body stands in its place, which nobody has read.</summary>
    internal void BodyChanged()
    {
        _body?.Forget();
        _bodyCopy?.Clear();
    }

    /// <summary>From now on the request's body is copied as it is read, so many bytes at most; nobody waits for it.</summary>
    public void CopyBody(int limit)
    {
        _bodyCopy ??= new();
        _bodyCopy.Limit = Math.Max(_bodyCopy.Limit, limit);
    }

    /// <summary>What there is of the request's body: <see cref="CopyBody"/>'s, or all of it when a plugin has read it.</summary>
    public ReadOnlyMemory<byte> CopiedBody => _body?.Known ?? _bodyCopy?.Bytes ?? default;

    BodyCopy? _bodyCopy;

    sealed class BodyCopy
    {
        readonly ArrayBufferWriter<byte> _bytes = new();

        public int Limit { get; set; }

        public ReadOnlySequence<byte> Passing { get; set; }

        public ReadOnlyMemory<byte> Bytes => _bytes.WrittenMemory;

        public void Take(SequencePosition consumed)
        {
            foreach (var piece in Passing.Slice(Passing.Start, consumed))
            {
                _bytes.Write(piece.Span[..Math.Min(piece.Length, Limit - _bytes.WrittenCount)]);
            }
            Passing = Passing.Slice(consumed);
        }

        public void Clear()
        {
            _bytes.Clear();
            Passing = default;
        }
    }

    /// <summary>The next piece of the request's body. A reset of the client's HTTP/2 stream is a client that left, whatever the server
    /// calls it.</summary>
    internal async ValueTask<ReadResult> ReadBodyAsync(CancellationToken cancellation)
    {
        try
        {
            var read = await Request.BodyReader.ReadAsync(cancellation);
            _bodyCopy?.Passing = read.Buffer;
            return read;
        }
        catch (IOException e) when (e is not BadHttpRequestException and not ConnectionResetException)
        {
            throw new ConnectionResetException(e.Message, e);
        }
    }

    /// <summary>What <see cref="ReadBodyAsync"/> gave has been looked at up to here. Even this tells of a client that left.</summary>
    internal void AdvanceBody(SequencePosition consumed)
    {
        try
        {
            _bodyCopy?.Take(consumed);
            Request.BodyReader.AdvanceTo(consumed);
        }
        catch (IOException e) when (e is not BadHttpRequestException and not ConnectionResetException)
        {
            throw new ConnectionResetException(e.Message, e);
        }
    }

    Rare? _rare;

    /// <summary>Where what few requests have is kept; null when it says nothing and there is nothing yet.</summary>
    Rare? Rarely(bool says) => says ? _rare ??= new() : _rare;

    /// <summary>What few requests have: an idle stream is as small as can be.</summary>
    sealed class Rare
    {
        public IHttpExtendedConnectFeature? ExtendedConnect;
        public string? UpstreamScheme;
        public ForwardTo? ForwardTo;
        public Func<Exchange, ValueTask<Opened>>? Through;
        public string? ResumedFrom;
        public Relay.Topics.Topic? Topic;
        public StreamPolicy? Streams;
        public long StreamEndsAt;
        public string? EndReason;
        public string? EndMessage;
        public long? EndRetry;
        public int ShieldedStatus;
        public Relay.EdgeWatch? Edge;
        public ReadOnlyMemory<byte>? ReplacedBody;
        public Func<Exchange, Answer, Answer>? AnswerTransform;
        public RateLimit? RateLimit;
        public string? StreamRefusal;
        public AiFacts? Ai;
        public Func<Exchange, IResponseSource, ResponseCopy?>? Keep;
        public ResponseCopy? Copy;
        public string? AccelExpires;
        public ITrailersInBody? TrailersInBody;
    }

    public HttpRequest Request { get; }

    public HttpResponse Response { get; }

    /// <summary>The configuration that this request runs under, from its first to its last byte.</summary>
    internal Snapshot Snapshot { get; }

    /// <summary>Where it is counted among those that use the snapshot; null: the request that it belongs to is.</summary>
    internal int? Seat { get; init; }

    public PluginServices Services { get; }

    // -- What was matched

    /// <summary>Null: no route matched (global rules still run).</summary>
    internal Route? Route { get; set; }

    /// <summary>The uri as the matching route writes it (<c>/r1/*</c>).</summary>
    public string? MatchedUri { get; set; }

    /// <summary>Values of <c>:name</c> and <c>*name</c> in the route's uri.</summary>
    internal UriParameters UriParameters { get; set; }

    /// <summary>The nginx block (http, server, location) that the request falls under.</summary>
    internal NginxScope Scope { get; set; } = NginxScope.Default;

    /// <summary>The plugins that run: the route's, or the route's merged with the consumer's.</summary>
    internal PluginChain Chain { get; set; } = PluginChain.Empty;

    /// <summary>Set by auth plugins; the pipeline then merges the consumer's plugins in.</summary>
    internal Consumer? Consumer { get; set; }

    // -- The request as the upstream gets it

    /// <summary>Path as matched: percent-decoded, dots and double slashes removed (nginx's <c>$uri</c>). Starts with a slash.</summary>
    public string Uri { get; set; } = "/";

    /// <summary>The path as routes match it when that is not <see cref="Uri"/>: <c>match_uri_encoded_slash</c> keeps <c>%2F</c> in
    /// it.</summary>
    public string? MatchPath { get; set; }

    /// <summary>Query without the question mark; empty when there is none.</summary>
    public string Args { get; set; } = "";

    /// <summary>Path and query in origin form, raw: what the upstream gets unless <see cref="UpstreamUri"/> says otherwise.</summary>
    public string Target { get; set; } = "/";

    /// <summary>Changes the query string for everything that follows, the upstream included.</summary>
    public void SetArgs(string args)
    {
        Args = args;
        var question = Target.IndexOf('?', StringComparison.Ordinal);
        var path = question < 0 ? Target : Target[..question];
        Target = args.Length == 0 ? path : $"{path}?{args}";
    }

    public string UpstreamMethod { get; set; }

    /// <summary>Raw request target (path and query) for the upstream; null = as the client sent it.</summary>
    public string? UpstreamUri { get; set; }

    /// <summary>Host header for the upstream; null = what the upstream's <c>pass_host</c> says.</summary>
    public string? UpstreamHost { get; set; }

    /// <summary><c>http</c> or <c>https</c>; null = the upstream's scheme.</summary>
    public string? UpstreamScheme
    {
        get => _rare is { } rare ? rare.UpstreamScheme : default;
        set => Rarely(value is not null)?.UpstreamScheme = value;
    }

    /// <summary>An auth plugin has found out who asks: the upstream is told, and what the client said of it is removed.</summary>
    internal void Attach(Consumer consumer)
    {
        Consumer = consumer;
        var headers = Request.Headers;
        headers["X-Consumer-Username"] = consumer.Username;
        Set("X-Consumer-Custom-ID", consumer.Labels?["custom_id"]?.ToString());
        Set("X-Consumer-Group-Id", consumer.GroupId);
        Set("X-Credential-Identifier", consumer.CredentialId);

        void Set(string name, string? value)
        {
            headers.Remove(name);
            if (value is not null)
            {
                headers[name] = HeaderText.Escape(value);
            }
        }
    }

    /// <summary>Where the request goes instead of its route's upstream; null when it goes there.</summary>
    public ForwardTo? ForwardTo
    {
        get => _rare is { } rare ? rare.ForwardTo : default;
        set => Rarely(value is not null)?.ForwardTo = value;
    }

    /// <summary>Stands between the client and where the request goes: gives the response, for which it may ask on with a
    /// <see cref="DetachedRequest"/>.</summary>
    internal Func<Exchange, ValueTask<Opened>>? Through
    {
        get => _rare is { } rare ? rare.Through : default;
        set => Rarely(value is not null)?.Through = value;
    }

    /// <summary>Asked when the head of a source's response has come, before any plugin has seen it: what copies the response while it
    /// passes, or null.</summary>
    internal Func<Exchange, IResponseSource, ResponseCopy?>? Keep
    {
        get => _rare is { } rare ? rare.Keep : default;
        set => Rarely(value is not null)?.Keep = value;
    }

    /// <summary>What copies the response that passes; null: nothing does.</summary>
    internal ResponseCopy? Copy
    {
        get => _rare is { } rare ? rare.Copy : default;
        set => Rarely(value is not null)?.Copy = value;
    }

    /// <summary>The response is not copied after all.</summary>
    internal void DropCopy()
    {
        if (Copy is { } copy)
        {
            Copy = null;
            copy.End(complete: false);
        }
    }

    /// <summary>The upstream's <c>X-Accel-Expires</c>, for who keeps its response; null: it says nothing.</summary>
    internal string? AccelExpires
    {
        get => _rare is { } rare ? rare.AccelExpires : default;
        set => Rarely(value is not null)?.AccelExpires = value;
    }

    /// <summary>Who tells the client what a gRPC upstream says in trailers, for a client that reads none; null: trailers go on as
    /// trailers.</summary>
    internal ITrailersInBody? TrailersInBody
    {
        get => _rare is { } rare ? rare.TrailersInBody : default;
        set => Rarely(value is not null)?.TrailersInBody = value;
    }

    /// <summary>A plugin has said which origins may read the response, be it none.</summary>
    internal bool HasOriginRule { get; set; }

    /// <summary>The response's headers without those that plugins had put there before it came.</summary>
    internal IEnumerable<KeyValuePair<string, StringValues>> SourceHeaders => Response.Headers.Where(header =>
        _before is null
        || !Array.Exists(_before, other => other.Key.Equals(header.Key, StringComparison.OrdinalIgnoreCase)
            && other.Value == header.Value));

    /// <summary>Of a <see cref="DetachedRequest"/>: who gets the response instead of a client.</summary>
    internal DetachedRequest? Detached { get; private set; }

    /// <summary>Number of the unit after which a stream goes on here; null: it began here.</summary>
    public string? ResumedFrom
    {
        get => _rare is { } rare ? rare.ResumedFrom : default;
        internal set => Rarely(value is not null)?.ResumedFrom = value;
    }

    /// <summary>A text as logs may show it: without the ids of resumable streams, which are secrets.</summary>
    internal string Shown(string text) => Services.Topics.IsUsed ? StreamIds.Hide(text) : text;

    /// <summary>The same request without its client, as it is now. What plugins hold for the request is held for this one from here
    /// on.</summary>
    internal Exchange WithoutClient(DetachedRequest detached, HttpContext context)
    {
        var other = Again(context, Snapshot, Seat is { } seat ? Snapshot.Uses.Again(seat) : null);
        other.Detached = detached;
        foreach (var (plugin, item) in _items ?? [])
        {
            other.Items[plugin] = item;
            if (plugin is IHolds)
            {
                _items!.Remove(plugin);
            }
        }
        return other;
    }

    /// <summary>The same request under another snapshot, for those who only look: whoever asks for it sees to it that the snapshot
    /// stays.</summary>
    internal Exchange Again(Snapshot snapshot) =>
        Again(new DefaultHttpContext(DetachedRequest.RequestFeatures(this, default)), snapshot, null);

    Exchange Again(HttpContext context, Snapshot snapshot, int? seat) =>
        new(context, snapshot, Services, StartTimestamp)
        {
            Seat = seat,
            ConnectionRequests = ConnectionRequests,
            Route = Route,
            MatchedUri = MatchedUri,
            UriParameters = UriParameters,
            Scope = Scope,
            Chain = Chain,
            Consumer = Consumer,
            Uri = Uri,
            Args = Args,
            MatchPath = MatchPath,
            Target = Target,
            UpstreamMethod = UpstreamMethod,
            UpstreamUri = UpstreamUri,
            UpstreamHost = UpstreamHost,
            UpstreamScheme = UpstreamScheme,
            ForwardTo = ForwardTo,
            Ai = Ai,
            RemoteAddress = RemoteAddress,
            RemotePort = RemotePort,
            HasOwnProto = HasOwnProto,
            HasOwnHost = HasOwnHost,
            HasOwnPort = HasOwnPort,
        };

    // -- The answer

    /// <summary>The response that is under way; null while there is none.</summary>
    internal LiveStream? Live { get; set; }

    /// <summary>How long the body is that comes, before any body filter; null: nobody knows. For header filters.</summary>
    public long? ResponseLength => ReplacedBody?.Length ?? _responseLength;

    long? _responseLength;

    internal void TellResponseLength(long? length) => _responseLength = length;

    /// <summary>How its stream is timed, kept alive and ended; null: nobody has said anything. Known when the request is
    /// forwarded.</summary>
    internal StreamPolicy? Streams
    {
        get => _rare is { } rare ? rare.Streams : default;
        set => Rarely(value is not null)?.Streams = value;
    }

    /// <summary>The history that it is a client of, or the source of; null: it has none.</summary>
    internal Relay.Topics.Topic? Topic
    {
        get => _rare is { } rare ? rare.Topic : default;
        set => Rarely(value is not null)?.Topic = value;
    }

    /// <summary>Timestamp at which its stream has to be over (<c>max_duration</c>); 0: never.</summary>
    internal long StreamEndsAt
    {
        get => _rare is { } rare ? rare.StreamEndsAt : default;
        set => Rarely(value != default)?.StreamEndsAt = value;
    }

    /// <summary>Why the gateway ends the stream, in the words of <see cref="StreamReason"/>; null: it does not. The first reason
    /// stays.</summary>
    internal string? EndReason
    {
        get => _rare is { } rare ? rare.EndReason : default;
        set => Rarely(value is not null)?.EndReason = value;
    }

    /// <summary>What the client is told of why, in the place of the reason's own words; null: those.</summary>
    internal string? EndMessage
    {
        get => _rare is { } rare ? rare.EndMessage : default;
        set => Rarely(value is not null)?.EndMessage = value;
    }

    /// <summary>Milliseconds after which the client is told to come back; null: what its policy draws.</summary>
    internal long? EndRetry
    {
        get => _rare is { } rare ? rare.EndRetry : default;
        set => Rarely(value is not null)?.EndRetry = value;
    }

    /// <summary>What is known of it as a request to a language model; null: it is none.</summary>
    internal AiFacts? Ai
    {
        get => _rare is { } rare ? rare.Ai : default;
        set => Rarely(value is not null)?.Ai = value;
    }

    /// <summary>The status in whose place an EventSource was told to come back; 0: none.</summary>
    public int ShieldedStatus
    {
        get => _rare is { } rare ? rare.ShieldedStatus : default;
        internal set => Rarely(value != default)?.ShieldedStatus = value;
    }

    /// <summary>Knows whether the client has whole units; null: nobody looks.</summary>
    internal Relay.EdgeWatch? Edge
    {
        get => _rare is { } rare ? rare.Edge : default;
        set => Rarely(value is not null)?.Edge = value;
    }

    /// <summary>Set by a header filter: this body goes to the client instead of the upstream's.</summary>
    public ReadOnlyMemory<byte>? ReplacedBody
    {
        get => _rare is { } rare ? rare.ReplacedBody : default;
        set => Rarely(value is not null)?.ReplacedBody = value;
    }

    /// <summary>Set before the answer: makes another of each answer that the gateway or a plugin gives.</summary>
    internal Func<Exchange, Answer, Answer>? AnswerTransform
    {
        get => _rare is { } rare ? rare.AnswerTransform : default;
        set => Rarely(value is not null)?.AnswerTransform = value;
    }

    /// <summary>Which rule decided whether the answer is buffered; set when the answer's head is known.</summary>
    internal BufferingReason? Buffering { get; set; }

    /// <summary>True when a plugin or the gateway wrote the answer, false when it is the upstream's.</summary>
    public bool AnsweredByGateway { get; set; }

    public Failure? Failure { get; set; }

    /// <summary>What the last quota that was asked has said.</summary>
    internal RateLimit? RateLimit
    {
        get => _rare is { } rare ? rare.RateLimit : default;
        set => Rarely(value is not null)?.RateLimit = value;
    }

    // -- Facts for logs, metrics and variables

    /// <summary>Timestamp of <see cref="TimeProvider.GetTimestamp"/> when the request's head was there.</summary>
    public long StartTimestamp { get; }

    public UpstreamFacts Upstream { get; } = new();

    /// <summary>When the first byte of the answer's body came from the upstream; 0 = not (yet).</summary>
    public long FirstByteTimestamp { get; set; }

    /// <summary>Bytes of the body sent to the client so far (without framing).</summary>
    public long BodyBytesSent { get; set; }

    /// <summary>What is counted of the response's events; null: nobody cuts it into events.</summary>
    internal EventCounts? Events { get; set; }

    /// <summary>Why a stream was not let in: <c>max</c>, <c>concurrent</c>; null: it was, or there was none.</summary>
    public string? StreamRefusal
    {
        get => _rare is { } rare ? rare.StreamRefusal : default;
        set => Rarely(value is not null)?.StreamRefusal = value;
    }

    /// <summary>Who counts this response as a stream; null: nobody.</summary>
    internal RouteMeters? StreamMeters { get; set; }

    /// <summary>Bytes of a buffered answer that went through a temporary file.</summary>
    public long SpooledBytes { get; set; }

    /// <summary>Bytes of the request's body received so far.</summary>
    public long BodyBytesReceived { get; set; }

    /// <summary>Bytes of the body that a script has read in the place of the upstream.</summary>
    internal long BodyBytesRead { get; set; }

    /// <summary>The client's connection; null where connections are not counted (HTTP/3).</summary>
    internal IConnectionCounts? Counts => Http.Features.Get<IConnectionCounts>();

    /// <summary>How many <see cref="InnerRequest"/>s are under way for it.</summary>
    internal int InnerRequests;

    /// <summary>Which of its connection's requests this is; 0: the one that the connection is at, there are no two at once.</summary>
    internal long ConnectionRequests { get; init; }

    /// <summary>Address of the client: the connection's, or the one that a trusted proxy named.</summary>
    public IPAddress RemoteAddress { get; set; }

    /// <summary>Its port; 0 when a trusted proxy named an address without one.</summary>
    public int RemotePort { get; set; }

    /// <summary>Milliseconds since the request's head was there.</summary>
    public double ElapsedMs =>
        (_end == 0 ? Services.Time.GetElapsedTime(StartTimestamp) : Services.Time.GetElapsedTime(StartTimestamp, _end)).TotalMilliseconds;

    long _end;

    /// <summary>All is over but the logs, which shall agree on how long it took.</summary>
    public void End()
    {
        _end = Services.Time.GetTimestamp();
        Live?.Conclude();
    }

    /// <summary>What scripts know of this exchange; null while none has run.</summary>
    internal LuaContext? Script { get; private set; }

    // X-Forwarded-Proto, -Host and -Port that the client has not sent
    internal bool HasOwnProto, HasOwnHost, HasOwnPort;

    /// <summary>Scripts have begun to respond by what they print: no upstream is asked.</summary>
    public bool IsPrinted => Script is { HasPrinted: true };

    /// <summary>Where this exchange's scripts run.</summary>
    internal LuaContext OpenScript() =>
        Script ??= Opens is null ? LuaContext.For(Services.Lua, new ScriptExchange(this)) : Opens(new ScriptExchange(this));

    /// <summary>Of a script's subrequest: where its own scripts run; null: anywhere.</summary>
    internal Func<IScriptExchange, LuaContext>? Opens { get; init; }

    bool _scriptsEnded;

    /// <summary>No script runs for this exchange any more.</summary>
    public void EndScripts()
    {
        _scriptsEnded = true;
        Script?.Dispose();
    }

    /// <summary>State that a plugin keeps from one phase to the next, by the plugin's object (not its name: it may be configured
    /// twice).</summary>
    public Dictionary<object, object> Items => _items ??= new(ReferenceEqualityComparer.Instance);

    /// <summary>Lets plugins give back what they still hold for this request.</summary>
    internal void ReleaseItems()
    {
        if (_items is null)
        {
            return;
        }
        foreach (var (plugin, _) in _items)
        {
            (plugin as IHolds)?.Release(this);
        }
    }

    HashSet<string>? _skipped;

    /// <summary>Plugins of this name do not run for this request any more: another plugin has done their part.</summary>
    public void Skip(string plugin) => (_skipped ??= []).Add(plugin);

    internal bool Skips(string plugin) => _skipped is not null && _skipped.Contains(plugin);

    /// <summary>What a plugin has put into <see cref="Items"/>; null: nothing.</summary>
    public object? Find(object plugin) => _items?.GetValueOrDefault(plugin);

    Dictionary<object, object>? _items;
}

/// <summary>What is known of the upstream side, for logs and variables. Several attempts are listed as nginx does: <c>a, b</c>.</summary>
public sealed class UpstreamFacts
{
    /// <summary><c>$upstream_addr</c>: every node tried.</summary>
    public string? Addresses { get; set; }

    /// <summary><c>$upstream_status</c>: every attempt's status.</summary>
    public string? Statuses { get; set; }

    /// <summary>The status of the last attempt, 0 when there was none.</summary>
    public int Status { get; set; }

    public string? Host { get; set; }

    public string? Uri { get; set; }

    public string? Scheme { get; set; }

    public string? NodeIp { get; set; }

    /// <summary>The node as the configuration names it, before its name became an address.</summary>
    internal string? UnresolvedHost { get; set; }

    public int NodePort { get; set; }

    // NaN while unknown: half the size of what can be null
    double _connect = double.NaN, _header = double.NaN, _response = double.NaN;

    /// <summary>Seconds as nginx writes them: <c>0.012</c>; null while unknown.</summary>
    public double? ConnectSeconds { get => Known(_connect); set => _connect = value ?? double.NaN; }

    public double? HeaderSeconds { get => Known(_header); set => _header = value ?? double.NaN; }

    public double? ResponseSeconds { get => Known(_response); set => _response = value ?? double.NaN; }

    static double? Known(double seconds) => double.IsNaN(seconds) ? null : seconds;

    public long BytesReceived { get; set; }

    /// <summary>The same is known here, up to now.</summary>
    internal void Copy(UpstreamFacts other)
    {
        (Addresses, Statuses, Status, Host, Uri, Scheme) = (other.Addresses, other.Statuses, other.Status, other.Host, other.Uri,
            other.Scheme);
        (NodeIp, NodePort, ConnectSeconds, HeaderSeconds) = (other.NodeIp, other.NodePort, other.ConnectSeconds, other.HeaderSeconds);
    }

    /// <param name="status">0 when there is none: nobody waited for it.</param>
    public void AddAttempt(string address, int status)
    {
        var text = status == 0 ? "-" : Exchange.Number(status);
        Addresses = Addresses is null ? address : $"{Addresses}, {address}";
        Statuses = Statuses is null ? text : $"{Statuses}, {text}";
        Status = status;
    }
}
