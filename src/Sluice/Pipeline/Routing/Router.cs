using System.Collections.Frozen;
using Sluice.Model;
using Sluice.Model.Expressions;
using Sluice.Model.Settings;
using Sluice.Net.Http;

namespace Sluice.Pipeline;

/// <summary>
/// Finds the route of a request, in APISIX's order. Router <c>radixtree_host_uri</c>: exact host, then the longest wildcard host, then
/// routes without a host; within each: exact uri, then the longest prefix; within equal uris: higher <c>priority</c>, then the
/// remaining conditions (methods, remote_addr, vars). <c>radixtree_uri</c> and <c>radixtree_uri_with_parameter</c>: the uri comes first and
/// hosts are one more condition. Time depends on the length of host and path, not on the number of routes.
/// </summary>
internal sealed class Router
{
    readonly RouterMode _mode;
    readonly SharedMap<UriTable> _exactHosts;
    readonly SharedMap<UriTable> _wildcardHosts;
    readonly UriTable _anyHost;

    public Router(IEnumerable<Route> routes, RouterMode mode = RouterMode.HostUri)
    {
        var sorted = new Sorted(routes, mode);
        _mode = mode;
        _exactHosts = SharedMap<UriTable>.Of(
            sorted.Exact.Select(pair => KeyValuePair.Create(pair.Key, UriTable.Empty.With([], pair.Value)!)));
        _wildcardHosts = SharedMap<UriTable>.Of(
            sorted.Wildcard.Select(pair => KeyValuePair.Create(pair.Key, UriTable.Empty.With([], pair.Value)!)));
        _anyHost = UriTable.Empty.With([], sorted.Any) ?? UriTable.Empty;
    }

    Router(RouterMode mode, SharedMap<UriTable> exactHosts, SharedMap<UriTable> wildcardHosts, UriTable anyHost) =>
        (_mode, _exactHosts, _wildcardHosts, _anyHost) = (mode, exactHosts, wildcardHosts, anyHost);

    /// <summary>The router after a change; what the change does not touch is shared.</summary>
    public Router With(IReadOnlyCollection<Route> gone, IReadOnlyCollection<Route> come)
    {
        var (old, added) = (new Sorted(gone, _mode), new Sorted(come, _mode));
        return new(
            _mode,
            Changed(_exactHosts, old.Exact, added.Exact),
            Changed(_wildcardHosts, old.Wildcard, added.Wildcard),
            old.Any.Count == 0 && added.Any.Count == 0 ? _anyHost : _anyHost.With(old.Any, added.Any) ?? UriTable.Empty);
    }

    static SharedMap<UriTable> Changed(SharedMap<UriTable> tables, Dictionary<string, List<Candidate>> gone,
        Dictionary<string, List<Candidate>> come) =>
        tables.With(gone.Keys.Union(come.Keys).Select(host => KeyValuePair.Create(
            host,
            (tables.GetValueOrDefault(host) ?? UriTable.Empty).With(gone.GetValueOrDefault(host) ?? [],
                come.GetValueOrDefault(host) ?? []))));

    /// <summary>Routes by the host they ask for; in the modes where the uri comes first, a host is a condition only.</summary>
    sealed class Sorted
    {
        public Dictionary<string, List<Candidate>> Exact { get; } = [];

        public Dictionary<string, List<Candidate>> Wildcard { get; } = [];

        public List<Candidate> Any { get; } = [];

        public Sorted(IEnumerable<Route> routes, RouterMode mode)
        {
            foreach (var route in routes.Where(route => route.Config.Status == 1))
            {
                var hosts = HostsOf(route).Select(HostName.Normalize).OfType<string>().ToArray();
                var conditions = new Conditions(route, mode == RouterMode.HostUri ? [] : hosts);
                foreach (var uri in UrisOf(route.Config))
                {
                    Add(new Candidate(route, new UriPattern(uri), conditions), mode == RouterMode.HostUri ? hosts : []);
                }
            }
        }

        void Add(Candidate candidate, string[] hosts)
        {
            if (hosts.Length == 0)
            {
                Any.Add(candidate);
            }
            foreach (var host in hosts)
            {
                var isWildcard = host.StartsWith('*');
                var table = isWildcard ? Wildcard : Exact;
                var key = isWildcard ? host[1..] : host;
                (table.TryGetValue(key, out var list) ? list : table[key] = []).Add(candidate);
            }
        }
    }

    public static string[] UrisOf(RouteConfig config) => config.Uris ?? (config.Uri is { } uri ? [uri] : []);

