using System.IO.Pipelines;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Sluice.Net;
using Sluice.Relay.Topics;

namespace Sluice.Pipeline;

/// <summary>
/// The upstream's side of a request that does not end with its client: it is forwarded in an exchange of its own, and its response, once
/// the body filters have seen it, goes into a topic. A response that is no event stream is handed to the client's exchange as it is.
/// </summary>
sealed class DetachedRequest : IDisposable
{
    readonly Func<DetachedRequest, Topic> _open;
    readonly Func<Topic, Subscriber> _subscribe;
    readonly CancellationTokenSource _end = new();
    readonly TaskCompletionSource<Taken> _response = new(TaskCreationOptions.RunContinuationsAsynchronously);
    readonly ResponseFeature _head = new();
    readonly BodyFeature _body = new();
    IResponseSource? _source;
    Topic? _topic;

    /// <summary>What came of it, for the client's exchange.</summary>
    public readonly record struct Taken(Topic? Topic, Subscriber? Subscriber, IResponseSource? Source, Answer? Answer);

    DetachedRequest(Exchange client, ReadOnlyMemory<byte> body, Func<DetachedRequest, Topic> open, Func<Topic, Subscriber> subscribe)
    {
        (_open, _subscribe) = (open, subscribe);
        Exchange = client.WithoutClient(this, new DefaultHttpContext(Features(client, body)));
    }

    public Exchange Exchange { get; }

    /// <summary>Its response has been taken: what is sent now goes into the topic.</summary>
    internal bool IsTaken { get; private set; }

    public bool IsStopped => _end.IsCancellationRequested;

    /// <summary>Somebody reads what comes.</summary>
    public bool HasClients => _topic is { IsDetached: false };

    /// <summary>No client was there when it ended.</summary>
    public bool EndedAlone { get; private set; }

    /// <summary>Forwards the client's request, as it is now, and waits for the response's head.</summary>
    /// <param name="open">Makes the topic, when the response is an event stream.</param>
    /// <param name="subscribe">Makes its first reader, before anything has come.</param>
    /// <param name="outlives">It goes on when the client leaves before the head has come.</param>
    public static async ValueTask<Taken> AskAsync(
        Exchange client, ReadOnlyMemory<byte> body, Func<DetachedRequest, Topic> open, Func<Topic, Subscriber> subscribe, bool outlives)
    {
        var detached = new DetachedRequest(client, body, open, subscribe);
        using (ExecutionContext.SuppressFlow())
        {
            _ = client.Services.Alone(detached);
        }
        Taken taken;
        try
        {
            taken = await detached._response.Task.WaitAsync(client.ClientGone);
        }
        catch (OperationCanceledException) when (client.ClientGone.IsCancellationRequested)
        {
            if (!outlives)
            {
                detached.Stop();
            }
            detached.NobodyWaits();
            throw;
        }
        if (client.Loop is { IsCurrent: false } loop)
        {
            await loop.SwitchTo();
        }
        client.Upstream.Copy(detached.Exchange.Upstream);
        (taken.Source as HandedSource)?.Follow(client, detached);
        client.Failure ??= detached.Exchange.Failure;
        return taken;
    }

    /// <summary>The upstream is let go.</summary>
    public void Stop()
    {
        try
        {
            _end.Cancel();
        }
        catch (ObjectDisposedException)
        {
            // it is over already
            return;
        }
        if (Exchange.Scope.IgnoreClientAbort)
        {
            _source?.Abandon();
        }
    }

    /// <summary>What comes is nobody's: whatever waits to be taken is let go.</summary>
    void NobodyWaits() => _ = _response.Task.ContinueWith(
        static response =>
        {
            if (response.IsCompletedSuccessfully)
            {
                response.Result.Subscriber?.Dispose();
                (response.Result.Source as HandedSource)?.Release();
            }
            else
            {
                _ = response.Exception;
            }
        },
        CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);

    // -- What the forwarder does with it

    internal async ValueTask TakeAsync(IResponseSource source)
    {
        _source = source;
        var response = Exchange.Response;
        source.WriteHead(Exchange);
        var encoding = response.Headers.ContentEncoding;
        if (response.StatusCode != 200 || !Net.Http.MediaType.IsEventStream(response.ContentType)
            || (encoding.Count > 0 && encoding != "identity"))
        {
            var handed = new HandedSource(source);
            _head.Start();
            _response.TrySetResult(new(null, null, handed, null));
            await handed.Released;
            return;
        }
        var head = KeptHead.Of(response);
        response.Clear();
        IsTaken = true;
        var topic = _topic = _open(this);
        topic.Head = head;
        Exchange.Topic = topic;
        topic.Begin(Stop);
        _head.Start();
        using var writer = new TopicWriter(topic);
        _body.Writer = writer;
        _response.TrySetResult(new(topic, _subscribe(topic), null, null));
        await ResponseSender.SendAsync(Exchange, new IntoTopic(source));
        await writer.EndAsync();
        EndedAlone = topic.IsDetached;
        topic.Complete(TopicEnd.Complete);
    }

    /// <summary>It is over: with an answer of the gateway's, or with all there was.</summary>
    public void Answered(Answer? answer)
    {
        if (answer is not null)
        {
            _response.TrySetResult(new(null, null, null, answer));
        }
        Over();
    }

    public void Failed(Exception failure)
    {
        _response.TrySetException(failure);
        Over();
    }

