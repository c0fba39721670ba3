using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Sluice.Net;
using Sluice.Net.Http1;
using Sluice.Observability;
using Sluice.Pipeline;

namespace Sluice.Hosting;

/// <summary>What is called for each request: an exchange under the running snapshot, the pipeline, one line in the access log.</summary>
sealed class ProxyApplication(LiveConfiguration live, PluginServices services, GatewayPipeline pipeline, AccessLogging accessLog) : IHttpApplication<Exchange>, IRefusedRequests
{
    public Exchange CreateContext(IFeatureCollection contextFeatures) =>
        new((contextFeatures as Http1Connection)?.Context ?? new DefaultHttpContext(contextFeatures), live.Current, services, services.Time.GetTimestamp())
        {
            ConnectionRequests = contextFeatures is Http1Connection ? 0 : (contextFeatures.Get<IConnectionCounts>() as ConnectionCounts)?.Count() ?? 0,
        };

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
    }
}
