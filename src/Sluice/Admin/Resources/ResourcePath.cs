using Sluice.Model;

namespace Sluice.Admin.Resources;

/// <summary>What the part of a path behind <c>/apisix/admin</c> names: a kind's list, one resource, or a property of one.</summary>
/// <param name="Id">As in the resource's <c>id</c>: <c>r1</c>, <c>vault/1</c>; null: the whole list.</param>
/// <param name="SubPath">What PATCH changes of it.</param>
/// <param name="Owner">For credentials: the consumer's name; for decorations: the service's id.</param>
sealed record ResourcePath(ResourceKind Kind, string? Id, string[] SubPath, string? Owner = null)
{
    /// <summary>Null: there is no such kind.</summary>
    public static ResourcePath? Of(string[] path) => path switch
    {
        ["services", var owner, "graphql_cost_decorations"] => new(ResourceKind.GraphqlCostDecorations, null, [], owner),
        ["services", var owner, "graphql_cost_decorations", var id, .. var rest] =>
            new(ResourceKind.GraphqlCostDecorations, id, rest, owner),
        ["consumers", var owner, "credentials"] => new(ResourceKind.Credentials, null, [], owner),
        ["consumers", var owner, "credentials", var id, .. var rest] => new(ResourceKind.Credentials, id, rest, owner),
        // without its second part the id names no secret, only the manager
        ["secrets", _] => new(ResourceKind.Secrets, null, []),
        ["secrets", var manager, var id, .. var rest] => new(ResourceKind.Secrets, $"{manager}/{id}", rest),
        [var segment, .. var rest] when ResourceKinds.TryParse(segment, out var kind) && kind.OwnerKind() is null =>
            new(kind, rest is [var id, ..] ? id : null, rest.Length > 1 ? rest[1..] : []),
        _ => null,
    };

    /// <summary>The <see cref="Document.Id"/> of the resource with this id.</summary>
    public string DocumentId(string id) => Owner is null ? id : Kind.OwnedPrefix(Owner) + id;

    /// <summary>Whether a document of the kind is in the list.</summary>
    public bool Holds(Document document) => Owner is null || Kind.OwnedParts(document.Id).Owner == Owner;
}
