using System.Collections.Immutable;
using System.Text.Json.Nodes;
using Sluice.Model;
using Sluice.Model.Settings;
using Sluice.Scripting;
using Sluice.Net;
using Sluice.Pipeline.References;
using Sluice.Pipeline.TcpUdp;
using Sluice.Pipeline.Tls;
using Sluice.Upstreams;

namespace Sluice.Pipeline;

/// <summary>What came of a compilation.</summary>
/// <param name="Snapshot">Null when there is any error.</param>
internal sealed record CompiledSnapshot(Snapshot? Snapshot, IReadOnlyList<Problem> Problems)
{
    /// <summary>What new plugins own: whoever does not publish the snapshot ends it.</summary>
    internal IReadOnlyCollection<PluginLife> Made { get; init; } = [];

    /// <summary>What plugins own that are not in the snapshot any more.</summary>
    internal IReadOnlyCollection<PluginLife> Gone { get; init; } = [];

    /// <summary>It is not wanted: what was made for it ends.</summary>
    public void Discard()
    {
        foreach (var life in Made)
        {
            _ = life.EndAsync();
        }
    }
}

/// <summary>
/// Turns settings and documents into a <see cref="Snapshot"/>. Documents have been checked one by one (<see cref="ResourceChecker"/>), and
/// what was parsed of them stays with them; what only shows in the whole (two plugins that contradict each other once service and route are
/// merged) is found here. A reference to something that is gone is no error here: the route then answers 503, as in APISIX.
/// </summary>
internal sealed class SnapshotCompiler(PluginServices services, IReadOnlyList<PluginDescriptor> builtin, UpstreamServices? upstreams = null)
{
    readonly UpstreamServices _upstreams = upstreams ?? new(services.Time, services.Loggers, services.Metrics);

    TrustedRoots? _roots;

    /// <summary>Compiles, sharing with <paramref name="previous"/> what did not change. Null when there is any error.</summary>
    public CompiledSnapshot Compile(GatewaySettings settings, DocumentSet documents, Snapshot? previous)
    {
        if (previous is not null && ReferenceEquals(previous.Settings, settings))
        {
            return new Compilation(services, _upstreams, _roots, Maker(settings, previous.Plugins, documents), settings, documents,
                previous, previous).Run();
        }
        var renewed = previous is null ? null : services.RunningLua;
        renewed?.Renew(PluginServices.LuaOptions(settings));
        var compiled = CompileAnew(settings, documents, previous);
        if (compiled.Snapshot is not null)
        {
            renewed?.Commit();
        }
        else
        {
            renewed?.Withdraw();
        }
        return compiled;
    }

    CompiledSnapshot CompileAnew(GatewaySettings settings, DocumentSet documents, Snapshot? previous)
    {
        var (scripted, broken) = ScriptedPlugins.Load(services, (settings.Plugins ?? []).Except(builtin.Select(plugin => plugin.Name)),
            previous?.Plugins);
        if (broken.Count > 0)
        {
            return new(null, broken);
        }
        try
        {
            _roots = settings.Http.TrustedCaFile is { } file ? new TrustedRoots(File.ReadAllText(file)) : null;
        }
        catch (Exception e) when (e is FormatException or IOException or UnauthorizedAccessException)
        {
            return new(null,
                [Problem.Error("conf/config.yaml (apisix.ssl.ssl_trusted_certificate)", $"{settings.Http.TrustedCaFile}: {e.Message}")]);
        }
        if (WrongDefaults(settings) is { } wrong)
        {
            return new(null, [wrong]);
        }
        var registry = new PluginRegistry([.. builtin, .. scripted], settings.Plugins, settings.Streams.Plugins);
        var compiled = new Compilation(services, _upstreams, _roots, Maker(settings, registry, documents), settings, documents, null,
            previous).Run();
        return ReferenceEquals(previous?.Settings, settings) ? compiled
            : compiled with { Problems = [.. WithoutEffect(registry, settings), .. compiled.Problems] };
    }

