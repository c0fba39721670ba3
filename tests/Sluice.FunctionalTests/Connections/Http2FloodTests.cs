using System.Net;
using System.Net.Sockets;
using System.Text.RegularExpressions;
using Sluice.FunctionalTests.Origins;
using static Sluice.FunctionalTests.RawHttp2;

namespace Sluice.FunctionalTests.Connections;

/// <summary>HTTP/2 frames that are work for nothing end their connection, with one line for the operator; what clients normally send does
/// not.</summary>
public sealed class Http2FloodTests
{
    /// <summary>POST or GET http://a/</summary>
    static byte[] Request(int stream, byte flags, bool post = true) =>
        Frame(1, flags, stream, post ? (byte)0x83 : (byte)0x82, 0x86, 0x84, 0x41, 1, (byte)'a');

    /// <summary>What comes before a flood and what it is made of.</summary>
    static (byte[] First, Func<int, byte[]> Flood) FloodOf(string kind) => kind switch
    {
        "PING" => ([], _ => Frame(6, 0, 0, new byte[8])),
        "SETTINGS" => ([], _ => Frame(4, 0, 0)),
        "PRIORITY" => ([], _ => Frame(2, 0, 1, 0, 0, 0, 0, 16)),
        "WINDOW_UPDATE" => ([], _ => Frame(8, 0, 0, 0, 0, 0, 1)),
        "CONTINUATION" => (Request(1, EndStream), _ => Frame(9, 0, 1)),
        "empty DATA" => (Request(1, EndHeaders), _ => Frame(0, 0, 1)),
        "RST_STREAM" =>
            ([], turn => [.. Request((2 * turn) + 1, EndStream | EndHeaders, post: false), .. Frame(3, 0, (2 * turn) + 1, 0, 0, 0, 8)]),
        _ => throw new ArgumentOutOfRangeException(nameof(kind)),
    };

    /// <summary>Reads and forgets until the connection ends.</summary>
    static async Task DrainAsync(Socket socket)
    {
        var buffer = new byte[16384];
        try
        {
            while (await socket.ReceiveAsync(buffer) > 0)
            {
            }
        }
        catch (SocketException)
        {
        }
    }

    [Theory]
    [InlineData("PING")]
    [InlineData("SETTINGS")]
    [InlineData("PRIORITY")]
    [InlineData("WINDOW_UPDATE")]
    [InlineData("CONTINUATION")]
    [InlineData("empty DATA")]
    [InlineData("RST_STREAM")]
    public async Task A_flood_ends_its_connection_and_leaves_one_line(string kind)
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.ReadEndAsync();
        });
        await using var gateway = await TestGateway.StartAsync();
        await gateway.RouteAsync("1", "/", origin.Port, """ "plugins":{"proxy-control":{"request_buffering":false}} """);
        using var socket = await ConnectAsync(gateway.EndPoint);
        var ended = DrainAsync(socket);
        var (first, flood) = FloodOf(kind);

        // several times what the sockets' buffers take in while the gateway does not get to run
        const int Most = 64 << 20;
        long sent = 0;
        try
        {
            await socket.SendAsync(first);
            for (var turn = 0; sent < Most && !ended.IsCompleted; turn += 1000)
            {
                sent += await socket.SendAsync((byte[])[.. Enumerable.Range(turn, 1000).SelectMany(flood)]);
            }
        }
        catch (SocketException)
        {
        }

        await ended.WaitAsync(TimeSpan.FromSeconds(60));
        Assert.True(sent < Most, "the gateway took it all");
        await gateway.ErrorLogSaysAsync("HTTP/2 flood");
        Assert.Matches($@"\[warn\].*client 127\.0\.0\.1:\d+: HTTP/2 flood: \d+ {kind} frames on a connection of [\d.]+ s; it is closed",
            gateway.ErrorLog);
        Assert.DoesNotContain("[crit]", gateway.ErrorLog, StringComparison.Ordinal);
        Assert.DoesNotContain("xception", gateway.ErrorLog, StringComparison.Ordinal);
        Assert.Single(Regex.Matches(gateway.ErrorLog, "flood"));
    }

    [Fact]
    public async Task A_client_that_answers_each_small_event_with_two_window_updates_and_a_ping_is_none()
    {
        const int Events = 4000;
        await using var origin = new EventOrigin(Framing.ChunkPerEvent);
        await using var gateway = await TestGateway.StartAsync();
        await gateway.RouteAsync("1", "/", origin.Port);
        using var socket = await ConnectAsync(gateway.EndPoint);
        await socket.SendAsync(Request(1, EndStream | EndHeaders, post: false));
        byte[] thanks = [.. Frame(8, 0, 0, 0, 0, 0, 40), .. Frame(8, 0, 1, 0, 0, 0, 40), .. Frame(6, 0, 0, new byte[8])];
        await using var stream = new NetworkStream(socket);
        var received = 0;
        for (int id = 0, expected = 0; id < Events; id++)
        {
            await origin.SendAsync(EventOrigin.Event(id));
            for (expected += EventOrigin.Event(id).Length; received < expected;)
            {
                received += await DataOfFrameAsync(stream).WaitAsync(TimeSpan.FromSeconds(30));
            }
            await socket.SendAsync(thanks);
        }
        Assert.DoesNotContain("flood", gateway.ErrorLog, StringComparison.Ordinal);
    }

    /// <summary>How much of the next frame is data.</summary>
    static async Task<int> DataOfFrameAsync(Stream stream)
    {
        var header = new byte[9];
        await stream.ReadExactlyAsync(header);
        var payload = new byte[(header[0] << 16) | (header[1] << 8) | header[2]];
        await stream.ReadExactlyAsync(payload);
        return header[3] == 0 ? payload.Length : 0;
    }
}
