using System.Globalization;
using System.Text;
using CsCheck;
using Sluice.Model;
using Sluice.Model.Settings;

namespace Sluice.Tests.Model.Settings;

public sealed class SettingsReaderTests : IDisposable
{
    static readonly string Cases = GoldenCase.Directory();

    readonly string _prefix = Directory.CreateTempSubdirectory("sluice-settings").FullName;

    public void Dispose() => Directory.Delete(_prefix, recursive: true);

    public static TheoryData<string> Names => GoldenCase.Names(Cases);

    [Theory]
    [MemberData(nameof(Names))]
    public void Configuration_means_what_its_case_says(string name)
    {
        var golden = GoldenCase.Read(Cases, name);
        foreach (var (section, text) in golden.Sections.Where(section => section.Key.Contains('/', StringComparison.Ordinal)))
        {
            Directory.CreateDirectory(Path.Combine(_prefix, Path.GetDirectoryName(section)!));
            File.WriteAllText(Path.Combine(_prefix, section), text);
        }
        var environment = (golden["environment"] ?? "").Split('\n', StringSplitOptions.RemoveEmptyEntries)
            .Select(line => line.Split('=', 2)).ToDictionary(pair => pair[0], pair => pair[1]);
        var (settings, problems) = SettingsReader.Load(_prefix, environment.GetValueOrDefault);
        Assert.Equal(settings is null, problems.Any(problem => problem.Severity == Severity.Error));
        golden.Compare([
            .. problems.Select(problem => $"{problem.Severity}: {problem}"),
            .. settings is null ? [] : Describe(settings).Except(Describe(Defaults()))]);
    }

    GatewaySettings Defaults() => SettingsReader.Parse(_prefix, "", null, _ => null).Settings!;

    IEnumerable<string> Describe(GatewaySettings settings)
    {
        string Relative(string path) => path.Replace(_prefix, "PREFIX", StringComparison.Ordinal);
        var http = settings.Nginx.Http;
        var lines = new List<string>
        {
            $"provider {settings.ConfigProvider}{(settings.Listens.Count == 0 ? ", no proxy" : "")}",
            $"tls {settings.Tls}",
            settings.Admin is null ? "admin off"
                : $"admin {settings.Admin.Listen} key required {settings.Admin.KeyRequired} cors {settings.Admin.Cors} allow {string.Join(' ', settings.Admin.Allow)}",
            $"control {settings.Control}",
            $"status {settings.Status}",
            $"dns {string.Join(' ', settings.Dns.Servers?.Select(server => server.ToString()) ?? ["system"])} {settings.Dns.Valid} {settings.Dns.Timeout}",
            $"error log {settings.Logs.ErrorLog} {settings.Logs.ErrorLevel}",
            $"access log {settings.Logs.Access.Path} {string.Join(' ', settings.Logs.Access.Format.Variables)}",
            $"http {settings.Http with { TrustedAddresses = [], RealIpFrom = [] }}".Replace(
                "System.Collections.ObjectModel.ReadOnlyCollection`1[Sluice.Model.Cidr]", "", StringComparison.Ordinal),
            $"trusted {string.Join(' ', settings.Http.TrustedAddresses)}, real ip from {string.Join(' ', settings.Http.RealIpFrom)}",
            $"plugins {string.Join(' ', settings.Plugins ?? ["all"])}",
            $"debug headers {settings.DebugHeaders}, shutdown {settings.ShutdownTimeout}, data {settings.DataDirectory}, lua {settings.ExtraLuaPath}",
            string.Create(CultureInfo.InvariantCulture,
                $"nginx send {http.SendTimeout} keepalive {http.KeepaliveTimeout} header {http.ClientHeaderTimeout} body {http.ClientBodyTimeout} max {http.ClientMaxBodySize}"),
        };
        lines.AddRange(settings.Listens.Select(listen =>
            $"listen {listen.EndPoint}{(listen.Tls ? " tls" : "")}{(listen.Http2 ? " http2" : "")}{(listen.Optional ? " optional" : "")} {listen.Place}"));
        lines.AddRange(settings.Admin?.Keys.Select(key => key.ToString()) ?? []);
        lines.AddRange(settings.PluginAttributes.Select(pair => $"attr {pair.Key} {pair.Value.ToJsonString()}"));
        lines.AddRange(http.ResponseBuffering.Select(rule => rule.ToString()));
        return lines.Select(Relative);
    }

    [Fact]
    public void Etcd_has_APISIXs_keys_and_defaults()
    {
        const string role = "deployment: {role_traditional: {config_provider: etcd}, etcd: {";
        var defaults = SettingsReader.Parse("/i", role + "}}", null, _ => null).Settings!;
        Assert.Equal(("http://127.0.0.1:2379/", "/apisix", 30.0, 50.0, 2),
            (defaults.Etcd!.Hosts[0].ToString(), defaults.KeyPrefix, defaults.Etcd.Timeout.TotalSeconds,
            defaults.Etcd.WatchTimeout.TotalSeconds, defaults.Etcd.StartupRetry));
        var etcd = SettingsReader.Parse("/i",
            role + "host: ['https://a:1', 'https://b:2'], prefix: /x/, user: u, password: '${{PW}}', tls: {verify: false, sni: s}}}", null,
            _ => "123").Settings!.Etcd!;
        Assert.Equal((2, "/x", "u", "123", false, "s"),
            (etcd.Hosts.Count, etcd.Prefix, etcd.User, etcd.Password, etcd.Verify, etcd.ServerName));
        Assert.Null(SettingsReader.Parse("/i", "", null, _ => null).Settings!.Etcd);
    }