    /// <summary>The route's own hosts, otherwise its service's.</summary>
    public static string[] HostsOf(Route route) =>
        route.Config.Hosts ?? (route.Config.Host is { } host ? [host] : route.Service?.Hosts ?? []);

    /// <summary>Finds the route for <see cref="Exchange.Uri"/>, the host and the exchange's other facts; null = none.</summary>
    /// <param name="host">As <see cref="HostName.Of"/> gives it.</param>
    public Route? Match(Exchange exchange, string host)
    {
        if (_exactHosts.Count > 0 && _exactHosts.TryGetValue(host, out var table) && table.Match(exchange) is { } found)
        {
            return found;
        }
        // "*.example.com" is kept as ".example.com": the longest suffix that starts at a dot comes first
        // "*" is kept as "", which every name ends with
        for (var at = 0; _wildcardHosts.Count > 0 && at <= host.Length; at++)
        {
            if (_wildcardHosts.TryGetValue(host.AsSpan(at), out table) && table.Match(exchange) is { } wild)
            {
                return wild;
            }
        }
        return _anyHost.Match(exchange);
    }

    readonly record struct Candidate(Route Route, UriPattern Pattern, Conditions Conditions);

    /// <summary>What a route asks of a request besides host and uri.</summary>
    sealed class Conditions(Route route, string[] hosts)
    {
        readonly string[] _hosts = [.. hosts.Where(host => !host.StartsWith('*'))];
        readonly string[] _hostEndings = [.. hosts.Where(host => host.StartsWith('*')).Select(host => host[1..])];
        readonly FrozenSet<string>? _methods = route.Config.Methods?.ToFrozenSet(StringComparer.Ordinal);

        /// <summary>Among routes with the same uri and priority those that ask for a host are asked first: exact ones, then
        /// wildcards.</summary>
        public int HostRank => _hosts.Length > 0 ? 0 : _hostEndings.Length > 0 ? 1 : 2;

        public bool Hold(Exchange exchange) =>
            (HostRank == 2 || IsHost(exchange.Host))
            && (_methods is null || _methods.Contains(exchange.Request.Method))
            && (route.Config.RemoteAddrs is not { } addresses || addresses.Contains(exchange.RemoteAddress))
            && (route.Config.Vars is not { } vars || vars.Matches(exchange))
            && (route.Filter is null || exchange.OpenScript().Ask(route.Filter));

        bool IsHost(string host) =>
            Array.Exists(_hosts, one => one.Equals(host, StringComparison.Ordinal))
            || Array.Exists(_hostEndings, ending => host.EndsWith(ending, StringComparison.Ordinal));
    }

    /// <summary>The routes of one host: exact uris in a hash table, the others in a radix tree over their literal beginnings.
    /// Immutable.</summary>
    sealed class UriTable
    {
        public static UriTable Empty { get; } = new(SharedMap<Candidate[]>.Empty, Node.Root);

        readonly SharedMap<Candidate[]> _exact;
        readonly Node _root;

        UriTable(SharedMap<Candidate[]> exact, Node root) => (_exact, _root) = (exact, root);

        /// <summary>The table after a change; null when nothing is left.</summary>
        public UriTable? With(IReadOnlyCollection<Candidate> gone, IReadOnlyCollection<Candidate> come)
        {
            var exact = _exact.With(Groups(gone, come, isExact: true).Select(group =>
                KeyValuePair.Create(group.Key, NullIfEmpty(Merge(_exact.GetValueOrDefault(group.Key) ?? [], group)))));
            var root = Groups(gone, come, isExact: false)
                .Aggregate(_root, (node, group) => node.With(group.Key, candidates => Merge(candidates, group)) ?? Node.Root);
            return exact.Count == 0 && root.IsEmpty ? null : new(exact, root);
        }

        static IEnumerable<IGrouping<string, (Candidate Candidate, bool IsThere)>> Groups(
            IReadOnlyCollection<Candidate> gone, IReadOnlyCollection<Candidate> come, bool isExact) =>
            gone.Select(candidate => (candidate, false)).Concat(come.Select(candidate => (candidate, true)))
                .Where(change => change.candidate.Pattern.IsExact == isExact)
                .GroupBy(change => isExact ? change.candidate.Pattern.Uri : change.candidate.Pattern.LiteralPrefix);

        static Candidate[] Merge(Candidate[] candidates, IEnumerable<(Candidate Candidate, bool IsThere)> changes)
        {
            var gone = changes.Where(change => !change.IsThere).Select(change => change.Candidate.Route).ToHashSet();
            return ByPriority(candidates.Where(candidate => !gone.Contains(candidate.Route))
                .Concat(changes.Where(change => change.IsThere).Select(change => change.Candidate)));
        }

