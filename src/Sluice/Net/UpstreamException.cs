namespace Sluice.Net;

/// <summary>What went wrong between the gateway and an upstream; stable, shows in logs and metrics.</summary>
public enum UpstreamFailureKind
{
    ResolveFailed,
    ConnectRefused,
    ConnectTimeout,
    ConnectFailed,
    TlsFailed,
    SendFailed,
    SendTimeout,
    ReadTimeout,
    Reset,

    /// <summary>The upstream ended in the middle of a head or with bytes of a body missing.</summary>
    EarlyClose,

    /// <summary>The upstream closed the connection before the first byte of an answer.</summary>
    NoAnswer,
    BadResponse,
    ClientGone,
    Shutdown,
}

internal static class UpstreamFailureKinds
{
    /// <summary>A short text that never changes, for logs and labels.</summary>
    public static string Text(this UpstreamFailureKind kind) => kind switch
    {
        UpstreamFailureKind.ResolveFailed => "host not resolved",
        UpstreamFailureKind.ConnectRefused => "connection refused",
        UpstreamFailureKind.ConnectTimeout => "connect timed out",
        UpstreamFailureKind.ConnectFailed => "connect failed",
        UpstreamFailureKind.TlsFailed => "TLS handshake failed",
        UpstreamFailureKind.SendFailed => "send failed",
        UpstreamFailureKind.SendTimeout => "send timed out",
        UpstreamFailureKind.ReadTimeout => "read timed out",
        UpstreamFailureKind.Reset => "connection reset by upstream",
        UpstreamFailureKind.EarlyClose => "upstream closed in the middle of its answer",
        UpstreamFailureKind.NoAnswer => "upstream closed without an answer",
        UpstreamFailureKind.BadResponse => "invalid response",
        UpstreamFailureKind.ClientGone => "client closed",
        UpstreamFailureKind.Shutdown => "gateway stops",
        _ => throw new ArgumentOutOfRangeException(nameof(kind)),
    };
}

/// <summary>A failure of the upstream side, with the facts that a decision about a retry needs.</summary>
public sealed class UpstreamException(UpstreamFailureKind kind, string? detail = null, Exception? cause = null)
    : Exception(detail is null ? kind.Text() : $"{kind.Text()}: {detail}", cause)
{
    public UpstreamFailureKind Kind { get; } = kind;

    /// <summary>What exactly, for the error log; not stable.</summary>
    public string? Detail { get; } = detail;

    /// <summary>The connection came from the pool.</summary>
    public bool ConnectionReused { get; init; }

    /// <summary>At least one byte of the request was handed to the kernel; false for everything that fails before, e.g. a refused
    /// connect.</summary>
    public bool RequestBegun { get; init; }

    /// <summary>At least one byte of the request's body was taken from the caller, so the request can't be sent again from the
    /// start.</summary>
    public bool BodyBegun { get; init; }

    /// <summary>At least one byte of an answer (an interim one too) was received.</summary>
    public bool AnswerBegun { get; init; }

    /// <summary>
    /// A pooled connection that the upstream had closed meanwhile: nobody's fault, no reason to count a failure.
    /// Once more on a fresh connection is right unless <see cref="BodyBegun"/>.
    /// </summary>
    public bool StalePooledConnection => ConnectionReused && !AnswerBegun
        && Kind is UpstreamFailureKind.NoAnswer or UpstreamFailureKind.Reset or UpstreamFailureKind.SendFailed;
}
