using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Sluice.Scripting;

namespace Sluice.Pipeline;

/// <summary>A request that a plugin makes to the gateway itself: it runs through the whole pipeline, without a socket in between.</summary>
/// <param name="Target">Path and query, as in a request line.</param>
internal sealed record InnerRequest(string Method, string Target, IHeaderDictionary Headers, ReadOnlyMemory<byte> Body)
{
    public const int MaxBody = 10 * 1024 * 1024;

    /// <summary>As in nginx (NGX_HTTP_MAX_SUBREQUESTS and one).</summary>
    const int MaxDepth = 51;

    /// <summary>So many may be under way for one request of a client.</summary>
    const int MaxAtOnce = 1000;

    /// <summary>What it answers goes to a client in the place of an error.</summary>
    public bool ForErrorPage { get; init; }

    /// <summary>What it has of the outer request, when that is a script's; null: nothing.</summary>
    public SubrequestOptions? Options { get; init; }

    /// <summary>Runs it as the client of <paramref name="outer"/>: same addresses, same scheme, same snapshot.</summary>
    /// <returns>Null when it took too long or its answer broke off.</returns>
    public async Task<InnerAnswer?> RunAsync(Exchange outer, TimeSpan timeout)
    {
        using var tooLong = new CancellationTokenSource(timeout, outer.Services.Time);
        using var end = CancellationTokenSource.CreateLinkedTokenSource(tooLong.Token, outer.Http.RequestAborted);
        var parent = LifetimeOf(outer);
        var lifetime = new Lifetime(end, ForErrorPage, parent?.Client ?? outer, (parent?.Depth ?? 0) + 1);
        var response = new Response();
        using var body = new BoundedBody(response, MaxBody);
        var exchange = new Exchange(new DefaultHttpContext(Features(outer, lifetime, response, body)), outer.Snapshot, outer.Services,
            outer.Services.Time.GetTimestamp())
        {
            ConnectionRequests = outer.ConnectionRequests,
            Opens = Options?.Open,
        };
        if (Options is not null)
        {
            exchange.TakeVariables(outer, Options);
        }
        Interlocked.Increment(ref lifetime.Client.InnerRequests);
        try
        {
            await outer.Services.Inner(exchange);
            if (!lifetime.Aborted)
            {
                await exchange.Response.CompleteAsync();
            }
        }
        finally
        {
            Interlocked.Decrement(ref lifetime.Client.InnerRequests);
        }
        return lifetime.Aborted || end.IsCancellationRequested ? null : new(response.StatusCode, response.Headers, body.ToArray());
    }

    /// <summary>Whether the exchange is one of these.</summary>
    public static bool Is(Exchange exchange) => LifetimeOf(exchange) is not null;

    public static bool IsForErrorPage(Exchange exchange) => LifetimeOf(exchange) is { ForErrorPage: true };

    /// <summary>False: too many are inside each other, or beside each other.</summary>
    public static bool MayMake(Exchange outer) => LifetimeOf(outer) is { } inner
        ? inner.Depth < MaxDepth && Volatile.Read(ref inner.Client.InnerRequests) < MaxAtOnce
        : Volatile.Read(ref outer.InnerRequests) < MaxAtOnce;

    static Lifetime? LifetimeOf(Exchange exchange) =>
        exchange.Http is DefaultHttpContext http ? http.Features.Get<IHttpRequestLifetimeFeature>() as Lifetime : null;

    FeatureCollection Features(Exchange outer, Lifetime lifetime, Response response, Stream body)
    {
        var features = new FeatureCollection();
        features.Set<IHttpRequestFeature>(new HttpRequestFeature
        {
            Method = Method,
            Scheme = outer.Request.Scheme,
            Protocol = "HTTP/1.1",
            RawTarget = Target,
            Path = Target.Split('?')[0],
            Headers = Headers,
            Body = new MemoryStream(Body.ToArray(), writable: false),
        });
        features.Set<IHttpRequestBodyDetectionFeature>(new Detection(Body.Length > 0));
        features.Set<IHttpConnectionFeature>(new HttpConnectionFeature
        {
            ConnectionId = outer.Http.Connection.Id,
            RemoteIpAddress = outer.RemoteAddress,
            RemotePort = outer.RemotePort,
            LocalIpAddress = outer.Http.Connection.LocalIpAddress,
            LocalPort = outer.Http.Connection.LocalPort,
        });
        features.Set(outer.Counts);
        features.Set<IHttpResponseFeature>(response);
        features.Set<IHttpResponseBodyFeature>(new StreamResponseBodyFeature(body));
        features.Set<IHttpRequestLifetimeFeature>(lifetime);
        return features;
    }

    sealed record Detection(bool CanHaveBody) : IHttpRequestBodyDetectionFeature;

    /// <param name="client">The request that all of them are made for.</param>
    /// <param name="depth">1: made by that one itself.</param>
    sealed class Lifetime(CancellationTokenSource end, bool forErrorPage, Exchange client, int depth) : IHttpRequestLifetimeFeature
    {
        public bool ForErrorPage { get; } = forErrorPage;

        public Exchange Client { get; } = client;

        public int Depth { get; } = depth;

        public bool Aborted { get; private set; }

        public CancellationToken RequestAborted { get; set; } = end.Token;

        public void Abort()
        {
            Aborted = true;
            end.Cancel();
        }
    }

    sealed class Response : HttpResponseFeature
    {
        bool _started;

        public override bool HasStarted => _started;

        public void Start() => _started = true;
    }

    /// <summary>Holds the answer; one that grows beyond the bound fails.</summary>
    sealed class BoundedBody(Response response, int max) : MemoryStream
    {
        public override void Write(byte[] buffer, int offset, int count)
        {
            response.Start();
            if (Length + count > max)
            {
                throw new IOException($"the answer is larger than {max >> 20} MiB");
            }
            base.Write(buffer, offset, count);
        }

        public override void Write(ReadOnlySpan<byte> buffer) => Write(buffer.ToArray(), 0, buffer.Length);

        public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
        {
            Write(buffer.Span);
            return ValueTask.CompletedTask;
        }
    }
}

/// <summary>What an <see cref="InnerRequest"/> was answered.</summary>
internal sealed record InnerAnswer(int Status, IHeaderDictionary Headers, ReadOnlyMemory<byte> Body);
