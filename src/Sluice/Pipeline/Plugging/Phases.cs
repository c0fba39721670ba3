using System.Buffers;
using Sluice.Relay;

namespace Sluice.Pipeline;

// The contracts of the phases (Phase.All), in order. A plugin's class header lists the ones it takes part in; the snapshot sorts the
// plugins of a chain by priority once, per phase, so that a request walks arrays and makes no empty calls.
//
//   rewrite → access → (pick node) → before_proxy → forward → header_filter → body_filter / event_filter → log
//
// Phases up to before_proxy may answer the request: they return an Answer; null means go on.

/// <summary>Before anything is decided: change the request, authenticate (APISIX's rewrite phase).</summary>
public interface IRewrite
{
    ValueTask<Answer?> RewriteAsync(Exchange exchange);
}

/// <summary>
/// A plugin whose rewrite phase may give a request another limit for its body (<see cref="Exchange.LimitBody"/>): a request that is over
/// the nginx block's is not refused before it.
/// </summary>
public interface ILimitsBody : IRewrite;

/// <summary>
/// A plugin whose rewrite and access phases only look: nothing is counted, asked or kept. A stream that is under way can be looked at
/// again, as it came, when its route has changed.
/// </summary>
internal interface IReadmit
{
    /// <summary>Whether what is kept of the request is enough for it.</summary>
    bool CanReadmit(Exchange exchange) => true;
}

/// <summary>Allow or refuse (APISIX's access phase).</summary>
public interface IAccess
{
    ValueTask<Answer?> AccessAsync(Exchange exchange);
}

/// <summary>The node is picked, nothing was sent to it yet (APISIX's before_proxy phase). Runs once per exchange, not per retry.</summary>
public interface IBeforeProxy
{
    ValueTask<Answer?> BeforeProxyAsync(Exchange exchange);
}

/// <summary>The head of the answer is known and not sent yet: an upstream's or one that a plugin or the gateway wrote.</summary>
public interface IHeaderFilter
{
    void FilterHeaders(Exchange exchange);
}

/// <summary>
/// Sees the request's body piece by piece on its way to the upstream; none is held back. What the filter writes goes on in the piece's
/// place, without the length that the client told.
/// </summary>
public interface IRequestBodyFilter
{
    /// <summary>Called once per request, when it has a body and is about to be forwarded; null when this one does not interest the
    /// plugin.</summary>
    IPieceFilter? OpenRequestBody(Exchange exchange);
}

/// <summary>Sees the answer's body piece by piece as it passes (APISIX's body_filter phase).</summary>
public interface IBodyFilter
{
    /// <summary>Called once per answer after the header filters; null when this answer does not interest the plugin.</summary>
    IPieceFilter? OpenBody(Exchange exchange);
}

/// <summary>
/// A plugin that compresses bodies. Its header filter runs after all others, and its pieces are what all others have left: nobody else sees
/// a compressed body, whatever the priorities.
/// </summary>
public interface ICompressor : IHeaderFilter, IBodyFilter;

/// <summary>Sees the answer's events one by one (Lua: <c>event_filter</c>): each is framed once, whatever the pieces it came in, and leaves
/// when the filter wrote it.</summary>
public interface IEventFilter
{
    /// <summary>Called once per answer after the header filters; null when this answer does not interest the plugin.</summary>
    IEventStep? OpenEvents(Exchange exchange);
}

/// <summary>One answer's event filter.</summary>
public interface IEventStep
{
    /// <summary>The framing: SSE unless the step says otherwise. An event over the framer's limit ends the stream with an error.</summary>
    IEventFramer CreateFramer() => new SseFramer();

    /// <param name="frame">An event, or what lies between events. Written on as it is, it leaves byte for byte as it came.</param>
    void Filter(in Frame frame, IBufferWriter<byte> output);

    /// <summary>Asked after each frame: true ends the stream here, properly; the frames that follow are not looked at.</summary>
    bool Ended => false;

    /// <summary>The stream has ended cleanly: the last chance to write.</summary>
    void End(IBufferWriter<byte> output)
    {
    }
}

/// <summary>Sees the answer's events one by one, and may take its time over each (moderation asks somebody): those behind it wait, and so
/// does the upstream.</summary>
public interface IAsyncEventFilter
{
    /// <summary>Called once per answer after the header filters; null when this answer does not interest the plugin.</summary>
    IAsyncEventStep? OpenEvents(Exchange exchange);
}

/// <summary>One answer's event filter that may wait.</summary>
public interface IAsyncEventStep
{
    /// <summary>The framing: SSE unless the step says otherwise. An event over the framer's limit ends the stream with an error.</summary>
    IEventFramer CreateFramer() => new SseFramer();

    /// <param name="frame">An event, or what lies between events; valid until the returned task ends. Written on as it is, it leaves byte
    /// for byte as it came.</param>
    /// <param name="cancel">The client has gone, or the stream is ended: nobody waits for the rest.</param>
    ValueTask FilterAsync(Frame frame, IBufferWriter<byte> output, CancellationToken cancel);

    /// <summary>Asked after each frame: true ends the stream here, properly; the frames that follow are not looked at.</summary>
    bool Ended => false;

    /// <summary>The stream has ended cleanly: the last chance to write.</summary>
    ValueTask EndAsync(IBufferWriter<byte> output, CancellationToken cancel) => default;
}

/// <summary>
/// The opt-in for plugins that can only work on a whole body. It breaks streaming for the answers it wants, and the Control API's
/// <c>/v1/buffering</c> names it. Bodies over <see cref="MaxBodyBytes"/> end the answer with an error.
/// </summary>
public interface IWholeBodyFilter
{
    bool WantsWholeBody(Exchange exchange);

    ReadOnlyMemory<byte> FilterBody(Exchange exchange, ReadOnlyMemory<byte> body);

    int MaxBodyBytes => 16 * 1024 * 1024;
}

/// <summary>
/// The opt-in for plugins that read the request's whole body (<see cref="Exchange.Body"/>). The upstream waits until the body is complete;
/// as a rule about buffering the Control API's <c>/v1/buffering</c> names it, and a plugin of the same route that switches request
/// buffering off contradicts it.
/// </summary>
public interface INeedsRequestBody : IBufferingRule
{
    /// <summary>What the plugin gives to <see cref="WholeRequestBody.ReadAsync"/>: larger bodies are answered 413.</summary>
    int MaxRequestBodyBytes { get; }

    bool? IBufferingRule.ResponseBuffering => null;

    bool? IBufferingRule.RequestBuffering => true;
}

/// <summary>The answer has ended, well or badly (APISIX's log phase). Runs for every request.</summary>
public interface ILog
{
    void Log(Exchange exchange);
}

/// <summary>
/// A plugin that keeps something for a request, under its own name in <see cref="Exchange.Items"/>. It is asked to let go after all log
/// phases, also when its own did not run: a script has sent the request to another route, or the plugin's filter no longer matches.
/// </summary>
public interface IHolds
{
    void Release(Exchange exchange);
}

/// <summary>A plugin that says how streams are timed, kept alive, bounded and ended. Known when the configuration is compiled, so no phase
/// runs for it.</summary>
internal interface IStreamRule
{
    StreamPolicy Streams { get; }
}

/// <summary>A plugin that decides about buffering. Known when the configuration is compiled, so no phase runs for it.</summary>
public interface IBufferingRule
{
    /// <summary>True = on, false = off, null = says nothing.</summary>
    bool? ResponseBuffering { get; }

    bool? RequestBuffering { get; }
}
