using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;

namespace Sluice.Api;

/// <summary>What an endpoint answers: <see cref="JsonAnswer"/>, <see cref="StreamedAnswer"/>, <see cref="FileAnswer"/>.</summary>
public interface IApiAnswer
{
    int Status { get; }

    Task SendAsync(HttpContext http);
}

/// <summary>An answer whose body is written while it is made; each flush reaches the client at once.</summary>
/// <param name="Write">Writes the body. What it throws cuts the connection: the client must not take a part for the whole.</param>
public sealed record StreamedAnswer(int Status, string ContentType, Func<Stream, CancellationToken, Task> Write) : IApiAnswer
{
    public async Task SendAsync(HttpContext http)
    {
        http.Features.Get<IHttpResponseBodyFeature>()?.DisableBuffering();
        var response = http.Response;
        response.StatusCode = Status;
        response.ContentType = ContentType;
        response.Headers.Server = JsonAnswer.Server;
        response.Headers.CacheControl = "no-store";
        if (HttpMethods.IsHead(http.Request.Method))
        {
            return;
        }
        await response.StartAsync(http.RequestAborted);
        await Write(response.Body, http.RequestAborted);
    }
}

/// <summary>An answer that is a file: one on disk, or one that is embedded in the program.</summary>
/// <param name="Open">Opens the file; its length must be known.</param>
public sealed record FileAnswer(string ContentType, Func<Stream> Open) : IApiAnswer
{
    public int Status => StatusCodes.Status200OK;

    /// <summary>Sent as <c>Cache-Control</c>; null: not sent.</summary>
    public string? CacheControl { get; init; }

    public async Task SendAsync(HttpContext http)
    {
        await using var file = Open();
        var response = http.Response;
        response.ContentType = ContentType;
        response.ContentLength = file.Length;
        response.Headers.Server = JsonAnswer.Server;
        response.Headers.XContentTypeOptions = "nosniff";
        if (CacheControl is not null)
        {
            response.Headers.CacheControl = CacheControl;
        }
        if (!HttpMethods.IsHead(http.Request.Method))
        {
            await file.CopyToAsync(response.Body, http.RequestAborted);
        }
    }
}
