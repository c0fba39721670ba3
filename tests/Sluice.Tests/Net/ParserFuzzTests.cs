using System.Buffers;
using System.Diagnostics;
using System.Globalization;
using System.Text;
using Microsoft.AspNetCore.Http;
using Sluice.Net;
using Sluice.Net.Http1;
using KestrelServerLimits = Microsoft.AspNetCore.Server.Kestrel.Core.KestrelServerLimits;

namespace Sluice.Tests.Net;

/// <summary>
/// A random driver for what reads bytes of upstreams and clients: valid messages, mutated, in random cuts. Whatever comes, each parser
/// either takes it or refuses it with an <see cref="UpstreamException"/> (a client's: <see cref="BadHttpRequestException"/>), the same in
/// every cut. Runs for about a second; SLUICE_FUZZ_SECONDS=600 makes it longer. A failure names the seed, SLUICE_FUZZ_SEED repeats it.
/// </summary>
public class ParserFuzzTests
{
    const int Limit = 2048;

    static readonly string[] Heads =
    [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\nConnection: close\r\n\r\n",
        "HTTP/1.0 304 \r\nConnection: keep-alive\r\nEmpty:\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\nHTTP/1.1 204 None\r\n\r\n",
    ];

    static readonly string[] Bodies =
    [
        "5\r\nhello\r\n0\r\n\r\n",
        "a;x=\"y\"\r\n0123456789\r\n1\r\n\n\r\n0\r\nX-Sum: 1\r\nContent-Length: 3\r\nY: z\r\n\r\nHTTP/1.1 200 OK\r\n",
        "0000001F\r\n0123456789012345678901234567890\r\n0;last\r\nServer-Timing: a\r\n\r\n",
    ];

    static readonly string[] Spice = ["\r\n", "\n", "\r", "\0", ":", " ", "\t", ";", "0", "f", "\r\n\r\n", "Content-Length: 1\r\n",
        "ffffffffffffffff", "\u00ff", "chunked"];

    static readonly string[] Requests =
    [
        "GET /a?b=c HTTP/1.1\r\nHost: a.test\r\nUser-Agent: x\r\nX-A: 1\r\nX-A: 2\r\n\r\nGET / HTTP/1.1\r\n",
        "POST http://a.test:80/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
        "\r\nPUT / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx",
        "GET / HTTP/1.1\r\nHost: [::1]:8080\r\nUpgrade: websocket\r\nConnection: Upgrade, X\r\nTransfer-Encoding: chunked\r\n\r\n",
    ];

    [Fact]
    public void Requests_are_taken_or_refused_the_same_in_every_cut() => Drive(Requests, Request);

    [Fact]
    public void Heads_are_taken_or_refused_the_same_in_every_cut() => Drive(Heads, Head);

    [Fact]
    public void Chunked_bodies_are_decoded_or_refused_the_same_in_every_cut() => Drive(Bodies, Decoded);

    [Fact]
    public void Followed_chunked_bodies_carry_what_decoded_ones_do() => Drive(Bodies, Followed);

    static void Drive(string[] seeds, Func<byte[], Random, int, string> outcome)
    {
        var seconds = double.Parse(Environment.GetEnvironmentVariable("SLUICE_FUZZ_SECONDS") ?? "0.4", CultureInfo.InvariantCulture);
        var first = Environment.GetEnvironmentVariable("SLUICE_FUZZ_SEED") is { } given ? int.Parse(given, CultureInfo.InvariantCulture)
            : Random.Shared.Next(1 << 30);
        var watch = Stopwatch.StartNew();
        for (var seed = first; watch.Elapsed.TotalSeconds < seconds; seed++)
        {
            var random = new Random(seed);
            var bytes = Mutate(seeds[random.Next(seeds.Length)], random);
            var whole = outcome(bytes, random, bytes.Length);
            Assert.True(whole == outcome(bytes, random, 1) && whole == outcome(bytes, random, 17),
                $"seed {seed}: {Convert.ToHexString(bytes)}: {whole}");
        }
    }

    static byte[] Mutate(string text, Random random)
    {
        var bytes = new List<byte>(Encoding.Latin1.GetBytes(text));
        for (var change = random.Next(4); change > 0; change--)
        {
            var at = random.Next(bytes.Count);
            switch (random.Next(4))
            {
                case 0:
                    bytes[at] = (byte)random.Next(256);
                    break;
                case 1:
                    bytes.RemoveRange(at, Math.Min(random.Next(1, 4), bytes.Count - 1 - at));
                    break;
                case 2:
                    bytes.InsertRange(at, Encoding.Latin1.GetBytes(Spice[random.Next(Spice.Length)]));
                    break;
                default:
                    bytes.InsertRange(at, bytes.GetRange(at, random.Next(bytes.Count - at)));
                    break;
            }
        }
        return [.. bytes];
    }

