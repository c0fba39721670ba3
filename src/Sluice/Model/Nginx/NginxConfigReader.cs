using System.Collections.Frozen;
using System.Net;
using System.Net.Sockets;
using System.Text.RegularExpressions;

namespace Sluice.Model.Nginx;

/// <summary>Everything that says something in nginx's language.</summary>
/// <param name="Conf"><c>conf/nginx.conf</c>, null when there is none.</param>
/// <param name="ConfDirectory">What <c>include</c> is relative to; null: includes are refused.</param>
/// <param name="HttpSnippet"><c>nginx_config.http_configuration_snippet</c></param>
/// <param name="ServerSnippet"><c>nginx_config.http_server_configuration_snippet</c>: the gateway's own server.</param>
/// <param name="LocationSnippet"><c>nginx_config.http_server_location_configuration_snippet</c>: its <c>location /</c>.</param>
/// <param name="EndSnippet"><c>nginx_config.http_end_configuration_snippet</c>: the end of <c>http</c>, where APISIX's users put servers of
/// their own.</param>
/// <param name="HttpValues">The values of <c>nginx_config.http</c> that are nginx directives: the outermost level. Name, value,
/// place.</param>
/// <param name="GatewayAddresses">Where the gateway's own server listens: it is the default server there, as in APISIX.</param>
internal sealed record NginxTexts(
    string? Conf = null,
    string? ConfDirectory = null,
    string? HttpSnippet = null,
    string? ServerSnippet = null,
    string? LocationSnippet = null,
    string? EndSnippet = null,
    IReadOnlyList<(string Name, string Value, string Place)>? HttpValues = null,
    IReadOnlyList<IPEndPoint>? GatewayAddresses = null);

/// <summary>Reads <see cref="NginxTexts"/> and compiles them.</summary>
internal sealed class NginxConfigReader
{
    /// <summary>A server block, before it is known which other servers share its addresses.</summary>
    sealed class ServerBlock(NginxLevel level, string place)
    {
        public NginxLevel Level => level;

        public string Place => place;

        public List<NginxListen> Listens { get; } = [];

        public List<(NginxServerName Name, Regex? Pattern, string Written)> Names { get; } = [];

        public List<(NginxLocationKind Kind, string Path, Regex? Pattern, NginxLevel Level)> Locations { get; } = [];

        public bool Http2 { get; set; }

        public NginxServer Compiled { get; set; } = null!;
    }

    readonly List<Problem> _problems = [];
    readonly List<ServerBlock> _servers = [];
    readonly NginxTexts _texts;
    readonly NginxIncludes _includes;
    NginxLevel _http;
    int _httpBlocks;

    NginxConfigReader(NginxTexts texts)
    {
        _texts = texts;
        _includes = new(texts.ConfDirectory);
        _http = new(null, NginxContexts.Http, "http");
    }

    /// <summary>The configuration is usable when no problem is an error.</summary>
    public static (NginxConfig Config, IReadOnlyList<Problem> Problems) Read(NginxTexts texts)
    {
        var reader = new NginxConfigReader(texts);
        return (reader.Read(), reader._problems);
    }

    NginxConfig Read()
    {
        foreach (var (name, value, place) in _texts.HttpValues ?? [])
        {
            Apply(new(name, [value], null, place), _http, null);
        }
        if (!string.IsNullOrWhiteSpace(_texts.HttpSnippet))
        {
            ReadSnippet("http_configuration_snippet", _texts.HttpSnippet, NextHttp(), null);
        }
        if (_texts.Conf is { } conf)
        {
            ReadText(new("conf/nginx.conf", conf), new NginxLevel(null, NginxContexts.Main, "main"), null);
        }
        if (!string.IsNullOrWhiteSpace(_texts.EndSnippet))
        {
            ReadSnippet("http_end_configuration_snippet", _texts.EndSnippet, NextHttp(), null);
        }
        ReadServers();

        // Server and location snippets stand inside all of http, wherever that was written.
        var ownLevel = _http;
        var own = new ServerBlock(_http, "conf/config.yaml");
        if (!string.IsNullOrWhiteSpace(_texts.ServerSnippet))
        {
            ownLevel = new(_http, NginxContexts.Server, "server (http_server_configuration_snippet)");
            ReadSnippet("http_server_configuration_snippet", _texts.ServerSnippet, ownLevel, own);
        }
        if (!string.IsNullOrWhiteSpace(_texts.LocationSnippet))
        {
            const string key = "http_server_location_configuration_snippet";
            var location = new NginxLevel(ownLevel, NginxContexts.Location, $"location / ({key})");
            ReadSnippet(key, _texts.LocationSnippet, location, own);
            AddLocation(own, NginxLocationKind.Prefix, "/", null, location, Snippet(key).Place(1));
        }
        CheckVariables();
        return Compile(own, ownLevel);
    }

