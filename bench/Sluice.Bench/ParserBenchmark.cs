using System.Buffers;
using System.Text;
using BenchmarkDotNet.Attributes;
using Sluice.Net;
using Sluice.Net.Http1;
using Sluice.Relay;
using KestrelServerLimits = Microsoft.AspNetCore.Server.Kestrel.Core.KestrelServerLimits;

namespace Sluice.Bench;

/// <summary>The pieces that every answer and every event goes through.</summary>
[MemoryDiagnoser]
public class ParserBenchmark : IDisposable
{
    static readonly byte[] Head = Encoding.ASCII.GetBytes(
        "HTTP/1.1 200 OK\r\nDate: Tue, 24 Nov 2026 22:00:00 GMT\r\nContent-Type: text/event-stream\r\nCache-Control: "
            + "no-cache\r\nTransfer-Encoding: chunked\r\nX-Request-Id: 1234\r\n\r\n");

    static readonly byte[] Event = Encoding.ASCII.GetBytes("id: 0000000001\ndata: " + new string('.', 97) + "\n\n");

    static readonly byte[] Chunk = [.. Encoding.ASCII.GetBytes($"{Event.Length:x}\r\n"), .. Event, .. "\r\n"u8];

    readonly byte[] _into = new byte[1024];
    static readonly byte[] Request = Encoding.ASCII.GetBytes(
        "GET /v1/events?since=12 HTTP/1.1\r\nHost: api.test\r\nUser-Agent: curl/8.0\r\nAccept: text/event-stream\r\nAuthorization: "
            + "Bearer 0123456789\r\nX-Request-Id: 1234\r\n\r\n");

    readonly RequestHead _request = new();
    readonly KestrelServerLimits _limits = new();
    readonly ResponseHeadParser _parser = new();
    readonly ChunkedDecoder _decoder = new();
    readonly ChunkedDecoder _follower = new();
    readonly SseFramer _framer = new();

    public void Dispose()
    {
        _framer.Dispose();
        GC.SuppressFinalize(this);
    }

    [Benchmark]
    public object ResponseHead()
    {
        _parser.Reset();
        _parser.Advance(Head, 64 * 1024);
        return _parser.Build(Head, default);
    }

    [Benchmark]
    public object RequestHead()
    {
        _request.Next();
        var buffer = new ReadOnlySequence<byte>(Request);
        _request.Advance(ref buffer, _limits);
        return _request;
    }

    [Benchmark]
    public int ChunkDecoded()
    {
        _decoder.Decode(Chunk, _into, out var written);
        return written;
    }

    [Benchmark]
    public int ChunkFollowed()
    {
        _follower.Follow(Chunk, out var passed, out _);
        return passed;
    }

    [Benchmark]
    public int EventFramed()
    {
        _framer.Push(Event);
        var events = 0;
        while (_framer.TryRead(out _))
        {
            events++;
        }
        return events;
    }
}
