using System.Collections.Frozen;

namespace Sluice.Pipeline;

/// <summary>The plugins there are, and which of them <c>plugins:</c> in conf/config.yaml enables.</summary>
/// <param name="streamEnabled"><c>stream_plugins</c>.</param>
internal sealed class PluginRegistry(IEnumerable<PluginDescriptor> builtin, IReadOnlyCollection<string>? enabled = null,
    IReadOnlyCollection<string>? streamEnabled = null)
{
    readonly FrozenDictionary<string, PluginDescriptor> _forStreams = builtin
        .Where(plugin => plugin.IsForStreams && (streamEnabled is null || streamEnabled.Contains(plugin.Name)))
        .ToFrozenDictionary(plugin => plugin.Name);

    readonly FrozenDictionary<string, PluginDescriptor> _enabled = builtin
        .Where(plugin => plugin.IsForHttp && (enabled is null || enabled.Contains(plugin.Name))).ToFrozenDictionary(plugin => plugin.Name);

    /// <summary>All that there are, enabled or not.</summary>
    public IReadOnlyCollection<string> Names { get; } = [.. builtin.Where(plugin => plugin.IsForHttp).Select(plugin => plugin.Name)];

    /// <summary>The same for stream routes.</summary>
    public IReadOnlyCollection<string> StreamNames { get; } =
        [.. builtin.Where(plugin => plugin.IsForStreams).Select(plugin => plugin.Name)];

    public bool Has(string name, bool forStreams) => (forStreams ? FindForStreams(name) : Find(name)) is not null;

    /// <summary>Enabled plugins, highest priority first.</summary>
    public IReadOnlyList<PluginDescriptor> All => field ??=
        [.. _enabled.Values.OrderByDescending(plugin => plugin.Info.Priority).ThenBy(plugin => plugin.Name, StringComparer.Ordinal)];

    /// <summary>Those for stream routes, highest priority first.</summary>
    public IReadOnlyList<PluginDescriptor> AllForStreams => field ??=
        [.. _forStreams.Values.OrderByDescending(plugin => plugin.Info.Priority).ThenBy(plugin => plugin.Name, StringComparer.Ordinal)];

    /// <summary>A plugin for stream routes.</summary>
    public PluginDescriptor? FindForStreams(string name) => _forStreams.GetValueOrDefault(name);

    public PluginDescriptor? Find(string name) => _enabled.GetValueOrDefault(name);
}
