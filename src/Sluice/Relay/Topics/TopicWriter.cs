using System.Buffers;
using System.IO.Pipelines;

namespace Sluice.Relay.Topics;

/// <summary>What a topic's source writes into: it is cut into units, and each is there for all readers as soon as it is whole.</summary>
internal sealed class TopicWriter(Topic topic, int maxEventBytes = SseFramer.DefaultMaxEventBytes) : PipeWriter, IDisposable
{
    readonly SseFramer _framer = new(maxEventBytes);
    readonly ArrayBufferWriter<byte> _buffer = new(256);
    bool _began, _isOver;

    public override bool CanGetUnflushedBytes => true;

    public override long UnflushedBytes => _buffer.WrittenCount;

    public override void Advance(int bytes) => _buffer.Advance(bytes);

    public override Memory<byte> GetMemory(int sizeHint = 0) => _buffer.GetMemory(sizeHint);

    public override Span<byte> GetSpan(int sizeHint = 0) => _buffer.GetSpan(sizeHint);

    public override ValueTask<FlushResult> FlushAsync(CancellationToken cancellationToken = default)
    {
        if (_isOver)
        {
            _buffer.ResetWrittenCount();
            return new(new FlushResult(isCanceled: false, isCompleted: true));
        }
        if (_buffer.WrittenCount > 0)
        {
            _framer.Push(_buffer.WrittenMemory);
        }
        return DrainAsync();
    }

    /// <summary>The source has said all: what it left unfinished is passed on as it is.</summary>
    public async ValueTask EndAsync()
    {
        await FlushAsync();
        if (!_isOver)
        {
            _framer.End();
            await DrainAsync();
        }
    }

    async ValueTask<FlushResult> DrainAsync()
    {
        while (_framer.TryRead(out var frame))
        {
            if (frame.Kind == FrameKind.TooLarge)
            {
                topic.Stop(new("event_too_large", $"an event is larger than {maxEventBytes} bytes", 502));
            }
            if (!_began && frame.Kind == FrameKind.Passage && frame.Raw.Span is [0xEF, 0xBB, 0xBF])
            {
                // what we put before the first unit would be behind the mark
                continue;
            }
            _began = true;
            bool? appended;
            while ((appended = topic.TryAppend(frame)) is null)
            {
                await topic.RoomAsync();
            }
            if (appended == false)
            {
                _isOver = true;
                break;
            }
        }
        _buffer.ResetWrittenCount();
        return new(isCanceled: false, isCompleted: topic.End is not null);
    }

    public override void CancelPendingFlush()
    {
    }

    public override void Complete(Exception? exception = null)
    {
    }

    public void Dispose() => _framer.Dispose();
}
