using System.Collections.Immutable;
using System.Text.Json.Nodes;
using Sluice.Model;
using Sluice.Model.Settings;
using Sluice.Scripting;
using Sluice.Net;
using Sluice.Pipeline.Secrets;
using Sluice.Pipeline.Streams;
using Sluice.Pipeline.Tls;
using Sluice.Upstreams;

namespace Sluice.Pipeline;

/// <summary>
/// Turns settings and documents into a <see cref="Snapshot"/>. Documents have been checked one by one (<see cref="ResourceChecker"/>);
/// what only shows in the whole (two plugins that contradict each other once service and route are merged) is found here.
/// A reference to something that is gone is no error here: the route then answers 503, as in APISIX.
/// </summary>
public sealed class SnapshotCompiler(PluginServices services, IReadOnlyList<PluginDescriptor> builtin, UpstreamServices? upstreams = null)
{
    readonly UpstreamServices _upstreams = upstreams ?? new(services.Time, services.Loggers, services.Metrics);

    TrustedRoots? _roots;

    /// <summary>Compiles, sharing with <paramref name="previous"/> what did not change. Null when there is any error.</summary>
    public (Snapshot? Snapshot, IReadOnlyList<Problem> Problems) Compile(GatewaySettings settings, DocumentSet documents, Snapshot? previous)
    {
        if (previous is not null && ReferenceEquals(previous.Settings, settings))
        {
            return new Compilation(services, _upstreams, _roots, previous.Plugins, settings, documents, previous, previous).Run();
        }
        var renewed = previous is null ? null : services.RunningLua;
        renewed?.Renew(PluginServices.LuaOptions(settings));
        var (snapshot, problems) = CompileAnew(settings, documents, previous);
        if (snapshot is not null)
        {
            renewed?.Commit();
        }
        else
        {
            renewed?.Withdraw();
        }
        return (snapshot, problems);
    }

    (Snapshot? Snapshot, IReadOnlyList<Problem> Problems) CompileAnew(GatewaySettings settings, DocumentSet documents, Snapshot? previous)
    {
        var (scripted, broken) = ScriptedPlugins.Load(services, (settings.Plugins ?? []).Except(builtin.Select(plugin => plugin.Name)), previous?.Plugins);
        if (broken.Count > 0)
        {
            return (null, broken);
        }
        try
        {
            _roots = settings.Http.TrustedCaFile is { } file ? new TrustedRoots(File.ReadAllText(file)) : null;
        }
        catch (Exception e) when (e is FormatException or IOException or UnauthorizedAccessException)
        {
            return (null, [Problem.Error("conf/config.yaml (apisix.ssl.ssl_trusted_certificate)", $"{settings.Http.TrustedCaFile}: {e.Message}")]);
        }
        var registry = new PluginRegistry([.. builtin, .. scripted], settings.Plugins, settings.Streams.Plugins);
        return new Compilation(services, _upstreams, _roots, registry, settings, documents, null, previous).Run();
    }

