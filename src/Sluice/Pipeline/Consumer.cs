using System.Collections.Frozen;
using System.Text.Json.Nodes;
using Sluice.Model;

namespace Sluice.Pipeline;

/// <summary>A consumer as requests see it. The same object as long as its documents stay the same.</summary>
/// <param name="GroupId">Null when it is in no group.</param>
/// <param name="Plugins">Its own plugins and, below them, its group's; credentials of auth plugins included.</param>
/// <param name="Labels">For headers and logs.</param>
public sealed record Consumer(Document Document, string Username, string? GroupId, JsonObject Plugins, JsonObject? Labels)
{
    readonly Consumer? _owner;
    readonly JsonObject? _credential;

    Consumer(Consumer owner, CredentialConfig credential)
        : this(owner.Document, owner.Username, owner.GroupId, owner.Plugins, owner.Labels) =>
        (_owner, _credential, CredentialId) = (owner, credential.Plugins ?? [], credential.Id);

    /// <summary>The consumer as a request is that came with one of its credentials.</summary>
    public Consumer With(CredentialConfig credential) => new(this, credential);

    /// <summary>The consumer itself: the same object for all of its credentials.</summary>
    public Consumer Owner => _owner ?? this;

    /// <summary>Which of its credentials the request came with; null: what the consumer's own plugins say.</summary>
    public string? CredentialId { get; }

    /// <summary>The consumer's part of an auth plugin: <c>{"key": "…"}</c>.</summary>
    public JsonObject? Credential(string plugin) => (_credential ?? Plugins)[plugin] as JsonObject;

    public bool Equals(Consumer? other) => ReferenceEquals(this, other);

    public override int GetHashCode() => System.Runtime.CompilerServices.RuntimeHelpers.GetHashCode(this);
}

/// <summary>Finds consumers by what identifies them in an auth plugin (<see cref="PluginInfo.ConsumerKey"/>).</summary>
public sealed class ConsumerIndex
{
    readonly FrozenDictionary<string, FrozenDictionary<string, Consumer>> _byPlugin;

    public ConsumerIndex(IEnumerable<Consumer> consumers, IEnumerable<PluginDescriptor> plugins)
    {
        var all = consumers.ToArray();
        All = all.Where(consumer => consumer.CredentialId is null).ToFrozenDictionary(consumer => consumer.Username);
        _byPlugin = plugins
            .Where(plugin => plugin.Info.ConsumerKey is not null)
            .ToFrozenDictionary(plugin => plugin.Name, plugin => Index(all, plugin.Name, plugin.Info.ConsumerKey!));
    }

    public FrozenDictionary<string, Consumer> All { get; }

    /// <summary>The consumer whose credential of this plugin has this identity, or null.</summary>
    public Consumer? Find(string plugin, string identity) => _byPlugin.GetValueOrDefault(plugin)?.GetValueOrDefault(identity);

    static FrozenDictionary<string, Consumer> Index(Consumer[] consumers, string plugin, string property)
    {
        Dictionary<string, Consumer> index = [];
        foreach (var consumer in consumers)
        {
            if (consumer.Credential(plugin)?[property] is JsonValue value && value.TryGetValue(out string? identity))
            {
                index.TryAdd(identity, consumer);
            }
        }
        return index.ToFrozenDictionary();
    }
}