    /// <summary><c>sluice.streams.defaults</c> is what a plugin that rules streams would be configured with.</summary>
    Problem? WrongDefaults(GatewaySettings settings) => settings.StreamDefaults is { } defaults
        && (Array.Find(s_notDefaults, defaults.ContainsKey) is { } own
            ? $"{own} has its effect in the plugin streaming only"
            : builtin.FirstOrDefault(static plugin => plugin.RulesStreams) is { } streaming
                ? Maker(settings with { StreamDefaults = null }, new(builtin), DocumentSet.Empty)
                .Check(streaming, defaults.DeepClone().AsObject(), "sluice.streams.defaults") : null) is { } error
            ? Problem.Error("conf/config.yaml (sluice.streams.defaults)", error) : null;

    /// <summary>Makes the plugins of these documents.</summary>
    internal PluginMaker Maker(GatewaySettings settings, PluginRegistry registry, DocumentSet documents) => new(
        services, registry, settings, documents[ResourceKind.PluginMetadata],
        new(_upstreams, settings.Http.UpstreamKeepalive, settings.Http.HealthChecks, _roots, ResourceChecker.CheckPluginUpstream),
        StreamDefaults(settings));

    static readonly string[] s_notDefaults = ["concurrent", "max_events", "max_bytes"];

    static StreamPolicy? StreamDefaults(GatewaySettings settings) =>
        settings.StreamDefaults is { } defaults ? StreamPolicy.Parse(defaults) : null;

    static IEnumerable<Problem> WithoutEffect(PluginRegistry registry, GatewaySettings settings) =>
        settings.PluginAttributes.SelectMany(attributes =>
        (registry.Find(attributes.Key) ?? registry.FindForStreams(attributes.Key))?.UnknownAttributes(attributes.Value)
            .Select(name => Problem.Warning("conf/config.yaml", $"plugin_attr.{attributes.Key}.{name} has no effect here")) ?? []);

