using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Primitives;
using Sluice.Net;
using Sluice.Relay.Topics;

namespace Sluice.Pipeline;

/// <summary>What was opened for a request: a response's source, or where there is none an answer.</summary>
internal readonly record struct Opened(IResponseSource? Source, Answer? Answer);

/// <summary>A response's head, as its upstream gave it.</summary>
sealed record KeptHead(int Status, KeyValuePair<string, StringValues>[] Headers)
{
    public static KeptHead Of(HttpResponse response) => new(response.StatusCode, [.. response.Headers]);

    public void Write(HttpResponse response, bool again)
    {
        response.StatusCode = Status;
        foreach (var (name, values) in Headers)
        {
            if (!again || !name.Equals("Set-Cookie", StringComparison.OrdinalIgnoreCase))
            {
                response.Headers[name] = values;
            }
        }
    }
}

/// <summary>A client's part of a topic: the head that the upstream gave, and the body from where the client wants it.</summary>
sealed class TopicSource : IResponseSource
{
    readonly Exchange _exchange;
    readonly Topic _topic;
    readonly Subscriber _subscriber;
    readonly string? _resumed;
    readonly CancellationTokenRegistration _clientGone;

    /// <param name="resumed">What is said of where it goes on; null: it begins here.</param>
    public TopicSource(Exchange exchange, Topic topic, Subscriber subscriber, string? resumed)
    {
        (_exchange, _topic, _subscriber, _resumed) = (exchange, topic, subscriber, resumed);
        exchange.Topic = topic;
        subscriber.BrokeOff = end => exchange.Failure ??= new(FailureSource.Gateway, end.Reason, end.Detail, end.Status);
        _clientGone = exchange.ClientGone.UnsafeRegister(
            static subscriber => ((Subscriber)subscriber!).Abort(UpstreamFailureKind.ClientGone), subscriber);
    }

    public void WriteHead(Exchange exchange)
    {
        var response = exchange.Response;
        ((KeptHead)_topic.Head!).Write(response, again: _resumed is not null);
        response.Headers["X-Sluice-Stream-Id"] = _topic.Id;
        if (_resumed is not null)
        {
            response.Headers["X-Sluice-Resumed"] = _resumed;
        }
    }

    public bool IsStream => true;

    public bool NeverBuffered => true;

    public bool IsFiltered => true;

    public IBodySource? TakeBody()
    {
        // the header filters have said by now who counts
        _subscriber.Counter = _exchange.Events = new(_exchange);
        return _subscriber;
    }

    public async ValueTask DisposeAsync()
    {
        await _clientGone.DisposeAsync();
        _subscriber.Dispose();
    }
}
