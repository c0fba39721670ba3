using System.Collections.Immutable;
using Sluice.Model;

namespace Sluice.Pipeline;

/// <summary>Which routes were compiled with a document: those that its change concerns. Immutable.</summary>
internal sealed class RouteUsers
{
    readonly SharedMap<Users> _byKey;

    sealed record Users(ImmutableHashSet<string> Routes);

    RouteUsers(SharedMap<Users> byKey) => _byKey = byKey;

    public static RouteUsers Of(IEnumerable<Route> routes) => new(SharedMap<Users>.Of(routes
        .SelectMany(route => KeysOf(route).Select(key => (Key: key, route.Id)))
        .GroupBy(use => use.Key, use => use.Id)
        .Select(group => KeyValuePair.Create(group.Key, new Users([.. group])))));

    /// <summary>Ids of the routes that use a service, a plugin config, an upstream or a plugin that has metadata.</summary>
    public IReadOnlyCollection<string> Of(ResourceKind kind, string id) => _byKey.GetValueOrDefault(Key(kind, id))?.Routes ?? [];

    public RouteUsers With(IEnumerable<Route> gone, IEnumerable<Route> come)
    {
        Dictionary<string, Users?> changed = [];
        foreach (var (route, isThere) in gone.Select(route => (route, false)).Concat(come.Select(route => (route, true))))
        {
            foreach (var key in KeysOf(route))
            {
                var users = (changed.TryGetValue(key, out var now) ? now : _byKey.GetValueOrDefault(key))?.Routes ?? [];
                users = isThere ? users.Add(route.Id) : users.Remove(route.Id);
                changed[key] = users.IsEmpty ? null : new Users(users);
            }
        }
        return new(_byKey.With(changed));
    }

    static IEnumerable<string> KeysOf(Route route)
    {
        if (route.Config.ServiceId is { } service)
        {
            yield return Key(ResourceKind.Services, service);
        }
        if (route.Config.PluginConfigId is { } pluginConfig)
        {
            yield return Key(ResourceKind.PluginConfigs, pluginConfig);
        }
        if ((route.Config.UpstreamId ?? route.Service?.UpstreamId) is { } upstream)
        {
            yield return Key(ResourceKind.Upstreams, upstream);
        }
        foreach (var named in route.Chain.UpstreamIds)
        {
            yield return Key(ResourceKind.Upstreams, named);
        }
        foreach (var use in route.Chain.Uses)
        {
            yield return Key(ResourceKind.PluginMetadata, use.Descriptor.Name);
        }
    }

    static string Key(ResourceKind kind, string id) => $"{kind.Segment()}/{id}";
}
