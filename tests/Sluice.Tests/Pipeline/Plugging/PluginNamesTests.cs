using Sluice.Model;
using Sluice.Model.Settings;
using Sluice.Pipeline;
using Sluice.Plugins;

namespace Sluice.Tests.Pipeline;

public class PluginNamesTests
{
    static string[] Check(string config) =>
        [.. PluginNames.Check(SettingsReader.Parse("/", config, null, static _ => null).Settings!, Builtin.All,
            static name => name == "in-lua").Select(problem => problem.ToString())];

    /// <summary>One of APISIX's that is not here; the last of them will need another test.</summary>
    static string NotYet { get; } = ApisixPlugins.Names.Order(StringComparer.Ordinal)
        .First(name => Builtin.All.All(plugin => plugin.Name != name));

    [Fact]
    public void Each_name_that_nothing_answers_to_gets_a_word() => Assert.Equal(
        [
            $"conf/config.yaml:2 (plugins[1]): there is no plugin \"{NotYet}\": APISIX has it, Sluice not yet: docs/plugins/README.md",
            "conf/config.yaml:2 (plugins[2]): there is no plugin \"limit-cuont\"; did you mean \"limit-count\"?",
            "conf/config.yaml:3 (stream_plugins[1]): there is no plugin \"key-auth\": it is not for streams",
            "conf/config.yaml:5 (plugin_attr.my-own): there is no plugin \"my-own\"",
            "conf/config.yaml:6 (plugin_attr.prometheus.metricc_prefix): unknown key \"metricc_prefix\"; did you mean \"metric_prefix\"?",
        ],
        Check($$"""
            # plugins
            plugins: [proxy-rewrite, {{NotYet}}, limit-cuont, in-lua, mqtt-proxy]
            stream_plugins: [ip-restriction, key-auth]
            plugin_attr:
              my-own: {y: 2}
              prometheus: {metricc_prefix: a_, export_uri: /m}
              in-lua: {x: 1}
            """));

    [Fact]
    public void Names_that_are_there_get_none() =>
        Assert.Empty(Check("plugins: [proxy-rewrite, mqtt-proxy]\nplugin_attr: {prometheus: {export_addr: {ip: 127.0.0.1, port: 1}}}"));

    [Theory]
    [InlineData("key_auth", "; did you mean \"key-auth\"?")]
    [InlineData("key-auth", ": plugins in conf/config.yaml leaves it out")]
    [InlineData("nonsense", "")]
    public void An_unknown_plugin_is_explained(string name, string explanation) =>
        Assert.Equal(explanation, ApisixPlugins.Explain(name, [.. Builtin.All.Select(plugin => plugin.Name)]));
}