    sealed class Compilation(
        PluginServices services, UpstreamServices upstreamServices, TrustedRoots? roots, PluginRegistry registry, GatewaySettings settings, DocumentSet documents, Snapshot? reusable, Snapshot? previous)
    {
        readonly List<Problem> _problems = [];
        readonly Dictionary<string, Upstream> _upstreams = [];
        readonly PluginMaker _plugins = new(services, registry, settings, documents[ResourceKind.PluginMetadata]);

        /// <summary>Null: everything may have changed.</summary>
        readonly IReadOnlyCollection<(ResourceKind Kind, string Id)>? _changes = reusable is null ? null : documents.ChangesSince(reusable.Documents);

        public (Snapshot?, IReadOnlyList<Problem>) Run()
        {
            // first: what streams use stays in the map of upstreams
            var streams = StreamRoutes();
            var routes = _changes is null ? AllRoutes() : ChangedRoutes(reusable!, _changes, streams);
            var consumers = Consumers();
            var globalRules = GlobalRules();
            var tls = Same(ResourceKind.Ssls) ? reusable!.Tls : TlsSites();
            if (_problems.Exists(problem => problem.Severity == Severity.Error))
            {
                return (null, _problems);
            }
            return (new Snapshot(
                (previous?.Version ?? 0) + 1, settings, documents, routes.Routes, routes.Upstreams, routes.Users, routes.Router, consumers, globalRules, registry, tls, streams)
            {
                WithSecrets = WithSecrets(routes.Upstreams),
            }, _problems);
        }

        /// <summary>Keys of the upstreams whose certificates refer to secrets.</summary>
        ImmutableHashSet<string> WithSecrets(SharedMap<Upstream> upstreams)
        {
            if (_changes is null)
            {
                return [.. upstreams.Values.Where(upstream => upstream.Secrets.Count > 0).Select(upstream => upstream.Key)];
            }
            var before = upstreams == reusable!.Upstreams ? reusable.WithSecrets : [.. reusable.WithSecrets.Where(key => upstreams.GetValueOrDefault(key)?.Secrets.Count > 0)];
            return before.Union(_upstreams.Values.Where(upstream => upstream.Secrets.Count > 0).Select(upstream => upstream.Key));
        }

        PluginChain GlobalRules()
        {
            var documented = documents[ResourceKind.GlobalRules].Values;
            if (Same(ResourceKind.GlobalRules) && !reusable!.GlobalRules.Uses.Any(use => !SameMetadata(use.Descriptor.Name)))
            {
                return reusable.GlobalRules;
            }
            return new(documented.SelectMany(document => Guard(document, GlobalRule) ?? []));
        }

        PluginUse[] GlobalRule(Document document)
        {
            var scope = $"global_rule {document.Id}";
            var plugins = ResourceBinder.GlobalRule(document).Plugins;
            return Same(ResourceKind.GlobalRules, document.Id) && plugins.All(plugin => SameMetadata(plugin.Key))
                ? [.. reusable!.GlobalRules.Uses.Where(use => use.Scope == scope)]
                : [.. _plugins.Make(plugins, scope)];
        }

        sealed record RouteParts(SharedMap<Route> Routes, SharedMap<Upstream> Upstreams, RouteUsers Users, Router Router);

        RouteParts AllRoutes()
        {
            var routes = documents[ResourceKind.Routes].Values.Select(document => Guard(document, Route)).OfType<Route>().ToArray();
            return new(
                SharedMap<Route>.Of(routes.Select(route => KeyValuePair.Create(route.Id, route))),
                SharedMap<Upstream>.Of(_upstreams),
                RouteUsers.Of(routes),
                new Router(routes, settings.Http.Router));
        }

        /// <summary>Only the routes that the changes concern: the cost is theirs, however many routes there are.</summary>
        RouteParts ChangedRoutes(Snapshot before, IReadOnlyCollection<(ResourceKind Kind, string Id)> changes, StreamRouter streams)
        {
            var ids = changes.SelectMany(change => change.Kind switch
            {
                ResourceKind.Routes => [change.Id],
                ResourceKind.Services or ResourceKind.PluginConfigs or ResourceKind.Upstreams or ResourceKind.PluginMetadata => before.Users.Of(change.Kind, change.Id),
                ResourceKind.Ssls => ShowingCertificate(before, change.Id),
                _ => (IReadOnlyCollection<string>)[],
            }).Concat(before.WithSecrets.Select(key => before.Upstreams[key]).Where(upstream => !IsCurrent(upstream)).SelectMany(upstream => RoutesOf(before, upstream))).ToHashSet();
            if (ids.Count == 0 && streams == before.StreamRoutes)
            {
                return new(before.Routes, before.Upstreams, before.Users, before.Router);
            }
            var gone = ids.Select(before.Routes.GetValueOrDefault).OfType<Route>().ToArray();
            var come = ids.Select(id => documents.Find(ResourceKind.Routes, id)).OfType<Document>().Order(ById)
                .Select(document => Guard(document, Route)).OfType<Route>().ToArray();
            var routes = before.Routes.With(
                ids.Select(id => KeyValuePair.Create(id, (Route?)null)).Concat(come.Select(route => KeyValuePair.Create(route.Id, (Route?)route))));
            var users = before.Users.With(gone, come);
            var unused = gone.Select(route => route.Upstream?.Key).Concat(before.StreamRoutes.Routes.Select(route => route.Upstream?.Key)).OfType<string>().Distinct()
                .Where(key => !_upstreams.ContainsKey(key) && !IsUsed(key, users, routes));
            var upstreams = before.Upstreams.With(
                unused.Select(key => KeyValuePair.Create(key, (Upstream?)null)).Concat(_upstreams.Select(pair => KeyValuePair.Create(pair.Key, (Upstream?)pair.Value))));
            return new(routes, upstreams, users, before.Router.With(gone, come));
        }

        /// <summary>Routes whose upstream shows this certificate to its nodes, or would if it were there.</summary>
        static string[] ShowingCertificate(Snapshot before, string ssl) =>
            [.. before.Routes.Values.Where(route => route.Upstream is not { } upstream || upstream.Config.Tls?.ClientCertId == ssl).Select(route => route.Id)];

        static IReadOnlyCollection<string> RoutesOf(Snapshot before, Upstream upstream) =>
            !ResourceKinds.TryParseKey(upstream.Key, out var kind, out var id) ? []
            : kind == ResourceKind.Routes ? [id] : kind == ResourceKind.StreamRoutes ? [] : before.Users.Of(kind, id);

        static readonly Comparer<Document> ById = Comparer<Document>.Create((a, b) => string.CompareOrdinal(a.Id, b.Id));

        static bool IsUsed(string upstream, RouteUsers users, SharedMap<Route> routes) =>
            upstream.Split('/', 2) is [var segment, var id] && ResourceKinds.TryParse(segment, out var kind) && kind != ResourceKind.StreamRoutes
            && (kind == ResourceKind.Routes ? [id] : users.Of(kind, id)).Any(route => routes.GetValueOrDefault(route)?.Upstream?.Key == upstream);

        bool Same(ResourceKind kind) => reusable is not null && ReferenceEquals(reusable.Documents[kind], documents[kind]);

        bool Same(ResourceKind kind, string? id) =>
            reusable is not null && (id is null || ReferenceEquals(reusable.Documents.Find(kind, id), documents.Find(kind, id)));

        bool SameMetadata(string plugin) => Same(ResourceKind.PluginMetadata, plugin);

        bool SameMetadata(PluginChain chain) => Same(ResourceKind.PluginMetadata) || Array.TrueForAll(chain.Uses, use => SameMetadata(use.Descriptor.Name));

        T? Guard<T>(Document document, Func<Document, T> compile)
            where T : class
        {
            try
            {
                return compile(document);
            }
            catch (Exception e) when (e is FormatException or InvalidOperationException or ArgumentException)
            {
                _problems.Add(Problem.Error(document.Place, e.Message));
                return null;
            }
        }

        Route Route(Document document)
        {
            if (reusable?.Routes.GetValueOrDefault(document.Id) is { } known
                && Same(ResourceKind.Routes, document.Id)
                && Same(ResourceKind.Services, known.Config.ServiceId)
                && Same(ResourceKind.PluginConfigs, known.Config.PluginConfigId)
                && Same(ResourceKind.Upstreams, known.Config.UpstreamId ?? known.Service?.UpstreamId)
                && SameMetadata(known.Chain)
                && IsCurrent(known.Upstream)
                && (known.Upstream is { } shown ? Same(ResourceKind.Ssls, shown.Config.Tls?.ClientCertId) : Same(ResourceKind.Ssls)))
            {
                if (known.Upstream is { } upstream)
                {
                    _upstreams.TryAdd(upstream.Key, upstream);
                }
                return known;
            }
            var config = ResourceBinder.Route(document);
            var serviceDocument = Find(ResourceKind.Services, config.ServiceId);
            var service = serviceDocument is null ? null : ResourceBinder.Service(serviceDocument);
            var merge = new Merge(
                config.Plugins, $"route {config.Id}",
                config.PluginConfigId, Find(ResourceKind.PluginConfigs, config.PluginConfigId) is { } shared ? ResourceBinder.PluginConfig(shared).Plugins : null,
                config.ServiceId, service?.Plugins);
            var chain = new PluginChain(config.Script is { } script ? [ScriptedPlugins.OfRoute(services, config.Id, script)] : Uses(merge));
            if (BufferingRules.Conflict(chain) is { } conflict)
            {
                _problems.Add(Problem.Error(document.Place, conflict));
            }
            return new Route(config, service, UpstreamOf(config, service), chain, FilterOf(config));
        }

        LuaUnit? FilterOf(RouteConfig route) => route.FilterFunc is { } text
            ? LuaUnit.OfFunctions(services.Lua, "filter_func", $"route {route.Id}, filter_func", null, ["return " + text])
            : null;

        Document? Find(ResourceKind kind, string? id) => id is null ? null : documents.Find(kind, id);

        /// <summary>Route's own > route's upstream_id > service's own > service's upstream_id.</summary>
        Upstream? UpstreamOf(RouteConfig route, ServiceConfig? service) =>
            route.Upstream is not null ? Written(ResourceKind.Routes, route.Id)
            : route.UpstreamId is { } id ? Written(ResourceKind.Upstreams, id)
            : service?.Upstream is not null ? Written(ResourceKind.Services, service.Id)
            : service?.UpstreamId is { } ofService ? Written(ResourceKind.Upstreams, ofService) : null;

        /// <summary>The upstream that this document is or has in it; null when the document is gone.</summary>
        Upstream? Written(ResourceKind kind, string id)
        {
            var key = $"{kind.Segment()}/{id}";
            if (_upstreams.TryGetValue(key, out var known))
            {
                return known;
            }
            if (documents.Find(kind, id) is not { } document)
            {
                return null;
            }
            var source = kind == ResourceKind.Upstreams ? document.Value : (JsonObject)document.Value["upstream"]!;
            // balancers, counts and health go on as long as the upstream says the same, whatever else changed
            var before = previous?.Upstreams.GetValueOrDefault(key);
            var config = ResourceBinder.Upstream(source, kind == ResourceKind.Upstreams ? id : null);
            config = config with
            {
                KeepalivePool = config.KeepalivePool ?? settings.Http.UpstreamKeepalive,
                Checks = settings.Http.HealthChecks ? config.Checks : null,
            };
            if (config.Tls?.ClientCertId is { } ssl && documents.Find(ResourceKind.Ssls, ssl) is null)
            {
                return null;
            }
            Dictionary<string, string?> secrets = [];
            var (certificate, incomplete) = ClientCertificateOf(config.Tls, before?.ClientCertificate, secrets);
            return _upstreams[key] = before?.IsMadeOf(source) == true && before.Config.KeepalivePool == config.KeepalivePool
                && before.Checks is null == config.Checks is null && Equals(before.ClientCertificate, certificate) && Equals(before.Roots, roots)
                && before.Incomplete == incomplete && IsCurrent(before)
                ? before
                : new Upstream(config, upstreamServices, key, source, before, certificate, roots) { Secrets = secrets, Incomplete = incomplete };
        }

        bool IsCurrent(Upstream? upstream) => upstream is null || upstream.Secrets.Count == 0 || upstream.Secrets.All(pair => services.Secrets.Known(pair.Key) == pair.Value);

        /// <summary>What is shown to the upstream's nodes, and why it cannot be had.</summary>
        (ClientCertificate? Certificate, string? Incomplete) ClientCertificateOf(TlsConfig? tls, ClientCertificate? before, Dictionary<string, string?> secrets)
        {
            var (certificate, key) = tls?.ClientCertId is { } id
                ? ((string?)documents.Find(ResourceKind.Ssls, id)!.Value["cert"], (string?)documents.Find(ResourceKind.Ssls, id)!.Value["key"])
                : (tls?.ClientCert, tls?.ClientKey);
            if (certificate is null || key is null)
            {
                return default;
            }
            if (Resolved(certificate) is not { } certificateText || Resolved(key) is not { } keyText)
            {
                return (null, $"the certificate for the upstream refers to a secret that is not known: {secrets.First(pair => pair.Value is null).Key}");
            }
            try
            {
                return (before?.IsMadeOf(certificateText, keyText) == true ? before : new ClientCertificate(certificateText, keyText), null);
            }
            catch (FormatException e) when (secrets.Count > 0)
            {
                return (null, e.Message);
            }

            string? Resolved(string text) => SecretReference.Is(text) ? secrets[text] = services.Secrets.Known(text) : text;
        }

        StreamRouter StreamRoutes()
        {
            var known = reusable?.StreamRoutes.Routes ?? [];
            if (Same(ResourceKind.StreamRoutes) && known.All(IsSame))
            {
                foreach (var route in known)
                {
                    Keep(route);
                }
                return reusable!.StreamRoutes;
            }
            var byId = known.Where(IsSame).ToDictionary(route => route.Config.Id);
            return new(documents[ResourceKind.StreamRoutes].Values
                .Select(document => byId.TryGetValue(document.Id, out var kept) ? Keep(kept) : Guard(document, StreamRoute)).OfType<StreamRoute>());
        }

        bool IsSame(StreamRoute route) => Same(ResourceKind.StreamRoutes, route.Config.Id)
            && Same(ResourceKind.Services, route.Config.ServiceId)
            && Same(ResourceKind.Upstreams, route.UpstreamId)
            && SameMetadata(route.Chain)
            && IsCurrent(route.Upstream)
            && (route.Upstream is { } upstream ? Same(ResourceKind.Ssls, upstream.Config.Tls?.ClientCertId) : Same(ResourceKind.Ssls));

        StreamRoute Keep(StreamRoute route)
        {
            if (route.Upstream is { } upstream)
            {
                _upstreams.TryAdd(upstream.Key, upstream);
            }
            return route;
        }

        StreamRoute StreamRoute(Document document)
        {
            var config = ResourceBinder.StreamRoute(document);
            var service = Find(ResourceKind.Services, config.ServiceId) is { } found ? ResourceBinder.Service(found) : null;
            HashSet<string> seen = [];
            var uses = _plugins.Make(config.Plugins, $"stream_route {config.Id}", seen, forStreams: true)
                .Concat(_plugins.Make(service?.Plugins, $"service {config.ServiceId}", seen, plugin => plugin.IsForStreams, forStreams: true));
            var upstream = config.Upstream is not null ? Written(ResourceKind.StreamRoutes, config.Id)
                : config.UpstreamId is { } id ? Written(ResourceKind.Upstreams, id)
                : service?.Upstream is not null ? Written(ResourceKind.Services, service.Id)
                : service?.UpstreamId is { } ofService ? Written(ResourceKind.Upstreams, ofService) : null;
            return new StreamRoute(config, upstream, new PluginChain(uses), config.UpstreamId ?? service?.UpstreamId);
        }

        TlsSites TlsSites()
        {
            var known = previous?.Tls.ByDocument;
            var sites = new Dictionary<Document, TlsSite>(ReferenceEqualityComparer.Instance);
            foreach (var document in documents[ResourceKind.Ssls].Values)
            {
                if (known?.GetValueOrDefault(document) is { } kept && ReferenceEquals(previous!.Settings, settings))
                {
                    sites[document] = kept;
                }
                else if (Guard(document, ssl => TlsSite.Of(ResourceBinder.Ssl(ssl), ssl.Place, settings, services.Secrets)!) is { } site)
                {
                    sites[document] = site;
                }
            }
            return new(sites, StaticSite());
        }

        TlsSite? StaticSite()
        {
            try
            {
                return TlsSite.OfFiles(settings);
            }
            catch (Exception e) when (e is FormatException or IOException or UnauthorizedAccessException)
            {
                _problems.Add(Problem.Error(settings.Tls!.Place, e.Message));
                return null;
            }
        }

        // -- Consumers

        /// <summary>Only those whose documents, group, plugin metadata or secrets are not what they were.</summary>
        ConsumerIndex Consumers()
        {
            if (_changes is null)
            {
                var credentials = documents[ResourceKind.Credentials].Keys.ToLookup(id => ResourceKinds.CredentialOf(id).Username);
                return ConsumerIndex.Empty(registry.All).With(documents[ResourceKind.Consumers].Keys
                    .Union(credentials.Select(ofOne => ofOne.Key)).Select(username => AccountOf(username, credentials[username])));
            }
            var before = reusable!.Consumers;
            var names = before.WithOtherSecrets(services.Secrets).Concat(_changes.SelectMany(change => change.Kind switch
            {
                ResourceKind.Consumers => [change.Id],
                ResourceKind.Credentials => [ResourceKinds.CredentialOf(change.Id).Username],
                ResourceKind.ConsumerGroups => before.MembersOf(change.Id),
                ResourceKind.PluginMetadata => before.WithPlugin(change.Id),
                _ => (IEnumerable<string>)[],
            })).ToHashSet();
            var changed = _changes.Where(change => change.Kind == ResourceKind.Credentials).ToLookup(change => ResourceKinds.CredentialOf(change.Id).Username, change => change.Id);
            return before.With(names.Select(username => AccountOf(username, before.CredentialsOf(username).Union(changed[username]))));
        }

        /// <param name="credentials">Ids of all that there are, also of some that there are not.</param>
        Account AccountOf(string username, IEnumerable<string> credentials)
        {
            var found = credentials.Order(StringComparer.Ordinal).Select(id => Find(ResourceKind.Credentials, id)).OfType<Document>().ToArray();
            if (reusable?.Consumers.AccountOf(username) is { } known && IsSame(known, found))
            {
                return known;
            }
            Dictionary<string, string?> secrets = [];
            var consumer = Find(ResourceKind.Consumers, username) is { } document ? Guard(document, one => Consumer(one, secrets)) : null;
            return new(username, consumer, [.. found.Select(one => one.Id)], consumer is null ? [] : [.. found.Select(WithCredential).OfType<Consumer>()], secrets);

            Consumer? WithCredential(Document one) => Guard(one, it =>
            {
                var credential = ResourceBinder.Credential(it);
                return consumer!.With(credential with { Plugins = Resolved(credential.Plugins, secrets) });
            });
        }

        bool IsSame(Account account, Document[] credentials) => Same(ResourceKind.Consumers, account.Username)
            && Same(ResourceKind.ConsumerGroups, account.Consumer?.GroupId)
            && account.CredentialIds.SequenceEqual(credentials.Select(one => one.Id))
            && credentials.All(one => Same(ResourceKind.Credentials, one.Id))
            && account.Consumer?.Plugins.All(plugin => SameMetadata(plugin.Key)) != false
            && account.HasCurrentSecrets(services.Secrets);

        Consumer Consumer(Document document, Dictionary<string, string?> secrets)
        {
            var config = ResourceBinder.Consumer(document);
            JsonObject plugins = [];
            if (Find(ResourceKind.ConsumerGroups, config.GroupId) is { } group)
            {
                Overlay(plugins, ResourceBinder.ConsumerGroup(group).Plugins);
            }
            Overlay(plugins, config.Plugins);
            return new Consumer(_plugins, config.Username, config.GroupId, Resolved(plugins, secrets)!, config.Labels);
        }

        static void Overlay(JsonObject target, JsonObject? source)
        {
            foreach (var (name, value) in source ?? [])
            {
                target[name] = value?.DeepClone();
            }
        }

        /// <summary>A consumer's plugins without references. A plugin that refers to a secret which is not known (yet) is left out: nobody gets in with the reference's text.</summary>
        JsonObject? Resolved(JsonObject? plugins, Dictionary<string, string?> secrets)
        {
            if (plugins is null || !SecretReference.In(plugins).Any())
            {
                return plugins;
            }
            JsonObject resolved = [];
            foreach (var (name, value) in plugins)
            {
                var known = true;
                var copy = SecretReference.Replace(value, reference =>
                {
                    var found = secrets[reference] = services.Secrets.Known(reference);
                    known &= found is not null;
                    return found;
                });
                if (known)
                {
                    resolved[name] = copy;
                }
            }
            return resolved;
        }

        // -- Plugins

        sealed record Merge(
            JsonObject? Route, string RouteScope, string? PluginConfigId, JsonObject? PluginConfig, string? ServiceId, JsonObject? Service);

        IEnumerable<PluginUse> Uses(Merge merge)
        {
            HashSet<string> seen = [];
            return _plugins.Make(merge.Route, merge.RouteScope, seen)
                .Concat(_plugins.Make(merge.PluginConfig, $"plugin_config {merge.PluginConfigId}", seen))
                .Concat(_plugins.Make(merge.Service, $"service {merge.ServiceId}", seen));
        }
    }
}
