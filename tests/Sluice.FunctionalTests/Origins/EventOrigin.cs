using System.Diagnostics;
using System.Globalization;
using System.Security.Cryptography.X509Certificates;
using System.Threading.Channels;

namespace Sluice.FunctionalTests.Origins;

/// <summary>How a stream is put on the wire.</summary>
public enum Framing
{
    /// <summary>One HTTP chunk for each event.</summary>
    ChunkPerEvent,

    /// <summary>No framing: the end of the connection is the end of the body.</summary>
    CloseDelimited,

    /// <summary>Content-Length, known beforehand.</summary>
    ContentLength,

    /// <summary>One HTTP chunk for the whole stream, given out bit by bit.</summary>
    DrippedChunk,
}

/// <summary>
/// A stream that the test drives: each <see cref="SendAsync"/> puts one event on the wire. An event that arrives before the next is sent
/// was held back by nobody.
/// </summary>
public sealed class EventOrigin : IAsyncDisposable
{
    readonly Channel<string?> _events = Channel.CreateUnbounded<string?>();
    readonly TaskCompletionSource<string> _request = new(TaskCreationOptions.RunContinuationsAsynchronously);
    readonly TaskCompletionSource _clientGone = new(TaskCreationOptions.RunContinuationsAsynchronously);
    readonly ScriptedOrigin _origin;

    /// <param name="bytes">Length of the whole stream, for the framings that say it first.</param>
    /// <param name="certificate">Given: TLS.</param>
    public EventOrigin(
        Framing framing, int bytes = 0, string contentType = "text/event-stream", string headers = "", X509Certificate2? certificate = null)
    {
        async Task Serve(OriginConnection connection)
        {
            _request.TrySetResult(await connection.ReadHeadAsync());
            await connection.SendAsync($"HTTP/1.1 200 OK\r\nContent-Type: {contentType}\r\n{headers}" + framing switch
            {
                Framing.CloseDelimited => "Connection: close\r\n\r\n",
                Framing.ContentLength => $"Content-Length: {bytes}\r\n\r\n",
                Framing.ChunkPerEvent => "Transfer-Encoding: chunked\r\n\r\n",
                _ => $"Transfer-Encoding: chunked\r\n\r\n{bytes:x}\r\n",
            });
            var watching = WatchClientAsync(connection);
            await foreach (var text in _events.Reader.ReadAllAsync())
            {
                if (text is null)
                {
                    connection.Reset();
                    return;
                }
                if (text.Length == 0)
                {
                    connection.ShutdownSend();
                    await watching;
                    return;
                }
                await connection.SendAsync(framing == Framing.ChunkPerEvent ? $"{text.Length:x}\r\n{text}\r\n" : text);
            }
            await connection.SendAsync(framing switch { Framing.ChunkPerEvent => "0\r\n\r\n", Framing.DrippedChunk => "\r\n0\r\n\r\n",
                _ => "" });
            if (framing == Framing.CloseDelimited)
            {
                await connection.SayGoodbyeAsync();
                connection.ShutdownSend();
            }
            // closing while the watch still reads would be a reset
            await watching;
        }
        _origin = certificate is null ? ScriptedOrigin.Start(Serve) : ScriptedOrigin.StartTls(certificate, Serve);
    }

    public int Port => _origin.Port;

    /// <summary>The request's head as it came.</summary>
    public Task<string> Request => _request.Task;

    /// <summary>Ends when the gateway has closed its connection.</summary>
    public Task ClientGone => _clientGone.Task;

    public static string Event(int id) => string.Create(CultureInfo.InvariantCulture, $"id: {id:D4}\ndata: event number {id:D4}\n\n");

    public ValueTask SendAsync(string text) => _events.Writer.WriteAsync(text);

    /// <summary>The stream ends as its framing says.</summary>
    public void End() => _events.Writer.TryComplete();

    /// <summary>The stream breaks off with RST.</summary>
    public ValueTask ResetAsync() => _events.Writer.WriteAsync(null);

    /// <summary>The stream breaks off with FIN, whatever its framing promised.</summary>
    public ValueTask BreakOffAsync() => _events.Writer.WriteAsync("");

    async Task WatchClientAsync(OriginConnection connection)
    {
        try
        {
            await connection.ReadEndAsync();
        }
        catch (OperationCanceledException)
        {
            return;
        }
        _clientGone.TrySetResult();
    }

    public async ValueTask DisposeAsync()
    {
        End();
        await _origin.DisposeAsync();
    }
}

/// <summary>Reads an answer piece by piece and waits for single events.</summary>
public sealed class EventReader(Stream body) : IDisposable
{
    readonly byte[] _buffer = new byte[16 * 1024];
    string _text = "";

    public Stream Body => body;

    /// <summary>Everything up to and including the next blank line, and how long that took.</summary>
    public async Task<(string Event, TimeSpan Waited)> NextAsync()
    {
        var watch = Stopwatch.StartNew();
        while (true)
        {
            var end = _text.IndexOf("\n\n", StringComparison.Ordinal);
            if (end >= 0)
            {
                var found = _text[..(end + 2)];
                _text = _text[(end + 2)..];
                return (found, watch.Elapsed);
            }
            var read = await body.ReadAsync(_buffer).AsTask().WaitAsync(TimeSpan.FromSeconds(30));
            if (read == 0)
            {
                throw new EndOfStreamException($"the stream ended after \"{_text}\"");
            }
            _text += System.Text.Encoding.UTF8.GetString(_buffer, 0, read);
        }
    }

    public void Dispose() => body.Dispose();
}