    NginxLevel NextHttp() => _http = new(_http, NginxContexts.Http, "http");

    static NginxText Snippet(string key, string text = "") => new($"conf/config.yaml (nginx_config.{key})", text);

    void ReadSnippet(string key, string text, NginxLevel level, ServerBlock? server) => ReadText(Snippet(key, text), level, server);

    void ReadText(NginxText text, NginxLevel level, ServerBlock? server)
    {
        try
        {
            ApplyAll(NginxParser.Parse(text), level, server);
        }
        catch (NginxSyntaxException e)
        {
            _problems.Add(e.ToProblem());
        }
    }

    void ApplyAll(IReadOnlyList<NginxDirective> directives, NginxLevel level, ServerBlock? server)
    {
        foreach (var directive in directives)
        {
            Apply(directive, level, server);
        }
    }

    void Error(NginxDirective at, string message) => _problems.Add(Problem.Error(at.Place, message));

    void Warn(NginxDirective at, string message) => _problems.Add(Problem.Warning(at.Place, message));

    void Apply(NginxDirective directive, NginxLevel level, ServerBlock? server)
    {
        switch (directive.Name)
        {
            case "include":
                Include(directive, level, server);
                break;
            case "http":
                ReadHttp(directive, level);
                break;
            case "server":
                ReadServer(directive, level);
                break;
            case "location":
                ReadLocation(directive, level, server);
                break;
            case "map":
                ReadMap(directive, level);
                break;
            case "listen" when Expect(directive, level, NginxContexts.Server, 1, int.MaxValue):
                AddListen(directive, server!);
                break;
            case "server_name" when Expect(directive, level, NginxContexts.Server, 1, int.MaxValue):
                AddNames(directive, server!);
                break;
            case "http2" when Expect(directive, level, NginxContexts.Http | NginxContexts.Server, 1, 1):
                SetHttp2(directive, server);
                break;
            case "listen" or "server_name" or "http2":
                break;
            default:
                ApplyRule(directive, level);
                break;
        }
    }

    void ApplyRule(NginxDirective directive, NginxLevel level)
    {
        if (!NginxDirectives.Effective.TryGetValue(directive.Name, out var rule))
        {
            if (NginxDirectives.IsIgnored(directive.Name, out var instead))
            {
                Warn(directive, $"\"{directive.Name}\" has no meaning here and is ignored{(instead is null ? "" : ": " + instead)}");
            }
            else
            {
                Error(directive, $"unknown directive \"{directive.Name}\"{Suggestion.For(directive.Name, KnownNames)}");
            }
            return;
        }
        if (!Expect(directive, level, rule.Where, rule.MinArguments, rule.MaxArguments))
        {
            return;
        }
        if (!rule.Repeatable && level.Given.TryGetValue(directive.Name, out var first))
        {
            Error(directive, $"\"{directive.Name}\" directive is duplicate, first in {first}");
            return;
        }
        level.Given.TryAdd(directive.Name, directive.Place);
        if (rule.Set(level, directive.Arguments, message => Warn(directive, message)) is { } wrong)
        {
            Error(directive, wrong);
        }
        else if (NginxDirectives.TextOf(directive) is { } text)
        {
            _templates.Add((directive, text));
        }
    }

    /// <summary>Every text with variables, checked when all that makes some is known.</summary>
    readonly List<(NginxDirective At, string Text)> _templates = [];

    readonly Dictionary<string, NginxMap> _maps = [];

