using System.Collections.Immutable;
using Sluice.Model;

namespace Sluice.Pipeline;

/// <summary>All resources of a configuration, by kind and id. Immutable; a change shares everything that it does not touch.</summary>
public sealed class DocumentSet
{
    public static DocumentSet Empty { get; } = new([.. ResourceKinds.All.Select(_ => ImmutableSortedDictionary.Create<string, Document>(StringComparer.Ordinal))]);

    readonly ImmutableArray<ImmutableSortedDictionary<string, Document>> _byKind;

    DocumentSet(ImmutableArray<ImmutableSortedDictionary<string, Document>> byKind) => _byKind = byKind;

    public static DocumentSet Of(IEnumerable<Document> documents)
    {
        var builders = ResourceKinds.All.Select(_ => ImmutableSortedDictionary.CreateBuilder<string, Document>(StringComparer.Ordinal)).ToArray();
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
        new(_byKind.SetItem((int)document.Kind, _byKind[(int)document.Kind].SetItem(document.Id, document)));

    public DocumentSet Without(ResourceKind kind, string id) => new(_byKind.SetItem((int)kind, _byKind[(int)kind].Remove(id)));
}
