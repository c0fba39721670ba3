using System.Buffers;
using System.Buffers.Binary;
using System.Globalization;
using System.IO.Pipelines;
using System.Runtime.CompilerServices;
using Microsoft.AspNetCore.Connections;

namespace Sluice.Net;

/// <summary>
/// Counts the frames of a client's HTTP/2 connection before Kestrel sees them, and ends a connection whose frames are work for nothing:
/// PING, SETTINGS, PRIORITY, WINDOW_UPDATE, CONTINUATION, empty DATA, and requests that are reset as soon as they are made. How many of
/// them are normal depends on what the client was sent and how long that took, so both earn it an allowance.
/// </summary>
sealed partial class Http2FloodGuard : IDuplexPipe
{
    const int FrameHeader = 9;
    const int PrefaceBytes = 24;

    static readonly string[] Names =
        ["empty DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE", "CONTINUATION",
            "unknown"];

    readonly ConnectionContext _connection;
    readonly TimeProvider _time;
    readonly ILogger _logger;
    readonly long _opened;
    readonly int[] _counts = new int[Names.Length];
    readonly byte[] _header = new byte[FrameHeader + 1];
    Allowance _idle;
    Allowance _resets;
    int _headerBytes;
    long _skip = PrefaceBytes;
    bool _isFlood;

    Http2FloodGuard(ConnectionContext connection, TimeProvider time, ILogger logger)
    {
        (_connection, _time, _logger) = (connection, time, logger);
        _opened = time.GetTimestamp();
        _idle = new(burst: 2000, perSecond: 200, bytesPerFrame: 8, _opened);
        // with two operations for each far less than the 800 that Kestrel lets wait: on a busy machine its queue would be full before this,
        // which it says
        // 1,000 times
        _resets = new(burst: 250, perSecond: 100, bytesPerFrame: 64, _opened);
        var inner = connection.Transport;
        Input = new Reader(inner.Input, this);
        Output = new Writer(inner.Output, this);
    }

    public PipeReader Input { get; }

    public PipeWriter Output { get; }

    /// <summary>Serves a connection that speaks HTTP/2 from its first byte on.</summary>
    public static async Task RunAsync(ConnectionDelegate next, ConnectionContext connection, TimeProvider time, ILogger logger)
    {
        var transport = connection.Transport;
        connection.Transport = new Http2FloodGuard(connection, time, logger);
        try
        {
            await next(connection);
        }
        finally
        {
            connection.Transport = transport;
        }
    }

    /// <summary>How many frames of a kind may come: a number at once, some each second, and more the more was sent.</summary>
    struct Allowance(int burst, int perSecond, int bytesPerFrame, long now)
    {
        /// <summary>What was sent long ago is no reason for a frame of today.</summary>
        const long MostBytes = 1 << 20;

        readonly int _burst = burst;
        readonly int _perSecond = perSecond;
        readonly int _bytesPerFrame = bytesPerFrame;
        int _left = burst;
        long _since = now;
        long _sent;

        public void Sent(int bytes) => Interlocked.Add(ref _sent, bytes);

        public void Give(int frames) => _left = Math.Min(_burst, _left + frames);

        /// <returns>False when there is none left.</returns>
        public bool Take(TimeProvider time)
        {
            if (_left == 0)
            {
                var now = time.GetTimestamp();
                var earned = (int)Math.Min(_burst, time.GetElapsedTime(_since, now).TotalSeconds * _perSecond);
                var sent = Math.Clamp(Interlocked.Exchange(ref _sent, 0), 0, MostBytes);
                var bySending = (int)Math.Min(_burst - earned, sent / _bytesPerFrame);
                Interlocked.Add(ref _sent, sent - ((long)bySending * _bytesPerFrame));
                _left = earned + bySending;
                // the fraction of a frame that has not been earned yet stays
                _since = earned > 0 ? now : _since;
            }
            return _left-- > 0;
        }
    }

    void Sent(int bytes)
    {
        _idle.Sent(bytes);
        _resets.Sent(bytes);
    }

    /// <exception cref="ConnectionAbortedException">The client floods.</exception>
    void Look(ReadOnlySequence<byte> bytes)
    {
        foreach (var segment in bytes)
        {
            Look(segment.Span);
        }
    }

    void Look(ReadOnlySpan<byte> bytes)
    {
        while (true)
        {
            var skipped = (int)Math.Min(_skip, bytes.Length);
            _skip -= skipped;
            bytes = bytes[skipped..];
            if (bytes.IsEmpty)
            {
                return;
            }
            var needed = FrameHeader;
            if (_headerBytes >= FrameHeader || (_headerBytes == 0 && bytes.Length >= FrameHeader))
            {
                if (_headerBytes == 0)
                {
                    bytes[..FrameHeader].CopyTo(_header);
                    bytes = bytes[FrameHeader..];
                    _headerBytes = FrameHeader;
                }
                needed = IsPadded ? FrameHeader + 1 : FrameHeader;
            }
            var more = Math.Min(needed - _headerBytes, bytes.Length);
            bytes[..more].CopyTo(_header.AsSpan(_headerBytes));
            bytes = bytes[more..];
            _headerBytes += more;
            if (_headerBytes < needed || (_headerBytes == FrameHeader && IsPadded))
            {
                continue;
            }
            Count();
            _skip = Length - (_headerBytes - FrameHeader);
            _headerBytes = 0;
        }
    }