    void ReadMap(NginxDirective directive, NginxLevel level)
    {
        if (!Expect(directive, level, NginxContexts.Main | NginxContexts.Http, 2, 2, block: true)
            || NginxMap.Read(directive, Error) is not { } map)
        {
            return;
        }
        if (level.Context == NginxContexts.Main)
        {
            Warn(directive, "a \"map\" block belongs inside \"http\": it is read as if it stood there");
        }
        // as in nginx the last one counts
        _maps[map.Name] = map;
        foreach (var text in map.Texts)
        {
            _templates.Add((directive, text));
        }
    }

    void CheckVariables()
    {
        foreach (var (at, text) in _templates)
        {
            foreach (var name in NginxVariables.In(text).Distinct())
            {
                var (error, warning) = NginxVariables.Check(name, _maps.Keys);
                if (error is not null)
                {
                    Error(at, error);
                }
                else if (warning is not null)
                {
                    Warn(at, warning);
                }
            }
        }
        foreach (var name in _maps.Keys.Where(name => IsCycle(name, name, [])).ToList())
        {
            _problems.Add(Problem.Error(_templates.First(use => use.At.Name == "map" && use.At.Arguments[1] == "$" + name).At.Place,
                $"the value of \"${name}\" depends on itself"));
        }
    }

    bool IsCycle(string name, string start, HashSet<string> seen) => seen.Add(name) && _maps.TryGetValue(name, out var map)
        && map.Texts.SelectMany(NginxVariables.In).Any(used => used == start || IsCycle(used, start, seen));

    static readonly string[] KnownNames =
        [.. NginxDirectives.Effective.Keys, "http", "server", "location", "listen", "server_name", "include", "map", "http2",
            .. NginxUnusedDirectives.Names];

    bool Expect(NginxDirective directive, NginxLevel level, NginxContexts where, int min, int max, bool block = false)
    {
        var wrong = (where & level.Context) == 0
            ? $"\"{directive.Name}\" directive is not allowed here{WhereAllowed(directive, level, where)}"
            : directive.Arguments.Length < min || directive.Arguments.Length > max
            ? $"invalid number of arguments in \"{directive.Name}\" directive"
            : block && directive.Block is null ? $"directive \"{directive.Name}\" has no opening \"{{\""
            : !block && directive.Block is not null ? $"directive \"{directive.Name}\" is not terminated by \";\""
            : null;
        if (wrong is not null)
        {
            Error(directive, wrong);
        }
        return wrong is null;
    }

    static string WhereAllowed(NginxDirective directive, NginxLevel level, NginxContexts where) =>
        directive.Name == "http" ? ", this already stands inside http"
        : level.Context == NginxContexts.Main && (where & NginxContexts.Http) != 0 ? ", put it inside http { … }"
        : where == NginxContexts.Location ? ", put it inside location { … }"
        : where is NginxContexts.Server or (NginxContexts.Server | NginxContexts.Location) ? ", put it inside server { … }"
        : "";

    // --- blocks

    void Include(NginxDirective directive, NginxLevel level, ServerBlock? server)
    {
        if (!Expect(directive, level, NginxContexts.Main | NginxContexts.Everywhere, 1, 1))
        {
            return;
        }
        foreach (var text in _includes.Open(directive, _problems))
        {
            using (_includes.Inside(text))
            {
                ReadText(text, level, server);
            }
        }
    }

    void ReadHttp(NginxDirective directive, NginxLevel level)
    {
        if (!Expect(directive, level, NginxContexts.Main, 0, 0, block: true))
        {
            return;
        }
        if (++_httpBlocks > 1)
        {
            Warn(directive, "there is more than one \"http\" block: they are merged, and of two equal directives the later one holds");
        }
        ApplyAll(directive.Block!, NextHttp(), null);
    }

    void ReadServer(NginxDirective directive, NginxLevel level)
    {
        if (!Expect(directive, level, NginxContexts.Main | NginxContexts.Http, 0, 0, block: true))
        {
            return;
        }
        if (level.Context == NginxContexts.Main)
        {
            Warn(directive, "a \"server\" block belongs inside \"http\": it is read as if it stood there");
        }
        // Read when all of http is known: what a later http block says holds for this server too.
        _serverBlocks.Add(directive);
    }

    readonly List<NginxDirective> _serverBlocks = [];

