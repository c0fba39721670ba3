using Sluice.Pipeline;

namespace Sluice.Ai;

/// <summary>A plugin that knows how much an instance may still be asked.</summary>
internal interface IAiQuota
{
    /// <summary>There is something left for this instance.</summary>
    ValueTask<bool> HasLeftAsync(Exchange exchange, string instance);
}
