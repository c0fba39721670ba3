using System.Globalization;
using System.Net;
using System.Text;
using System.Text.RegularExpressions;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Streams;

/// <summary><c>streaming.slow_consumer</c>: a stream that does not wait for its client.</summary>
public sealed partial class SlowConsumerTests : IAsyncLifetime
{
    /// <summary>Far more than whatever stands between holds.</summary>
    const int Events = 20_000, Keys = 10;

    TestGateway _gateway = null!;

    static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync()
    {
        _gateway = await TestGateway.StartAsync(
            "nginx_config:\n  http:\n    access_log_format: '$uri|$sluice_stream_end|$sluice_dropped|$sluice_events|'");
        await _gateway.PutAsync("/global_rules/1", """{"plugins":{"prometheus":{}}}""");
    }

    public ValueTask DisposeAsync() => _gateway.DisposeAsync();

    Task RouteAsync(ScriptedOrigin origin, string slow) =>
        _gateway.RouteAsync("live", "/live", origin.Port, $$""" "plugins":{"streaming":{"slow_consumer":{{slow}} } } """);

    static string Event(int n) =>
        string.Create(CultureInfo.InvariantCulture,
            $"event: k{n % Keys}\nid: {n}\ndata: {{\"n\":{n},\"x\":\"{new string('x', 200)}\"}}\n\n");

    /// <summary>Sends all it has as fast as it is read, and ends when it is told.</summary>
    static ScriptedOrigin Burst(Task end, Func<int, string> unit, string type = "text/event-stream") =>
        ScriptedOrigin.Start(async connection =>
    {
        await connection.ReadHeadAsync();
        await connection.SendAsync($"HTTP/1.1 200 OK\r\nContent-Type: {type}\r\nTransfer-Encoding: chunked\r\n\r\n");
        for (var n = 0; n < Events; n += 100)
        {
            var piece = string.Concat(Enumerable.Range(n, 100).Select(unit));
            await connection.SendAsync($"{piece.Length:x}\r\n{piece}\r\n");
        }
        await end;
        await connection.SendAsync("0\r\n\r\n");
    });

    async Task AllHasComeAsync()
    {
        var bytes = (long)Enumerable.Range(0, Events).Sum(static n => Event(n).Length);
        await Eventually.HoldsAsync(
            async () =>
            (await _gateway.Client.GetStringAsync($"http://{_gateway.Gateway.MetricsEndpoint}/apisix/prometheus/metrics", Cancel))
                .Contains($"sluice_stream_bytes_total{{route=\"live\",direction=\"received\"}} {bytes}\n", StringComparison.Ordinal),
            "the origin is not read at its own pace");
    }

    [Theory]
    [InlineData("""{"policy": "drop_oldest"}""", "HTTP/1.1")]
    [InlineData("""{"policy": "drop_oldest", "queue_events": 7}""", "HTTP/1.1")]
    [InlineData("""{"policy": "drop_oldest"}""", "HTTP/2")]
    [InlineData("""{"policy": "latest_per_key", "key": "event"}""", "HTTP/1.1")]
    public async Task Who_reads_nothing_misses_events_is_told_how_many_and_gets_the_newest(string slow, string protocol)
    {
        var end = new TaskCompletionSource();
        await using var origin = Burst(end.Task, Event);
        await RouteAsync(origin, slow);
        string body;
        if (protocol == "HTTP/2")
        {
            using var request = new HttpRequestMessage(HttpMethod.Get, _gateway.Url("/live")) { Version = HttpVersion.Version20,
                VersionPolicy = HttpVersionPolicy.RequestVersionExact };
            using var response = await _gateway.Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Cancel);
            await AllHasComeAsync();
            await ShowsAsync();
            end.SetResult();
            body = await response.Content.ReadAsStringAsync(Cancel);
        }
        else
        {
            using var client = await RawConnection.ConnectAsync(_gateway.EndPoint, receiveBuffer: 4096);
            await client.SendAsync("GET /live HTTP/1.0\r\nHost: a\r\n\r\n");
            await AllHasComeAsync();
            await ShowsAsync();
            end.SetResult();
            await client.ReadHeadAsync();
            body = (await client.ReadRestAsync()).Text;
        }
        var blocks = body.Split("\n\n", StringSplitOptions.RemoveEmptyEntries);
        var numbers = blocks.Select(static block => Id().Match(block)).Where(static match => match.Success)
            .Select(static match => int.Parse(match.Groups[1].Value, null)).ToArray();
        var told = blocks.Where(static block => block.StartsWith(": dropped ", StringComparison.Ordinal))
            .Sum(static block => int.Parse(block[10..], null));
        Assert.True(told > 0);
        Assert.Equal(Events, numbers.Length + told);
        Assert.Equal(blocks.Length, numbers.Length
            + blocks.Count(static block => block.StartsWith(": dropped ", StringComparison.Ordinal)));
        // whole ones, and none twice
        Assert.All(blocks.Where(static block => block[0] != ':'),
            static block => Assert.Equal(Event(int.Parse(Id().Match(block).Groups[1].Value, null)), block + "\n\n"));
        Assert.Equal(numbers.Length, numbers.Distinct().Count());
        if (slow.Contains("latest_per_key", StringComparison.Ordinal))
        {
            Assert.Equal(Enumerable.Range(Events - Keys, Keys), numbers[^Keys..].Order());
        }
        else
        {
            Assert.Equal(numbers.Order(), numbers);
            Assert.Equal(Events - 1, numbers[^1]);
        }
        var log = Path.Combine(_gateway.Prefix, "logs", "access.log");
        await Eventually.TrueAsync(() => File.Exists(log) && File.ReadAllText(log) == $"/live|complete|{told}|{numbers.Length}|\n",
            () => File.Exists(log) ? File.ReadAllText(log) : "no line");
        var policy = slow.Contains("latest_per_key", StringComparison.Ordinal) ? "latest_per_key" : "drop_oldest";
        await _gateway.MetricsSayAsync($"sluice_stream_dropped_events_total{{route=\"live\",policy=\"{policy}\"}} {told}\n");

