using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Sluice.Load;

/// <summary>
/// The upstream of every measurement, over plain sockets: <c>/hello</c>, <c>/bytes?n=N</c> (Content-Length), and
/// <c>/events?interval_us=I&amp;size=S</c>,
/// an endless chunked event stream, one event per send. An event carries its number and the clock at its sending.
/// </summary>
sealed class Origin : IDisposable
{
    readonly Socket _listener = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
    readonly byte[] _bulk = new byte[256 * 1024];
    readonly Lock _lock = new();
    readonly List<EventStream> _streams = [];
    readonly double[] _phases;
    int _opened;
    readonly Thread _ticker;
    volatile bool _ended;

    public Origin()
    {
        Random.Shared.NextBytes(_bulk);
        var random = new Random(1);
        _phases = [.. Enumerable.Range(0, 1000).Select(_ => random.NextDouble())];
        _listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        _listener.Listen(4096);
        _ = AcceptAsync();
        _ticker = new Thread(Tick) { IsBackground = true, Name = "events" };
        _ticker.Start();
    }

    public int Port => ((IPEndPoint)_listener.LocalEndPoint!).Port;

    /// <summary>Events that no room was found for within their interval.</summary>
    public long Skipped { get; private set; }

    async Task AcceptAsync()
    {
        while (!_ended)
        {
            var client = await _listener.AcceptAsync();
            client.NoDelay = true;
            _ = ServeAsync(client);
        }
    }

    async Task ServeAsync(Socket client)
    {
        try
        {
            var buffer = new byte[4096];
            var filled = 0;
            while (true)
            {
                var read = await client.ReceiveAsync(buffer.AsMemory(filled));
                if (read == 0)
                {
                    break;
                }
                filled += read;
                var end = buffer.AsSpan(0, filled).IndexOf("\r\n\r\n"u8);
                if (end < 0)
                {
                    continue;
                }
                var line = Encoding.ASCII.GetString(buffer, 0, buffer.AsSpan().IndexOf("\r\n"u8)).Split(' ');
                filled = 0;
                if (!await AnswerAsync(client, line[1]))
                {
                    // the next event may be an hour away: only a receive tells that the client is gone
                    buffer = [];
                    await client.ReceiveAsync(new byte[1]);
                    break;
                }
            }
            client.Dispose();
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            client.Dispose();
        }
    }

    /// <summary>False: the connection belongs to an event stream now.</summary>
    async Task<bool> AnswerAsync(Socket client, string target)
    {
        var question = target.IndexOf('?', StringComparison.Ordinal);
        var path = question < 0 ? target : target[..question];
        switch (path)
        {
            case "/hello":
                await SendAsync(client,
                    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\nhello world\n"u8.ToArray());
                return true;
            case "/bytes":
                var left = Argument(target, "n");
                await SendAsync(client,
                    Encoding.ASCII.GetBytes(
                        $"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {left}\r\n\r\n"));
                for (; left > 0; left -= _bulk.Length)
                {
                    await SendAsync(client, _bulk.AsMemory(0, (int)Math.Min(left, _bulk.Length)));
                }
                return true;
            case "/events":
                await SendAsync(client,
                    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"u8.ToArray());
                lock (_lock)
                {
                    _streams.Add(new(client, Argument(target, "interval_us"), (int)Argument(target, "size"),
                        _phases[_opened++ % _phases.Length]));
                }
                return false;
            default:
                await SendAsync(client, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"u8.ToArray());
                return true;
        }
    }

    static long Argument(string target, string name)
    {
        var at = target.IndexOf(name + "=", StringComparison.Ordinal) + name.Length + 1;
        var end = target.IndexOf('&', at);
        return long.Parse(end < 0 ? target[at..] : target[at..end], CultureInfo.InvariantCulture);
    }

    static async Task SendAsync(Socket client, ReadOnlyMemory<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            bytes = bytes[await client.SendAsync(bytes)..];
        }
    }

    /// <summary>
    /// Each stream has its place in the interval and keeps it, as independent sources would; the places are the same in each measurement,
    /// so that no gateway has the luck of fewer events at one time.
    /// </summary>
    void Tick()
    {
        var turn = new PriorityQueue<EventStream, long>();
        while (!_ended)
        {
            lock (_lock)
            {
                foreach (var stream in _streams)
                {
                    // the first event at once: who waits for it knows that the stream runs
                    turn.Enqueue(stream, 0);
                }
                _streams.Clear();
            }
            var now = Stopwatch.GetTimestamp();
            while (turn.TryPeek(out var due, out var at) && at <= now)
            {
                turn.Dequeue();
                if (due.Send(out var skipped))
                {
                    var interval = due.IntervalUs * Stopwatch.Frequency / 1_000_000;
                    turn.Enqueue(due, at == 0 ? due.First(now, interval) : Math.Max(at + interval, now - interval));
                }
                Skipped += skipped ? 1 : 0;
            }
            Thread.Sleep(1);
        }
    }

    public void Dispose()
    {
        _ended = true;
        _listener.Dispose();
    }

    /// <param name="phase">Its place in the interval, from 0 to 1.</param>
    sealed class EventStream(Socket client, long intervalUs, int size, double phase)
    {
        readonly byte[] _chunk = Layout(size);
        long _number;

        public long IntervalUs => Math.Max(intervalUs, 1);

        /// <summary>When the next event after the one at <paramref name="now"/> is due, in ticks of the clock.</summary>
        public long First(long now, long interval) => (((now / interval) + 1) * interval) + (long)(phase * interval);

        static byte[] Layout(int size)
        {
            var start = Encoding.ASCII.GetBytes($"{size:x}\r\n");
            var chunk = new byte[start.Length + size + 2];
            Array.Fill(chunk, (byte)'.');
            start.CopyTo(chunk, 0);
            "\n\n\r\n"u8.CopyTo(chunk.AsSpan(^4));
            return chunk;
        }

        /// <summary>False when the client is gone.</summary>
        public bool Send(out bool skipped)
        {
            skipped = false;
            var body = _chunk.AsSpan()[(_chunk.AsSpan().IndexOf((byte)'\n') + 1)..];
            // id: 0000000001\ndata: 0000000000000000001 ....\n\n
            Encoding.ASCII.GetBytes(string.Create(CultureInfo.InvariantCulture,
                $"id: {_number:D10}\ndata: {Stopwatch.GetTimestamp():D19} "), body);
            try
            {
                client.Blocking = false;
                var sent = client.Send(_chunk, SocketFlags.None, out var error);
                if (error == SocketError.WouldBlock)
                {
                    skipped = true;
                    return true;
                }
                _number++;
                if (error != SocketError.Success || sent < _chunk.Length)
                {
                    client.Dispose();
                    return false;
                }
                return true;
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                return false;
            }
        }
    }
}
