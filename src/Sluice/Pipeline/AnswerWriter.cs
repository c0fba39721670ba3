using System.Buffers;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Primitives;

namespace Sluice.Pipeline;

/// <summary>Sends answers that the gateway or a plugin gives. They pass header and body filters like an upstream's: a 401 gets its CORS headers too.</summary>
public static class AnswerWriter
{
    public static async ValueTask WriteAsync(Exchange exchange, Answer answer)
    {
        exchange.AnsweredByGateway = true;
        if (ReferenceEquals(answer, Answer.Sent))
        {
            return;
        }
        var response = exchange.Response;
        if (answer.Status >= 300 && GrpcStatus.IsAsked(exchange.Request))
        {
            answer = GrpcStatus.Of(answer);
        }
        else if (answer.IsPlainError && await ErrorPages.FindAsync(exchange, answer.Status) is { } page)
        {
            answer = page with { Headers = [.. answer.Headers, .. page.Headers] };
        }
        response.StatusCode = answer.Status;
        if (answer.ContentType is { } type)
        {
            response.ContentType = type;
        }
        foreach (var (name, value) in answer.Headers)
        {
            response.Headers[name] = StringValues.Concat(response.Headers[name], value);
        }
        HeaderPhase.Run(exchange);
        if (response.Headers.ContainsKey("grpc-status") && answer.Body.IsEmpty)
        {
            // the head is the whole answer
            return;
        }
        await WriteBodyAsync(exchange, exchange.ReplacedBody ?? answer.Body);
    }

    /// <summary>Sends a body that is there as a whole, through the body filters.</summary>
    public static async ValueTask WriteBodyAsync(Exchange exchange, ReadOnlyMemory<byte> body)
    {
        var response = exchange.Response;
        if (BodyFilters.Open(exchange) is { } filters)
        {
            var filtered = new ArrayBufferWriter<byte>();
            filters.Filter(body, true, filtered);
            body = filtered.WrittenMemory;
        }
        if (HeaderPhase.MayHaveBody(response.StatusCode))
        {
            response.ContentLength = body.Length;
            if (!HttpMethods.IsHead(exchange.Request.Method) && body.Length > 0)
            {
                exchange.BodyBytesSent += body.Length;
                await response.BodyWriter.WriteAsync(body);
            }
        }
    }
}