        async Task ShowsAsync()
        {
            var row = (await _gateway.ControlAsync("/v1/streams"))["streams"]![0]!;
            Assert.Equal("queue", (string?)row["mode"]);
            Assert.True((long)row["queue"]!["dropped"]! > 0);
            if (slow.Contains(',', StringComparison.Ordinal))
            {
                // a queue so short may be on its way
                return;
            }
            Assert.True((bool)row["slow"]!);
            // and the unit that is on its way
            Assert.InRange((long)row["queue"]!["bytes"]!, 1, (256 * 1024) + Event(Events).Length);
        }
    }

    [GeneratedRegex("id: (\\d+)\n")]
    private static partial Regex Id();

    [Fact]
    public async Task Who_must_keep_up_and_does_not_is_disconnected_and_the_upstream_with_it()
    {
        var gone = new TaskCompletionSource();
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
            try
            {
                var piece = Event(1);
                while (true)
                {
                    await connection.SendAsync($"{piece.Length:x}\r\n{piece}\r\n");
                }
            }
            catch (IOException)
            {
                gone.SetResult();
            }
        });
        await RouteAsync(origin, """{"policy": "disconnect"}""");
        using var client = await RawConnection.ConnectAsync(_gateway.EndPoint, receiveBuffer: 4096);
        await client.SendAsync("GET /live HTTP/1.1\r\nHost: a\r\n\r\n");
        await gone.Task.WaitAsync(TimeSpan.FromSeconds(30), Cancel);
        var log = Path.Combine(_gateway.Prefix, "logs", "access.log");
        await Eventually.TrueAsync(() => File.Exists(log)
            && File.ReadAllText(log).StartsWith("/live|slow_consumer|0|", StringComparison.Ordinal), "no line");
        Assert.DoesNotContain("upstream 127.0.0.1", _gateway.ErrorLog, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("""{"policy": "drop_oldest", "queue_events": 8}""", "text/event-stream")]
    [InlineData("""{"policy": "latest_per_key", "key": "data.n", "queue_events": 8}""", "application/x-ndjson")]
    [InlineData("""{"policy": "disconnect", "queue_events": 8}""", "text/event-stream")]
    public async Task Who_keeps_up_gets_every_byte(string slow, string type)
    {
        // a piece at a time, and the next when the client has it
        string[] script = ["data: 1\n\ndata: 1\n\n: c\n\n", "retry: 5\n\nda", "ta: 2\r\n\r\n", "data: 3\n\ndata: 4\n\nid: 5\n",
            "\ndata: 6"];
        if (type != "text/event-stream")
        {
            script = ["{\"n\":1}\n{\"n\":2}\n", "\n{\"n\":", "3}\n{\"n\":4}\n", "{\"n\":5}"];
        }
        var has = Enumerable.Range(0, script.Length).Select(static _ => new TaskCompletionSource()).ToArray();
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync($"HTTP/1.1 200 OK\r\nContent-Type: {type}\r\nTransfer-Encoding: chunked\r\n\r\n");
            for (var i = 0; i < script.Length; i++)
            {
                await connection.SendAsync($"{script[i].Length:x}\r\n{script[i]}\r\n");
                await has[i].Task;
            }
            await connection.SendAsync("0\r\n\r\n");
        });
        await RouteAsync(origin, slow);
        using var response = await _gateway.Client.GetAsync(_gateway.Url("/live"), HttpCompletionOption.ResponseHeadersRead, Cancel);
        await using var body = await response.Content.ReadAsStreamAsync(Cancel);
        var all = string.Concat(script);
        var got = new StringBuilder();
        var sent = 0;
        for (var i = 0; i < script.Length; i++)
        {
            sent += script[i].Length;
            // half a unit waits for its other half
            var whole = all.LastIndexOf('\n', sent - 1) + 1;
            while (i < script.Length - 1 && got.Length < whole
                && !(script[i].EndsWith("id: 5\n", StringComparison.Ordinal) && got.Length >= whole - 6))
            {
                var piece = new byte[4096];
                var read = await body.ReadAsync(piece, Cancel);
                Assert.True(read > 0, got.ToString());
                got.Append(Encoding.UTF8.GetString(piece, 0, read));
            }
            has[i].SetResult();
        }
        got.Append(await new StreamReader(body).ReadToEndAsync(Cancel));
        Assert.Equal(all, got.ToString());
        var log = Path.Combine(_gateway.Prefix, "logs", "access.log");
        await Eventually.TrueAsync(() => File.Exists(log)
            && File.ReadAllText(log).StartsWith("/live|complete|0|", StringComparison.Ordinal), () => File.ReadAllText(log));
    }

    [Fact]
    public async Task With_a_history_the_numbers_of_what_is_missed_are_told()
    {
        var end = new TaskCompletionSource();
        await using var origin = Burst(end.Task, Event);
        await _gateway.RouteAsync("live", "/live", origin.Port,
            """ "plugins":{"sse-resume":{"tail":{"bytes":"16m","events":30000}},"streaming":{"slow_consumer":{"policy":"drop_oldest","queue_events":5}}} """);
        using var client = await RawConnection.ConnectAsync(_gateway.EndPoint, receiveBuffer: 4096);
        await client.SendAsync("GET /live HTTP/1.0\r\nHost: a\r\n\r\n");
        await AllHasComeAsync();
        end.SetResult();
        await client.ReadHeadAsync();
        var body = (await client.ReadRestAsync()).Text;
        var gap = Gap().Match(body);
        Assert.True(gap.Success, body[..Math.Min(body.Length, 2000)]);
        var (dropped, from, to) = (int.Parse(gap.Groups[1].Value, null), int.Parse(gap.Groups[2].Value, null),
            int.Parse(gap.Groups[3].Value, null));
        Assert.Equal(dropped, to - from + 1);
        Assert.StartsWith($"id: s_g", body[(gap.Index + gap.Length)..], StringComparison.Ordinal);
        Assert.Equal(to + 1, int.Parse(body[(gap.Index + gap.Length + 30)..].Split('\n')[0], null));
    }

    [GeneratedRegex("event: gap\ndata: {\"reason\":\"slow_consumer\",\"dropped\":(\\d+),\"from\":\"(\\d+)\",\"to\":\"(\\d+)\"}\n\n")]
    private static partial Regex Gap();

    [Fact]
    public async Task Limits_budgets_and_words_are_as_without_a_queue()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync(
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n12\r\ndata: 1\n\ndata: "
                    + "2\n\n\r\n5\r\ndata:\r\n");
            await connection.ReadEndAsync();
        });
        await _gateway.RouteAsync("live", "/live", origin.Port,
            """ "plugins":{"proxy-buffering":{},"streaming":{"hold":"event","idle_timeout":"500ms","reconnect":{"delay":7,"jitter":0,"start":false},"slow_consumer":{"policy":"drop_oldest"}}} """);
        // what was cut is not given: the client has whole events, and the words
        Assert.Equal(
            "data: 1\n\ndata: 2\n\nevent: error\nretry: 7000\ndata: {\"reason\":\"idle_timeout\",\"message\":\"the stream was silent for "
                + "too long\",\"retry_ms\":7000}\n\n",
            await _gateway.Client.GetStringAsync(_gateway.Url("/live"), Cancel));
        var rule = (await _gateway.ControlAsync("/v1/buffering?uri=/live&content_type=text/event-stream"))["response"]!;
        Assert.Equal(("off", "queue of slow_consumer", "route live"),
            ((string?)rule["buffering"], (string?)rule["rule"]!["text"], (string?)rule["rule"]!["place"]));
        await _gateway.RouteAsync("live", "/live", origin.Port,
            """ "plugins":{"streaming":{"max_events":1,"slow_consumer":{"policy":"drop_oldest"}}} """);
        Assert.StartsWith("data: 1\n\nevent: end\ndata: {\"reason\":\"max_events\",",
            await _gateway.Client.GetStringAsync(_gateway.Url("/live"), Cancel), StringComparison.Ordinal);
    }
}
