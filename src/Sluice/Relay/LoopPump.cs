using System.Threading.Tasks.Sources;
using Sluice.Net;
using Sluice.Net.Epoll;

namespace Sluice.Relay;

enum PumpStep
{
    /// <summary>Whatever was there has gone on.</summary>
    Again,

    /// <summary>The body is complete.</summary>
    Ended,

    /// <summary>Somebody has to wait, or has had enough.</summary>
    Leave,
}

/// <summary>
/// Passes a body on while its upstream is a socket of this loop: each readable upstream is received, and the piece sent, before anybody
/// else runs, through the loop's own buffer. Nobody waits and is woken for a piece; whoever runs it hears of the end, of a failure, and of
/// a client that does not take a piece at once.
/// </summary>
sealed class LoopPump(BodyRelay relay, ILoopBody upstream, LoopSocket source) : ILoopReader, IValueTaskSource<bool>
{
    ManualResetValueTaskSourceCore<bool> _core;

    /// <summary>True at the body's end; false: <see cref="PumpStep.Leave"/>. On the loop.</summary>
    /// <exception cref="UpstreamException">The upstream failed or was aborted.</exception>
    public ValueTask<bool> RunAsync()
    {
        var step = Pass();
        if (step != PumpStep.Again)
        {
            return new(step == PumpStep.Ended);
        }
        source.Reader = this;
        return new(this, _core.Version);
    }

    void ILoopReader.OnReadable()
    {
        try
        {
            var step = Pass();
            if (step != PumpStep.Again)
            {
                source.Reader = null;
                _core.SetResult(step == PumpStep.Ended);
            }
        }
        catch (Exception e)
        {
            source.Reader = null;
            _core.SetException(e);
        }
    }

    PumpStep Pass()
    {
        while (upstream.HasReceived || source.IsReadable || source.IsClosed)
        {
            var step = relay.PassNow(source.Loop.Scratch);
            if (step != PumpStep.Again)
            {
                return step;
            }
        }
        if (source.HasMore)
        {
            source.ReadLater();
        }
        return PumpStep.Again;
    }

    bool IValueTaskSource<bool>.GetResult(short token) => _core.Take(token);

    ValueTaskSourceStatus IValueTaskSource<bool>.GetStatus(short token) => _core.GetStatus(token);

    void IValueTaskSource<bool>.OnCompleted(Action<object?> continuation, object? state, short token,
        ValueTaskSourceOnCompletedFlags flags) =>
        _core.OnCompleted(continuation, state, token, flags);
}
