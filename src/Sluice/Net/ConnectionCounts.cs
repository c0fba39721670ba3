namespace Sluice.Net;

/// <summary>A feature of a client's connection: which one it is, and at how many requests.</summary>
internal interface IConnectionCounts
{
    /// <summary>Counts the connections of the process.</summary>
    long Serial { get; }

    /// <summary>Requests so far, the present one included.</summary>
    long Requests { get; }
}

/// <summary>For connections that others serve (HTTP/2).</summary>
internal sealed class ConnectionCounts : IConnectionCounts
{
    static long s_last;
    long _requests;

    public long Serial { get; } = NextSerial();

    public long Requests => Interlocked.Read(ref _requests);

    public static long NextSerial() => Interlocked.Increment(ref s_last);

    /// <summary>Another request: its number.</summary>
    public long Count() => Interlocked.Increment(ref _requests);
}