    [Fact]
    public void The_default_file_says_the_defaults_and_has_no_problems()
    {
        var (settings, problems) = SettingsReader.Parse(_prefix, SettingsReference.DefaultConfigYaml(), null, _ => null);
        Assert.Empty(problems);
        Assert.Equal(
            Describe(Defaults()).Select(line => line.Split(" conf/config.yaml")[0]),
            Describe(settings!).Select(line => line.Split(" conf/config.yaml")[0]));
    }

    [Fact]
    public void The_default_file_keeps_silent_streams_alive_and_ends_them_in_words()
    {
        var policy = Sluice.Pipeline.StreamPolicy.Parse(
            SettingsReader.Parse(_prefix, SettingsReference.DefaultConfigYaml(), null, _ => null).Settings!.StreamDefaults!);
        Assert.Equal((15, "ping", "dialect"),
            (policy.Heartbeat!.Interval!.Value.Time.TotalSeconds, policy.Heartbeat.Comment, policy.Ending!.Mode));
        Assert.Null(Defaults().StreamDefaults);
    }

    [Fact]
    public void Clients_that_say_nothing_are_asked_after_a_minute_or_when_it_is_said()
    {
        Assert.Equal(new(TimeSpan.FromSeconds(60), TimeSpan.FromSeconds(15), 4), Defaults().KeepAlive);
        Assert.Equal(new(TimeSpan.Zero, TimeSpan.FromSeconds(3), 2),
            SettingsReader.Parse("/i", "sluice: {streams: {tcp_keepalive: {idle: 0, interval: 3, probes: 2}}}", null,
                _ => null).Settings!.KeepAlive);
    }

    [Fact]
    public void Every_example_of_the_default_file_is_right_when_its_comment_is_taken_away()
    {
        Directory.CreateDirectory(Path.Combine(_prefix, "conf/cert"));
        File.WriteAllText(Path.Combine(_prefix, "conf/cert/server.crt"), "");
        File.WriteAllText(Path.Combine(_prefix, "conf/cert/server.key"), "");
        var text = SettingsReference.DefaultConfigYaml();
        foreach (var key in SettingsKeys.All.Where(key => key.Example is not null))
        {
            var snippet = key.Type == SettingType.Snippet;
            var before = text;
            text = snippet
                ? System.Text.RegularExpressions.Regex.Replace(text, $@"( *)# {key.Name}: \|\n *#   ", $"$1{key.Name}: |\n$1  ")
                : text.Replace($"# {key.Name}: {key.Example}\n", $"{key.Name}: {key.Example}\n", StringComparison.Ordinal);
            Assert.True(before != text || key.Default.Length > 0, key.Path);
        }
        // addresses of streams ask for it
        text = text.Replace("proxy_mode: http\n", "proxy_mode: http&stream\n", StringComparison.Ordinal);
        var (_, problems) = SettingsReader.Parse(_prefix, text, null, _ => "secret");
        Assert.Empty(problems);
    }

    [Fact]
    public void Discovery_has_APISIXs_defaults()
    {
        var none = SettingsReader.Parse("/p", "", null, _ => null).Settings!.Discovery;
        Assert.Null(none.Consul);
        Assert.Equal((null, "/etc/resolv.conf", "last SRV A AAAA CNAME"),
            (none.Dns.Servers, none.Dns.ResolvConf, string.Join(' ', none.Dns.Order)));

        var consul = SettingsReader.Parse("/p",
            "discovery: {consul: {servers: [\"http://127.0.0.1:8500\"], dump: {path: logs/dump}, default_service: {host: a, port: 81}}}",
            null, _ => null)
            .Settings!.Discovery.Consul!;
        Assert.Equal((true, 3, 1, 2, 2, 60, "/p/logs/dump", true),
            (consul.LongPolls, consul.FetchInterval.TotalSeconds, consul.Weight, consul.ConnectTimeout.TotalSeconds,
            consul.ReadTimeout.TotalSeconds, consul.Wait.TotalSeconds, consul.DumpFile, consul.LoadDump));
        Assert.Equal(["consul"], consul.SkipServices);
        Assert.Equal(new NodeConfig("a", 81), consul.DefaultNode);
    }

