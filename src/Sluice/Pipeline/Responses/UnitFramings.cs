using Microsoft.Extensions.Primitives;
using Sluice.Relay;
using Sluice.Scripting;

namespace Sluice.Pipeline;

/// <summary>Which responses can be cut into units, and by what.</summary>
static class UnitFramings
{
    /// <summary>By its head, as it is now; null: it has no units, or nobody can see them.</summary>
    public static UnitFraming? Of(Exchange exchange)
    {
        var coding = exchange.Response.Headers.ContentEncoding;
        return LiveStream.KindOf(exchange) switch
        {
            StreamKind.Grpc => UnitFraming.Messages,
            _ when !StringValues.IsNullOrEmpty(coding) && coding != "identity" => null,
            StreamKind.Sse => UnitFraming.Sse,
            StreamKind.Ndjson => UnitFraming.Lines,
            _ => null,
        };
    }

    public static IEventFramer Open(UnitFraming framing) => framing switch
    {
        UnitFraming.Lines => new LineFramer(),
        UnitFraming.Messages => new MessageFramer(),
        _ => new SseFramer(),
    };
}
