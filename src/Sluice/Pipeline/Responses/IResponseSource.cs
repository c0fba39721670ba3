using Microsoft.AspNetCore.Http;
using Sluice.Net;

namespace Sluice.Pipeline;

/// <summary>
/// A response that comes from elsewhere: an upstream over HTTP/1.1 or HTTP/2, or whatever a plugin gives instead (a cache, a topic). It
/// says what its head and its body are; how they go to the client is <see cref="ResponseSender"/>'s alone. The final head is there when the
/// source is handed to the sender.
/// </summary>
public interface IResponseSource : IAsyncDisposable
{
    /// <summary>Writes status and headers into the client's response, without those that frame a body or belong to one
    /// connection.</summary>
    void WriteHead(Exchange exchange);

    /// <summary>The body's kind is that of a stream, which is not buffered unless a rule says so.</summary>
    bool IsStream { get; }

    /// <summary>The source cannot be read ahead of its client: nothing is ever spooled.</summary>
    bool NeverBuffered => false;

    /// <summary>The body has passed the body filters already, once for all who get it.</summary>
    bool IsFiltered => false;

    /// <summary>What the head says about buffering (<c>X-Accel-Buffering</c>); null when it says nothing.</summary>
    string? BufferingWish => null;

    /// <summary>The length that the head tells, of the body or of the one that a GET would have; null when it tells none.</summary>
    long? Length => null;

    /// <summary>The head may be all there is: it goes out together with what follows (gRPC's status in the head).</summary>
    bool HeadMayBeAll => false;

    /// <summary>The limit on the source's silence, and how long it is; null when it may be silent for ever.</summary>
    IdleDeadline? Silence => null;

    /// <summary>How long <see cref="Silence"/> may last.</summary>
    TimeSpan ReadTimeout => Timeout.InfiniteTimeSpan;

    /// <summary>The body; null when there is none (an answer to HEAD, 204). Asked for once and last: the head's own memory is not needed
    /// any more.</summary>
    IBodySource? TakeBody();

    /// <summary>The body is not wanted: something else goes out in its place.</summary>
    void Abandon() { }

    /// <summary>All of the body has been read, which may be long before the client has it.</summary>
    ValueTask EndedAsync() => ValueTask.CompletedTask;

    /// <summary>Appends the trailers to the client's response, which can have some.</summary>
    void WriteTrailers(HttpResponse response) { }

    /// <summary>The trailers, when all of the body has been read.</summary>
    IEnumerable<KeyValuePair<string, string>> Trailers => [];
}
