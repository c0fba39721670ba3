using System.Collections.Frozen;
using Sluice.Model;
using Sluice.Model.Expressions;
using Sluice.Model.Settings;

namespace Sluice.Pipeline;

/// <summary>
/// Finds the route of a request, in APISIX's order. Router <c>radixtree_host_uri</c>: exact host, then the longest wildcard host, then
/// routes without a host; within each: exact uri, then the longest prefix; within equal uris: higher <c>priority</c>, then the
/// remaining conditions (methods, remote_addr, vars). <c>radixtree_uri</c> and <c>radixtree_uri_with_parameter</c>: the uri comes first and hosts are
/// one more condition. Time depends on the length of host and path, not on the number of routes.
/// </summary>
public sealed class Router
{
    readonly FrozenDictionary<string, UriTable> _exactHosts;
    readonly FrozenDictionary<string, UriTable>.AlternateLookup<ReadOnlySpan<char>> _exactHostsBySpan;
    readonly FrozenDictionary<string, UriTable> _wildcardHosts;
    readonly FrozenDictionary<string, UriTable>.AlternateLookup<ReadOnlySpan<char>> _wildcardHostsBySpan;
    readonly UriTable _anyHost;

    public Router(IEnumerable<Route> routes, RouterMode mode = RouterMode.HostUri)
    {
        Dictionary<string, List<Candidate>> exact = [], wildcard = [];
        List<Candidate> any = [];
        foreach (var route in routes.Where(route => route.Config.Status == 1))
        {
            var hosts = HostsOf(route);
            var conditions = new Conditions(route.Config, mode == RouterMode.HostUri ? [] : hosts);
            if (mode != RouterMode.HostUri)
            {
                hosts = [];
            }
            foreach (var uri in UrisOf(route.Config))
            {
                var candidate = new Candidate(route, new UriPattern(uri), conditions);
                if (hosts.Length == 0)
                {
                    any.Add(candidate);
                }
                foreach (var host in hosts)
                {
                    var isWildcard = host.StartsWith('*');
                    var table = isWildcard ? wildcard : exact;
                    var key = (isWildcard ? host[1..] : host).ToLowerInvariant();
                    (table.TryGetValue(key, out var list) ? list : table[key] = []).Add(candidate);
                }
            }
        }
        _exactHosts = exact.ToFrozenDictionary(pair => pair.Key, pair => new UriTable(pair.Value));
        _exactHostsBySpan = _exactHosts.GetAlternateLookup<ReadOnlySpan<char>>();
        _wildcardHosts = wildcard.ToFrozenDictionary(pair => pair.Key, pair => new UriTable(pair.Value));
        _wildcardHostsBySpan = _wildcardHosts.GetAlternateLookup<ReadOnlySpan<char>>();
        _anyHost = new UriTable(any);
    }

    public static string[] UrisOf(RouteConfig config) => config.Uris ?? (config.Uri is { } uri ? [uri] : []);

    /// <summary>The route's own hosts, otherwise its service's.</summary>
    public static string[] HostsOf(Route route) =>
        route.Config.Hosts ?? (route.Config.Host is { } host ? [host] : route.Service?.Hosts ?? []);

    /// <summary>Finds the route for <see cref="Exchange.Uri"/>, the host (no port) and the exchange's other facts; null = none.</summary>
    public Route? Match(Exchange exchange, string host)
    {
        Span<char> lower = stackalloc char[256];
        if (host.Length <= lower.Length && (_exactHosts.Count > 0 || _wildcardHosts.Count > 0))
        {
            lower = lower[..host.AsSpan().ToLowerInvariant(lower)];
            if (_exactHosts.Count > 0 && _exactHostsBySpan.TryGetValue(lower, out var table) && table.Match(exchange) is { } found)
            {
                return found;
            }
            // "*.example.com" is kept as ".example.com": the longest suffix that starts at a dot comes first
            for (var at = 0; _wildcardHosts.Count > 0 && at < lower.Length; at++)
            {
                if (_wildcardHostsBySpan.TryGetValue(lower[at..], out table) && table.Match(exchange) is { } wild)
                {
                    return wild;
                }
            }
        }
        return _anyHost.Match(exchange);
    }

    readonly record struct Candidate(Route Route, UriPattern Pattern, Conditions Conditions);

