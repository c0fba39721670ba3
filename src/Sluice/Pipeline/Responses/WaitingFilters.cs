using System.Buffers;
using Sluice.Relay;

namespace Sluice.Pipeline;

/// <summary>
/// The filters of one response up to the last that may take its time (<see cref="IAsyncEventFilter"/>), in the order of the chain. What
/// comes behind them is the relay's, which waits for nobody but the client and the source.
/// </summary>
sealed class WaitingFilters
{
    readonly Stage[] _stages;
    readonly string[] _plugins;

    internal WaitingFilters(IReadOnlyList<(BodyFilters? Before, IAsyncEventStep Step, string Plugin)> stages)
    {
        _stages = [.. stages.Select(static stage => new Stage(stage.Before, stage.Step))];
        _plugins = [.. stages.Select(static stage => stage.Plugin)];
    }

    /// <summary>Counts what the last one lets through; null: somebody behind it does.</summary>
    public EventCounts? Counts { get; set; }

    /// <summary>Somebody wants no more.</summary>
    public bool Ended => Array.Exists(_stages, static stage => stage.Before?.Ended == true || stage.Step.Ended);

    /// <summary>Runs a piece, which stays as it is meanwhile, through all of them.</summary>
    public async ValueTask FilterAsync(ReadOnlyMemory<byte> piece, bool last, IBufferWriter<byte> output, CancellationToken cancel)
    {
        for (var i = 0; i < _stages.Length; i++)
        {
            var isLastStage = i == _stages.Length - 1;
            if (piece.IsEmpty && !last)
            {
                return;
            }
            var stage = _stages[i];
            stage.Written.ResetWrittenCount();
            if (stage.Before is { } before)
            {
                stage.Between.ResetWrittenCount();
                before.Filter(piece, last, stage.Between);
                piece = stage.Between.WrittenMemory;
            }
            if (!piece.IsEmpty && !stage.Step.Ended)
            {
                stage.Framer.Push(piece);
                await DrainAsync(i, isLastStage, cancel);
            }
            if (last)
            {
                if (!stage.Step.Ended)
                {
                    stage.Framer.End();
                    await DrainAsync(i, isLastStage, cancel);
                }
                await stage.Step.EndAsync(stage.Written, cancel);
                stage.Framer.Dispose();
            }
            piece = stage.Written.WrittenMemory;
        }
        output.Write(piece.Span);
    }

    async ValueTask DrainAsync(int index, bool isLastStage, CancellationToken cancel)
    {
        var stage = _stages[index];
        var (events, bytes) = (0, 0);
        while (!stage.Step.Ended && stage.Framer.TryRead(out var frame))
        {
            if (frame.Kind == FrameKind.TooLarge)
            {
                throw new BodyFilterException($"plugin {_plugins[index]} needs whole events, and one is over the limit");
            }
            var before = stage.Written.WrittenCount;
            await stage.Step.FilterAsync(frame, stage.Written, cancel);
            if (frame.Kind == FrameKind.Event && stage.Written.WrittenCount > before)
            {
                (events, bytes) = (events + 1, stage.Written.WrittenCount - before);
                if (isLastStage)
                {
                    Counts?.Show(stage.Written.WrittenSpan[before..], isFirst: true);
                }
            }
        }
        if (isLastStage && events > 0)
        {
            Counts?.Add(events, bytes);
        }
    }

    sealed record Stage(BodyFilters? Before, IAsyncEventStep Step)
    {
        public IEventFramer Framer { get; } = Step.CreateFramer();

        public ArrayBufferWriter<byte> Between { get; } = new();

        public ArrayBufferWriter<byte> Written { get; } = new();
    }
}
