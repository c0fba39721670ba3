using Sluice.Model;

namespace Sluice.Pipeline;

/// <summary>Which live streams are meant. What is null is not asked; an empty name means those that have none.</summary>
/// <param name="Idle">No event for so long, or no byte where nothing counts events.</param>
/// <param name="Slow">The client has not taken what it was given.</param>
internal sealed record StreamFilter(
    string? Route = null, string? Service = null, string? Consumer = null, Cidr? Client = null, StreamKind? Kind = null,
    string? Phase = null, string? Mode = null,
    TimeSpan? MinAge = null, TimeSpan? Idle = null, bool? Slow = null, string? Topic = null);

/// <summary>By what a list of live streams is sorted.</summary>
internal enum StreamOrder
{
    Age,
    Bytes,
    Events,
    Queue,
    Idle,
}
