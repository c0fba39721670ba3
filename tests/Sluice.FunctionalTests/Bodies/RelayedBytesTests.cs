using System.Collections.Concurrent;
using System.Globalization;
using System.Text;
using CsCheck;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Bodies;

/// <summary>Any stream of bytes, cut into any pieces, is the same stream at the client: through real sockets, in every way that a body
/// goes.</summary>
public sealed class RelayedBytesTests
{
    public enum BodyFraming
    {
        Length,
        Chunked,
        Close,
    }

    /// <param name="Chunks">Sizes of the chunks, in turn.</param>
    /// <param name="Cuts">Sizes of the pieces in which head and body leave the origin, in turn.</param>
    /// <param name="Path">Which way the gateway takes.</param>
    public sealed record Answer(BodyFraming Framing, byte[] Body, int[] Chunks, int[] Cuts, string Path, bool Trailer)
    {
        public string Text => Encoding.Latin1.GetString(Body);

        /// <summary>The body as the origin puts it on the wire.</summary>
        public string Framed()
        {
            if (Framing != BodyFraming.Chunked)
            {
                return Text;
            }
            var framed = new StringBuilder();
            foreach (var (chunk, turn) in Pieces(Text, Chunks).Select((chunk, turn) => (chunk, turn)))
            {
                framed.Append(CultureInfo.InvariantCulture, $"{chunk.Length:x}{(turn % 5 == 4 ? ";x=y" : "")}\r\n{chunk}\r\n");
            }
            return framed.Append("0\r\n").Append(Trailer ? "X-Sum: 1\r\n" : "").Append("\r\n").ToString();
        }

        public string Head() => "HTTP/1.1 200 OK\r\n" + Framing switch
        {
            BodyFraming.Length => $"Content-Length: {Body.Length}\r\n\r\n",
            BodyFraming.Chunked => "Transfer-Encoding: chunked\r\n\r\n",
            _ => "Connection: close\r\n\r\n",
        };
    }

    /// <summary>Long texts in pieces that are not too small: the test is to be quick.</summary>
    static IEnumerable<string> Pieces(string text, int[] sizes)
    {
        var least = text.Length / 100;
        for (var (at, turn) = (0, 0); at < text.Length; turn++)
        {
            var size = Math.Min(Math.Max(least, sizes[turn % sizes.Length]), text.Length - at);
            yield return text.Substring(at, size);
            at += size;
        }
    }

    /// <summary>A body filter that looks at each piece and leaves it as it is.</summary>
    internal const string Untouched = """ "serverless-pre-function":{"phase":"body_filter","functions":["return function() end"]} """;

    static readonly Dictionary<string, string> Ways = new()
    {
        ["/off"] = """ "proxy-buffering":{"disable_proxy_buffering":true} """,
        ["/on"] = """ "proxy-buffering":{"disable_proxy_buffering":false} """,
        ["/tiny/off"] = """ "proxy-buffering":{"disable_proxy_buffering":true} """,
        ["/tiny/on"] = """ "proxy-buffering":{"disable_proxy_buffering":false} """,
        ["/filtered/off"] = $$""" "proxy-buffering":{"disable_proxy_buffering":true},{{Untouched}} """,
        ["/tiny/filtered"] = $$""" "proxy-buffering":{"disable_proxy_buffering":true},{{Untouched}} """,
        ["/filtered/on"] = $$""" "proxy-buffering":{"disable_proxy_buffering":false},{{Untouched}} """,
    };

    static readonly Gen<Answer> Answers = Gen.Select(
        Gen.Enum<BodyFraming>(), Gen.Frequency((4, Gen.Byte.Array[0, 200]), (1, Gen.Byte.Array[0, 40_000])),
        Gen.Int[1, 3000].Array[1, 5], Gen.Frequency((1, Gen.Int[1, 3].Array[1, 3]), (2, Gen.Int[1, 5000].Array[1, 5])),
        Gen.OneOfConst([.. Ways.Keys]), Gen.Bool,
        (framing, body, chunks, cuts, path, trailer) => new Answer(framing, body, chunks, cuts, path, trailer));