    [Fact]
    public void The_reference_names_every_key()
    {
        var page = SettingsReference.Markdown();
        Assert.All(SettingsKeys.All, key => Assert.Contains(
            key.HasEffect
            ? $"`{key.Path[(SettingsKeys.Sections.Select(section => section.Path + ".").Where(section => key.Path.StartsWith(section, StringComparison.Ordinal)).MaxBy(section => section.Length)?.Length ?? 0)..]}`" : $"`{key.Path}`",
            page, StringComparison.Ordinal));
        Assert.All(SettingsKeys.All.Where(key => key.HasEffect), key => Assert.NotEqual("", key.Doc));
        Assert.All(SettingsKeys.All.Where(key => key is { HasEffect: true, Default: "" }
            && !key.Path.Contains("[]", StringComparison.Ordinal)), key => Assert.NotNull(key.Example ?? key.Shipped));
    }

    [Fact]
    public void Files_that_cannot_be_read_are_errors()
    {
        Directory.CreateDirectory(Path.Combine(_prefix, "conf/config.yaml"));
        var (settings, problems) = SettingsReader.Load(_prefix, _ => null);
        Assert.Null(settings);
        Assert.StartsWith("conf/config.yaml: cannot be read: ", Assert.Single(problems).ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void Relative_paths_are_relative_to_the_prefix()
    {
        var settings = Defaults();
        Assert.Equal((Path.Combine(_prefix, "logs/error.log"), Path.Combine(_prefix, "data"), "/x"),
            (settings.Logs.ErrorLog, settings.DataDirectory, settings.Absolute("/x")));
    }

    [Theory]
    [InlineData("null", false)]
    [InlineData("[]", false)]
    [InlineData("edd1c9f0985e76a1", true)]
    [InlineData("[edd1c9f0985e76a1]", true)]
    public void A_keyring_may_be_one_key_or_nothing_which_is_no_encryption(string keyring, bool encrypts)
    {
        var settings = SettingsReader.Parse("/", $"apisix: {{data_encryption: {{keyring: {keyring}}}}}\n", null, _ => null).Settings!;
        Assert.Equal(encrypts, settings.Encryption.Encrypt("secret") != "secret");
    }

    [Theory]
    [InlineData("", null)]
    [InlineData("plugins:\n", 0)]
    [InlineData("plugins: []\n", 0)]
    [InlineData("plugins: [cors]\n", 1)]
    public void A_list_of_plugins_with_nothing_behind_it_enables_none(string config, int? count) =>
        Assert.Equal(count, SettingsReader.Parse("/", config, null, _ => null).Settings!.Plugins?.Count);

    [Fact]
    public void Random_values_never_crash_it()
    {
        string[] values = ["", "1", "-1", "1.5", "true", "off", "x", "[]", "{}", "[1]", "[x, {}]", "[{port: 1}]", "[{ip: x}]", "[null]",
            "~", "'${{X}}'", "127.0.0.1", "99999999999999999999", "\"\\0\"", "[[[[]]]]", "{a: {b: c}}", "60s", "etcd", "'{'"];
        Gen.Select(Gen.Int[0, SettingsKeys.All.Length - 1], Gen.OneOfConst(values), Gen.OneOfConst(values))
            .Sample((index, value, environment) =>
        {
            var text = new StringBuilder();
            var depth = 0;
            foreach (var segment in SettingsKeys.All[index].Path.Split('.'))
            {
                var list = segment.EndsWith("[]", StringComparison.Ordinal);
                text.Append(CultureInfo.InvariantCulture,
                    $"{new string(' ', depth * 2)}{(list ? segment[..^2] + ":\n" + new string(' ', (depth * 2) + 1) + "-" : segment + ":")}\n");
                depth += list ? 2 : 1;
            }
            text.Insert(text.Length - 1, " " + value);
            var (settings, problems) = SettingsReader.Parse(_prefix, text.ToString(), environment, _ => environment);
            Assert.Equal(settings is null, problems.Any(problem => problem.Severity == Severity.Error));
        }, iter: 1_000);
    }

    [Fact]
    public void A_server_in_the_end_snippet_opens_its_port()
    {
        var (settings, problems) = SettingsReader.Parse(
            "/", "nginx_config: {http_end_configuration_snippet: 'server { listen 127.0.0.1:9092; }'}", null, static _ => null);
        Assert.Empty(problems);
        Assert.Contains(settings!.Listens, listen => listen.EndPoint.ToString() == "127.0.0.1:9092");
    }

    [Theory]
    [InlineData("apisix: {allow_admin: [127.0.0.1]}", "\"allow_admin\" has no effect here: use deployment.admin.allow_admin")]
    [InlineData("apisix: {admin_key: []}", "\"admin_key\" has no effect here: use deployment.admin.admin_key")]
    [InlineData("apisix: {port_admin: 9180}", "\"port_admin\" has no effect here: use deployment.admin.admin_listen.port")]
    [InlineData("apisix: {config_center: yaml}",
        "\"config_center\" has no effect here: use deployment.role and deployment.role_traditional.config_provider")]
    [InlineData("etcd: {host: []}", "\"etcd\" has no effect here: use deployment.etcd")]
    public void Keys_of_APISIX_2_point_to_where_they_went(string config, string word) =>
        Assert.Equal(word, Assert.Single(SettingsReader.Parse("/", config, null, static _ => null).Problems).Message);
}
