using System.Buffers;
using System.Net;
using System.Net.Sockets;
using System.Text;
using Sluice.FunctionalTests.Origins;
using Sluice.Net;

namespace Sluice.FunctionalTests.Upstreams;

public sealed class UpstreamConnectionTests : IDisposable
{
    const int MaxHead = 16 * 1024;
    static readonly TimeSpan ConnectTimeout = TimeSpan.FromSeconds(5);
    readonly ConnectionPool pool = new();

    static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose() => pool.Dispose();

    [Theory]
    [InlineData("GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello")]
    [InlineData("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "")]
    [InlineData("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", "hello")]
    [InlineData("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", "hello")]
    [InlineData("GET", "HTTP/1.1 204 No Content\r\n\r\n", "")]
    [InlineData("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", "")]
    [InlineData("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", "")]
    [InlineData("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "")]
    [InlineData("GET", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello")]
    public async Task A_connection_is_used_again_after_each_kind_of_body(string method, string answer, string body)
    {
        foreach (var dripped in new[] { false, true })
        {
            await using var origin = ScriptedOrigin.Start(async connection =>
            {
                for (var turn = 0; turn < 3; turn++)
                {
                    Assert.StartsWith($"{method} /{turn} HTTP/1.1\r\n", await connection.ReadHeadAsync());
                    await (dripped ? connection.DripAsync(answer) : connection.SendAsync(answer));
                }
            });
            for (var turn = 0; turn < 3; turn++)
            {
                await using var connection = await RentAsync(origin);
                Assert.Equal(turn > 0, connection.Reused);
                await SendAsync(connection, method, $"/{turn}");
                await ReadFinalHeadAsync(connection);
                Assert.Equal(body, await ReadAllAsync(connection));
            }
            Assert.Equal(1, origin.Accepted);
        }
    }

    [Theory]
    [InlineData("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")]
    [InlineData("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")]
    [InlineData("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 Smuggled\r\nContent-Length: 0\r\n\r\n")]
    [InlineData("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 Smuggled\r\n")]
    [InlineData("HTTP/1.1 200 OK\r\n\r\nok")]
    public async Task A_connection_that_may_not_live_on_is_not_used_again(string answer)
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync(answer);
        });
        for (var turn = 0; turn < 2; turn++)
        {
            await using var connection = await RentAsync(origin);
            await SendAsync(connection, "GET", "/");
            await ReadFinalHeadAsync(connection);
            Assert.Equal("ok", await ReadAllAsync(connection));
        }
        Assert.Equal(2, origin.Accepted);
        Assert.Equal(0, pool.Idle);
    }

    [Fact]
    public async Task An_idle_connection_that_the_upstream_closes_leaves_the_pool()
    {
        var close = new TaskCompletionSource();
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await AnswerOkAsync(connection);
            await close.Task;
        });
        await ExchangeAsync(origin);
        Assert.Equal((1, 1), (pool.Open, pool.Idle));
        close.SetResult();
        await EventuallyAsync(() => pool is { Open: 0, Idle: 0 });
    }

    [Fact]
    public async Task Unasked_bytes_on_an_idle_connection_close_it()
    {
        var send = new TaskCompletionSource();
        await using var origin = ScriptedOrigin.Start(
            async connection =>
            {
                await AnswerOkAsync(connection);
                await send.Task;
                await connection.SendAsync("HTTP/1.1 200 Smuggled\r\nContent-Length: 0\r\n\r\n");
                await connection.ReadEndAsync();
            },
            AnswerOkAsync);
        await ExchangeAsync(origin);
        send.SetResult();
        await EventuallyAsync(() => pool.Open == 0);
        await ExchangeAsync(origin);
        Assert.Equal(2, origin.Accepted);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_pooled_connection_that_dies_under_the_request_says_so(bool reset)
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await AnswerOkAsync(connection);
            await connection.ReadHeadAsync();
            if (reset)
            {
                connection.Reset();
            }
        });
        await ExchangeAsync(origin);
        await using var connection = await RentAsync(origin);
        await SendAsync(connection, "GET", "/");
        var failure = await Assert.ThrowsAsync<UpstreamException>(async () => await connection.ReadHeadAsync(MaxHead));
        Assert.Equal(reset ? UpstreamFailureKind.Reset : UpstreamFailureKind.NoAnswer, failure.Kind);
        Assert.True(failure is { StalePooledConnection: true, RequestBegun: true, BodyBegun: false, AnswerBegun: false });
        await using var fresh = await pool.RentAsync(Endpoint(origin), PoolLimits.Default, ConnectTimeout, fresh: true, null);
        Assert.False(fresh.Reused);
    }

    [Theory]
    [InlineData("", UpstreamFailureKind.Reset, UpstreamFailureKind.NoAnswer)]
    [InlineData("HTTP/1.1 20", UpstreamFailureKind.Reset, UpstreamFailureKind.EarlyClose)]
    [InlineData("HTTP/1.1 100 Continue\r\n\r\n", UpstreamFailureKind.Reset, UpstreamFailureKind.EarlyClose)]
    [InlineData("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", UpstreamFailureKind.Reset, UpstreamFailureKind.EarlyClose)]
    [InlineData("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", UpstreamFailureKind.Reset, UpstreamFailureKind.EarlyClose)]
    [InlineData("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", UpstreamFailureKind.Reset, UpstreamFailureKind.EarlyClose)]
    [InlineData("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", UpstreamFailureKind.Reset, UpstreamFailureKind.EarlyClose)]
    [InlineData("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", UpstreamFailureKind.Reset,
        UpstreamFailureKind.EarlyClose)]
    [InlineData("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", UpstreamFailureKind.Reset,
        UpstreamFailureKind.EarlyClose)]
    [InlineData("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n", UpstreamFailureKind.Reset,
        UpstreamFailureKind.EarlyClose)]
    [InlineData("HTTP/1.1 200 OK\r\n\r\nhel", UpstreamFailureKind.Reset, null)]
    public async Task An_end_in_the_middle_is_never_a_clean_end(string bytes, UpstreamFailureKind afterReset, UpstreamFailureKind? afterFin)
    {
        foreach (var reset in new[] { true, false })
        {
            var seen = new TaskCompletionSource();
            await using var origin = ScriptedOrigin.Start(async connection =>
            {
                await connection.ReadHeadAsync();
                await connection.SendAsync(bytes);
                await seen.Task;
                if (reset)
                {
                    connection.Reset();
                }
            });
            await using var connection = await RentAsync(origin);
            await SendAsync(connection, "GET", "/");
            var failure = await Record.ExceptionAsync(async () =>
            {
                seen.SetResult();
                await ReadFinalHeadAsync(connection);
                await ReadAllAsync(connection);
            });
            Assert.Equal(reset ? afterReset : afterFin, (failure as UpstreamException)?.Kind);
            if (failure is not null)
            {
                // and it stays a failure: the kernel tells a reset only once
                Assert.Same(failure.GetType(),
                    (await Record.ExceptionAsync(async () => await connection.Body.WaitReadableAsync()))?.GetType());
            }
        }
    }

    [Fact]
    public async Task A_dripped_chunk_is_delivered_byte_by_byte()
    {
        var next = new SemaphoreSlim(0);
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nc\r\n");
            foreach (var letter in "data: x\r\n\r\n\n")
            {
                await next.WaitAsync(Cancellation);
                await connection.SendAsync(letter.ToString());
            }
            await connection.SendAsync("\r\n0\r\n\r\n");
        });
        await using var connection = await RentAsync(origin);
        await SendAsync(connection, "GET", "/");
        await ReadFinalHeadAsync(connection);
        var room = new byte[100];
        foreach (var letter in "data: x\r\n\r\n"u8.ToArray())
        {
            next.Release();
            await connection.Body.WaitReadableAsync();
            Assert.Equal(1, await connection.Body.ReadAsync(room));
            Assert.Equal(letter, room[0]);
        }
        next.Release();
        Assert.Equal("\n", await ReadAllAsync(connection));
        Assert.True(connection.ResponseEnded);
    }

    [Fact]
    public async Task A_read_never_gives_more_than_there_is_room_for()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n");
        });
        await using var connection = await RentAsync(origin);
        await SendAsync(connection, "GET", "/");
        await ReadFinalHeadAsync(connection);
        Assert.Equal("helloworld", await ReadAllAsync(connection, room: 3));
    }

    [Fact]
    public async Task A_body_is_sent_after_100_continue_and_other_interim_answers_are_seen()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            Assert.Contains("Expect: 100-continue\r\n", await connection.ReadHeadAsync());
            await connection.SendAsync("HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n");
            await connection.ExpectAsync("4\r\nbody\r\n6\r\nsecond\r\n0\r\nX-Sum: 7\r\n\r\n");
            await connection.SendAsync("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            await connection.ReadEndAsync();
        });
        await using (var connection = await RentAsync(origin))
        {
            connection.Request.Begin("POST", "/", RequestBodyFraming.Chunked);
            connection.Request.AddHeader("Expect", "100-continue");
            await connection.Request.SendHeadAsync();
            Assert.Equal("</style.css>", (await connection.ReadHeadAsync(MaxHead)).Headers.First("link"));
            Assert.Equal((100, true), (await connection.ReadHeadAsync(MaxHead)) switch { var head => (head.Status, head.Interim) });
            await connection.Request.WriteBodyAsync("body"u8.ToArray());
            await connection.Request.WriteBodyAsync(Segments("se", "co", "nd"));
            await connection.Request.EndBodyAsync([new("X-Sum", "7")]);
            Assert.Equal(200, (await connection.ReadHeadAsync(MaxHead)).Status);
            Assert.Equal("ok", await ReadAllAsync(connection));
        }
        Assert.Equal(1, pool.Idle);
    }

    [Fact]
    public async Task Endless_interim_answers_are_refused()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync(string.Concat(Enumerable.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 40)));
            await connection.ReadEndAsync();
        });
        await using var connection = await RentAsync(origin);
        await SendAsync(connection, "GET", "/");
        var failure = await Assert.ThrowsAsync<UpstreamException>(() => ReadFinalHeadAsync(connection));
        Assert.Equal(UpstreamFailureKind.BadResponse, failure.Kind);
    }

    [Fact]
    public async Task Trailers_are_there_after_the_end()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.DripAsync("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\nx-sum: 2\r\n\r\n");
        });
        await using var connection = await RentAsync(origin);
        await SendAsync(connection, "GET", "/");
        await ReadFinalHeadAsync(connection);
        Assert.Equal("ok", await ReadAllAsync(connection));
        Assert.Equal((2, "x-sum", "2"), (connection.Trailers.Count, connection.Trailers.Name(1), connection.Trailers.Value(1)));
    }

    [Fact]
    public async Task An_answer_before_the_end_of_the_request_is_read_and_the_connection_not_kept()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno");
            await connection.ReadEndAsync();
        });
        await using (var connection = await RentAsync(origin))
        {
            connection.Request.Begin("POST", "/", RequestBodyFraming.Length(100));
            await connection.Request.SendHeadAsync();
            await connection.Request.WriteBodyAsync(new byte[10]);
            Assert.Equal(413, (await connection.ReadHeadAsync(MaxHead)).Status);
            Assert.Equal("no", await ReadAllAsync(connection));
        }
        Assert.Equal((0, 0), (pool.Open, pool.Idle));
    }

    [Fact]
    public async Task A_body_of_another_length_than_announced_is_refused()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            await connection.ReadEndAsync();
        });
        foreach (var length in new[] { 3, 5 })
        {
            await using var connection = await RentAsync(origin);
            connection.Request.Begin("POST", "/", RequestBodyFraming.Length(4));
            await connection.Request.SendHeadAsync();
            await Assert.ThrowsAsync<InvalidOperationException>(async () =>
            {
                await connection.Request.WriteBodyAsync(new byte[length]);
                await connection.Request.EndBodyAsync();
            });
            await connection.ReadHeadAsync(MaxHead);
        }
        Assert.Equal((0, 0), (pool.Open, pool.Idle));
    }

    [Fact]
    public async Task A_long_body_arrives_whole_while_the_answer_is_read()
    {
        const int Size = 5_000_000;
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync($"HTTP/1.1 200 OK\r\nContent-Length: {Size}\r\n\r\n");
            for (var left = Size; left > 0; left -= 100_000)
            {
                await connection.SendAsync(await connection.ReadAsync(100_000));
            }
            await connection.ReadEndAsync();
        });
        await using (var connection = await RentAsync(origin))
        {
            var body = new byte[Size];
            new Random(1).NextBytes(body);
            connection.Request.Begin("POST", "/", RequestBodyFraming.Length(Size));
            await connection.Request.SendHeadAsync();
            var writing = Task.Run(
                async () =>
                {
                    await connection.Request.WriteBodyAsync(body.AsMemory(0, 1_000_000));
                    await connection.Request.WriteBodyAsync(Segments(body.AsMemory(1_000_000, 7), body.AsMemory(1_000_007)));
                    await connection.Request.EndBodyAsync();
                },
                Cancellation);
            await ReadFinalHeadAsync(connection);
            Assert.Equal(Encoding.Latin1.GetString(body), await ReadAllAsync(connection, room: 70_000));
            await writing;
        }
        Assert.Equal(1, pool.Idle);
    }

    [Fact]
    public async Task Abort_ends_a_pending_read_at_once_and_resets_the_connection()
    {
        var cleanEnd = new TaskCompletionSource<bool>();
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
            cleanEnd.SetResult(await connection.ReadEndAsync());
        });
        await using var connection = await RentAsync(origin);
        await SendAsync(connection, "GET", "/");
        await ReadFinalHeadAsync(connection);
        var reading = connection.Body.ReadAsync(new byte[10]).AsTask();
        await Task.Run(() => connection.Abort(UpstreamFailureKind.ReadTimeout), Cancellation);
        var failure = await Assert.ThrowsAsync<UpstreamException>(() => reading);
        Assert.Equal(UpstreamFailureKind.ReadTimeout, failure.Kind);
        Assert.Equal("read timed out", failure.Message);
        Assert.False(await cleanEnd.Task);
        Assert.Equal(0, pool.Open);
    }

    [Fact]
    public async Task Abort_ends_a_send_that_the_upstream_does_not_take()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.StallAsync();
        });
        await using var connection = await RentAsync(origin);
        connection.Request.Begin("POST", "/", RequestBodyFraming.Chunked);
        await connection.Request.SendHeadAsync();
        var writing = connection.Request.WriteBodyAsync(new byte[50_000_000]).AsTask();
        Assert.False(writing.IsCompleted);
        connection.Abort(UpstreamFailureKind.SendTimeout);
        var failure = await Assert.ThrowsAsync<UpstreamException>(() => writing);
        Assert.True(failure is { Kind: UpstreamFailureKind.SendTimeout, BodyBegun: true });
    }

    [Fact]
    public async Task A_late_abort_does_not_touch_the_next_request()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await AnswerOkAsync(connection);
            await AnswerOkAsync(connection);
        });
        var first = await RentAsync(origin);
        await SendAsync(first, "GET", "/");
        await ReadFinalHeadAsync(first);
        await ReadAllAsync(first);
        await first.DisposeAsync();
        await using var second = await RentAsync(origin);
        first.Abort(UpstreamFailureKind.ReadTimeout);
        await SendAsync(second, "GET", "/");
        await ReadFinalHeadAsync(second);
        Assert.Equal("ok", await ReadAllAsync(second));
        Assert.True(second.Reused);
    }

    [Fact]
    public async Task After_101_bytes_go_both_ways_and_each_side_ends_by_itself()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\nhi");
            await connection.ExpectAsync("ping");
            Assert.True(await connection.ReadEndAsync());
            await connection.SendAsync("bye");
        });
        await using var connection = await RentAsync(origin);
        connection.Request.Begin("GET", "/", RequestBodyFraming.None);
        connection.Request.AddHeader("Connection", "Upgrade");
        connection.Request.AddHeader("Upgrade", "echo");
        await connection.Request.SendHeadAsync();
        Assert.Equal(BodyKind.Upgrade, (await connection.ReadHeadAsync(MaxHead)).Body.Kind);
        var room = new byte[100];
        Assert.Equal(2, await connection.Body.ReadAsync(room));
        await connection.WriteRawAsync("ping"u8.ToArray());
        await connection.ShutdownSendAsync();
        Assert.Equal(3, await connection.Body.ReadAsync(room));
        Assert.Equal(0, await connection.Body.ReadAsync(room));
    }

    [Fact]
    public async Task A_header_cannot_become_two()
    {
        await using var origin = ScriptedOrigin.Start(connection => connection.ReadEndAsync());
        await using var connection = await RentAsync(origin);
        Assert.Throws<ArgumentException>(() => connection.Request.Begin("GE T", "/", RequestBodyFraming.None));
        Assert.Throws<ArgumentException>(() => connection.Request.Begin("GET", "/ HTTP/1.1\r\nX: y", RequestBodyFraming.None));
        connection.Request.Begin("GET", "/", RequestBodyFraming.None);
        foreach (var (name, value) in new[] { ("A", "b\r\nC: d"), ("A", "b\nC: d"), ("A", "b\0"), ("A:", "b"), ("", "b"), ("A b", "c"),
            ("Content-Length", "5"), ("transfer-encoding", "chunked") })
        {
            Assert.Throws<ArgumentException>(() => connection.Request.AddHeader(name, value));
        }
    }

    [Fact]
    public async Task A_refused_connect_says_so_and_sent_nothing()
    {
        int port;
        using (var probe = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp))
        {
            probe.Bind(new IPEndPoint(IPAddress.Loopback, 0));
            port = ((IPEndPoint)probe.LocalEndPoint!).Port;
        }
        var failure = await Assert.ThrowsAsync<UpstreamException>(async () =>
            await pool.RentAsync(UpstreamEndpoint.Tcp("x", IPAddress.Loopback, port), PoolLimits.Default, ConnectTimeout, false, null));
        Assert.True(failure is { Kind: UpstreamFailureKind.ConnectRefused, RequestBegun: false });
        Assert.Equal($"connection refused: 127.0.0.1:{port}", failure.Message);
    }

    [Fact]
    public async Task A_connect_that_nobody_answers_times_out()
    {
        // a full backlog: the kernel drops further SYNs
        using var full = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        full.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        full.Listen(0);
        var port = ((IPEndPoint)full.LocalEndPoint!).Port;
        var endpoint = UpstreamEndpoint.Tcp("x", IPAddress.Loopback, port);
        UpstreamException? failure = null;
        for (var attempt = 0; attempt < 5 && failure is null; attempt++)
        {
            failure = await Record.ExceptionAsync(async () =>
                await pool.RentAsync(endpoint, PoolLimits.Default, TimeSpan.FromMilliseconds(200), true, null)) as UpstreamException;
        }
        Assert.Equal(UpstreamFailureKind.ConnectTimeout, failure?.Kind);
    }

    [Fact]
    public async Task TLS_verifies_the_certificate_unless_told_not_to()
    {
        using var certificate = ScriptedOrigin.SelfSigned("origin.test");
        await using var origin = ScriptedOrigin.StartTls(certificate, async connection =>
        {
            await AnswerOkAsync(connection);
            await AnswerOkAsync(connection);
        });
        var failure = await Assert.ThrowsAsync<UpstreamException>(
            async () => await RentAsync(origin, new UpstreamTls(true, "origin.test", Verify: true)));
        Assert.Equal(UpstreamFailureKind.TlsFailed, failure.Kind);
        for (var turn = 0; turn < 2; turn++)
        {
            await using var connection = await RentAsync(origin, new UpstreamTls(true, "origin.test", Verify: false));
            Assert.Equal(turn > 0, connection.Reused);
            await SendAsync(connection, "GET", "/");
            await ReadFinalHeadAsync(connection);
            Assert.Equal("ok", await ReadAllAsync(connection));
        }
        Assert.Equal(2, origin.Accepted);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Over_TLS_a_body_that_ends_with_the_connection_needs_a_close_notify(bool goodbye)
    {
        using var certificate = ScriptedOrigin.SelfSigned("origin.test");
        await using var origin = ScriptedOrigin.StartTls(certificate, async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("HTTP/1.1 200 OK\r\n\r\nok");
            if (goodbye)
            {
                await connection.SayGoodbyeAsync();
            }
            connection.ShutdownSend();
            await connection.ReadEndAsync();
        });
        await using var connection = await RentAsync(origin, new UpstreamTls(true, "origin.test", Verify: false));
        await SendAsync(connection, "GET", "/");
        await ReadFinalHeadAsync(connection);
        var failure = await Record.ExceptionAsync(async () => Assert.Equal("ok", await ReadAllAsync(connection)));
        Assert.Equal(goodbye ? null : UpstreamFailureKind.EarlyClose, (failure as UpstreamException)?.Kind);
    }

    [Fact]
    public async Task A_unix_socket_is_an_upstream_too()
    {
        var path = Path.Combine(Path.GetTempPath(), $"sluice-{Guid.NewGuid():n}.sock");
        using var listener = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        listener.Bind(new UnixDomainSocketEndPoint(path));
        listener.Listen();
        try
        {
            await using var connection = await pool.RentAsync(UpstreamEndpoint.Unix(path), PoolLimits.Default, ConnectTimeout, false, null);
            using var accepted = new OriginConnection(await listener.AcceptAsync(Cancellation), 1, Cancellation);
            await SendAsync(connection, "GET", "/");
            await AnswerOkAsync(accepted);
            await ReadFinalHeadAsync(connection);
            Assert.Equal("ok", await ReadAllAsync(connection));
            Assert.Null(connection.RemoteEndPoint);
        }
        finally
        {
            File.Delete(path);
        }
    }

    // ---- pool ----

    [Fact]
    public async Task Idle_connections_over_the_size_close_oldest_first()
    {
        await using var origin = ScriptedOrigin.Start(AnswerForeverAsync);
        var limits = PoolLimits.Default with { Size = 2 };
        var connections = new List<UpstreamConnection>();
        for (var index = 0; index < 3; index++)
        {
            connections.Add(await pool.RentAsync(Endpoint(origin), limits, ConnectTimeout, false, null));
        }
        foreach (var connection in connections)
        {
            await ExchangeAsync(connection);
            await connection.DisposeAsync();
        }
        Assert.Equal((2, 2), (pool.Open, pool.Idle));
        await using var next = await pool.RentAsync(Endpoint(origin), limits, ConnectTimeout, false, null);
        Assert.Equal(connections[2].LocalEndPoint, next.LocalEndPoint);
    }

    [Fact]
    public async Task A_connection_ends_after_its_number_of_requests()
    {
        await using var origin = ScriptedOrigin.Start(AnswerForeverAsync);
        for (var turn = 0; turn < 5; turn++)
        {
            await using var connection = await pool.RentAsync(
                Endpoint(origin), PoolLimits.Default with { MaxRequests = 2 }, ConnectTimeout, false, null);
            await ExchangeAsync(connection);
        }
        Assert.Equal(3, origin.Accepted);
    }

    /// <summary>The kernel's word that an answer has come may be late: when the answer was read already and the connection is idle
    /// again.</summary>
    [Fact]
    public async Task A_late_event_of_an_answer_does_not_close_the_idle_connection()
    {
        await using var origin = ScriptedOrigin.Start(AnswerForeverAsync);
        await Task.WhenAll(Enumerable.Range(0, 8).Select(async _ =>
        {
            for (var turn = 0; turn < 50; turn++)
            {
                using var own = new ConnectionPool();
                await using (var first = await own.RentAsync(Endpoint(origin), PoolLimits.Default, ConnectTimeout, false, null))
                {
                    await ExchangeAsync(first);
                }
                await Task.Delay(TimeSpan.FromMilliseconds(1), TimeProvider.System, Cancellation);
                Assert.Equal(1, own.Idle);
            }
        }));
    }

    [Fact]
    public async Task An_idle_connection_closes_after_the_idle_timeout()
    {
        var clock = new ManualClock();
        using var timed = new ConnectionPool(clock);
        await using var origin = ScriptedOrigin.Start(AnswerForeverAsync);
        await using (var connection = await timed.RentAsync(Endpoint(origin), PoolLimits.Default, ConnectTimeout, false, null))
        {
            await ExchangeAsync(connection);
        }
        clock.Advance(TimeSpan.FromSeconds(59));
        Assert.Equal(1, timed.Idle);
        clock.Advance(TimeSpan.FromSeconds(2));
        Assert.Equal((0, 0), (timed.Open, timed.Idle));
    }

    // ---- helpers ----

    static UpstreamEndpoint Endpoint(ScriptedOrigin origin, UpstreamTls? tls = null) =>
        UpstreamEndpoint.Tcp("origin", IPAddress.Loopback, origin.Port, tls);

    ValueTask<UpstreamConnection> RentAsync(ScriptedOrigin origin, UpstreamTls? tls = null) =>
        pool.RentAsync(Endpoint(origin, tls), PoolLimits.Default, ConnectTimeout, fresh: false, null);

    async Task ExchangeAsync(ScriptedOrigin origin)
    {
        await using var connection = await RentAsync(origin);
        await ExchangeAsync(connection);
    }

    static async Task ExchangeAsync(UpstreamConnection connection)
    {
        await SendAsync(connection, "GET", "/");
        await ReadFinalHeadAsync(connection);
        Assert.Equal("ok", await ReadAllAsync(connection));
    }

    static async Task AnswerOkAsync(OriginConnection connection)
    {
        await connection.ReadHeadAsync();
        await connection.SendAsync("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    }

    static async Task AnswerForeverAsync(OriginConnection connection)
    {
        while (true)
        {
            await AnswerOkAsync(connection);
        }
    }

    static async Task SendAsync(UpstreamConnection connection, string method, string target)
    {
        connection.Request.Begin(method, target, RequestBodyFraming.None);
        connection.Request.AddHeader("Host", "origin.test");
        await connection.Request.SendHeadAsync();
    }

    static async Task<ResponseHead> ReadFinalHeadAsync(UpstreamConnection connection)
    {
        while (true)
        {
            var head = await connection.ReadHeadAsync(MaxHead);
            if (!head.Interim)
            {
                return head;
            }
        }
    }

    static async Task<string> ReadAllAsync(UpstreamConnection connection, int room = 1000)
    {
        var body = new StringBuilder();
        var piece = new byte[room];
        while (true)
        {
            await connection.Body.WaitReadableAsync();
            var count = await connection.Body.ReadAsync(piece);
            if (count == 0)
            {
                return body.ToString();
            }
            body.Append(Encoding.Latin1.GetString(piece, 0, count));
        }
    }

    static async Task EventuallyAsync(Func<bool> condition)
    {
        using var patience = CancellationTokenSource.CreateLinkedTokenSource(Cancellation);
        patience.CancelAfter(TimeSpan.FromSeconds(30));
        while (!condition())
        {
            await Task.Delay(TimeSpan.FromMilliseconds(5), TimeProvider.System, patience.Token);
        }
    }

    static ReadOnlySequence<byte> Segments(params string[] texts) =>
        Segments([.. texts.Select(text => new ReadOnlyMemory<byte>(Encoding.Latin1.GetBytes(text)))]);

    static ReadOnlySequence<byte> Segments(params ReadOnlyMemory<byte>[] parts)
    {
        Segment? first = null;
        Segment? last = null;
        foreach (var part in parts)
        {
            last = new Segment(part, last);
            first ??= last;
        }
        return new(first!, 0, last!, last!.Memory.Length);
    }

    sealed class Segment : ReadOnlySequenceSegment<byte>
    {
        public Segment(ReadOnlyMemory<byte> memory, Segment? previous)
        {
            Memory = memory;
            if (previous is not null)
            {
                RunningIndex = previous.RunningIndex + previous.Memory.Length;
                previous.Next = this;
            }
        }
    }
}
