using System.Buffers;
using System.Threading.Tasks.Sources;
using Sluice.Net;
using Sluice.Net.Epoll;

namespace Sluice.Relay;

/// <summary>
/// Passes a body on as it came, from one socket of a loop to another of the same: each readable upstream is received and sent before anybody else runs,
/// through the loop's own buffer. Nobody waits and is woken for a piece; whoever runs it hears of the end, of a failure, and of a client that
/// does not take a piece at once.
/// </summary>
/// <param name="relay">Told of each piece; what the client did not take is written into it, whose writer can wait.</param>
/// <param name="size">No piece is larger.</param>
sealed class DirectPump(BodyRelay relay, UpstreamConnection upstream, LoopSocket source, EpollConnection client, int size)
    : ILoopReader, IValueTaskSource<bool>
{
    ManualResetValueTaskSourceCore<bool> _core;

    enum Outcome
    {
        /// <summary>Nothing is there now.</summary>
        Waiting,
        Ended,
        ClientBehind,
    }

    /// <summary>True at the body's end; false: the rest of a piece is in the client's writer, which has to be flushed. On the loop.</summary>
    /// <exception cref="UpstreamException">The upstream failed or was aborted.</exception>
    public ValueTask<bool> RunAsync()
    {
        var outcome = Pass();
        if (outcome != Outcome.Waiting)
        {
            return new(outcome == Outcome.Ended);
        }
        source.Reader = this;
        return new(this, _core.Version);
    }

    void ILoopReader.OnReadable()
    {
        try
        {
            var outcome = Pass();
            if (outcome != Outcome.Waiting)
            {
                source.Reader = null;
                _core.SetResult(outcome == Outcome.Ended);
            }
        }
        catch (Exception e)
        {
            source.Reader = null;
            _core.SetException(e);
        }
    }

    Outcome Pass()
    {
        var scratch = client.Loop.Scratch.Span;
        if (scratch.Length > size)
        {
            scratch = scratch[..size];
        }
        while (upstream.HasReceived || source.IsReadable || source.IsClosed)
        {
            var read = upstream.TryReadVerbatim(scratch);
            if (read == 0)
            {
                return Outcome.Ended;
            }
            if (read < 0)
            {
                continue;
            }
            relay.Received(read);
            var sent = client.TrySend(scratch[..read]);
            if (sent < read)
            {
                relay.Write(scratch[sent..read]);
                return Outcome.ClientBehind;
            }
        }
        if (source.HasMore)
        {
            source.ReadLater();
        }
        return Outcome.Waiting;
    }

    bool IValueTaskSource<bool>.GetResult(short token) => _core.Take(token);

    ValueTaskSourceStatus IValueTaskSource<bool>.GetStatus(short token) => _core.GetStatus(token);

    void IValueTaskSource<bool>.OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _core.OnCompleted(continuation, state, token, flags);
}
