using Sluice.Admin.Resources;
using Sluice.Api;
using Sluice.Model;
using Sluice.Pipeline;
using Sluice.Sources;

namespace Sluice.Admin;

/// <summary>
/// APISIX's Admin API v3 below <c>/apisix/admin</c>: a table of endpoints behind a gate (<see cref="AdminGate"/>). What plugins that are
/// enabled add to it is in it, too.
/// </summary>
/// <param name="store">Null: resources cannot be written one by one.</param>
/// <param name="pushed">The whole configuration comes through <c>/configs</c>; null: it does not.</param>
/// <param name="more">Endpoints of other folders.</param>
sealed class AdminApi(LiveConfiguration live, PluginServices services, ResourceStore? store, PushedConfiguration? pushed,
    params IEnumerable<IApiRoutes> more) : IApiRoutes
{
    public const string Prefix = "/apisix/admin";

    readonly ResourceApi _resources = new(live, store, pushed);

    public IEnumerable<ApiRoute> Routes =>
    [
        // adc asks so, without a key, which mode this is
        new("HEAD", Prefix, ApiAccess.Open, static _ => new JsonAnswer(200)),
        new("PUT", Prefix + "/plugins/reload", ApiAccess.Write, _ => SchemaPages.Reload(live)),
        new("GET", Prefix + "/plugins/reload", ApiAccess.Read, NotToReload),
        new("*", Prefix + "/plugins/reload", ApiAccess.Write, NotToReload),
        new("GET", Prefix + "/plugins/list", ApiAccess.Read, _ => SchemaPages.Names(Plugins)),
        new("GET", Prefix + "/plugins", ApiAccess.Read, call => SchemaPages.AllPlugins(Plugins, call.Query)),
        new("GET", Prefix + "/plugins/{name}", ApiAccess.Read, call => call.Query["all"] == "true"
            ? SchemaPages.AllPlugins(Plugins, call.Query)
            : SchemaPages.OfPlugin(call["name"], Plugins, call.Query)),
        new("GET", Prefix + "/schema/plugins/{name}", ApiAccess.Read, call => SchemaPages.OfPlugin(call["name"], Plugins, call.Query)),
        new("GET", Prefix + "/schema/{name}", ApiAccess.Read, call => SchemaPages.OfName(call["name"], Plugins, call.Query)),
        new("POST", Prefix + "/schema/validate/{kind}", ApiAccess.Write, call => ResourceApi.ValidateAsync(call)),
        .. new ConfigsApi(live, pushed).Routes,
        .. more.SelectMany(one => one.Routes),
        .. Plugins.All.SelectMany(plugin => plugin.Info.Endpoints?.Invoke(services) ?? [])
            .Where(route => route.Pattern.StartsWith(Prefix + "/", StringComparison.Ordinal)),
        .. _resources.Routes,
    ];

    PluginRegistry Plugins => live.Current.Plugins;

    static JsonAnswer NotToReload(ApiCall call) =>
        JsonAnswer.Error(405, $"please use PUT method to reload the plugins, {call.Request.Method} method is not allowed.");
}
