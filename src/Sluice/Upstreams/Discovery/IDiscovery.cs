using System.Text.Json;
using Sluice.Model;

namespace Sluice.Upstreams.Discovery;

/// <summary>Where upstreams with a <c>service_name</c> get their nodes from.</summary>
internal interface IDiscovery : IAsyncDisposable
{
    /// <summary>The service's nodes: the same array as long as they are the same.</summary>
    /// <exception cref="DiscoveryException">There is no such service, or nobody to ask.</exception>
    ValueTask<NodeConfig[]> NodesAsync(string service, CancellationToken cancellation);

    /// <summary>These services are asked for from now on; whatever is kept of others may go.</summary>
    void Follow(IReadOnlyCollection<string> services);

    /// <summary><c>/v1/discovery/{type}/dump</c>.</summary>
    void WriteDump(Utf8JsonWriter writer);
}

/// <summary>A service's nodes are not known; the message says why.</summary>
internal sealed class DiscoveryException(string message, Exception? inner = null) : Exception(message, inner);
