using System.Runtime.CompilerServices;
using System.Text.Json.Nodes;
using Sluice.Model;

namespace Sluice.Pipeline;

/// <summary>A consumer as requests see it. The same object as long as its documents stay the same.</summary>
/// <param name="Maker">Makes its plugins where it uses a route.</param>
/// <param name="GroupId">Null when it is in no group.</param>
/// <param name="Plugins">Its own plugins and, below them, its group's; credentials of auth plugins included.</param>
/// <param name="Labels">For headers and logs.</param>
internal sealed record Consumer(PluginMaker Maker, string Username, string? GroupId, JsonObject Plugins, JsonObject? Labels)
{
    readonly Consumer? _owner;
    readonly JsonObject? _credential;

    Consumer(Consumer owner, CredentialConfig credential)
        : this(owner.Maker, owner.Username, owner.GroupId, owner.Plugins, owner.Labels) =>
        (_owner, _credential, CredentialId) = (owner, credential.Plugins ?? [], credential.Id);

    /// <summary>The consumer as a request is that came with one of its credentials.</summary>
    public Consumer With(CredentialConfig credential) => new(this, credential);

    /// <summary>The consumer itself: the same object for all of its credentials.</summary>
    public Consumer Owner => _owner ?? this;

    /// <summary>Which of its credentials the request came with; null: what the consumer's own plugins say.</summary>
    public string? CredentialId { get; }

    /// <summary>The consumer's part of an auth plugin: <c>{"key": "…"}</c>.</summary>
    public JsonObject? Credential(string plugin) => (_credential ?? Plugins)[plugin] as JsonObject;

    /// <summary>A route's chain with this consumer's plugins in it; they win.</summary>
    public PluginChain Over(PluginChain chain)
    {
        // credentials of auth plugins are not configurations: a consumer's key-auth does not replace the route's
        var own = Maker.Make(Plugins, $"consumer {Username}", wanted: plugin => !plugin.IsCredential).ToArray();
        return new PluginChain([.. own, .. chain.Uses.Where(use => !own.Any(mine => mine.Descriptor == use.Descriptor))]);
    }

    public bool Equals(Consumer? other) => ReferenceEquals(this, other);

    public override int GetHashCode() => RuntimeHelpers.GetHashCode(this);
}
