using System.Collections.Immutable;
using Sluice.Model;

namespace Sluice.Pipeline;

/// <summary>All resources of a configuration, by kind and id. Immutable; a change shares everything that it does not touch.</summary>
internal sealed class DocumentSet
{
    public static DocumentSet Empty { get; } =
        new([.. ResourceKinds.All.Select(_ => ImmutableSortedDictionary.Create<string, Document>(StringComparer.Ordinal))]);

    /// <summary>How far back <see cref="ChangesSince"/> goes.</summary>
    const int LongestPast = 1024;

    readonly ImmutableArray<ImmutableSortedDictionary<string, Document>> _byKind;
    readonly Step? _past;

    /// <summary>What stands for this set in the past of those made from it: the set itself would be kept alive.</summary>
    readonly object _identity = new();

    DocumentSet(ImmutableArray<ImmutableSortedDictionary<string, Document>> byKind, Step? past = null) => (_byKind, _past) = (byKind, past);

    sealed record Step(object From, ResourceKind Kind, string Id, Step? Before, int Length);

    public static DocumentSet Of(IEnumerable<Document> documents)
    {
        var builders = ResourceKinds.All.Select(_ => ImmutableSortedDictionary.CreateBuilder<string, Document>(StringComparer.Ordinal))
            .ToArray();
        foreach (var document in documents)
        {
            builders[(int)document.Kind][document.Id] = document;
        }
        return new([.. builders.Select(builder => builder.ToImmutable())]);
    }

    /// <summary>The documents of a kind, by id, in order of id.</summary>
    public ImmutableSortedDictionary<string, Document> this[ResourceKind kind] => _byKind[(int)kind];

    public Document? Find(ResourceKind kind, string id) => _byKind[(int)kind].GetValueOrDefault(id);

    public DocumentSet With(Document document) =>
        new(_byKind.SetItem((int)document.Kind, _byKind[(int)document.Kind].SetItem(document.Id, document)),
            StepTo(document.Kind, document.Id));

    public DocumentSet Without(ResourceKind kind, string id) =>
        new(_byKind.SetItem((int)kind, _byKind[(int)kind].Remove(id)), StepTo(kind, id));

    Step StepTo(ResourceKind kind, string id) => _past is { Length: < LongestPast } past
        ? new(_identity, kind, id, past, past.Length + 1)
        : new(_identity, kind, id, null, 1);

    /// <summary>What may differ from an older set that this one was made from, step by step; null: that is not known.</summary>
    public IReadOnlyCollection<(ResourceKind Kind, string Id)>? ChangesSince(DocumentSet older)
    {
        HashSet<(ResourceKind, string)> changes = [];
        if (ReferenceEquals(this, older))
        {
            return changes;
        }
        for (var step = _past; step is not null; step = step.Before)
        {
            changes.Add((step.Kind, step.Id));
            if (ReferenceEquals(step.From, older._identity))
            {
                return changes;
            }
        }
        return null;
    }
}