    [Fact]
    public async Task What_came_with_the_head_goes_on_in_small_buffers_although_nothing_follows()
    {
        var chunk = $"9c4\r\n{new string('x', 2500)}\r\n";
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync($"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}");
            await connection.StallAsync();
        });
        await using var gateway = await TestGateway.StartAsync(
            nginx: "http { server { location /tiny/ { proxy_buffer_size 1k; proxy_buffers 2 1k; } } }");
        await gateway.RouteAsync("tiny", "/tiny/*", origin.Port, """ "plugins":{"proxy-buffering":{"disable_proxy_buffering":true}} """);

        var (client, head) = await RawConnection.GetAsync(gateway.EndPoint, "/tiny/x");
        using (client)
        {
            Assert.StartsWith("HTTP/1.1 200 OK\r\n", head, StringComparison.Ordinal);
            await client.ExpectAsync(chunk);
        }
    }

    static int Samples => int.Parse(Environment.GetEnvironmentVariable("SLUICE_RELAY_SAMPLES") ?? "400", CultureInfo.InvariantCulture);

    /// <summary>SLUICE_RELAY_SAMPLES=20000 for the long run.</summary>
    [Fact]
    public async Task Any_bytes_in_any_pieces_are_the_same_at_the_client()
    {
        var answers = new ConcurrentDictionary<string, Answer>();
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            while (true)
            {
                var head = await connection.ReadHeadAsync();
                var answer = answers[head.Split("X-Answer: ")[1].Split("\r\n")[0]];
                foreach (var piece in Pieces(answer.Head() + answer.Framed(), answer.Cuts))
                {
                    await connection.SendAsync(piece);
                    // the gateway sees some of them one by one
                    await Task.Yield();
                }
                if (answer.Framing == BodyFraming.Close)
                {
                    return;
                }
            }
        });
        await using var gateway = await TestGateway.StartAsync(
            nginx: "http { server { location /tiny/ { proxy_buffer_size 1k; proxy_buffers 2 1k; } } }");
        foreach (var (path, plugins) in Ways)
        {
            await gateway.RouteAsync(path.Replace('/', '-'), path, origin.Port, $$""" "plugins":{ {{plugins}} } """);
        }
        var number = 0;
        await Answers.SampleAsync(async answer =>
        {
            var id = $"{Interlocked.Increment(ref number)}";
            answers[id] = answer;
            var (client, head) = await RawConnection.GetAsync(gateway.EndPoint, answer.Path, $"X-Answer: {id}\r\n");
            using (client)
            {
                Assert.StartsWith("HTTP/1.1 200 OK\r\n", head, StringComparison.Ordinal);
                await ExpectAsync(client, head, answer);
            }
            answers.TryRemove(id, out _);
        }, iter: Samples, threads: 1);
    }

    static async Task ExpectAsync(OriginConnection client, string head, Answer answer)
    {
        var filtered = answer.Path.Contains("/filtered", StringComparison.Ordinal);
        var hasLength = head.Contains("\r\nContent-Length: ", StringComparison.Ordinal);
        // that a body is empty may be known before its head is out
        if (hasLength && (answer.Body.Length == 0 || (answer.Framing == BodyFraming.Length && !filtered)))
        {
            Assert.Contains($"\r\nContent-Length: {answer.Body.Length}\r\n", head, StringComparison.Ordinal);
            await client.ExpectAsync(answer.Text);
            return;
        }
        Assert.Contains("\r\nTransfer-Encoding: chunked\r\n", head, StringComparison.Ordinal);
        if (answer.Framing == BodyFraming.Chunked && !filtered)
        {
            // nobody looks into the body: the framing is the origin's too
            await client.ExpectAsync(answer.Framed());
            return;
        }
        var text = new StringBuilder();
        while (await client.ReadChunkAsync() is { Length: > 0 } chunk)
        {
            text.Append(chunk);
        }
        Assert.Equal(answer.Text, text.ToString());
    }
}
