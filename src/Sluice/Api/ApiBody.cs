using System.Buffers;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;

namespace Sluice.Api;

/// <summary>Reads the body of a request to an endpoint, up to a limit.</summary>
static class ApiBody
{
    /// <returns>The body, or the 413 when it is too large.</returns>
    public static async ValueTask<(byte[] Body, JsonAnswer? TooLarge)> ReadAsync(HttpContext http, int limit)
    {
        if (http.Request.ContentLength > limit)
        {
            return ([], TooLarge(http.Request.ContentLength.Value, limit));
        }
        if (http.Features.Get<IHttpMaxRequestBodySizeFeature>() is { IsReadOnly: false } size)
        {
            size.MaxRequestBodySize = Math.Max(size.MaxRequestBodySize ?? 0, limit + 65536L);
        }
        var reader = http.Request.BodyReader;
        while (true)
        {
            var read = await reader.ReadAsync(http.RequestAborted);
            if (read.Buffer.Length > limit)
            {
                var length = read.Buffer.Length;
                reader.AdvanceTo(read.Buffer.End);
                return ([], TooLarge(length, limit));
            }
            if (read.IsCompleted)
            {
                var bytes = read.Buffer.ToArray();
                reader.AdvanceTo(read.Buffer.End);
                return (bytes, null);
            }
            reader.AdvanceTo(read.Buffer.Start, read.Buffer.End);
        }
    }

    static JsonAnswer TooLarge(long length, int limit) =>
        JsonAnswer.Error(400, $"invalid request body: request size {length} is greater than the maximum size {limit} allowed");
}
