using System.Text;
using BenchmarkDotNet.Attributes;
using Sluice.Net;
using Sluice.Relay;

namespace Sluice.Bench;

/// <summary>The pieces that every answer and every event goes through.</summary>
[MemoryDiagnoser]
public class ParserBenchmark : IDisposable
{
    static readonly byte[] Head = Encoding.ASCII.GetBytes(
        "HTTP/1.1 200 OK\r\nDate: Tue, 24 Nov 2026 22:00:00 GMT\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\nX-Request-Id: 1234\r\n\r\n");

    static readonly byte[] Event = Encoding.ASCII.GetBytes("id: 0000000001\ndata: " + new string('.', 97) + "\n\n");

    static readonly byte[] Chunk = [.. Encoding.ASCII.GetBytes($"{Event.Length:x}\r\n"), .. Event, .. "\r\n"u8];

    readonly byte[] _into = new byte[1024];
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
