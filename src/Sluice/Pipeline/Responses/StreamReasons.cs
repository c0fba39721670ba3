using System.Collections.Frozen;

namespace Sluice.Pipeline;

/// <summary>Why streams end that do not end by themselves: a closed table. What clients are told of a reason is all here; never details of
/// nodes or configuration.</summary>
/// <param name="Status">The status if the head is not out yet.</param>
/// <param name="IsError">Something went wrong: the event is an error's, not an end's.</param>
/// <param name="Grpc">The status of gRPC.</param>
/// <param name="ComesBack">A client may be told when to come back.</param>
sealed record StreamReason(int Status, bool IsError, int Grpc, bool ComesBack, string Message)
{
    static readonly StreamReason s_broken = new(502, true, 14, true, "the stream broke off");

    /// <summary>The client is gone: nobody hears last words.</summary>
    static readonly StreamReason s_silent = new(499, false, 1, false, "");

    static readonly FrozenDictionary<string, StreamReason> s_all = new Dictionary<string, StreamReason>
    {
        ["client_gone"] = s_silent,
        ["peer_dead"] = s_silent,
        ["first_byte_timeout"] = new(504, true, 4, true, "no answer came in time"),
        ["first_event_timeout"] = new(504, true, 4, true, "no event came in time"),
        ["idle_timeout"] = new(504, true, 4, true, "the stream was silent for too long"),
        ["event_idle_timeout"] = new(504, true, 4, true, "no event came for too long"),
        ["read_timeout"] = new(504, true, 4, true, "the stream was silent for too long"),
        ["client_idle_timeout"] = new(408, true, 4, true, "the client was silent for too long"),
        ["max_duration"] = new(504, false, 4, true, "the stream has lasted as long as it may"),
        ["max_events"] = new(500, false, 8, true, "the stream has had as many events as it may"),
        ["max_bytes"] = new(500, false, 8, true, "the stream has had as many bytes as it may"),
        ["rate"] = new(500, false, 8, true, "the stream was faster than it may be"),
        ["slow_consumer"] = new(500, false, 8, true, "the client is too slow"),
        ["send_timeout"] = new(408, false, 8, true, "the client is too slow"),
        ["event_too_large"] = new(502, true, 8, true, "an event was too large"),
        ["early_close"] = s_broken,
        ["no_answer"] = s_broken,
        ["reset"] = s_broken,
        ["send_failed"] = s_broken,
        ["shutdown"] = s_broken,
        ["bad_response"] = s_broken,
        ["upstream_lost"] = s_broken,
        ["upstream_status"] = new(502, true, 14, true, "the stream could not be opened"),
        ["token_expired"] = new(401, false, 16, false, "the right to this stream has expired"),
        ["revoked"] = new(403, true, 7, false, "the right to this stream was revoked"),
        ["not_admitted"] = new(403, true, 7, false, "the stream is no longer allowed"),
        ["evicted"] = new(503, false, 10, true, "another stream has taken this one's place"),
        ["killed"] = new(503, false, 10, false, "the stream was ended"),
        ["cancelled"] = new(503, false, 1, false, "the stream was stopped by its owner"),
        ["drain"] = new(503, false, 14, true, "the gateway restarts"),
        ["gateway_lost"] = new(503, false, 14, true, "the gateway was lost"),
        ["bridge_failed"] = new(500, true, 13, true, "the stream could not be translated"),
        ["body_filter_failed"] = new(500, true, 13, true, "the stream could not be processed"),
        ["script_failed"] = new(500, true, 13, true, "the stream could not be processed"),
        ["spool_failed"] = new(500, true, 13, true, "the stream could not be processed"),
        ["internal_error"] = new(500, true, 13, true, "the gateway failed"),
    }.ToFrozenDictionary();

    public static IEnumerable<string> Names => s_all.Keys;

    /// <summary>Somebody has decided it, nothing has failed: no node is to blame, none is tried instead.</summary>
    public static bool IsDecided(string name) => name is "evicted" or "killed" or "drain" or "token_expired" or "revoked" or "not_admitted";

    /// <summary>A reason that is not in the table is a way in which an upstream broke off.</summary>
    public static StreamReason Of(string name) => s_all.GetValueOrDefault(name) ?? s_broken;

    public bool IsSilent => ReferenceEquals(this, s_silent);
}
