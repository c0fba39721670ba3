using System.Diagnostics;
using System.IO.Compression;
using System.Net;
using System.Net.Http.Headers;
using System.Net.Sockets;
using System.Security.Cryptography;
using Sluice.Relay;

namespace Sluice.Cli.Doctor;

/// <summary>What a leg is asked.</summary>
/// <param name="Probe"><c>sse</c>, <c>ndjson</c>, <c>post</c> or <c>websocket</c>.</param>
/// <param name="Events">So many units are read.</param>
/// <param name="Silence">So long a stream may be silent before it is left.</param>
sealed record LegRequest(
    string Method, string Probe, byte[]? Body, IReadOnlyList<KeyValuePair<string, string>> Headers, int Events, TimeSpan Silence,
    TimeSpan Longest);

/// <summary>A unit as it came: when, and how long it is.</summary>
readonly record struct LegUnit(TimeSpan Arrived, int Bytes);

/// <summary>What one leg gave of a stream, and when.</summary>
/// <param name="Name"><c>direct</c>, <c>gateway</c> or <c>public</c>.</param>
sealed record Leg(string Name, Uri Url)
{
    public string Protocol { get; set; } = "";

    public int Status { get; set; }

    public TimeSpan Head { get; set; }

    public string? Encoding { get; set; }

    public string? Server { get; set; }

    public string ContentType { get; set; } = "";

    public bool IsChunked { get; set; }

    public bool IsCached { get; set; }

    public List<LegUnit> Units { get; } = [];

    public int Comments { get; set; }

    /// <summary>The longest time between two reads of the body.</summary>
    public TimeSpan LongestSilence { get; set; }

    /// <summary>How it was cut: <c>FIN</c>, <c>RST</c>, <c>RST_STREAM</c>; null: it was not.</summary>
    public string? Cut { get; set; }

    /// <summary>The body came to its end, as its framing says.</summary>
    public bool IsComplete { get; set; }

    /// <summary>After so long nobody looked any more, and how long nothing had come by then.</summary>
    public TimeSpan Elapsed { get; set; }

    public TimeSpan LastSilence { get; set; }

    /// <summary>Why there is no response; null: there is one.</summary>
    public string? Failure { get; set; }

    public bool IsEventStream => ContentType.StartsWith("text/event-stream", StringComparison.OrdinalIgnoreCase);

    public bool IsLines => ContentType is "application/x-ndjson" or "application/ndjson" or "application/jsonl"
        or "application/stream+json";

    public bool IsHttp1 => Protocol.StartsWith("HTTP/1", StringComparison.Ordinal);

    public TimeSpan FirstUnit => Units is [var first, ..] ? first.Arrived : Elapsed;

    /// <param name="host">The Host header; null: the URL's.</param>
    /// <param name="anyCertificate">As the gateway does towards its nodes, if it is not told to check them.</param>
    public static async Task<Leg> MeasureAsync(string name, Uri url, string? host, LegRequest request, bool anyCertificate,
        TimeProvider time, CancellationToken cancellation)
    {
        var leg = new Leg(name, url);
        using var handler = new SocketsHttpHandler { UseProxy = false, UseCookies = false, AllowAutoRedirect = false,
            AutomaticDecompression = DecompressionMethods.None };
        if (anyCertificate)
        {
#pragma warning disable CA5359 // a node's certificate is not checked by the gateway either, as in APISIX
            handler.SslOptions.RemoteCertificateValidationCallback = static (_, _, _, _) => true;
#pragma warning restore CA5359
        }
        using var client = new HttpMessageInvoker(handler);
        using var message = Message(url, host, request);
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        using var _ = time.CreateTimer(static source => ((CancellationTokenSource)source!).Cancel(), limit, request.Longest,
            Timeout.InfiniteTimeSpan);
        var began = time.GetTimestamp();
        var last = TimeSpan.Zero;
        try
        {
            using var response = await client.SendAsync(message, limit.Token);
            last = leg.Read(response, time.GetElapsedTime(began));
            if (response.StatusCode == HttpStatusCode.OK && request.Probe != "websocket")
            {
                await using var body = leg.Decoded(await response.Content.ReadAsStreamAsync(limit.Token));
                using IEventFramer? framer = leg.IsEventStream ? new SseFramer() : leg.IsLines ? new LineFramer() : null;
                var buffer = new byte[64 * 1024];
                while (leg.Units.Count < request.Events)
                {
                    using var silent = CancellationTokenSource.CreateLinkedTokenSource(limit.Token);
                    int read;
                    await using (time.CreateTimer(static source => ((CancellationTokenSource)source!).Cancel(), silent, request.Silence,
                        Timeout.InfiniteTimeSpan))
                    {
                        read = await body.ReadAsync(buffer, silent.Token);
                    }
                    var now = time.GetElapsedTime(began);
                    if (read == 0)
                    {
                        leg.IsComplete = true;
                        break;
                    }
                    leg.LongestSilence = now - last > leg.LongestSilence ? now - last : leg.LongestSilence;
                    last = now;
                    leg.Take(framer, buffer.AsMemory(0, read), now);
                }
            }
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            leg.Failure = leg.Status == 0 ? "no answer" : null;
        }
        catch (Exception e) when (e is HttpRequestException or IOException)
        {
            leg.Cut = leg.Status == 0 ? null : HowOf(e);
            leg.Failure = leg.Status == 0 ? e.InnerException?.Message ?? e.Message : null;
        }
        leg.Elapsed = time.GetElapsedTime(began);
        leg.LastSilence = leg.Elapsed - last;
        return leg;
    }

