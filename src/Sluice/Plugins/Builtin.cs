using Sluice.Pipeline;
using Sluice.Plugins.Auth;
using Sluice.Plugins.Core;
using Sluice.Plugins.Metrics;
using Sluice.Plugins.Scripting;
using Sluice.Plugins.Security;
using Sluice.Plugins.Streaming;
using Sluice.Plugins.Traffic;
using Sluice.Plugins.Transform;

namespace Sluice.Plugins;

/// <summary>The plugins that come with Sluice. A new one is a line here.</summary>
public static class Builtin
{
    public static IReadOnlyList<PluginDescriptor> All { get; } =
    [
        PluginDescriptor.Of<ProxyBuffering, ProxyBuffering.Config>(),
        PluginDescriptor.Of<ProxyControl, ProxyControl.Config>(),
        PluginDescriptor.Of<RequestId, RequestId.Config>(),
        PluginDescriptor.Of<Cors, Cors.Config>(),
        PluginDescriptor.Of<IpRestriction, IpRestriction.Config>(),
        PluginDescriptor.Of<KeyAuth, KeyAuth.Config>(),
        PluginDescriptor.Of<ProxyRewrite, ProxyRewrite.Config>(),
        PluginDescriptor.Of<LimitCount, LimitCount.Config>(),
        PluginDescriptor.Of<Sse, Sse.Config>(),
        PluginDescriptor.Of<Redirect, Redirect.Config>(),
        PluginDescriptor.Of<ResponseRewrite, ResponseRewrite.Config>(),
        PluginDescriptor.Of<LimitConn, LimitConn.Config>(),
        PluginDescriptor.Of<MqttProxy, MqttProxy.Config>(),
        PluginDescriptor.Of<BatchRequests, BatchRequests.Config>(),
        PluginDescriptor.Of<NodeStatus, NodeStatus.Config>(),
        PluginDescriptor.Of<PublicApi, PublicApi.Config>(),
        PluginDescriptor.Of<ServerlessPreFunction, Serverless.Config>(),
        PluginDescriptor.Of<ServerlessPostFunction, Serverless.Config>(),
        PluginDescriptor.Of<ErrorPage, ErrorPage.Config>(),
        PluginDescriptor.Of<Metrics.Prometheus, Metrics.Prometheus.Config>(),
    ];
}