    sealed class Compilation(
        PluginServices services, UpstreamServices upstreamServices, TrustedRoots? roots, PluginMaker maker, GatewaySettings settings,
        DocumentSet documents, Snapshot? reusable,
        Snapshot? previous)
    {
        readonly List<Problem> _problems = [];
        readonly List<PluginLife> _made = [];
        Route[] _goneRoutes = [];
        readonly Dictionary<string, Upstream> _upstreams = [];

        /// <summary>Null: everything may have changed.</summary>
        readonly IReadOnlyCollection<(ResourceKind Kind, string Id)>? _changes = reusable is null ? null
            : documents.ChangesSince(reusable.Documents);

        public CompiledSnapshot Run()
        {
            // first: what streams use stays in the map of upstreams
            var streams = StreamRoutes();
            var consumers = Consumers();
            var globalRules = GlobalRules();
            var elsewhere = consumers.UpstreamIds.Concat(globalRules.UpstreamIds).ToImmutableHashSet();
            Named(elsewhere);
            var routes = _changes is null ? AllRoutes() : ChangedRoutes(reusable!, _changes, streams, elsewhere);
            var tls = Same(ResourceKind.Ssls) ? reusable!.Tls : TlsSites();
            if (_problems.Exists(problem => problem.Severity == Severity.Error))
            {
                End(_made);
                return new(null, _problems);
            }
            var snapshot = new Snapshot(
                (previous?.Version ?? 0) + 1, settings, documents, routes.Routes, routes.Upstreams, routes.Users, routes.Router, consumers,
                globalRules, maker.Registry, tls, streams)
            {
                WithSecrets = WithSecrets(routes.Upstreams),
                StreamDefaults = StreamDefaults(settings),
                NamedElsewhere = elsewhere,
            };
            return new(snapshot, _problems) { Made = _made, Gone = previous is null ? [] : Gone(previous, snapshot) };
        }

        static void End(IEnumerable<PluginLife> lives)
        {
            foreach (var life in lives)
            {
                _ = life.EndAsync();
            }
        }

        /// <summary>What plugins of the snapshot before own that are not in the next. Costs as much as has changed.</summary>
        List<PluginLife> Gone(Snapshot before, Snapshot next)
        {
            var routes = _changes is null ? before.Routes.Values : _goneRoutes;
            var chains = routes.Where(route => next.Routes.GetValueOrDefault(route.Id) != route).Select(route => route.Chain);
            if (before.StreamRoutes != next.StreamRoutes)
            {
                chains = chains.Concat(before.StreamRoutes.Routes.Except(next.StreamRoutes.Routes, ReferenceEqualityComparer.Instance)
                    .Cast<StreamRoute>().Select(route => route.Chain));
            }
            var gone = chains.SelectMany(chain => chain.Owners).ToList();
            if (before.GlobalRules != next.GlobalRules)
            {
                gone.AddRange(before.GlobalRules.Owners.Except(next.GlobalRules.Owners));
            }
            return gone;
        }

        /// <summary>A chain of plugins, whose lives are the compilation's until its snapshot is published.</summary>
        PluginChain Chain(IEnumerable<PluginUse> uses)
        {
            // a use is noted as soon as it is made: another may fail after it
            var chain = new PluginChain(uses.Select(use =>
            {
                if (use.Life is { Since: 0 } life)
                {
                    _made.Add(life);
                }
                return use;
            }));
            return chain;
        }

        /// <summary>Keys of the upstreams whose certificates refer to secrets.</summary>
        ImmutableHashSet<string> WithSecrets(SharedMap<Upstream> upstreams)
        {
            if (_changes is null)
            {
                return [.. upstreams.Values.Where(upstream => upstream.Secrets.Count > 0).Select(upstream => upstream.Key)];
            }
            var before = upstreams == reusable!.Upstreams ? reusable.WithSecrets
                : [.. reusable.WithSecrets.Where(key => upstreams.GetValueOrDefault(key)?.Secrets.Count > 0)];
            return before.Union(_upstreams.Values.Where(upstream => upstream.Secrets.Count > 0).Select(upstream => upstream.Key));
        }

        PluginChain GlobalRules()
        {
            var documented = documents[ResourceKind.GlobalRules].Values;
            if (Same(ResourceKind.GlobalRules) && !reusable!.GlobalRules.Uses.Any(use => !SameMetadata(use.Descriptor.Name)))
            {
                return reusable.GlobalRules;
            }
            return Chain(documented.SelectMany(document => TryCompile(document, GlobalRule) ?? []));
        }

        PluginUse[] GlobalRule(Document document)
        {
            var scope = $"global_rule {document.Id}";
            var plugins = ResourceBinder.GlobalRule(document).Plugins;
            return Same(ResourceKind.GlobalRules, document.Id) && plugins.All(plugin => SameMetadata(plugin.Key))
                ? [.. reusable!.GlobalRules.Uses.Where(use => use.Scope == scope)]
                : [.. maker.Make(plugins, scope)];
        }

        sealed record RouteParts(SharedMap<Route> Routes, SharedMap<Upstream> Upstreams, RouteUsers Users, Router Router);

        RouteParts AllRoutes()
        {
            var routes = documents[ResourceKind.Routes].Values.Select(document => TryCompile(document, Route)).OfType<Route>().ToArray();
            return new(
                SharedMap<Route>.Of(routes.Select(route => KeyValuePair.Create(route.Id, route))),
                SharedMap<Upstream>.Of(_upstreams),
                RouteUsers.Of(routes),
                new Router(routes, settings.Http.Router));
        }

        /// <summary>Only the routes that the changes concern: the cost is theirs, however many routes there are.</summary>
        RouteParts ChangedRoutes(Snapshot before, IReadOnlyCollection<(ResourceKind Kind, string Id)> changes, StreamRouter streams,
            ImmutableHashSet<string> elsewhere)
        {
            var ids = changes.SelectMany(change => change.Kind switch
            {
                ResourceKind.Routes => [change.Id],
                ResourceKind.Services or ResourceKind.PluginConfigs or ResourceKind.Upstreams or ResourceKind.PluginMetadata =>
                    before.Users.Of(change.Kind, change.Id),
                ResourceKind.Ssls => ShowingCertificate(before, change.Id),
                _ => (IReadOnlyCollection<string>)[],
            }).Concat(before.WithSecrets.Select(key => before.Upstreams[key]).Where(upstream => !IsCurrent(upstream))
                .SelectMany(upstream => RoutesOf(before, upstream))).ToHashSet();
            if (ids.Count == 0 && streams == before.StreamRoutes && elsewhere.SetEquals(before.NamedElsewhere)
                && elsewhere.All(
                    id => _upstreams.GetValueOrDefault(UpstreamKey(id)) == before.Upstreams.GetValueOrDefault(UpstreamKey(id))))
            {
                return new(before.Routes, before.Upstreams, before.Users, before.Router);
            }
            var gone = _goneRoutes = [.. ids.Select(before.Routes.GetValueOrDefault).OfType<Route>()];
            var come = ids.Select(id => documents.Find(ResourceKind.Routes, id)).OfType<Document>().Order(ById)
                .Select(document => TryCompile(document, Route)).OfType<Route>().ToArray();
            var routes = before.Routes.With(
                ids.Select(id => KeyValuePair.Create(id, (Route?)null))
                .Concat(come.Select(route => KeyValuePair.Create(route.Id, (Route?)route))));
            var users = before.Users.With(gone, come);
            var unused = gone.Select(route => route.Upstream?.Key).Concat(before.StreamRoutes.Routes.Select(route => route.Upstream?.Key))
                .OfType<string>()
                .Concat(gone.SelectMany(route => route.Chain.UpstreamIds).Concat(before.NamedElsewhere).Select(UpstreamKey)).Distinct()
                .Where(key => !_upstreams.ContainsKey(key) && !IsUsed(key, users, routes));
            var upstreams = before.Upstreams.With(
                unused.Select(key => KeyValuePair.Create(key, (Upstream?)null))
                .Concat(_upstreams.Select(pair => KeyValuePair.Create(pair.Key, (Upstream?)pair.Value))));
            return new(routes, upstreams, users, before.Router.With(gone, come));
        }

        /// <summary>Routes whose upstream shows this certificate to its nodes, or would if it were there.</summary>
        static string[] ShowingCertificate(Snapshot before, string ssl) =>
            [.. before.Routes.Values.Where(route => 
                route.Upstream is not { } upstream || upstream.Config.Tls?.ClientCertId == ssl
                || Array.Exists(route.Chain.UpstreamIds,
                    id => before.Upstreams.GetValueOrDefault(UpstreamKey(id))?.Config.Tls?.ClientCertId == ssl)).Select(route => route.Id)];

        static string UpstreamKey(string id) => $"upstreams/{id}";

        /// <summary>Upstreams that plugins name; those that are gone are not there, and whoever sends a request there is told so.</summary>
        void Named(IEnumerable<string> ids)
        {
            foreach (var document in ids.Select(id => documents.Find(ResourceKind.Upstreams, id)).OfType<Document>())
            {
                TryCompile(document, one => Written(ResourceKind.Upstreams, one.Id)!);
            }
        }

        static IReadOnlyCollection<string> RoutesOf(Snapshot before, Upstream upstream) =>
            !ResourceKinds.TryParseKey(upstream.Key, out var kind, out var id) ? []
            : kind == ResourceKind.Routes ? [id] : kind == ResourceKind.StreamRoutes ? [] : before.Users.Of(kind, id);

        static readonly Comparer<Document> ById = Comparer<Document>.Create((a, b) => string.CompareOrdinal(a.Id, b.Id));

        static bool IsUsed(string upstream, RouteUsers users, SharedMap<Route> routes) =>
            upstream.Split('/', 2) is [var segment, var id] && ResourceKinds.TryParse(segment, out var kind)
            && kind != ResourceKind.StreamRoutes
            && (kind == ResourceKind.Routes ? [id] : users.Of(kind, id)).Any(route => routes.GetValueOrDefault(route) is { } known
                && (known.Upstream?.Key == upstream || (kind == ResourceKind.Upstreams && known.Chain.UpstreamIds.Contains(id))));

        bool Same(ResourceKind kind) => reusable is not null && ReferenceEquals(reusable.Documents[kind], documents[kind]);

        bool Same(ResourceKind kind, string? id) =>
            reusable is not null && (id is null || ReferenceEquals(reusable.Documents.Find(kind, id), documents.Find(kind, id)));

        bool SameMetadata(string plugin) => Same(ResourceKind.PluginMetadata, plugin);

        bool SameMetadata(PluginChain chain) =>
            Same(ResourceKind.PluginMetadata) || Array.TrueForAll(chain.Uses, use => SameMetadata(use.Descriptor.Name));

        T? TryCompile<T>(Document document, Func<Document, T> compile)
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
                Named(known.Chain.UpstreamIds);
                return known;
            }
            var config = ResourceBinder.Route(document);
            var serviceDocument = Find(ResourceKind.Services, config.ServiceId);
            var service = serviceDocument is null ? null : ResourceBinder.Service(serviceDocument);
            var merge = new Merge(
                config.Plugins, $"route {config.Id}",
                config.PluginConfigId, Find(ResourceKind.PluginConfigs, config.PluginConfigId) is { } shared
                ? ResourceBinder.PluginConfig(shared).Plugins : null,
                config.ServiceId, service?.Plugins);
            var chain = Chain(config.Script is { } script ? [ScriptedPlugins.OfRoute(services, config.Id, script)] : Uses(merge));
            Named(chain.UpstreamIds);
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

