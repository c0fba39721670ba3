using System.Collections.Frozen;

namespace Sluice.Pipeline;

/// <summary>The plugins there are, and which of them <c>plugins:</c> in conf/config.yaml enables.</summary>
public sealed class PluginRegistry(IEnumerable<PluginDescriptor> builtin, IReadOnlyCollection<string>? enabled = null)
{
    readonly FrozenDictionary<string, PluginDescriptor> _enabled = builtin
        .Where(plugin => enabled is null || enabled.Contains(plugin.Name)).ToFrozenDictionary(plugin => plugin.Name);

    /// <summary>Enabled plugins, highest priority first.</summary>
    public IReadOnlyList<PluginDescriptor> All => field ??=
        [.. _enabled.Values.OrderByDescending(plugin => plugin.Info.Priority).ThenBy(plugin => plugin.Name, StringComparer.Ordinal)];

    public PluginDescriptor? Find(string name) => _enabled.GetValueOrDefault(name);
}