    int Length => (_header[0] << 16) | BinaryPrimitives.ReadUInt16BigEndian(_header.AsSpan(1));

    /// <summary>A DATA frame whose first byte says how much of it is padding.</summary>
    bool IsPadded => _header[3] == 0 && (_header[4] & 8) != 0 && Length > 0;

    void Count()
    {
        var type = Math.Min((int)_header[3], Names.Length - 1);
        switch (type)
        {
            case 0 when (_header[4] & 1) != 0 || Length > (IsPadded ? _header[FrameHeader] + 1 : 0):
                return;
            case 1:
                _idle.Give(2);
                return;
            // the answers to these earn nothing
            case 4:
                _idle.Sent(-FrameHeader);
                break;
            case 6:
                _idle.Sent(-FrameHeader - 8);
                break;
        }
        _counts[type]++;
        if (!(type == 3 ? _resets.Take(_time) : _idle.Take(_time)))
        {
            EndFlood();
        }
    }

    void EndFlood()
    {
        if (!_isFlood)
        {
            _isFlood = true;
            var kind = Array.IndexOf(_counts, _counts.Max());
            LogFlood($"{_connection.RemoteEndPoint}", _counts[kind], Names[kind],
                _time.GetElapsedTime(_opened).TotalSeconds.ToString("F1", CultureInfo.InvariantCulture));
        }
        var reason = new ConnectionAbortedException("the client floods the connection with HTTP/2 frames");
        _connection.Abort(reason);
        throw reason;
    }

    [LoggerMessage(Level = LogLevel.Warning,
        Message = "client {Client}: HTTP/2 flood: {Count} {Kind} frames on a connection of {Seconds} s; it is closed")]
    partial void LogFlood(string client, int count, string kind, string seconds);

    /// <summary>Gives on what comes after a look at it.</summary>
    sealed class Reader(PipeReader inner, Http2FloodGuard guard) : PipeReader
    {
        ReadOnlySequence<byte> _buffer;
        long _seen;

        ReadResult Look(ReadResult result)
        {
            _buffer = result.Buffer;
            guard.Look(_buffer.Slice(_seen));
            _seen = _buffer.Length;
            return result;
        }

        public override ValueTask<ReadResult> ReadAsync(CancellationToken cancellationToken = default)
        {
            var reading = inner.ReadAsync(cancellationToken);
            return reading.IsCompletedSuccessfully ? new(Look(reading.Result)) : AwaitedAsync(reading);
        }

        [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
        async ValueTask<ReadResult> AwaitedAsync(ValueTask<ReadResult> reading) => Look(await reading);

        public override bool TryRead(out ReadResult result)
        {
            if (!inner.TryRead(out result))
            {
                return false;
            }
            Look(result);
            return true;
        }

        public override void AdvanceTo(SequencePosition consumed) => AdvanceTo(consumed, consumed);

        public override void AdvanceTo(SequencePosition consumed, SequencePosition examined)
        {
            _seen -= _buffer.Slice(0, consumed).Length;
            _buffer = default;
            inner.AdvanceTo(consumed, examined);
        }

        public override void CancelPendingRead() => inner.CancelPendingRead();

        public override void Complete(Exception? exception = null) => inner.Complete(exception);

        public override ValueTask CompleteAsync(Exception? exception = null) => inner.CompleteAsync(exception);
    }

    /// <summary>Counts what is sent.</summary>
    sealed class Writer(PipeWriter inner, Http2FloodGuard guard) : PipeWriter
    {
        public override bool CanGetUnflushedBytes => inner.CanGetUnflushedBytes;

        public override long UnflushedBytes => inner.UnflushedBytes;

        public override void Advance(int bytes)
        {
            guard.Sent(bytes);
            inner.Advance(bytes);
        }

        public override Memory<byte> GetMemory(int sizeHint = 0) => inner.GetMemory(sizeHint);

        public override Span<byte> GetSpan(int sizeHint = 0) => inner.GetSpan(sizeHint);

        public override ValueTask<FlushResult> FlushAsync(CancellationToken cancellationToken = default) =>
            inner.FlushAsync(cancellationToken);

        public override ValueTask<FlushResult> WriteAsync(ReadOnlyMemory<byte> source, CancellationToken cancellationToken = default)
        {
            guard.Sent(source.Length);
            return inner.WriteAsync(source, cancellationToken);
        }

        public override void CancelPendingFlush() => inner.CancelPendingFlush();

        public override void Complete(Exception? exception = null) => inner.Complete(exception);

        public override ValueTask CompleteAsync(Exception? exception = null) => inner.CompleteAsync(exception);
    }
}
