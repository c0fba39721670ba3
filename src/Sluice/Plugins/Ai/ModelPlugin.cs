using Microsoft.Extensions.Logging;
using Sluice.Ai;
using Sluice.Pipeline;
using Sluice.Relay;

namespace Sluice.Plugins.Ai;

/// <summary>What plugins that send requests to models have in common: all but who is asked.</summary>
internal abstract class ModelPlugin(AiSettings settings, ILogger logger) : IAccess, IHeaderFilter, IBodyFilter, IEventFilter, ILog,
    INeedsRequestBody
{
    protected AiSettings Settings { get; } = settings;

    protected ILogger Logger { get; } = logger;

    public int MaxRequestBodyBytes => Settings.MaxReqBodySize;

    public abstract ValueTask<Answer?> AccessAsync(Exchange exchange);

    /// <summary>The request goes where the call says.</summary>
    protected void Forward(Exchange exchange, AiCall call)
    {
        exchange.Ai = call;
        exchange.Items[this] = call;
        exchange.ForwardTo = new ForwardTo.Each(call);
    }

    public void FilterHeaders(Exchange exchange)
    {
        if (exchange.Find(this) is AiCall call)
        {
            AiResponse.FilterHead(exchange, call);
        }
    }

    public IPieceFilter? OpenBody(Exchange exchange) => exchange.Find(this) is AiCall call ? AiResponse.OpenBody(exchange, call) : null;

    public IEventStep? OpenEvents(Exchange exchange) => exchange.Find(this) is AiCall call ? AiResponse.OpenEvents(exchange, call) : null;

    public void Log(Exchange exchange) => (exchange.Find(this) as AiCall)?.Conclude(exchange);
}
