using System.Buffers.Text;
using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Text;

namespace Sluice.Load;

/// <summary>What all connections of a scenario have seen.</summary>
sealed class Tally
{
    readonly long[] _histogram = new long[64 * 32];
    long _operations, _bytes, _wrong;

    /// <summary>Events or answers.</summary>
    public long Operations => Interlocked.Read(ref _operations);

    public long Bytes => Interlocked.Read(ref _bytes);

    /// <summary>Lost, duplicated, reordered or corrupted events, broken answers.</summary>
    public long Wrong => Interlocked.Read(ref _wrong);

    public string? FirstWrong { get; private set; }

    public void Operation(long ticks)
    {
        Interlocked.Increment(ref _operations);
        var us = Math.Max(1, ticks * 1_000_000 / Stopwatch.Frequency);
        var power = 63 - System.Numerics.BitOperations.LeadingZeroCount((ulong)us);
        var part = power >= 5 ? (int)((us >> (power - 5)) & 31) : (int)((us << (5 - power)) & 31);
        Interlocked.Increment(ref _histogram[(power * 32) + part]);
    }

    public void Received(int bytes) => Interlocked.Add(ref _bytes, bytes);

    public void Error(string what)
    {
        Interlocked.Increment(ref _wrong);
        FirstWrong ??= what;
    }

    /// <summary>Microseconds, within 3 %.</summary>
    public double Quantile(double share)
    {
        var wanted = (long)(_histogram.Sum() * share);
        for (var slot = 0; slot < _histogram.Length; slot++)
        {
            if ((wanted -= _histogram[slot]) < 0)
            {
                return (1L << (slot / 32)) * (1 + (slot % 32 / 32.0));
            }
        }
        return 0;
    }

    public void Clear()
    {
        Array.Clear(_histogram);
        Interlocked.Exchange(ref _operations, 0);
        Interlocked.Exchange(ref _bytes, 0);
    }
}

/// <summary>Clients over plain sockets (or TLS over them), each checking what it gets.</summary>
static class Clients
{
    public static async Task<Stream> ConnectAsync(int port, bool tls, CancellationToken end)
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        await socket.ConnectAsync(new IPEndPoint(IPAddress.Loopback, port), end);
        var plain = new NetworkStream(socket, ownsSocket: true);
        if (!tls)
        {
            return plain;
        }
        var secure = new SslStream(plain, false, static (_, _, _, _) => true);
        await secure.AuthenticateAsClientAsync(new SslClientAuthenticationOptions { TargetHost = "localhost" }, end);
        return secure;
    }

    static byte[] Request(string target) => Encoding.ASCII.GetBytes($"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");

    /// <summary>An endless event stream; every event is checked: its number, its size, its bytes.</summary>
    /// <param name="started">Called with the first event.</param>
    public static async Task EventsAsync(int port, bool tls, string target, int size, Tally tally, Action started, CancellationToken end)
    {
        try
        {
            await using var connection = await ConnectAsync(port, tls, end);
            await connection.WriteAsync(Request(target), end);
            var reader = new ChunkReader(connection);
            await reader.HeadAsync(end);
            var checker = new EventChecker(size, tally);
            while (true)
            {
                var payload = await reader.ReadAsync(end);
                if (payload.IsEmpty)
                {
                    tally.Error("an event stream ended");
                    return;
                }
                tally.Received(payload.Length);
                if (checker.Check(payload.Span) && started is not null)
                {
                    started();
                    started = static () => { };
                }
            }
        }
        catch (OperationCanceledException)
        {
            // the measurement is over
        }
        catch (Exception e) when (e is IOException or SocketException or InvalidDataException)
        {
            if (!end.IsCancellationRequested)
            {
                tally.Error(e.Message);
            }
        }
    }

    /// <summary>One request after the other on one connection.</summary>
    /// <param name="bytesPerSecond">A slow reader; 0: as fast as it goes.</param>
    public static async Task RequestsAsync(int port, string target, long length, long bytesPerSecond, Tally tally, CancellationToken end)
    {
        var buffer = new byte[64 * 1024];
        var request = Request(target);
        try
        {
            await using var connection = await ConnectAsync(port, false, end);
            while (!end.IsCancellationRequested)
            {
                var began = Stopwatch.GetTimestamp();
                await connection.WriteAsync(request, end);
                long left = -1;
                var filled = 0;
                while (left != 0)
                {
                    var read = await connection.ReadAsync(buffer.AsMemory(left < 0 ? filled : 0), end);
                    if (read == 0)
                    {
                        throw new InvalidDataException("an answer ended early");
                    }
                    if (left < 0)
                    {
                        filled += read;
                        var head = buffer.AsSpan(0, filled).IndexOf("\r\n\r\n"u8);
                        if (head < 0)
                        {
                            continue;
                        }
                        if (!buffer.AsSpan(0, 12).SequenceEqual("HTTP/1.1 200"u8))
                        {
                            throw new InvalidDataException(Encoding.ASCII.GetString(buffer, 0, Math.Min(filled, 40)));
                        }
                        left = length - (filled - head - 4);
                    }
                    else
                    {
                        left -= read;
                    }
                    tally.Received(read);
                    if (bytesPerSecond > 0)
                    {
                        await Task.Delay(TimeSpan.FromSeconds((double)read / bytesPerSecond), end);
                    }
                }
                tally.Operation(Stopwatch.GetTimestamp() - began);
            }
        }
        catch (OperationCanceledException)
        {
            // the measurement is over
        }
        catch (Exception e) when (e is IOException or SocketException or InvalidDataException)
        {
            if (!end.IsCancellationRequested)
            {
                tally.Error(e.Message);
            }
        }
    }

    /// <summary>One request after the other over HTTP/2 and TLS; the handler is shared.</summary>
    public static async Task Http2Async(HttpClient client, Uri target, Tally tally, CancellationToken end)
    {
        while (!end.IsCancellationRequested)
        {
            var began = Stopwatch.GetTimestamp();
            try
            {
                using var request = new HttpRequestMessage(HttpMethod.Get, target) { Version = HttpVersion.Version20,
                    VersionPolicy = HttpVersionPolicy.RequestVersionExact };
                using var response = await client.SendAsync(request, end);
                var body = await response.Content.ReadAsByteArrayAsync(end);
                if (body.Length != 12)
                {
                    tally.Error($"{(int)response.StatusCode}, {body.Length} bytes");
                }
                tally.Operation(Stopwatch.GetTimestamp() - began);
            }
            catch (OperationCanceledException)
            {
                return;
            }
            catch (HttpRequestException e)
            {
                tally.Error(e.Message);
                return;
            }
        }
    }
}

