using Sluice.Net;

namespace Sluice.Relay;

/// <summary>A body that is under way, as others see it: the counts that whoever carries it keeps anyway. They are read from other threads,
/// without a lock.</summary>
internal interface ILiveBody
{
    /// <summary>Payload bytes that came from the source.</summary>
    long BytesReceived { get; }

    /// <summary>Payload bytes handed to the client.</summary>
    long BytesSent { get; }

    /// <summary>When the first byte came; 0 when none has come.</summary>
    long FirstByteTimestamp { get; }

    /// <summary>When the last byte came from the source; 0 when none has come.</summary>
    long LastByteTimestamp { get; }

    /// <summary>The client has not taken what it was given, and the source waits for it.</summary>
    bool WaitsForClient { get; }

    /// <summary>Nothing has gone out, not even the head: it is kept until the first unit.</summary>
    bool Holds => false;

    /// <summary>What waits in a queue between the source and the client.</summary>
    QueueFacts Queue => default;

    /// <summary>Heartbeats that the client got.</summary>
    int Heartbeats => 0;

    /// <summary>Those of them that nobody has asked for yet: for the meters.</summary>
    int TakeHeartbeats() => 0;

    /// <summary>Units that were dropped from the queue and that nobody has asked for yet: for the meters.</summary>
    long TakeDropped() => 0;

    /// <summary>Time in which the source was not read, because the client was behind; null: nobody measures it.</summary>
    TimeSpan? Paused => null;

    /// <summary>How it is carried.</summary>
    string Mode { get; }

    /// <summary>Lets go of where it comes from, so that whoever carries it sees it broken off. False: it has all, or cannot be ended
    /// so.</summary>
    bool TryEnd();

    /// <summary>Sees what the client gets, from the next piece on; null when nobody looks.</summary>
    IPieceObserver? Observer { set; }
}

/// <summary>What waits in a queue, and what was dropped from it.</summary>
internal readonly record struct QueueFacts(long Bytes, long Events, long Dropped);
