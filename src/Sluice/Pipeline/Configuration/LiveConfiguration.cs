using Sluice.Model;
using Sluice.Model.Settings;

namespace Sluice.Pipeline;

/// <summary>
/// The configuration that is running, and the one way to change it: compile, then swap one reference. Every source (embedded store, YAML
/// file, Admin API, reload of the settings) ends here. Requests that are under way keep the snapshot they began with.
/// </summary>
internal sealed class LiveConfiguration(SnapshotCompiler compiler)
{
    readonly Lock _changing = new();
    readonly RetiredPlugins _retired = new();
    readonly Queue<Snapshot> _untold = [];
    bool _telling;
    Snapshot? _current;

    /// <summary>The running configuration. Never null after the first <see cref="Apply"/>.</summary>
    public Snapshot Current => Volatile.Read(ref _current) ?? throw new InvalidOperationException("no configuration was applied yet");

    /// <summary>The running configuration, for a request or a session: its <see cref="Snapshot"/> stays in use until
    /// <see cref="Leave"/>.</summary>
    public Snapshot Enter(out int seat)
    {
        while (true)
        {
            // one that is retired just now is not entered any more
            var snapshot = Current;
            if (snapshot.Uses.TryEnter(out seat))
            {
                return snapshot;
            }
        }
    }

    /// <summary>The end of what began with <see cref="Enter"/>.</summary>
    public static void Leave(Snapshot snapshot, int seat) => snapshot.Uses.Leave(seat);

    /// <summary>How many plugins have gone from the configuration and are still used by requests.</summary>
    public int RetiredPlugins => _retired.Waiting;

    /// <summary>Told after each swap, in order, while nobody is kept from the next change.</summary>
    public event Action<Snapshot>? Changed;

    /// <summary>Makes the plugins of documents that come in, to see whether they can be.</summary>
    /// <param name="documents">They have the plugins' metadata; null: those that run.</param>
    public PluginMaker Maker(DocumentSet? documents = null)
    {
        var current = Current;
        return compiler.Maker(current.Settings, current.Plugins, documents ?? current.Documents);
    }

    /// <summary>Reads plugins in Lua and all other scripts anew.</summary>
    public IReadOnlyList<Problem> ReloadPlugins() => Apply(Current.Settings with { });

    /// <summary>Compiles documents for the settings that run. Nothing changes before <see cref="Publish"/>.</summary>
    public PreparedConfiguration Prepare(DocumentSet documents)
    {
        lock (_changing)
        {
            return new(documents, _current, compiler.Compile(Current.Settings, documents, _current));
        }
    }

    /// <summary>Swaps to what was prepared; it is compiled anew only when another change came between.</summary>
    /// <returns>Problems; with any error among them the old configuration keeps running.</returns>
    public IReadOnlyList<Problem> Publish(PreparedConfiguration prepared)
    {
        bool isNext;
        lock (_changing)
        {
            isNext = ReferenceEquals(prepared.Previous, _current);
            if (isNext)
            {
                Swap(prepared.Take());
            }
        }
        if (!isNext)
        {
            prepared.Dispose();
            return Apply(documents: prepared.Documents);
        }
        Tell();
        return prepared.Problems;
    }

    /// <summary>Compiles and swaps, whole or not at all.</summary>
    /// <param name="settings">Null: as they are.</param>
    /// <param name="documents">Null: as they are.</param>
    /// <returns>Problems; with any error among them the old configuration keeps running.</returns>
    public IReadOnlyList<Problem> Apply(GatewaySettings? settings = null, DocumentSet? documents = null)
    {
        CompiledSnapshot compiled;
        lock (_changing)
        {
            var previous = _current;
            compiled = compiler.Compile(settings ?? Current.Settings, documents ?? previous?.Documents ?? DocumentSet.Empty, previous);
            Swap(compiled);
        }
        Tell();
        return compiled.Problems;
    }

    void Swap(CompiledSnapshot compiled)
    {
        if (compiled.Snapshot is { } next)
        {
            var previous = _current;
            Volatile.Write(ref _current, next);
            _retired.Published(next, previous, compiled.Made, compiled.Gone);
            _untold.Enqueue(next);
        }
    }

    /// <summary>One tells for all: a change that comes meanwhile is told after this one, and nobody waits for it.</summary>
    void Tell()
    {
        while (true)
        {
            Snapshot next;
            lock (_changing)
            {
                if (_telling || !_untold.TryDequeue(out next!))
                {
                    return;
                }
                _telling = true;
            }
            try
            {
                Changed?.Invoke(next);
            }
            finally
            {
                lock (_changing)
                {
                    _telling = false;
                }
            }
        }
    }
}

/// <summary>A configuration that is compiled and does not run. What is not published is disposed, and what was made for it ends.</summary>
internal sealed class PreparedConfiguration : IDisposable
{
    CompiledSnapshot? _compiled;

    internal PreparedConfiguration(DocumentSet documents, Snapshot? previous, CompiledSnapshot compiled) =>
        (Documents, Previous, _compiled, Problems) = (documents, previous, compiled, compiled.Problems);

    /// <summary>What is wrong; with any error among it there is nothing to publish.</summary>
    public IReadOnlyList<Problem> Problems { get; }

    internal DocumentSet Documents { get; }

    /// <summary>The snapshot that it was compiled to follow.</summary>
    internal Snapshot? Previous { get; }

    internal CompiledSnapshot Take() =>
        Interlocked.Exchange(ref _compiled, null) ?? throw new InvalidOperationException("it was published, or disposed");

    public void Dispose() => Interlocked.Exchange(ref _compiled, null)?.Discard();
}