    /// <summary>What a route asks of a request besides host and uri.</summary>
    sealed class Conditions(RouteConfig config, string[] hosts)
    {
        readonly string[] _hosts = [.. hosts.Where(host => !host.StartsWith('*'))];
        readonly string[] _hostEndings = [.. hosts.Where(host => host.StartsWith('*')).Select(host => host[1..])];
        readonly FrozenSet<string>? _methods = config.Methods?.ToFrozenSet(StringComparer.Ordinal);
        readonly CidrSet? _addresses = (config.RemoteAddrs ?? (config.RemoteAddr is { } one ? [one] : null)) is { } list ? CidrSet.Parse(list) : null;
        readonly Expression? _vars = config.Vars is { Count: > 0 } vars ? Expression.Compile(vars) : null;

        /// <summary>Among routes with the same uri and priority those that ask for a host are asked first: exact ones, then wildcards.</summary>
        public int HostRank => _hosts.Length > 0 ? 0 : _hostEndings.Length > 0 ? 1 : 2;

        public bool Hold(Exchange exchange) =>
            (HostRank == 2 || IsHost(exchange.Host))
            && (_methods is null || _methods.Contains(exchange.Request.Method))
            && (_addresses is null || _addresses.Contains(exchange.RemoteAddress))
            && (_vars is null || _vars.Matches(exchange));

        bool IsHost(string host) =>
            Array.Exists(_hosts, one => one.Equals(host, StringComparison.OrdinalIgnoreCase))
            || Array.Exists(_hostEndings, ending => host.EndsWith(ending, StringComparison.OrdinalIgnoreCase));
    }

    /// <summary>The routes of one host: exact uris in a hash table, the others in a radix tree over their literal beginnings.</summary>
    sealed class UriTable
    {
        readonly FrozenDictionary<string, Candidate[]> _exact;
        readonly Node _root = new("", null);

        public UriTable(List<Candidate> candidates)
        {
            _exact = candidates.Where(one => one.Pattern.IsExact).GroupBy(one => one.Pattern.Uri)
                .ToFrozenDictionary(group => group.Key, group => ByPriority(group));
            foreach (var group in candidates.Where(one => !one.Pattern.IsExact).GroupBy(one => one.Pattern.LiteralPrefix))
            {
                _root.Insert(group.Key, ByPriority(group));
            }
        }

        // Plain prefixes come after patterns with parameters of the same beginning: those ask for more.
        static Candidate[] ByPriority(IEnumerable<Candidate> candidates) =>
            [.. candidates.OrderByDescending(one => one.Route.Config.Priority).ThenBy(one => one.Pattern.IsPlainPrefix).ThenBy(one => one.Conditions.HostRank)];

        public Route? Match(Exchange exchange)
        {
            var path = exchange.MatchPath ?? exchange.Uri;
            if (_exact.TryGetValue(path, out var candidates) && First(candidates, exchange, path) is { } exact)
            {
                return exact;
            }
            for (var node = _root.Deepest(path); node is not null; node = node.Parent)
            {
                if (node.Candidates.Length > 0 && First(node.Candidates, exchange, path) is { } found)
                {
                    return found;
                }
            }
            return null;
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
    }

    /// <summary>A radix tree: an edge is a text, a node may hold the candidates whose literal beginning ends there.</summary>
    sealed class Node(string edge, Node? parent)
    {
        readonly SortedList<char, Node> _children = [];

        public Node? Parent { get; private set; } = parent;

        public Candidate[] Candidates { get; private set; } = [];

        string Edge { get; set; } = edge;

        public void Insert(string text, Candidate[] candidates)
        {
            if (text.Length == 0)
            {
                Candidates = candidates;
                return;
            }
            if (!_children.TryGetValue(text[0], out var child))
            {
                _children[text[0]] = new Node(text, this) { Candidates = candidates };
                return;
            }
            var common = text.AsSpan().CommonPrefixLength(child.Edge);
            if (common < child.Edge.Length)
            {
                var middle = new Node(child.Edge[..common], this);
                child.Edge = child.Edge[common..];
                child.Parent = middle;
                middle._children[child.Edge[0]] = child;
                _children[text[0]] = child = middle;
            }
            child.Insert(text[common..], candidates);
        }

        /// <summary>The deepest node whose text the path starts with.</summary>
        public Node Deepest(ReadOnlySpan<char> path)
        {
            var node = this;
            while (path.Length > 0 && node._children.TryGetValue(path[0], out var child) && path.StartsWith(child.Edge, StringComparison.Ordinal))
            {
                path = path[child.Edge.Length..];
                node = child;
            }
            return node;
        }
    }
}
