using Sluice.Model;
using Sluice.Model.Settings;

namespace Sluice.Pipeline;

/// <summary>
/// The configuration that is running, and the one way to change it: compile, then swap one reference. Every source (embedded store, YAML
/// file, Admin API, reload of the settings) ends here. Requests that are under way keep the snapshot they began with.
/// </summary>
public sealed class LiveConfiguration(SnapshotCompiler compiler)
{
    readonly Lock _changing = new();
    Snapshot? _current;

    /// <summary>The running configuration. Never null after the first <see cref="Apply"/>.</summary>
    public Snapshot Current => Volatile.Read(ref _current) ?? throw new InvalidOperationException("no configuration was applied yet");

    /// <summary>Told after each swap, in order.</summary>
    public event Action<Snapshot>? Changed;

    /// <summary>What <see cref="Apply"/> would say of these documents; nothing changes.</summary>
    public IReadOnlyList<Problem> Try(DocumentSet documents)
    {
        lock (_changing)
        {
            return compiler.Compile(Current.Settings, documents, _current).Problems;
        }
    }

    /// <summary>Reads plugins in Lua and all other scripts anew.</summary>
    public IReadOnlyList<Problem> ReloadPlugins() => Apply(Current.Settings with { });

    /// <summary>Compiles and swaps, whole or not at all.</summary>
    /// <param name="settings">Null: as they are.</param>
    /// <param name="documents">Null: as they are.</param>
    /// <returns>Problems; with any error among them the old configuration keeps running.</returns>
    public IReadOnlyList<Problem> Apply(GatewaySettings? settings = null, DocumentSet? documents = null)
    {
        lock (_changing)
        {
            var (next, problems) = compiler.Compile(
                settings ?? Current.Settings, documents ?? _current?.Documents ?? DocumentSet.Empty, _current);
            if (next is not null)
            {
                Volatile.Write(ref _current, next);
                Changed?.Invoke(next);
            }
            return problems;
        }
    }
}