/// <summary>Events that come in any pieces.</summary>
sealed class EventChecker(int size, Tally tally)
{
    readonly byte[] _event = new byte[size];
    int _filled;
    long _next = -1;

    /// <summary>True when an event was completed.</summary>
    public bool Check(ReadOnlySpan<byte> payload)
    {
        var any = false;
        while (!payload.IsEmpty)
        {
            var take = Math.Min(size - _filled, payload.Length);
            payload[..take].CopyTo(_event.AsSpan(_filled));
            payload = payload[take..];
            _filled += take;
            if (_filled == size)
            {
                _filled = 0;
                any = true;
                Complete();
            }
        }
        return any;
    }

    void Complete()
    {
        // id: 0000000001\ndata: 0000000000000000001 ....\n\n
        ReadOnlySpan<byte> all = _event;
        if (!all.StartsWith("id: "u8) || !Utf8Parser.TryParse(all[4..14], out long number, out _)
            || !all[14..21].SequenceEqual("\ndata: "u8)
            || !Utf8Parser.TryParse(all[21..40], out long sent, out _) || !all.EndsWith("\n\n"u8)
            || all[41..^2].ContainsAnyExcept((byte)'.'))
        {
            tally.Error("an event is corrupted");
            return;
        }
        if (_next >= 0 && number != _next)
        {
            tally.Error(string.Create(CultureInfo.InvariantCulture, $"event {number} instead of {_next}"));
        }
        _next = number + 1;
        tally.Operation(Stopwatch.GetTimestamp() - sent);
    }
}

/// <summary>A strict reader of chunked answers.</summary>
sealed class ChunkReader(Stream connection)
{
    readonly byte[] _buffer = new byte[16 * 1024];
    int _start, _end;
    int _left;

    public async ValueTask HeadAsync(CancellationToken end)
    {
        int at;
        while ((at = _buffer.AsSpan(0, _end).IndexOf("\r\n\r\n"u8)) < 0)
        {
            await FillAsync(end);
        }
        if (!_buffer.AsSpan(0, 12).SequenceEqual("HTTP/1.1 200"u8))
        {
            throw new InvalidDataException(Encoding.ASCII.GetString(_buffer, 0, Math.Min(_end, 40)));
        }
        _start = at + 4;
    }

    /// <summary>Some payload; empty at the end. Valid until the next call.</summary>
    public async ValueTask<ReadOnlyMemory<byte>> ReadAsync(CancellationToken end)
    {
        while (true)
        {
            if (_left > 2 && _end > _start)
            {
                var take = Math.Min(_left - 2, _end - _start);
                var payload = _buffer.AsMemory(_start, take);
                _start += take;
                _left -= take;
                return payload;
            }
            if (_left is 1 or 2 && _end - _start >= _left)
            {
                if (!_buffer.AsSpan(_start, _left).SequenceEqual("\r\n"u8[^_left..]))
                {
                    throw new InvalidDataException("a chunk does not end with CRLF");
                }
                _start += _left;
                _left = 0;
            }
            var line = _left == 0 ? _buffer.AsSpan(_start, _end - _start).IndexOf("\r\n"u8) : -1;
            if (line >= 0)
            {
                if (!Utf8Parser.TryParse(_buffer.AsSpan(_start, line), out int size, out var used, 'x') || used != line)
                {
                    throw new InvalidDataException("a malformed chunk size");
                }
                _start += line + 2;
                _left = size + 2;
                if (size == 0)
                {
                    return default;
                }
                continue;
            }
            await FillAsync(end);
        }
    }

    async ValueTask FillAsync(CancellationToken end)
    {
        if (_start > 0)
        {
            _buffer.AsSpan(_start, _end - _start).CopyTo(_buffer);
            _end -= _start;
            _start = 0;
        }
        var read = await connection.ReadAsync(_buffer.AsMemory(_end), end);
        if (read == 0)
        {
            throw new InvalidDataException("the connection ended in the middle of an answer");
        }
        _end += read;
    }
}