    /// <summary>Whole in one block, or in blocks as large as the cuts.</summary>
    static string Request(byte[] bytes, Random random, int cut)
    {
        var head = new RequestHead();
        var limits = new KestrelServerLimits { MaxRequestLineSize = 200, MaxRequestHeadersTotalSize = 400, MaxRequestHeaderCount = 10 };
        var start = 0;
        try
        {
            for (var end = 0; end < bytes.Length;)
            {
                end = Math.Min(bytes.Length, end + (cut >= bytes.Length ? cut : random.Next(1, cut + 1)));
                var buffer = Blocks(bytes.AsMemory(start, end - start), cut);
                var complete = head.Advance(ref buffer, limits);
                start = end - (int)buffer.Length;
                if (complete)
                {
                    var headers = string.Join('|', head.Headers.Select(header => $"{header.Key}={header.Value}"));
                    return $"{start} {head.Method} {head.Target} {head.Protocol} {head.IsChunked} {head.KeepAlive} {head.ExpectsContinue} {head.AsksUpgrade} {headers}";
                }
            }
            return "more";
        }
        catch (BadHttpRequestException refused)
        {
            return $"{refused.StatusCode} {refused.Message}";
        }
    }

    sealed class Block : ReadOnlySequenceSegment<byte>
    {
        public Block(ReadOnlyMemory<byte> memory, Block? before)
        {
            Memory = memory;
            RunningIndex = before is null ? 0 : before.RunningIndex + before.Memory.Length;
            before?.Next = this;
        }
    }

    static ReadOnlySequence<byte> Blocks(ReadOnlyMemory<byte> bytes, int size)
    {
        Block? first = null, last = null;
        for (; !bytes.IsEmpty || first is null; bytes = bytes[Math.Min(size, bytes.Length)..])
        {
            last = new(bytes[..Math.Min(size, bytes.Length)], last);
            first ??= last;
        }
        return new(first, 0, last!, last!.Memory.Length);
    }

    /// <param name="cut">No piece is larger.</param>
    static string Head(byte[] bytes, Random random, int cut)
    {
        var parser = new ResponseHeadParser();
        try
        {
            for (var end = 0; end < bytes.Length;)
            {
                end = Math.Min(bytes.Length, end + (cut >= bytes.Length ? cut : random.Next(1, cut + 1)));
                if (parser.Advance(bytes.AsSpan(0, end), Limit))
                {
                    var head = parser.Build(bytes.AsSpan(0, end), default);
                    return $"{parser.Length} {head.Status} {head.Reason} {head.Body} {head.KeepAlive} {Fields(head.Headers)}";
                }
            }
            return "more";
        }
        catch (UpstreamException refused)
        {
            return refused.Message;
        }
    }

    static string Decoded(byte[] bytes, Random random, int cut)
    {
        var decoder = new ChunkedDecoder(Limit);
        var payload = new StringBuilder();
        return Pieces(decoder, bytes, random, cut, piece =>
        {
            var room = new byte[piece.Length];
            var used = decoder.Decode(piece, room, out var written);
            payload.Append(Encoding.Latin1.GetString(room, 0, written));
            return used;
        }, () => payload.ToString());
    }

    /// <summary>What was passed on is a chunked body itself: decoded, it must say what the original says.</summary>
    static string Followed(byte[] bytes, Random random, int cut)
    {
        var decoder = new ChunkedDecoder(Limit);
        var passed = new List<byte>();
        var payload = 0;
        return Pieces(decoder, bytes, random, cut, piece =>
        {
            var used = decoder.Follow(piece, out var count, out var ofPayload);
            payload += ofPayload;
            passed.AddRange(piece[..count]);
            return used;
        }, () =>
        {
            var relayed = decoder.Done ? (byte[])[.. passed, .. decoder.WriteTrailers()] : [.. passed];
            var again = Decoded(relayed, random, relayed.Length);
            if (decoder.Done)
            {
                var original = Decoded(bytes[..], random, bytes.Length);
                Assert.Equal(original[..original.LastIndexOf('@')], again[..again.LastIndexOf('@')]);
            }
            return $"{payload} {again}";
        });
    }

    static string Pieces(ChunkedDecoder decoder, byte[] bytes, Random random, int cut, Func<byte[], int> take, Func<string> said)
    {
        var at = 0;
        try
        {
            while (at < bytes.Length && !decoder.Done)
            {
                var end = Math.Min(bytes.Length, at + (cut >= bytes.Length ? cut : random.Next(1, cut + 1)));
                at += take(bytes[at..end]);
            }
        }
        catch (UpstreamException refused)
        {
            return refused.Message;
        }
        return $"{said()} {decoder.Done} {Fields(decoder.Trailers)}@{at}";
    }

    static string Fields(HeaderFields fields) =>
        string.Join('|', Enumerable.Range(0, fields.Count).Select(index => $"{fields.Name(index)}={fields.Value(index)}"));
}
