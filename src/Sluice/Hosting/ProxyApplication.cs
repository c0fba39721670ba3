using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Sluice.Net;
using Sluice.Net.Http1;
using Sluice.Observability;
using Sluice.Pipeline;

namespace Sluice.Hosting;

/// <summary>What is called for each request: an exchange under the running snapshot, the pipeline, one line in the access log.</summary>
sealed class ProxyApplication(LiveConfiguration live, PluginServices services, GatewayPipeline pipeline, AccessLogging accessLog)
    : IHttpApplication<Exchange>, IRefusedRequests
{
    public Exchange CreateContext(IFeatureCollection contextFeatures)
    {
        var snapshot = live.Enter(out var seat);
        return new((contextFeatures as Http1Connection)?.Context ?? new DefaultHttpContext(contextFeatures), snapshot, services,
            services.Time.GetTimestamp())
        {
            Seat = seat,
            ConnectionRequests = contextFeatures is Http1Connection ? 0
                : (contextFeatures.Get<IConnectionCounts>() as ConnectionCounts)?.Count() ?? 0,
        };
    }

    public Task ProcessRequestAsync(Exchange context)
    {
        services.Metrics.RequestStarted();
        return pipeline.RunAsync(context);
    }

    /// <summary>A request of the gateway to itself: counted and logged like one that came over a connection.</summary>
    public async Task RunInnerAsync(Exchange exchange)
    {
        try
        {
            await ProcessRequestAsync(exchange);
        }
        finally
        {
            DisposeContext(exchange, null);
        }
    }

    /// <summary>The upstream's side of a request that does not end with its client; a line of its own in the log only when no client was
    /// there at its end.</summary>
    public async Task RunAloneAsync(DetachedRequest detached)
    {
        await pipeline.RunAsync(detached);
        if (detached.EndedAlone)
        {
            accessLog.Write(detached.Exchange);
        }
        detached.Exchange.EndScripts();
        LiveConfiguration.Leave(detached.Exchange.Snapshot, detached.Exchange.Seat!.Value);
        detached.Dispose();
    }

    public void Refused(IFeatureCollection features)
    {
        services.Metrics.RequestStarted();
        DisposeContext(CreateContext(features), null);
    }

    public void DisposeContext(Exchange context, Exception? exception)
    {
        services.Metrics.RequestEnded();
        accessLog.Write(context);
        context.EndScripts();
        if (context.Seat is { } seat)
        {
            LiveConfiguration.Leave(context.Snapshot, seat);
        }
    }
}
