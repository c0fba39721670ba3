using System.Net;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Sluice.Model.Nginx;
using Sluice.Net;
using Sluice.Net.Epoll;
using Sluice.Net.Http1;
using Sluice.Observability;
using Sluice.Scripting;

namespace Sluice.Pipeline;

/// <summary>
/// One request and its answer on their way through the pipeline. Plugins read and change the client's request headers in place
/// (<c>Request.Headers</c>: the upstream gets them as they are when the request is forwarded) and the answer's head in
/// <c>Response</c> during header_filter. Lives until the log phase has run; nobody keeps it longer.
/// </summary>
public sealed partial class Exchange(HttpContext http, Snapshot snapshot, PluginServices services, long startTimestamp) : IVariables
{
    public HttpContext Http { get; } = http;

    /// <summary>The event loop of the client's connection; null on the framework's sockets.</summary>
    public EventLoop? Loop => Connection?.Loop;

    /// <summary>The client's connection when it is one of an event loop.</summary>
    public EpollConnection? Connection { get; } = http is Http1Context own ? own.LoopConnection : http.Features.Get<EpollConnection>();

    /// <summary>Nothing has been sent: what was meant to be is forgotten, head and body.</summary>
    public void StartAnswerAgain()
    {
        Response.Clear();
        DiscardBody();
    }

    /// <summary>Forgets what was written of the body, of which nothing has been sent.</summary>
    public void DiscardBody() => Http.Features.Get<IDiscardableAnswer>()?.Discard();

    /// <summary>The client left. With HTTP/1 that is its connection's end, for which no request needs a source of its own.</summary>
    public CancellationToken ClientGone => Http.RequestAborted;

    /// <summary>The head says that a body follows, or a script has given the request one.</summary>
    public bool CanHaveBody => Http is Http1Context own ? own.CanHaveBody : Http.Features.Get<IHttpRequestBodyDetectionFeature>()?.CanHaveBody == true;

    public HttpRequest Request { get; } = http.Request;

    public HttpResponse Response { get; } = http.Response;

    /// <summary>The configuration that this request runs under, from its first to its last byte.</summary>
    public Snapshot Snapshot { get; } = snapshot;

    public PluginServices Services { get; } = services;

    // -- What was matched

    /// <summary>Null: no route matched (global rules still run).</summary>
    public Route? Route { get; set; }

    /// <summary>The uri as the matching route writes it (<c>/r1/*</c>).</summary>
    public string? MatchedUri { get; set; }

    /// <summary>Values of <c>:name</c> and <c>*name</c> in the route's uri.</summary>
    public UriParameters UriParameters { get; set; }

    /// <summary>The nginx block (http, server, location) that the request falls under.</summary>
    public NginxScope Scope { get; set; } = NginxScope.Default;

    /// <summary>The plugins that run: the route's, or the route's merged with the consumer's.</summary>
    public PluginChain Chain { get; set; } = PluginChain.Empty;

    /// <summary>Set by auth plugins; the pipeline then merges the consumer's plugins in.</summary>
    public Consumer? Consumer { get; set; }

    // -- The request as the upstream gets it

    /// <summary>Path as matched: percent-decoded, dots and double slashes removed (nginx's <c>$uri</c>). Starts with a slash.</summary>
    public string Uri { get; set; } = "/";

    /// <summary>The path as routes match it when that is not <see cref="Uri"/>: <c>match_uri_encoded_slash</c> keeps <c>%2F</c> in it.</summary>
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

    public string UpstreamMethod { get; set; } = http.Request.Method;

    /// <summary>Raw request target (path and query) for the upstream; null = as the client sent it.</summary>
    public string? UpstreamUri { get; set; }

    /// <summary>Host header for the upstream; null = what the upstream's <c>pass_host</c> says.</summary>
    public string? UpstreamHost { get; set; }

    /// <summary><c>http</c> or <c>https</c>; null = the upstream's scheme.</summary>
    public string? UpstreamScheme { get; set; }

    /// <summary>An auth plugin has found out who asks: the upstream is told, and what the client said of it is removed.</summary>
    public void Attach(Consumer consumer)
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

    // -- The answer

    /// <summary>Set by a header filter: this body goes to the client instead of the upstream's.</summary>
    public ReadOnlyMemory<byte>? ReplacedBody { get; set; }

    /// <summary>Which rule decided whether the answer is buffered; set when the answer's head is known.</summary>
    public BufferingReason? Buffering { get; set; }

    /// <summary>True when a plugin or the gateway wrote the answer, false when it is the upstream's.</summary>
    public bool AnsweredByGateway { get; set; }

    public Failure? Failure { get; set; }

    // -- Facts for logs, metrics and variables

    /// <summary>Timestamp of <see cref="TimeProvider.GetTimestamp"/> when the request's head was there.</summary>
    public long StartTimestamp { get; } = startTimestamp;

    public UpstreamFacts Upstream { get; } = new();

    /// <summary>When the first byte of the answer's body came from the upstream; 0 = not (yet).</summary>
    public long FirstByteTimestamp { get; set; }

    /// <summary>Bytes of the body sent to the client so far (without framing).</summary>
    public long BodyBytesSent { get; set; }

    /// <summary>Events that were framed so far, for plugins that look at events.</summary>
    public long EventsSeen { get; set; }

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
    public IPAddress RemoteAddress { get; set; } = http.Connection.RemoteIpAddress ?? IPAddress.None;

    /// <summary>Its port; 0 when a trusted proxy named an address without one.</summary>
    public int RemotePort { get; set; } = http.Connection.RemotePort;

    /// <summary>Milliseconds since the request's head was there.</summary>
    public double ElapsedMs => (_end == 0 ? Services.Time.GetElapsedTime(StartTimestamp) : Services.Time.GetElapsedTime(StartTimestamp, _end)).TotalMilliseconds;

    long _end;

    /// <summary>All is over but the logs, which shall agree on how long it took.</summary>
    public void End() => _end = Services.Time.GetTimestamp();

    /// <summary>What scripts know of this exchange; null while none has run.</summary>
    public LuaContext? Script { get; private set; }

    /// <summary>Where this exchange's scripts run.</summary>
    public LuaContext OpenScript() => Script ??= Opens is null ? LuaContext.For(Services.Lua, new ScriptExchange(this)) : Opens(new ScriptExchange(this));

    /// <summary>Of a script's subrequest: where its own scripts run; null: anywhere.</summary>
    internal Func<IScriptExchange, LuaContext>? Opens { get; init; }

    bool _scriptsEnded;

    /// <summary>No script runs for this exchange any more.</summary>
    public void EndScripts()
    {
        _scriptsEnded = true;
        Script?.Dispose();
    }

    /// <summary>State that a plugin keeps from one phase to the next, by the plugin's object (not its name: it may be configured twice).</summary>
    public Dictionary<object, object> Items => _items ??= new(ReferenceEqualityComparer.Instance);

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

    public int NodePort { get; set; }

    /// <summary>Seconds as nginx writes them: <c>0.012</c>; null while unknown.</summary>
    public double? ConnectSeconds { get; set; }

    public double? HeaderSeconds { get; set; }

    public double? ResponseSeconds { get; set; }

    public long BytesReceived { get; set; }

    public void AddAttempt(string address, int status)
    {
        Addresses = Addresses is null ? address : $"{Addresses}, {address}";
        Statuses = Statuses is null ? Exchange.Number(status) : $"{Statuses}, {status}";
        Status = status;
    }
}