        static Candidate[]? NullIfEmpty(Candidate[] candidates) => candidates.Length == 0 ? null : candidates;

        // Plain prefixes come after patterns with parameters of the same beginning: those ask for more.
        static Candidate[] ByPriority(IEnumerable<Candidate> candidates) =>
        [
            .. candidates.OrderByDescending(one => one.Route.Config.Priority).ThenBy(one => one.Pattern.IsPlainPrefix)
            .ThenBy(one => one.Conditions.HostRank)
                .ThenBy(one => one.Route.Id, StringComparer.Ordinal),
        ];

        public Route? Match(Exchange exchange)
        {
            var path = exchange.MatchPath ?? exchange.Uri;
            return _exact.TryGetValue(path, out var candidates) && First(candidates, exchange, path) is { } exact ? exact
                : _root.Match(exchange, path, path);
        }
    }

    static Route? First(Candidate[] candidates, Exchange exchange, string path)
    {
        foreach (var (route, pattern, conditions) in candidates)
        {
            if ((pattern.IsExact || pattern.IsPlainPrefix || pattern.Matches(path)) && conditions.Hold(exchange))
            {
                exchange.UriParameters = new(pattern, path);
                exchange.MatchedUri = pattern.Uri;
                return route;
            }
        }
        return null;
    }

    /// <summary>A radix tree: an edge is a text, a node may hold the candidates whose literal beginning ends there. Immutable: a change
    /// copies the way to it.</summary>
    sealed class Node
    {
        public static Node Root { get; } = new("", [], []);

        readonly string _edge;
        readonly Candidate[] _candidates;

        /// <summary>Sorted by the first character of their edges, which differ.</summary>
        readonly Node[] _children;

        Node(string edge, Candidate[] candidates, Node[] children) => (_edge, _candidates, _children) = (edge, candidates, children);

        public bool IsEmpty => _candidates.Length == 0 && _children.Length == 0;

        /// <summary>The node after a change of the candidates whose literal beginning is <paramref name="text"/>; null when nothing is
        /// left.</summary>
        public Node? With(string text, Func<Candidate[], Candidate[]> change)
        {
            if (text.Length == 0)
            {
                return Tidy(_edge, change(_candidates), _children);
            }
            var index = IndexOf(text[0]);
            if (index < 0)
            {
                return change([]) is { Length: > 0 } candidates ? new(_edge, _candidates, Inserted(~index, new Node(text, candidates, [])))
                    : this;
            }
            var child = _children[index];
            var common = text.AsSpan().CommonPrefixLength(child._edge);
            if (common < child._edge.Length)
            {
                child = new Node(child._edge[..common], [], [new Node(child._edge[common..], child._candidates, child._children)]);
            }
            return child.With(text[common..], change) is { } changed
                ? new(_edge, _candidates, [.. _children[..index], changed, .. _children[(index + 1)..]])
                : Tidy(_edge, _candidates, [.. _children[..index], .. _children[(index + 1)..]]);
        }

        /// <summary>A node without candidates and with one child is that child with a longer edge; the root stays the root.</summary>
        static Node? Tidy(string edge, Candidate[] candidates, Node[] children) => (candidates, children) switch
        {
            ([], []) => null,
            ([], [var only]) when edge.Length > 0 => new(edge + only._edge, only._candidates, only._children),
            _ => new(edge, candidates, children),
        };

        Node[] Inserted(int index, Node child) => [.. _children[..index], child, .. _children[index..]];

        int IndexOf(char first)
        {
            var (low, high) = (0, _children.Length - 1);
            while (low <= high)
            {
                var middle = (low + high) / 2;
                var order = _children[middle]._edge[0].CompareTo(first);
                if (order == 0)
                {
                    return middle;
                }
                (low, high) = order < 0 ? (middle + 1, high) : (low, middle - 1);
            }
            return ~low;
        }

        /// <summary>The deepest node first whose text the path starts with.</summary>
        /// <param name="rest">The path behind this node's text.</param>
        public Route? Match(Exchange exchange, string path, ReadOnlySpan<char> rest)
        {
            if (rest.Length > 0 && IndexOf(rest[0]) is >= 0 and var index && _children[index] is var child
                && rest.StartsWith(child._edge, StringComparison.Ordinal)
                && child.Match(exchange, path, rest[child._edge.Length..]) is { } deeper)
            {
                return deeper;
            }
            return _candidates.Length > 0 ? First(_candidates, exchange, path) : null;
        }
    }
}