    static HttpRequestMessage Message(Uri url, string? host, LegRequest request)
    {
        var message = new HttpRequestMessage(new HttpMethod(request.Method), url)
        {
            Version = url.Scheme == Uri.UriSchemeHttps && request.Probe != "websocket" ? HttpVersion.Version20 : HttpVersion.Version11,
            VersionPolicy = HttpVersionPolicy.RequestVersionOrLower,
            Content = request.Body is { } body ? new ByteArrayContent(body) : null,
        };
        message.Headers.Host = host;
        if (request.Probe == "websocket")
        {
            message.Headers.Connection.Add("Upgrade");
            message.Headers.Upgrade.Add(new ProductHeaderValue("websocket"));
            message.Headers.Add("Sec-WebSocket-Version", "13");
            message.Headers.Add("Sec-WebSocket-Key", Convert.ToBase64String(RandomNumberGenerator.GetBytes(16)));
        }
        else
        {
            message.Headers.Add("Accept", request.Probe == "ndjson" ? "application/x-ndjson" : "text/event-stream");
            message.Headers.Add("Accept-Encoding", "gzip, br");
        }
        foreach (var (name, value) in request.Headers)
        {
            message.Headers.Remove(name);
            if (!message.Headers.TryAddWithoutValidation(name, value))
            {
                message.Content?.Headers.Remove(name);
                message.Content?.Headers.TryAddWithoutValidation(name, value);
            }
        }
        return message;
    }

    TimeSpan Read(HttpResponseMessage response, TimeSpan now)
    {
        Protocol = $"HTTP/{(response.Version.Major > 1 ? response.Version.ToString(1) : response.Version.ToString(2))}";
        (Status, Head) = ((int)response.StatusCode, now);
        Encoding = response.Content.Headers.ContentEncoding.FirstOrDefault(static coding => coding != "identity");
        Server = response.Headers.TryGetValues("Server", out var server) ? string.Join(' ', server) : null;
        ContentType = response.Content.Headers.ContentType?.MediaType ?? "";
        IsChunked = response.Headers.TransferEncodingChunked == true;
        IsCached = response.Headers.Age is not null;
        return now;
    }

    Stream Decoded(Stream body) => Encoding switch
    {
        "gzip" => new GZipStream(body, CompressionMode.Decompress),
        "br" => new BrotliStream(body, CompressionMode.Decompress),
        "deflate" => new ZLibStream(body, CompressionMode.Decompress),
        _ => body,
    };

    void Take(IEventFramer? framer, ReadOnlyMemory<byte> piece, TimeSpan now)
    {
        framer?.Push(piece);
        while (framer is not null && framer.TryRead(out var frame))
        {
            if (frame.Kind == FrameKind.Event)
            {
                Units.Add(new(now, frame.Raw.Length));
            }
            else if (frame.Kind == FrameKind.Passage && frame.Raw.Span.Contains((byte)':'))
            {
                Comments++;
            }
        }
    }

    static string HowOf(Exception failure)
    {
        for (var cause = failure; cause is not null; cause = cause.InnerException!)
        {
            if (cause is SocketException { SocketErrorCode: SocketError.ConnectionReset })
            {
                return "RST";
            }
            if (cause is HttpProtocolException { HttpRequestError: HttpRequestError.HttpProtocolError })
            {
                return "RST_STREAM";
            }
        }
        return "FIN";
    }
}
