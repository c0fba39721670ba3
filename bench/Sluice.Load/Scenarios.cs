using System.Net.Security;

namespace Sluice.Load;

/// <summary>One figure of one gateway in one round.</summary>
/// <param name="Cost">CPU of the gateway per operation, microseconds; with <see cref="Scenario.IsMemory"/> bytes per stream.</param>
/// <param name="PerSecond">Operations per second.</param>
sealed record Result(string Scenario, string Gateway, int Round, double Cost, double PerSecond, double P50Us, double P99Us, long Wrong,
    string? FirstWrong);

/// <summary>A load and what is counted of it.</summary>
/// <param name="Operation">What an operation is: <c>event</c>, <c>request</c>, <c>stream</c>.</param>
/// <param name="Load">Starts all clients; the action is called once for each stream that runs.</param>
sealed record Scenario(string Name, string Title, string Operation, Door Door, int Streams,
    Action<int, Tally, Action, CancellationToken> Load)
{
    public bool IsMemory => Operation == "stream";

    /// <summary>The scenario that is the same without what this one is about; the report shows what it costs more.</summary>
    public string? Beside { get; init; }

    const int EventSize = 120;

    public static readonly Scenario[] All =
    [
        Events("A", "1000 streams × 10 events/s", Door.Plain, 1000, 100_000),
        Events("A2", "1000 streams × 30 events/s", Door.Plain, 1000, 33_333),
        Events("A-tls", "A, clients over TLS", Door.Tls, 1000, 100_000) with { Beside = "A" },
        Events("A-filter", "A, a body filter on", Door.Filtered, 1000, 100_000) with { Beside = "A" },
        Events("A2-lua", "A2, a Lua body filter that returns each piece", Door.LuaFilter, 1000, 33_333) with { Beside = "A2" },
        Events("A2-events", "A2, a Lua event filter that lets each event pass", Door.LuaEvents, 1000, 33_333) with { Beside = "A2" },
        Events("A-watch", "A, heartbeats may come between events", Door.Watched, 1000, 100_000) with { Beside = "A" },
        Events("A-timed", "A, every limit of streaming", Door.Timed, 1000, 100_000) with { Beside = "A" },
        Events("A-resume", "A, streams can be come back to", Door.Kept, 1000, 100_000) with { Beside = "A" },
        Requests("D", "GET of 12 bytes, 64 connections", Door.Plain, 64, "/hello", 12, 0),
        Requests("D-lua", "D, a Lua access function that does nothing", Door.LuaAccess, 64, "/hello", 12, 0) with { Beside = "D" },
        Http2("D-h2", "GET of 12 bytes over HTTP/2 and TLS, 64 at a time", 64),
        Requests("E", "1 MiB bodies, 16 connections", Door.Plain, 16, "/bytes?n=1048576", 1048576, 0),
        Requests("E-slow", "4 MiB bodies, buffered, 16 clients of 4 MiB/s", Door.Buffered, 16, "/bytes?n=4194304", 4194304,
            4 * 1024 * 1024),
        Events("C", "2000 idle streams more, memory", Door.Plain, 2000, 3_600_000_000) with { Operation = "stream" },
        Events("C-watch", "C, heartbeats may come", Door.Watched, 2000, 3_600_000_000) with { Operation = "stream", Beside = "C" },
    ];

    static Scenario Events(string name, string title, Door door, int streams, long intervalUs) =>
        new(name, title, "event", door, streams, (port, tally, started, end) =>
        {
            for (var i = 0; i < streams; i++)
            {
                _ = Clients.EventsAsync(port, door == Door.Tls, $"/events?interval_us={intervalUs}&size={EventSize}", EventSize, tally,
                    started, end);
                if (i % 50 == 49)
                {
                    Thread.Sleep(10);
                }
            }
        });

    static Scenario Requests(string name, string title, Door door, int connections, string target, long length, long bytesPerSecond) =>
        new(name, title, "request", door, 0, (port, tally, ignored, end) =>
        {
            for (var i = 0; i < connections; i++)
            {
                _ = Clients.RequestsAsync(port, target, length, bytesPerSecond, tally, end);
            }
        });

    static Scenario Http2(string name, string title, int requests) =>
        new(name, title, "request", Door.Tls, 0, (port, tally, ignored, end) =>
        {
            var client = new HttpClient(new SocketsHttpHandler
            {
                UseProxy = false,
                SslOptions = new SslClientAuthenticationOptions { RemoteCertificateValidationCallback = static (_, _, _, _) => true },
            });
            end.Register(client.Dispose);
            for (var i = 0; i < requests; i++)
            {
                _ = Clients.Http2Async(client, new Uri($"https://localhost:{port}/hello"), tally, end);
            }
        });
}