    void ReadServers()
    {
        foreach (var directive in _serverBlocks)
        {
            var server = new ServerBlock(new(_http, NginxContexts.Server, "server"), directive.Place);
            NameBlock(server, directive.Block!);
            ApplyAll(directive.Block!, server.Level, server);
            if (server.Http2)
            {
                for (var i = 0; i < server.Listens.Count; i++)
                {
                    server.Listens[i] = server.Listens[i] with { Http2 = true };
                }
            }
            _servers.Add(server);
        }
    }

    // Locations are named after their server, wherever in it its name stands.
    static void NameBlock(ServerBlock server, IReadOnlyList<NginxDirective> block)
    {
        var label = block.FirstOrDefault(inner => inner is { Name: "server_name", Arguments.Length: > 0 })
            ?? block.FirstOrDefault(inner => inner is { Name: "listen", Arguments.Length: > 0 });
        server.Level.Block = label is null ? "server" : $"server {(label.Arguments[0].Length == 0 ? "\"\"" : label.Arguments[0])}";
    }

    void ReadLocation(NginxDirective directive, NginxLevel level, ServerBlock? server)
    {
        if (level.Context == NginxContexts.Location)
        {
            Error(directive, "nested \"location\" blocks are not supported here: write them side by side in the server");
            return;
        }
        if (!Expect(directive, level, NginxContexts.Server, 1, 2, block: true))
        {
            return;
        }
        if (directive.Arguments is [['@', ..]])
        {
            // no path of a request begins like that
            var named = new NginxLevel(level, NginxContexts.Location,
                $"location {directive.Arguments[0]} ({level.Block})") { IsNamed = true };
            AddLocation(server!, NginxLocationKind.Exact, directive.Arguments[0], null, named, directive.Place);
            ApplyAll(directive.Block!, named, server);
            return;
        }
        var (modifier, path) = directive.Arguments switch
        {
            [var one] => SplitModifier(one),
            [var first, var second] => (first, second),
            _ => ("", ""),
        };
        NginxLocationKind? kind = modifier switch
        {
            "" => NginxLocationKind.Prefix,
            "=" => NginxLocationKind.Exact,
            "^~" => NginxLocationKind.FinalPrefix,
            "~" or "~*" => NginxLocationKind.Pattern,
            _ => null,
        };
        if (kind is null)
        {
            Error(directive, $"invalid location modifier \"{modifier}\"");
            return;
        }
        Regex? pattern = null;
        if (kind == NginxLocationKind.Pattern && (pattern = Pattern(directive, path, modifier == "~*")) is null)
        {
            return;
        }
        var inner = new NginxLevel(level, NginxContexts.Location,
            $"location {(modifier.Length == 0 ? "" : modifier + " ")}{path} ({level.Block})");
        AddLocation(server!, kind.Value, path, pattern, inner, directive.Place);
        ApplyAll(directive.Block!, inner, server);
    }

    // nginx takes "=/x" and "~*\.js$" without a space as well
    static (string Modifier, string Path) SplitModifier(string argument) => argument switch
    {
        ['=', .. var path] => ("=", path),
        ['^', '~', .. var path] => ("^~", path),
        ['~', '*', .. var path] => ("~*", path),
        ['~', .. var path] => ("~", path),
        _ => ("", argument),
    };

    void AddLocation(ServerBlock server, NginxLocationKind kind, string path, Regex? pattern, NginxLevel level, string place)
    {
        // "/x" and "^~ /x" are the same place, "= /x" is another
        if (server.Locations.Any(other => other.Path == path && other.Kind != NginxLocationKind.Pattern && kind != NginxLocationKind.Pattern
            && (other.Kind == NginxLocationKind.Exact) == (kind == NginxLocationKind.Exact)))
        {
            _problems.Add(Problem.Error(place, $"duplicate location \"{path}\""));
            return;
        }
        server.Locations.Add((kind, path, pattern, level));
    }

    // --- addresses and names

    void AddListen(NginxDirective directive, ServerBlock server)
    {
        if (NginxListen.Parse(directive, _problems.Add) is not { } listen)
        {
            return;
        }
        if (server.Listens.Any(other => other.EndPoint.Equals(listen.EndPoint)))
        {
            Error(directive, $"a duplicate listen {listen.EndPoint}");
            return;
        }
        if (listen.DefaultServer && _servers.SelectMany(other => other.Listens)
            .FirstOrDefault(other => other.DefaultServer && other.EndPoint.Equals(listen.EndPoint)) is { } first)
        {
            Error(directive, $"a duplicate default server for {listen.EndPoint}, first in {first.Place}");
            return;
        }
        server.Listens.Add(listen);
    }

    void SetHttp2(NginxDirective directive, ServerBlock? server)
    {
        var value = directive.Arguments[0].ToLowerInvariant();
        if (value is not ("on" or "off"))
        {
            Error(directive, NginxRule.Invalid(directive.Arguments[0], "http2", "it must be \"on\" or \"off\""));
        }
        else if (server is null)
        {
            Warn(directive, "\"http2\" has an effect inside server only, here it is ignored: use apisix.enable_http2 in conf/config.yaml");
        }
        else
        {
            server.Http2 = value == "on";
        }
    }

    void AddNames(NginxDirective directive, ServerBlock server)
    {
        foreach (var written in directive.Arguments)
        {
            AddName(directive, server, written);
        }
    }

    Regex? Pattern(NginxDirective directive, string text, bool ignoreCase)
    {
        try
        {
            return Pcre.Compile(text, ignoreCase);
        }
        catch (FormatException e)
        {
            Error(directive, e.Message);
            return null;
        }
    }

    void AddName(NginxDirective directive, ServerBlock server, string written)
    {
        void Add(NginxNameKind kind, string text, Regex? pattern = null) => server.Names.Add((new(kind, text), pattern, written));
        if (written is ['~', .. var expression])
        {
            if (expression.Length == 0)
            {
                Error(directive, $"empty regex in server name \"{written}\"");
            }
            else if (Pattern(directive, expression, ignoreCase: true) is { } pattern)
            {
                Add(NginxNameKind.Pattern, expression, pattern);
            }
            return;
        }
        if (written.Contains('/', StringComparison.Ordinal))
        {
            Warn(directive, $"server name \"{written}\" has suspicious symbols");
        }
        var wildcards = written.Count(c => c == '*');
        switch (written)
        {
            case ['.', .. { Length: > 0 } suffix] when wildcards == 0:
                Add(NginxNameKind.Exact, suffix);
                Add(NginxNameKind.Leading, suffix);
                break;
            case ['*', '.', .. { Length: > 0 } suffix] when wildcards == 1:
                Add(NginxNameKind.Leading, suffix);
                break;
            case [.. { Length: > 0 } prefix, '.', '*'] when wildcards == 1:
                Add(NginxNameKind.Trailing, prefix);
                break;
            case var _ when wildcards == 0 && !written.StartsWith('.') && !written.Contains("..", StringComparison.Ordinal):
                Add(NginxNameKind.Exact, written.TrimEnd('.'));
                break;
            default:
                Error(directive, $"invalid server name or wildcard \"{written}\"");
                break;
        }
    }

    // --- compilation

    NginxConfig Compile(ServerBlock own, NginxLevel ownLevel)
    {
        own.Compiled = CompileServer(own, ownLevel);
        foreach (var server in _servers)
        {
            server.Compiled = CompileServer(server, server.Level);
        }

        var anywhere = _servers.Where(server => server.Listens.Count == 0).ToList();
        var listens = _servers.Append(own).SelectMany(server => server.Listens.Select(listen => (Server: server, Listen: listen)))
            .GroupBy(pair => pair.Listen.EndPoint).ToList();
        foreach (var extra in own.Listens.Where(listen => listen.DefaultServer))
        {
            _problems.Add(Problem.Warning(extra.Place,
                "\"default_server\" has no effect here: the gateway's own server is the default where no other is"));
        }
        var ports = listens.GroupBy(group => group.Key.Port).ToFrozenDictionary(port => port.Key, port =>
        {
            var byAddress = port.Select(group => (group.Key.Address, Servers: CompileAddress(group.Key, [.. group], own, anywhere),
                Ipv6Only: group.All(pair => pair.Listen.Ipv6Only))).ToList();
            var anyV4 = byAddress.FirstOrDefault(entry => entry.Address.Equals(IPAddress.Any)).Servers;
            var anyV6 = byAddress.FirstOrDefault(entry => entry.Address.Equals(IPAddress.IPv6Any));
            return new NginxPort(
                // connections of a dual-mode socket tell IPv4 addresses mapped to IPv6
                [.. byAddress.Where(entry => !entry.Address.Equals(IPAddress.Any) && !entry.Address.Equals(IPAddress.IPv6Any))
                    .SelectMany(entry => entry.Address.AddressFamily == AddressFamily.InterNetwork
                        ? [(entry.Address, entry.Servers), (entry.Address.MapToIPv6(), entry.Servers)]
                        : new[] { (entry.Address, entry.Servers) })],
                anyV4 ?? (anyV6.Ipv6Only ? null : anyV6.Servers),
                anyV6.Servers);
        });
        WarnAboutConflicts(anywhere.Select(server => (server, (IPEndPoint?)null)));
        var opened = listens.Select(group => group.Select(pair => pair.Listen).Aggregate((a, b) => a with
        {
            DefaultServer = a.DefaultServer || b.DefaultServer,
            Ssl = a.Ssl || b.Ssl,
            Http2 = a.Http2 || b.Http2,
            Ipv6Only = a.Ipv6Only && b.Ipv6Only,
        })).ToList();
        return new(opened, ports, Servers(anywhere, Nameless(anywhere), own), _maps.ToFrozenDictionary());
    }

    static ServerBlock? Nameless(List<ServerBlock> anywhere) => anywhere.FirstOrDefault(server => server.Names.Count == 0);

    NginxServers CompileAddress(
        IPEndPoint address, IReadOnlyList<(ServerBlock Server, NginxListen Listen)> here, ServerBlock own, List<ServerBlock> anywhere)
    {
        WarnAboutConflicts(here.Select(pair => (pair.Server, (IPEndPoint?)address)));
        var blocks = here.Select(pair => pair.Server).Where(server => server != own).ToList();
        var ownHere = here.Any(pair => pair.Server == own) || (_texts.GatewayAddresses ?? []).Any(gateway => Covers(gateway, address));
        var byDefault = here.FirstOrDefault(pair => pair.Server != own && pair.Listen.DefaultServer).Server
            ?? (ownHere ? Nameless(anywhere) ?? own : blocks[0]);
        return Servers([.. blocks, .. anywhere], byDefault, own);
    }

    static bool Covers(IPEndPoint gateway, IPEndPoint address) =>
        gateway.Port == address.Port && (gateway.Address.Equals(address.Address)
            || (gateway.Address.Equals(IPAddress.Any) && address.AddressFamily == AddressFamily.InterNetwork)
            || (gateway.Address.Equals(IPAddress.IPv6Any) && address.AddressFamily == AddressFamily.InterNetworkV6));

    static NginxServers Servers(List<ServerBlock> blocks, ServerBlock? fallback, ServerBlock own) => new(
        [.. blocks.SelectMany(block => block.Names.Where(name => name.Pattern is null).Select(name => (name.Name, block.Compiled)))],
        fallback?.Compiled,
        [.. blocks.SelectMany(block => block.Names.Where(name => name.Pattern is not null)
            .Select(name => (name.Pattern!, block.Compiled)))],
        own.Compiled);

    void WarnAboutConflicts(IEnumerable<(ServerBlock Server, IPEndPoint? Address)> servers)
    {
        var seen = new Dictionary<string, ServerBlock>(StringComparer.OrdinalIgnoreCase);
        foreach (var (server, address) in servers)
        {
            foreach (var written in server.Names.Select(name => name.Written).Distinct(StringComparer.OrdinalIgnoreCase))
            {
                if (!seen.TryAdd(written, server))
                {
                    _problems.Add(Problem.Warning(server.Place,
                        $"conflicting server name \"{written}\" on {address?.ToString() ?? "all addresses"}, ignored: {seen[written].Place} has it"));
                }
            }
        }
    }

    NginxServer CompileServer(ServerBlock server, NginxLevel level) => new(
        Resolve(level),
        [.. server.Locations.Select(location =>
            new NginxLocation(location.Kind, location.Path, location.Pattern, Resolve(location.Level)))]);

    NginxScope Resolve(NginxLevel level)
    {
        var scope = level.Resolve();
        foreach (var problem in level.CheckBuffers(scope))
        {
            if (!_problems.Contains(problem))
            {
                _problems.Add(problem);
            }
        }
        return scope;
    }
}
