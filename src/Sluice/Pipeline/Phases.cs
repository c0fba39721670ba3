using System.Buffers;
using Sluice.Relay;

namespace Sluice.Pipeline;

// The phases of a request, in order. A plugin's class header lists the ones it takes part in; the snapshot sorts the plugins of a
// chain by priority once, per phase, so that a request walks arrays and makes no empty calls.
//
//   rewrite → access → (pick node) → before_proxy → forward → header_filter → body_filter / events → log
//
// Phases up to before_proxy may answer the request: they return an Answer; null means go on.

/// <summary>A plugin whose configuration says in which of its phases it does something: in the others it is not called.</summary>
public interface IChosenPhases
{
    bool TakesPart<TPhase>();
}

/// <summary>Before anything is decided: change the request, authenticate (APISIX's rewrite phase).</summary>
public interface IRewrite
{
    ValueTask<Answer?> RewriteAsync(Exchange exchange);
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

/// <summary>Sees the answer's body piece by piece as it passes (APISIX's body_filter phase).</summary>
public interface IBodyFilter
{
    /// <summary>Called once per answer after the header filters; null when this answer does not interest the plugin.</summary>
    IPieceFilter? OpenBody(Exchange exchange);
}

/// <summary>Sees the answer's events one by one: each is framed once, whatever the pieces it came in, and leaves when the filter wrote it.</summary>
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

/// <summary>The answer has ended, well or badly (APISIX's log phase). Runs for every request.</summary>
public interface ILog
{
    void Log(Exchange exchange);
}

/// <summary>A plugin that decides about buffering. Known when the configuration is compiled, so no phase runs for it.</summary>
public interface IBufferingRule
{
    /// <summary>True = on, false = off, null = says nothing.</summary>
    bool? ResponseBuffering { get; }

    bool? RequestBuffering { get; }
}
