using System.Runtime.CompilerServices;
using System.Text.Json.Nodes;
using Sluice.Model;
using Sluice.Model.Settings;
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
        var sameSettings = ReferenceEquals(previous?.Settings, settings);
        var registry = sameSettings ? previous!.Plugins : new PluginRegistry(builtin, settings.Plugins, settings.Streams.Plugins);
        var sameMetadata = sameSettings && ReferenceEquals(previous!.Documents[ResourceKind.PluginMetadata], documents[ResourceKind.PluginMetadata]);
        if (!sameSettings)
        {
            try
            {
                _roots = settings.Http.TrustedCaFile is { } file ? new TrustedRoots(File.ReadAllText(file)) : null;
            }
            catch (Exception e) when (e is FormatException or IOException or UnauthorizedAccessException)
            {
                return (null, [Problem.Error("conf/config.yaml (apisix.ssl.ssl_trusted_certificate)", $"{settings.Http.TrustedCaFile}: {e.Message}")]);
            }
        }
        return new Compilation(services, _upstreams, _roots, registry, settings, documents, sameMetadata ? previous : null, previous).Run();
    }

    sealed class Compilation(
        PluginServices services, UpstreamServices upstreamServices, TrustedRoots? roots, PluginRegistry registry, GatewaySettings settings, DocumentSet documents, Snapshot? reusable, Snapshot? previous)
    {
        readonly List<Problem> _problems = [];
        readonly Dictionary<string, Upstream> _upstreams = [];
        readonly Dictionary<string, string?> _secrets = [];

        public (Snapshot?, IReadOnlyList<Problem>) Run()
        {
            // first: what streams use stays in the map of upstreams
            var streams = Same(ResourceKind.StreamRoutes) && (reusable!.StreamRoutes.Routes.Count == 0 || (Same(ResourceKind.Services) && Same(ResourceKind.Upstreams) && Same(ResourceKind.Ssls)))
                ? Keep(reusable!.StreamRoutes)
                : new StreamRouter(documents[ResourceKind.StreamRoutes].Values.Select(document => Guard(document, StreamRoute)).OfType<StreamRoute>());
            var routes = reusable is not null && documents.ChangesSince(reusable.Documents) is { } changes ? ChangedRoutes(reusable, changes, streams) : AllRoutes();
            var consumers = Same(ResourceKind.Consumers) && Same(ResourceKind.ConsumerGroups) && Same(ResourceKind.Credentials) && reusable!.ConsumerSecrets.AreCurrent(services.Secrets)
                ? reusable!.Consumers
                : new ConsumerIndex(Consumers(), registry.All);
            var globalRules = Same(ResourceKind.GlobalRules)
                ? reusable!.GlobalRules
                : new PluginChain(documents[ResourceKind.GlobalRules].Values.SelectMany(document =>
                    Guard(document, rule => Uses(ResourceBinder.GlobalRule(rule).Plugins, $"global_rule {rule.Id}").ToArray()) ?? []));
            var secrets = ReferenceEquals(consumers, reusable?.Consumers) ? reusable!.ConsumerSecrets : new ConsumerSecrets(_secrets);
            var tls = Same(ResourceKind.Ssls) ? reusable!.Tls : TlsSites();
            if (_problems.Exists(problem => problem.Severity == Severity.Error))
            {
                return (null, _problems);
            }
            return (new Snapshot(
                (previous?.Version ?? 0) + 1, settings, documents, routes.Routes, routes.Upstreams, routes.Users, routes.Router, consumers, globalRules, registry, tls, streams, secrets), _problems);
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
                ResourceKind.Services or ResourceKind.PluginConfigs or ResourceKind.Upstreams => before.Users.Of(change.Kind, change.Id),
                ResourceKind.Ssls => ShowingCertificate(before, change.Id),
                _ => (IReadOnlyCollection<string>)[],
            }).ToHashSet();
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

        static readonly Comparer<Document> ById = Comparer<Document>.Create((a, b) => string.CompareOrdinal(a.Id, b.Id));

        static bool IsUsed(string upstream, RouteUsers users, SharedMap<Route> routes) =>
            upstream.Split('/', 2) is [var segment, var id] && ResourceKinds.TryParse(segment, out var kind) && kind != ResourceKind.StreamRoutes
            && (kind == ResourceKind.Routes ? [id] : users.Of(kind, id)).Any(route => routes.GetValueOrDefault(route)?.Upstream?.Key == upstream);

        bool Same(ResourceKind kind) => reusable is not null && ReferenceEquals(reusable.Documents[kind], documents[kind]);

        bool Same(ResourceKind kind, string? id) =>
            id is null || ReferenceEquals(reusable!.Documents.Find(kind, id), documents.Find(kind, id));

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
            var chain = new PluginChain(Uses(merge));
            if (BufferingRules.Conflict(chain) is { } conflict)
            {
                _problems.Add(Problem.Error(document.Place, conflict));
            }
            return new Route(config, service, UpstreamOf(config, service), chain, MergeConsumer);
        }

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
            var certificate = ClientCertificateOf(config.Tls, before?.ClientCertificate);
            return _upstreams[key] = before?.IsMadeOf(source) == true && before.Config.KeepalivePool == config.KeepalivePool
                && before.Checks is null == config.Checks is null && Equals(before.ClientCertificate, certificate) && Equals(before.Roots, roots)
                ? before
                : new Upstream(config, upstreamServices, key, source, before, certificate, roots);
        }

        ClientCertificate? ClientCertificateOf(TlsConfig? tls, ClientCertificate? before)
        {
            var (certificate, key) = tls?.ClientCertId is { } id
                ? ((string?)documents.Find(ResourceKind.Ssls, id)!.Value["cert"], (string?)documents.Find(ResourceKind.Ssls, id)!.Value["key"])
                : (tls?.ClientCert, tls?.ClientKey);
            return certificate is null || key is null ? null
                : before?.IsMadeOf(certificate, key) == true ? before : new ClientCertificate(certificate, key);
        }

        StreamRouter Keep(StreamRouter streams)
        {
            foreach (var upstream in streams.Routes.Select(route => route.Upstream).OfType<Upstream>())
            {
                _upstreams.TryAdd(upstream.Key, upstream);
            }
            return streams;
        }

        StreamRoute StreamRoute(Document document)
        {
            var config = ResourceBinder.StreamRoute(document);
            var service = Find(ResourceKind.Services, config.ServiceId) is { } found ? ResourceBinder.Service(found) : null;
            HashSet<string> seen = [];
            var uses = Uses(config.Plugins, $"stream_route {config.Id}", seen, forStreams: true)
                .Concat(Uses(service?.Plugins, $"service {config.ServiceId}", seen, plugin => plugin.IsForStreams, forStreams: true));
            var upstream = config.Upstream is not null ? Written(ResourceKind.StreamRoutes, config.Id)
                : config.UpstreamId is { } id ? Written(ResourceKind.Upstreams, id)
                : service?.Upstream is not null ? Written(ResourceKind.Services, service.Id)
                : service?.UpstreamId is { } ofService ? Written(ResourceKind.Upstreams, ofService) : null;
            return new StreamRoute(config, upstream, new PluginChain(uses));
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

        /// <summary>A consumer's plugins without references. A plugin that refers to a secret which is not known (yet) is left out: nobody gets in with the reference's text.</summary>
        JsonObject? Resolved(JsonObject? plugins)
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
                    var found = _secrets[reference] = services.Secrets.Known(reference);
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

        /// <summary>Each consumer and, after it, the consumer with each of its credentials.</summary>
        IEnumerable<Consumer> Consumers()
        {
            var credentials = documents[ResourceKind.Credentials].Values.Select(ResourceBinder.Credential).ToLookup(credential => credential.Username);
            foreach (var document in documents[ResourceKind.Consumers].Values)
            {
                if (Guard(document, Consumer) is { } consumer)
                {
                    yield return consumer;
                    foreach (var credential in credentials[consumer.Username])
                    {
                        yield return consumer.With(credential with { Plugins = Resolved(credential.Plugins) });
                    }
                }
            }
        }

        Consumer Consumer(Document document)
        {
            var config = ResourceBinder.Consumer(document);
            JsonObject plugins = [];
            if (Find(ResourceKind.ConsumerGroups, config.GroupId) is { } group)
            {
                Overlay(plugins, ResourceBinder.ConsumerGroup(group).Plugins);
            }
            Overlay(plugins, config.Plugins);
            return new Consumer(document, config.Username, config.GroupId, Resolved(plugins)!, config.Labels);
        }

        static void Overlay(JsonObject target, JsonObject? source)
        {
            foreach (var (name, value) in source ?? [])
            {
                target[name] = value?.DeepClone();
            }
        }

        // -- Plugins

        sealed record Merge(
            JsonObject? Route, string RouteScope, string? PluginConfigId, JsonObject? PluginConfig, string? ServiceId, JsonObject? Service);

        IEnumerable<PluginUse> Uses(Merge merge)
        {
            HashSet<string> seen = [];
            return Uses(merge.Route, merge.RouteScope, seen)
                .Concat(Uses(merge.PluginConfig, $"plugin_config {merge.PluginConfigId}", seen))
                .Concat(Uses(merge.Service, $"service {merge.ServiceId}", seen));
        }

        object Create(PluginDescriptor descriptor, JsonObject config, PluginContext context)
        {
            var known = services.Secrets.WithEnvironment(config);
            return SecretReference.In(known).Any() ? new DeferredPlugin(descriptor, known, context) : descriptor.Create(known, context);
        }

        PluginChain MergeConsumer(Route route, Consumer consumer)
        {
            // credentials of auth plugins are not configurations: a consumer's key-auth does not replace the route's
            var own = Uses(consumer.Plugins, $"consumer {consumer.Username}", wanted: plugin => plugin.ConsumerSchema is null).ToArray();
            return new PluginChain([.. own, .. route.Chain.Uses.Where(use => !own.Any(mine => mine.Descriptor == use.Descriptor))]);
        }

        IEnumerable<PluginUse> Uses(JsonObject? plugins, string scope, HashSet<string>? seen = null, Func<PluginDescriptor, bool>? wanted = null, bool forStreams = false)
        {
            foreach (var (name, value) in plugins ?? [])
            {
                if (value is JsonObject config && (forStreams ? registry.FindForStreams(name) : registry.Find(name)) is { } descriptor && wanted?.Invoke(descriptor) != false && seen?.Add(name) != false)
                {
                    var meta = PluginMeta.Of(config);
                    var context = new PluginContext(
                        scope, documents.Find(ResourceKind.PluginMetadata, name)?.Value, settings.PluginAttributes.GetValueOrDefault(name), services);
                    yield return new PluginUse(descriptor, Create(descriptor, config, context), meta, config, scope);
                }
            }
        }
    }
}
