using System.IO.Pipelines;
using System.Text;
using System.Threading.Tasks.Sources;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Logging.Abstractions;
using Sluice.Model;
using Sluice.Net;
using Sluice.Pipeline;
using Sluice.Plugins;
using Sluice.Relay;

namespace Sluice.Tests.Pipeline.Responses;

/// <summary>What a stream costs while it runs: through the whole way out, registry and all, an event that comes after a wait allocates
/// nothing.</summary>
public sealed class StreamAllocationTests
{
    const int Events = 1000;

    [Theory]
    [InlineData("{}", "pieces")]
    [InlineData("""{"sse":{}}""", "events")]
    [InlineData("""{"sse":{"filter":{"exclude_events":["ping"]},"strip_comments":true}}""", "events")]
    [InlineData("""{"streaming":{"slow_consumer":{"policy":"drop_oldest"}}}""", "queue")]
    [InlineData("""{"streaming":{"slow_consumer":{"policy":"latest_per_key","key":"data.text"}}}""", "queue")]
    [InlineData("""{"streaming":{"rate":{"events_per_second":1000000,"burst_events":1000000}}}""", "events")]
    [InlineData("""{"streaming":{"idle_timeout":60,"heartbeat":{"interval":15}}}""", "pieces")]
    public async Task An_event_allocates_nothing(string plugins, string mode)
    {
        await using var stream = Open(plugins);
        stream.Send(Events);
        Assert.Equal(mode, stream.Live.Look()!.Mode);
        Assert.Equal(0, Allocation.Of(() => stream.Send(Events)));
        Assert.True(stream.Received > 10 * Events);
    }

    [Fact]
    public async Task Neither_does_one_that_somebody_looks_at()
    {
        await using var stream = Open("{}");
        var seen = new Counts();
        var tap = stream.Live.Tap(seen);
        stream.Send(Events);
        Assert.Equal(0, Allocation.Of(() => stream.Send(Events)));
        Assert.True(seen.Bytes > 0);
        tap!.Dispose();
        Assert.Equal(0, Allocation.Of(() => stream.Send(Events)));
    }

    /// <summary>The registry is a place in a list: whether a stream is listed, found and looked at changes nothing of what its events
    /// cost.</summary>
    [Fact]
    public async Task Nor_one_of_a_stream_that_is_listed_meanwhile()
    {
        await using var stream = Open("{}");
        stream.Send(1);
        Assert.Single(stream.Services.Live.List());
        Assert.Equal(0, Allocation.Of(() => stream.Send(Events)));
    }

    static Stream Open(string plugins)
    {
        var route = TestExchange.Document(ResourceKind.Routes, "r1",
            $$"""{"uri":"/*","upstream":{"nodes":{"127.0.0.1:1":1} },"plugins":{{plugins}} }""");
        var exchange = TestExchange.Of(TestExchange.Compile([route], Builtin.All), "http://gateway.test/");
        var stream = new Stream(exchange);
        (exchange.Request.Protocol, exchange.Http.Features.Get<IHttpRequestFeature>()!.RawTarget) = ("HTTP/1.1", "/");
        exchange.Http.Features.Set<IHttpResponseBodyFeature>(stream);
        exchange.ForwardTo = new ForwardTo.From((_, _) => new(stream));
        stream.Running = new GatewayPipeline(new Forwarder(null!, null!, null!, null!, "", NullLogger<Forwarder>.Instance),
            NullLogger<GatewayPipeline>.Instance).RunAsync(exchange);
        // it has run until it waits for the first event
        Assert.False(stream.Running.IsCompleted, $"{exchange.Response.StatusCode} {exchange.Failure}");
        return stream;
    }

    sealed class Counts : IPieceObserver
    {
        public long Bytes { get; private set; }

        public void OnPiece(ReadOnlySpan<byte> piece, bool last) => Bytes += piece.Length;
    }

    /// <summary>Upstream and client in one: gives an event whenever the test says so, on the test's own thread, and takes what comes
    /// out.</summary>
    sealed class Stream(Exchange exchange) : IResponseSource, IBodySource, IHttpResponseBodyFeature, IValueTaskSource, IAsyncDisposable
    {
        static readonly byte[] s_event = Encoding.UTF8.GetBytes("event: token\ndata: {\"text\":\"hello\"}\n\n");

        readonly Sink _sink = new();
        ManualResetValueTaskSourceCore<bool> _readable;
        bool _has, _isOver;

        public Task Running { get; set; } = Task.CompletedTask;

        public PluginServices Services => exchange.Services;

        public LiveStream Live => Assert.Single(Services.Live.List());

        public long Received => _sink.Bytes;

        public void Send(int events)
        {
            for (var i = 0; i < events; i++)
            {
                _has = true;
                _readable.SetResult(true);
            }
        }

        public async ValueTask DisposeAsync()
        {
            if (!_isOver)
            {
                _isOver = true;
                _readable.SetResult(true);
                await Running;
            }
        }

        ValueTask IAsyncDisposable.DisposeAsync() => DisposeAsync();

        public bool IsStream => true;

        public bool NeverBuffered => true;

        public BodyFraming Framing => new(BodyKind.CloseDelimited);

        public bool Ended => false;

        public void WriteHead(Exchange exchange)
        {
            exchange.Response.StatusCode = 200;
            exchange.Response.ContentType = "text/event-stream";
        }

        public IBodySource TakeBody() => this;

        public ValueTask WaitReadableAsync()
        {
            _readable.Reset();
            return new(this, _readable.Version);
        }

        public ValueTask<int> ReadAsync(Memory<byte> destination)
        {
            if (!_has)
            {
                return new(0);
            }
            _has = false;
            s_event.CopyTo(destination);
            return new(s_event.Length);
        }

        public void Abort(UpstreamFailureKind reason)
        {
        }

        void IValueTaskSource.GetResult(short token) => _readable.GetResult(token);

        ValueTaskSourceStatus IValueTaskSource.GetStatus(short token) => _readable.GetStatus(token);

        void IValueTaskSource.OnCompleted(Action<object?> continuation, object? state, short token,
            ValueTaskSourceOnCompletedFlags flags) =>
            _readable.OnCompleted(continuation, state, token, flags & ~ValueTaskSourceOnCompletedFlags.UseSchedulingContext);

        // The client

        System.IO.Stream IHttpResponseBodyFeature.Stream => System.IO.Stream.Null;

        PipeWriter IHttpResponseBodyFeature.Writer => _sink;

        Task IHttpResponseBodyFeature.CompleteAsync() => Task.CompletedTask;

        void IHttpResponseBodyFeature.DisableBuffering()
        {
        }

        Task IHttpResponseBodyFeature.SendFileAsync(string path, long offset, long? count, CancellationToken cancellationToken) =>
            throw new NotSupportedException();

        Task IHttpResponseBodyFeature.StartAsync(CancellationToken cancellationToken) => Task.CompletedTask;
    }

    sealed class Sink : PipeWriter
    {
        readonly byte[] _memory = new byte[256 * 1024];

        public long Bytes { get; private set; }

        public override void Advance(int bytes) => Bytes += bytes;

        public override Memory<byte> GetMemory(int sizeHint = 0) => _memory;

        public override Span<byte> GetSpan(int sizeHint = 0) => _memory;

        public override ValueTask<FlushResult> FlushAsync(CancellationToken cancellationToken = default) =>
            new(new FlushResult(false, false));

        public override void CancelPendingFlush()
        {
        }

        public override void Complete(Exception? exception = null)
        {
        }
    }
}
