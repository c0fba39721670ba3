using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Net.WebSockets;
using System.Text;
using System.Text.Json.Nodes;

namespace Sluice.Cli.Demo;

/// <summary>
/// The demo's origin: streams of every kind. It speaks HTTP/1.1 on the bare socket, so that each framing is exactly what its name says and
/// "sent" means handed to the socket.
/// </summary>
sealed class SampleUpstream : IAsyncDisposable
{
    const int EventSize = 96;
    const int DownloadPiece = 64 * 1024;
    const int KeptDownloads = 64;

    readonly TcpListener _listener;
    readonly TimeProvider _time;
    readonly CancellationTokenSource _stop = new();
    readonly ConcurrentDictionary<long, Task> _connections = new();
    readonly ConcurrentDictionary<string, Download> _downloads = new();
    readonly Task _accepting;

    SampleUpstream(TcpListener listener, TimeProvider time)
    {
        _listener = listener;
        _time = time;
        _accepting = AcceptAsync();
    }

    /// <summary>Where the gateway's Control API answers, for links of the page; null when there is no gateway.</summary>
    public string? Control { get; set; }

    public IPEndPoint Endpoint => (IPEndPoint)_listener.LocalEndpoint;

    /// <param name="port">0: a free one.</param>
    public static SampleUpstream Start(TimeProvider time, int port = 0)
    {
        var listener = new TcpListener(IPAddress.Loopback, port);
        listener.Start();
        return new SampleUpstream(listener, time);
    }

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        _listener.Dispose();
        await _accepting;
        await Task.WhenAll(_connections.Values);
        _stop.Dispose();
    }

    async Task AcceptAsync()
    {
        for (var number = 0L; ; number++)
        {
            Socket socket;
            try
            {
                socket = await _listener.AcceptSocketAsync(_stop.Token);
            }
            catch (Exception e) when (e is OperationCanceledException or ObjectDisposedException or SocketException)
            {
                return;
            }
            var id = number;
            _connections[id] = Task.Run(() => ServeAsync(socket, id));
        }
    }

    async Task ServeAsync(Socket socket, long id)
    {
        try
        {
            socket.NoDelay = true;
            // Small, so that what was "sent" has nearly left.
            socket.SendBufferSize = DownloadPiece;
            await using var stream = new NetworkStream(socket, ownsSocket: true);
            var requests = new RequestReader(stream);
            while (await requests.ReadAsync(_stop.Token) is { } request)
            {
                var reply = new Reply(stream, _stop.Token);
                await AnswerAsync(request, reply, stream);
                if (reply.Closes || request.Header("connection").Equals("close", StringComparison.OrdinalIgnoreCase))
                {
                    break;
                }
            }
        }
        catch (Exception e) when (e is IOException or OperationCanceledException or WebSocketException or FormatException)
        {
            // the client left, spoke no HTTP, or the demo ends
        }
        finally
        {
            _connections.TryRemove(id, out _);
        }
    }

    Task AnswerAsync(Request request, Reply reply, Stream stream) => (request.Method, request.Path) switch
    {
        ("GET", "/events/chunked") => EventsAsync(request, reply, Framing.Chunked),
        ("GET", "/events/close") => EventsAsync(request, reply, Framing.Close),
        ("GET", "/events/length") => EventsAsync(request, reply, Framing.Length),
        ("GET", "/events/dripped") => EventsAsync(request, reply, Framing.Dripped),
        ("GET", "/bunched/events/chunked") => EventsAsync(request, reply, Framing.Chunked, bunched: true),
        ("GET", "/bunched/events/close") => EventsAsync(request, reply, Framing.Close, bunched: true),
        ("GET", "/bunched/events/length") => EventsAsync(request, reply, Framing.Length, bunched: true),
        ("GET", "/bunched/events/dripped") => EventsAsync(request, reply, Framing.Dripped, bunched: true),
        ("GET", "/demo/links") => reply.JsonAsync(new JsonObject { ["control"] = Control }),
        ("POST", "/v1/chat/completions") => CompletionAsync(request, reply),
        ("GET", "/ndjson") => LinesAsync(request, reply),
        ("GET", "/ws") => EchoAsync(request, reply, stream),
        ("GET", "/download") => DownloadAsync(request, reply),
        ("GET", "/download/progress") => ProgressAsync(request, reply),
        ("GET", "/clock") => reply.JsonAsync(new JsonObject { ["now"] = Now }),
        ("GET", "/demo") => reply.WholeAsync("301 Moved Permanently", "text/plain", [], "Location: /demo/\r\n"),
        ("GET", var path) when DemoPage.Find(path) is var (type, content) => reply.WholeAsync("200 OK", type, content, DemoPage.Headers),
        _ => reply.WholeAsync("404 Not Found", "text/plain; charset=utf-8", "no such thing in the sample upstream\n"u8.ToArray()),
    };

    long Now => _time.GetUtcNow().ToUnixTimeMilliseconds();

    Task PauseAsync(int milliseconds) => Task.Delay(TimeSpan.FromMilliseconds(milliseconds), _time, _stop.Token);

    /// <summary>As much as a plain relay with nginx's proxy_buffering gathers before it sends: one of its buffers (4 KB).</summary>
    const int RelayBuffer = 4096;

    /// <summary>Events of one size each, so that the length of the whole is known before the first.</summary>
    /// <param name="bunched">Simulates a relay between us and the gateway that gathers bytes until its buffer is full or the stream has
    /// ended.</param>
    async Task EventsAsync(Request request, Reply reply, Framing framing, bool bunched = false)
    {
        var held = new MemoryStream();
        var n = request.Number("n", 10, 1, 100_000);
        var interval = request.Number("interval_ms", 200, 0, 60_000);
        await reply.HeadAsync("text/event-stream", framing, (long)n * EventSize, "Cache-Control: no-store\r\n");
        for (var id = 1; id <= n; id++)
        {
            var head = string.Create(CultureInfo.InvariantCulture, $"id: {id}\ndata: {{\"id\":{id},\"of\":{n},\"sent\":{Now}");
            held.Write(Encoding.ASCII.GetBytes(head.PadRight(EventSize - 3) + "}\n\n"));
            if (!bunched || held.Length >= RelayBuffer || id == n)
            {
                await reply.PieceAsync(held.ToArray());
                held.SetLength(0);
            }
            if (id < n)
            {
                await PauseAsync(interval);
            }
        }
        await reply.EndAsync();
    }

    /// <summary>As OpenAI's API streams: one token an event, <c>[DONE]</c> at the end.</summary>
    async Task CompletionAsync(Request request, Reply reply)
    {
        JsonNode? asked = null;
        try
        {
            asked = JsonNode.Parse(request.Body);
        }
        catch (System.Text.Json.JsonException)
        {
            await reply.WholeAsync("400 Bad Request", "application/json", """{"error":{"message":"the body is no JSON"}}"""u8.ToArray());
            return;
        }
        var question = Text((asked as JsonObject)?["messages"] as JsonArray is { Count: > 0 } messages ? messages[^1] : null);
        var answer = Answers.To(question);
        if ((asked as JsonObject)?["stream"] is not JsonValue stream || !stream.TryGetValue(out bool streamed) || !streamed)
        {
            await reply.JsonAsync(Completion("chat.completion", new JsonObject
            {
                ["index"] = 0,
                ["message"] = new JsonObject { ["role"] = "assistant", ["content"] = answer },
                ["finish_reason"] = "stop",
            }));
            return;
        }

        var interval = request.Number("interval_ms", 35, 0, 10_000);
        await reply.HeadAsync("text/event-stream", Framing.Chunked, null, "Cache-Control: no-store\r\n");
        foreach (var token in Answers.Tokens(answer))
        {
            await reply.PieceAsync(Event(Completion("chat.completion.chunk", new JsonObject
            {
                ["index"] = 0,
                ["delta"] = new JsonObject { ["content"] = token },
                ["finish_reason"] = null,
            }).ToJsonString()));
            await PauseAsync(interval);
        }
        await reply.PieceAsync(Event(Completion("chat.completion.chunk", new JsonObject
        {
            ["index"] = 0,
            ["delta"] = new JsonObject(),
            ["finish_reason"] = "stop",
        }).ToJsonString()));
        await reply.PieceAsync(Event("[DONE]"));
        await reply.EndAsync();

        JsonObject Completion(string type, JsonObject choice) => new()
        {
            ["id"] = "chatcmpl-demo",
            ["object"] = type,
            ["created"] = Now / 1000,
            ["model"] = "sluice-demo",
            ["sent"] = Now,
            ["choices"] = new JsonArray(choice),
        };
        static byte[] Event(string data) => Encoding.UTF8.GetBytes($"data: {data}\n\n");
        static string Text(JsonNode? message) =>
            message is JsonObject && message["content"] is JsonValue content && content.TryGetValue(out string? text) ? text : "";
    }

    async Task LinesAsync(Request request, Reply reply)
    {
        var n = request.Number("n", 10, 1, 100_000);
        var interval = request.Number("interval_ms", 200, 0, 60_000);
        await reply.HeadAsync("application/x-ndjson", Framing.Chunked, null, "Cache-Control: no-store\r\n");
        for (var id = 1; id <= n; id++)
        {
            await reply.PieceAsync(Encoding.UTF8.GetBytes(new JsonObject { ["id"] = id, ["of"] = n, ["sent"] = Now }.ToJsonString()
                + "\n"));
            if (id < n)
            {
                await PauseAsync(interval);
            }
        }
        await reply.EndAsync();
    }

    async Task EchoAsync(Request request, Reply reply, Stream stream)
    {
        if (request.Header("sec-websocket-key") is not { Length: > 0 } key)
        {
            await reply.WholeAsync("426 Upgrade Required", "text/plain", "a WebSocket lives here\n"u8.ToArray(), "Upgrade: websocket\r\n");
            return;
        }
        await reply.SwitchAsync(key);
        using var socket = WebSocket.CreateFromStream(stream, new WebSocketCreationOptions { IsServer = true });
        var buffer = new byte[16 * 1024];
        while (true)
        {
            var received = await socket.ReceiveAsync(buffer.AsMemory(), _stop.Token);
            if (received.MessageType == WebSocketMessageType.Close)
            {
                await socket.CloseAsync(socket.CloseStatus ?? WebSocketCloseStatus.NormalClosure, socket.CloseStatusDescription,
                    _stop.Token);
                return;
            }
            await socket.SendAsync(buffer.AsMemory(0, received.Count), received.MessageType, received.EndOfMessage, _stop.Token);
        }
    }

    async Task DownloadAsync(Request request, Reply reply)
    {
        var total = (long)request.Number("mb", 40, 1, 1024) * 1024 * 1024;
        var download = new Download(total, Now);
        if (request.Query("id") is { Length: > 0 and <= 64 } id)
        {
            foreach (var old in _downloads.OrderBy(entry => entry.Value.Started).SkipLast(KeptDownloads - 1))
            {
                _downloads.TryRemove(old);
            }
            _downloads[id] = download;
        }
        var piece = new byte[DownloadPiece];
        piece.AsSpan().Fill((byte)'~');
        await reply.HeadAsync("application/octet-stream", Framing.Length, total, "Cache-Control: no-store\r\n");
        try
        {
            for (var left = total; left > 0; left -= piece.Length)
            {
                await reply.PieceAsync(piece);
                download.Sent += piece.Length;
            }
            download.Finished = Now;
        }
        finally
        {
            download.Ended = true;
        }
    }

    Task ProgressAsync(Request request, Reply reply) =>
        _downloads.TryGetValue(request.Query("id") ?? "", out var download)
            ? reply.JsonAsync(new JsonObject
            {
                ["total"] = download.Total,
                ["sent"] = download.Sent,
                ["started"] = download.Started,
                ["finished"] = download.Finished,
                ["aborted"] = download.Ended && download.Finished is null,
                ["now"] = Now,
            })
            : reply.WholeAsync("404 Not Found", "application/json", """{"error":"no download of this id"}"""u8.ToArray());

    sealed class Download(long total, long started)
    {
        long _sent;

        public long Total => total;

        public long Started => started;

        public long? Finished { get; set; }

        public bool Ended { get; set; }

        public long Sent
        {
            get => Interlocked.Read(ref _sent);
            set => Interlocked.Exchange(ref _sent, value);
        }
    }

    enum Framing
    {
        /// <summary>Each piece a chunk of its own.</summary>
        Chunked,

        /// <summary>Neither length nor chunks: the end of the connection is the end.</summary>
        Close,
        Length,

        /// <summary>The whole body is one chunk, whose bytes come little by little.</summary>
        Dripped,
    }

    sealed class Reply(Stream stream, CancellationToken cancellation)
    {
        Framing _framing;

        public bool Closes { get; private set; }

        public async Task HeadAsync(string type, Framing framing, long? length, string headers = "")
        {
            _framing = framing;
            Closes = framing == Framing.Close;
            await TextAsync($"HTTP/1.1 200 OK\r\nContent-Type: {type}\r\n{headers}" + framing switch
            {
                Framing.Length => $"Content-Length: {length}\r\n\r\n",
                Framing.Close => "Connection: close\r\n\r\n",
                Framing.Dripped => $"Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n",
                _ => "Transfer-Encoding: chunked\r\n\r\n",
            });
        }

        public async Task PieceAsync(ReadOnlyMemory<byte> piece)
        {
            if (_framing != Framing.Chunked)
            {
                await stream.WriteAsync(piece, cancellation);
                return;
            }
            // one write: a chunk never leaves in two packets
            var chunk = new byte[piece.Length + 12];
            var head = Encoding.ASCII.GetBytes($"{piece.Length:x}\r\n", chunk);
            piece.Span.CopyTo(chunk.AsSpan(head));
            "\r\n"u8.CopyTo(chunk.AsSpan(head + piece.Length));
            await stream.WriteAsync(chunk.AsMemory(0, head + piece.Length + 2), cancellation);
        }

        public async Task EndAsync()
        {
            switch (_framing)
            {
                case Framing.Chunked:
                    await TextAsync("0\r\n\r\n");
                    break;
                case Framing.Dripped:
                    await TextAsync("\r\n0\r\n\r\n");
                    break;
            }
        }

        public async Task WholeAsync(string status, string type, byte[] body, string headers = "")
        {
            await TextAsync($"HTTP/1.1 {status}\r\nContent-Type: {type}\r\nContent-Length: {body.Length}\r\n{headers}\r\n");
            await stream.WriteAsync(body, cancellation);
        }

        public Task JsonAsync(JsonObject body) =>
            WholeAsync("200 OK", "application/json", Encoding.UTF8.GetBytes(body.ToJsonString()), "Cache-Control: no-store\r\n");

        public Task SwitchAsync(string key)
        {
            Closes = true;
#pragma warning disable CA5350 // RFC 6455 asks for SHA-1; nothing is kept secret by it
            var accept = System.Security.Cryptography.SHA1.HashData(Encoding.ASCII.GetBytes(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
#pragma warning restore CA5350
            return TextAsync("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                + $"Sec-WebSocket-Accept: {Convert.ToBase64String(accept)}\r\n\r\n");
        }

        async Task TextAsync(string text) => await stream.WriteAsync(Encoding.ASCII.GetBytes(text), cancellation);
    }

    sealed record Request(string Method, string Path, string QueryString, Dictionary<string, string> Headers, byte[] Body)
    {
        public string Header(string name) => Headers.GetValueOrDefault(name, "");

        public string? Query(string name) => QueryString.Split('&')
            .Select(pair => pair.Split('=', 2))
            .Where(pair => pair.Length == 2 && pair[0] == name)
            .Select(pair => Uri.UnescapeDataString(pair[1]))
            .FirstOrDefault();

        public int Number(string name, int usual, int least, int most) =>
            int.TryParse(Query(name), CultureInfo.InvariantCulture, out var value) ? Math.Clamp(value, least, most) : usual;
    }

    /// <summary>Just enough of HTTP/1.1 for a trusted client: heads up to 16 KiB, bodies up to 1 MiB.</summary>
    sealed class RequestReader(Stream stream)
    {
        const int MaxHead = 16 * 1024, MaxBody = 1024 * 1024;

        readonly byte[] _buffer = new byte[MaxHead];
        int _start;
        int _end;

        /// <returns>Null: the connection was closed between two requests.</returns>
        public async Task<Request?> ReadAsync(CancellationToken cancellation)
        {
            if (await LineAsync(cancellation) is not { } line)
            {
                return null;
            }
            if (line.Split(' ') is not [var method, var target, _])
            {
                throw new FormatException("request line");
            }
            Dictionary<string, string> headers = new(StringComparer.OrdinalIgnoreCase);
            while (await LineAsync(cancellation) is { Length: > 0 } header)
            {
                var colon = header.IndexOf(':', StringComparison.Ordinal);
                headers[header[..Math.Max(colon, 0)]] = header[(colon + 1)..].Trim();
            }
            var body = await BodyAsync(headers, cancellation);
            var question = target.IndexOf('?', StringComparison.Ordinal);
            return question < 0
                ? new Request(method, target, "", headers, body)
                : new Request(method, target[..question], target[(question + 1)..], headers, body);
        }

        async Task<byte[]> BodyAsync(Dictionary<string, string> headers, CancellationToken cancellation)
        {
            if (headers.TryGetValue("content-length", out var length))
            {
                return await BytesAsync(int.Parse(length, CultureInfo.InvariantCulture), cancellation);
            }
            if (!headers.ContainsKey("transfer-encoding"))
            {
                return [];
            }
            List<byte> body = [];
            while (true)
            {
                var size = int.Parse(await LineAsync(cancellation) ?? "", NumberStyles.HexNumber, CultureInfo.InvariantCulture);
                body.AddRange(await BytesAsync(size, cancellation));
                await LineAsync(cancellation);
                if (size == 0)
                {
                    return [.. body];
                }
                if (body.Count > MaxBody)
                {
                    throw new FormatException("body too large");
                }
            }
        }

        async Task<string?> LineAsync(CancellationToken cancellation)
        {
            while (true)
            {
                var newline = _buffer.AsSpan(_start, _end - _start).IndexOf((byte)'\n');
                if (newline >= 0)
                {
                    var line = Encoding.ASCII.GetString(_buffer, _start, newline).TrimEnd('\r');
                    _start += newline + 1;
                    return line;
                }
                if (!await MoreAsync(cancellation))
                {
                    return null;
                }
            }
        }

        async Task<byte[]> BytesAsync(int count, CancellationToken cancellation)
        {
            if (count is < 0 or > MaxBody)
            {
                throw new FormatException("body too large");
            }
            var bytes = new byte[count];
            var had = Math.Min(count, _end - _start);
            _buffer.AsSpan(_start, had).CopyTo(bytes);
            _start += had;
            await stream.ReadExactlyAsync(bytes.AsMemory(had), cancellation);
            return bytes;
        }

        async Task<bool> MoreAsync(CancellationToken cancellation)
        {
            _buffer.AsSpan(_start, _end - _start).CopyTo(_buffer);
            (_start, _end) = (0, _end - _start);
            if (_end == MaxHead)
            {
                throw new FormatException("head too large");
            }
            var read = await stream.ReadAsync(_buffer.AsMemory(_end), cancellation);
            _end += read;
            return read > 0;
        }
    }
}