        /// <summary>Route's upstream_id > route's own > service's upstream_id > service's own, as in APISIX.</summary>
        Upstream? UpstreamOf(RouteConfig route, ServiceConfig? service) =>
            route.UpstreamId is { } id ? Written(ResourceKind.Upstreams, id)
            : route.Upstream is not null ? Written(ResourceKind.Routes, route.Id)
            : service?.UpstreamId is { } ofService ? Written(ResourceKind.Upstreams, ofService)
            : service?.Upstream is not null ? Written(ResourceKind.Services, service.Id) : null;

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
            Dictionary<string, string?> secrets = [];
            var (certificate, incomplete) = ClientCertificateOf(config.Tls, before?.ClientCertificate, secrets);
            return _upstreams[key] = before?.IsMadeOf(source) == true && before.Config.KeepalivePool == config.KeepalivePool
                && before.Checks is null == config.Checks is null && Equals(before.ClientCertificate, certificate)
                && Equals(before.Roots, roots)
                && before.Incomplete == incomplete && IsCurrent(before)
                ? before
                : new Upstream(config, upstreamServices, key, source, before, certificate, roots) { Secrets = secrets,
                    Incomplete = incomplete };
        }

        bool IsCurrent(Upstream? upstream) =>
            upstream is null || upstream.Secrets.Count == 0 || upstream.Secrets.All(pair => services.Secrets.Known(pair.Key) == pair.Value);

        /// <summary>What is shown to the upstream's nodes, and why it cannot be had.</summary>
        (ClientCertificate? Certificate, string? Incomplete) ClientCertificateOf(TlsConfig? tls, ClientCertificate? before,
            Dictionary<string, string?> secrets)
        {
            var (certificate, key) = (tls?.ClientCert, tls?.ClientKey);
            if (tls?.ClientCertId is { } id)
            {
                // a forced deletion, or another gateway, leaves that behind: the route stays and says so
                if (documents.Find(ResourceKind.Ssls, id)?.Value is not { } ssl || (string?)ssl["type"] != "client")
                {
                    return (null, $"tls.client_cert_id names ssl [{id}], and there is no such ssl of type client");
                }
                (certificate, key) = ((string?)ssl["cert"], (string?)ssl["key"]);
            }
            if (certificate is null || key is null)
            {
                return default;
            }
            if (Resolved(certificate) is not { } certificateText || Resolved(key) is not { } keyText)
            {
                return (null,
                    $"the certificate for the upstream refers to a secret that is not known: {secrets.First(pair => pair.Value is null).Key}");
            }
            try
            {
                return (before?.IsMadeOf(certificateText, keyText) == true ? before : new ClientCertificate(certificateText, keyText),
                    null);
            }
            catch (FormatException e) when (secrets.Count > 0 || tls?.ClientCertId is not null)
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
                .Select(document => byId.TryGetValue(document.Id, out var kept) ? Keep(kept) : TryCompile(document, StreamRoute))
                .OfType<StreamRoute>());
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
            var uses = maker.Make(config.Plugins, $"stream_route {config.Id}", seen, forStreams: true)
                .Concat(maker.Make(service?.Plugins, $"service {config.ServiceId}", seen, plugin => plugin.IsForStreams, forStreams: true));
            var upstream = config.UpstreamId is { } id ? Written(ResourceKind.Upstreams, id)
                : config.Upstream is not null ? Written(ResourceKind.StreamRoutes, config.Id)
                : service?.UpstreamId is { } ofService ? Written(ResourceKind.Upstreams, ofService)
                : service?.Upstream is not null ? Written(ResourceKind.Services, service.Id) : null;
            return new StreamRoute(config, upstream, Chain(uses), config.UpstreamId ?? service?.UpstreamId);
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
                else if (TryCompile(document, ssl =>
                    TlsSite.Of(ResourceBinder.Ssl(ssl), ssl.Place, settings, services.Secrets)!) is { } site)
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
                return ConsumerIndex.Empty(maker.Registry.All).With(documents[ResourceKind.Consumers].Keys
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
            var changed = _changes.Where(change => change.Kind == ResourceKind.Credentials)
                .ToLookup(change => ResourceKinds.CredentialOf(change.Id).Username, change => change.Id);
            return before.With(names.Select(username => AccountOf(username, before.CredentialsOf(username).Union(changed[username]))));
        }

        /// <param name="credentials">Ids of all that there are, also of some that there are not.</param>
        Account AccountOf(string username, IEnumerable<string> credentials)
        {
            var found = credentials.Order(StringComparer.Ordinal).Select(id => Find(ResourceKind.Credentials, id)).OfType<Document>()
                .ToArray();
            if (reusable?.Consumers.AccountOf(username) is { } known && IsSame(known, found))
            {
                return known;
            }
            Dictionary<string, string?> secrets = [];
            var consumer = Find(ResourceKind.Consumers, username) is { } document ? TryCompile(document, one => Consumer(one, secrets))
                : null;
            return new(username, consumer, [.. found.Select(one => one.Id)],
                consumer is null ? [] : [.. found.Select(WithCredential).OfType<Consumer>()], secrets);

            Consumer? WithCredential(Document one) => TryCompile(one, it =>
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
            return new Consumer(maker, config.Username, config.GroupId, Resolved(plugins, secrets)!, config.Labels);
        }

        static void Overlay(JsonObject target, JsonObject? source)
        {
            foreach (var (name, value) in source ?? [])
            {
                target[name] = value?.DeepClone();
            }
        }

        /// <summary>A consumer's plugins without references. A plugin that refers to a secret which is not known (yet) is left out: nobody
        /// gets in with the reference's text.</summary>
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
            return maker.Make(merge.Route, merge.RouteScope, seen)
                .Concat(maker.Make(merge.PluginConfig, $"plugin_config {merge.PluginConfigId}", seen))
                .Concat(maker.Make(merge.Service, $"service {merge.ServiceId}", seen));
        }
    }
}