    void Over()
    {
        _response.TrySetException(new UpstreamException(UpstreamFailureKind.Shutdown));
        _ = _response.Task.Exception;
        EndedAlone |= _topic is { IsDetached: true } or { End.Reason: "client_gone" };
        var failure = Exchange.Failure;
        _topic?.Complete(failure is null ? new("internal_error", "the stream could not go on", 500)
            : new(failure.Kind, failure.Detail, failure.Status));
    }

    public void Dispose() => _end.Dispose();

    // -- Its context

    FeatureCollection Features(Exchange client, ReadOnlyMemory<byte> body)
    {
        var features = RequestFeatures(client, body);
        // units must be seen
        features.GetRequiredFeature<IHttpRequestFeature>().Headers.Remove("Accept-Encoding");
        features.Set<IHttpResponseFeature>(_head);
        features.Set<IHttpResponseBodyFeature>(_body);
        features.Set<IHttpRequestLifetimeFeature>(new Lifetime(this));
        return features;
    }

    /// <summary>A request as it came and as plugins have changed it by now.</summary>
    internal static FeatureCollection RequestFeatures(Exchange client, ReadOnlyMemory<byte> body)
    {
        var headers = new HeaderDictionary(client.Request.Headers.Count);
        foreach (var (name, values) in client.Request.Headers)
        {
            headers[name] = values;
        }
        var connection = client.Http.Connection;
        var features = new FeatureCollection();
        features.Set<IHttpRequestFeature>(new HttpRequestFeature
        {
            Method = client.Request.Method,
            Scheme = client.Request.Scheme,
            Protocol = client.Request.Protocol,
            RawTarget = client.Target,
            Path = client.Target.Split('?')[0],
            Headers = headers,
            Body = new MemoryStream(body.ToArray(), writable: false),
        });
        features.Set<IHttpRequestBodyDetectionFeature>(new Detection(!body.IsEmpty));
        features.Set<IHttpConnectionFeature>(new HttpConnectionFeature
        {
            ConnectionId = connection.Id,
            RemoteIpAddress = client.RemoteAddress,
            RemotePort = client.RemotePort,
            LocalIpAddress = connection.LocalIpAddress,
            LocalPort = connection.LocalPort,
        });
        features.Set(client.Http.Features.Get<ITlsConnectionFeature>());
        return features;
    }

    sealed record Detection(bool CanHaveBody) : IHttpRequestBodyDetectionFeature;

    sealed class Lifetime(DetachedRequest request) : IHttpRequestLifetimeFeature
    {
        public CancellationToken RequestAborted { get; set; } = request._end.Token;

        public void Abort() => request.Stop();
    }

    sealed class ResponseFeature : HttpResponseFeature
    {
        bool _started;

        public override bool HasStarted => _started;

        public void Start() => _started = true;
    }

    sealed class BodyFeature : IHttpResponseBodyFeature
    {
        public PipeWriter Writer { get; set; } = PipeWriter.Create(Stream.Null);

        public Stream Stream => Stream.Null;

        public void DisableBuffering()
        {
        }

        public Task StartAsync(CancellationToken cancellationToken = default) => Task.CompletedTask;

        public Task SendFileAsync(string path, long offset, long? count, CancellationToken cancellationToken = default) =>
            throw new NotSupportedException();

        public Task CompleteAsync() => Task.CompletedTask;
    }

    /// <summary>The upstream's response on its way into a topic, which is never behind.</summary>
    sealed class IntoTopic(IResponseSource source) : IResponseSource
    {
        public void WriteHead(Exchange exchange) => source.WriteHead(exchange);

        public bool IsStream => true;

        public bool NeverBuffered => true;

        public IdleDeadline? Silence => source.Silence;

        public TimeSpan ReadTimeout => source.ReadTimeout;

        public IBodySource? TakeBody() => source.TakeBody();

        public void Abandon() => source.Abandon();

        public ValueTask EndedAsync() => source.EndedAsync();

        public ValueTask DisposeAsync() => ValueTask.CompletedTask;
    }

    /// <summary>A response that the client's exchange sends itself; its upstream is kept until that has ended.</summary>
    sealed class HandedSource(IResponseSource source) : IResponseSource
    {
        readonly TaskCompletionSource _released = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public Task Released => _released.Task;

        CancellationTokenRegistration _clientGone;
        Exchange? _client, _own;

        public void Release() => _released.TrySetResult();

        /// <summary>From here on it ends with this client.</summary>
        public void Follow(Exchange client, DetachedRequest request)
        {
            (_client, _own) = (client, request.Exchange);
            _clientGone = client.ClientGone.UnsafeRegister(static request => ((DetachedRequest)request!).Stop(), request);
        }

        public void WriteHead(Exchange exchange) => source.WriteHead(exchange);

        public bool IsStream => source.IsStream;

        public bool NeverBuffered => source.NeverBuffered;

        public string? BufferingWish => source.BufferingWish;

        public long? Length => source.Length;

        public bool HeadMayBeAll => source.HeadMayBeAll;

        public IdleDeadline? Silence => source.Silence;

        public TimeSpan ReadTimeout => source.ReadTimeout;

        public IBodySource? TakeBody() => source.TakeBody();

        public void Abandon() => source.Abandon();

        public async ValueTask EndedAsync()
        {
            await source.EndedAsync();
            _client?.Upstream.ResponseSeconds = _own!.Upstream.ResponseSeconds;
        }

        public void WriteTrailers(HttpResponse response) => source.WriteTrailers(response);

        public IEnumerable<KeyValuePair<string, string>> Trailers => source.Trailers;

        public ValueTask DisposeAsync()
        {
            Release();
            return _clientGone.DisposeAsync();
        }
    }
}
