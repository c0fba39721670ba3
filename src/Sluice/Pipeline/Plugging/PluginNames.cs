using System.Text.Json.Nodes;
using Sluice.Model;
using Sluice.Model.Settings;
using Sluice.Model.Yaml;

namespace Sluice.Pipeline;

/// <summary>Names in <c>plugins</c>, <c>stream_plugins</c> and <c>plugin_attr</c> of conf/config.yaml that nothing answers to: each gets a
/// word.</summary>
static class PluginNames
{
    /// <summary>The keys of <c>plugin_attr</c> that count, for plugins of which they are known.</summary>
    static readonly Dictionary<string, string[]> Attributes = new()
    {
        ["prometheus"] =
        [
            "export_uri", "export_addr", "metric_prefix", "enable_export_server", "metrics", "default_buckets", "refresh_interval",
            "llm_latency_buckets",
            "llm_prompt_tokens_buckets", "llm_completion_tokens_buckets", "ai_cache_embedding_latency_buckets",
        ],
        ["redirect"] = ["https_port"],
    };

    /// <param name="isScript">Whether there is a Lua file for a plugin of this name.</param>
    public static IEnumerable<Problem> Check(GatewaySettings settings, IReadOnlyList<PluginDescriptor> builtin, Func<string, bool> isScript)
    {
        string[] here = [.. builtin.Where(plugin => plugin.IsForHttp).Select(plugin => plugin.Name)];
        string[] streams = [.. builtin.Where(plugin => plugin.IsForStreams).Select(plugin => plugin.Name)];
        return [
            .. InList(settings, "plugins", settings.Plugins, [.. here, .. streams], isScript),
            .. InList(settings, "stream_plugins", settings.Streams.Plugins, streams, static _ => false),
            .. InAttributes(settings, [.. here, .. streams], isScript),
        ];
    }

    static IEnumerable<Problem> InList(
        GatewaySettings settings, string key, IReadOnlyList<string>? names, IReadOnlyCollection<string> here, Func<string, bool> isScript)
    {
        for (var i = 0; i < (names?.Count ?? 0); i++)
        {
            if (!here.Contains(names![i]) && !isScript(names[i]))
            {
                yield return Problem.Warning(settings.PlaceOf(YamlPath.Append(key, i)),
                    $"there is no plugin \"{names[i]}\"{ApisixPlugins.Explain(names[i], here, key == "stream_plugins")}");
            }
        }
    }

    static IEnumerable<Problem> InAttributes(GatewaySettings settings, IReadOnlyCollection<string> here, Func<string, bool> isScript)
    {
        foreach (var (name, value) in settings.PluginAttributes)
        {
            var path = YamlPath.Append("plugin_attr", name);
            if (!here.Contains(name))
            {
                if (!isScript(name))
                {
                    yield return Problem.Warning(settings.PlaceOf(path),
                        $"there is no plugin \"{name}\"{ApisixPlugins.Explain(name, here)}");
                }
                continue;
            }
            if (!Attributes.TryGetValue(name, out var known))
            {
                continue;
            }
            foreach (var (key, _) in (JsonObject)value)
            {
                if (!known.Contains(key))
                {
                    yield return Problem.Warning(settings.PlaceOf(YamlPath.Append(path, key)),
                        $"unknown key \"{key}\"{Suggestion.For(key, known)}");
                }
            }
        }
    }
}
