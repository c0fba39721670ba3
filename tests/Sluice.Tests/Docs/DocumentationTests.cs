using System.Buffers;
using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Microsoft.Extensions.Logging.Abstractions;
using Sluice.Model;
using Sluice.Model.Nginx;
using Sluice.Model.Settings;
using Sluice.Net;
using Sluice.Observability;
using Sluice.Pipeline;
using Sluice.Plugins;
using Sluice.Tests.Pipeline;

namespace Sluice.Tests.Docs;

/// <summary>README.md and docs/: every link leads somewhere, every example parses, nothing that the program knows is left out.</summary>
public partial class DocumentationTests
{
    static readonly string Docs = Path.Combine(Repository.Root, "docs");

    /// <summary>Every page by its path from the repository's root.</summary>
    static Dictionary<string, string> Pages { get; } = new[] { Path.Combine(Repository.Root, "README.md") }
        .Concat(Directory.GetFiles(Docs, "*.md", SearchOption.AllDirectories))
        .ToDictionary(path => Path.GetRelativePath(Repository.Root, path), File.ReadAllText);

    /// <summary>A fenced block; fences within it are indented.</summary>
    [GeneratedRegex(@"^( *)```(?<language>\w*)\n(?<text>.*?)^\1```$", RegexOptions.Multiline | RegexOptions.Singleline)]
    private static partial Regex Fence { get; }

    [GeneratedRegex(@"\]\(([^)\s]+)\)")]
    private static partial Regex Link { get; }

    [GeneratedRegex(@"`((?:src|tests|bench|docs)/[\w./*-]+)`")]
    private static partial Regex SourcePath { get; }

    [GeneratedRegex(@"^#+ +(.+)$", RegexOptions.Multiline)]
    private static partial Regex Heading { get; }

    /// <summary>The relative links of a page: target path from the root, anchor (without #, may be empty).</summary>
    static IEnumerable<(string Written, string Target, string Anchor)> LinksOf(string page) =>
        from Match match in Link.Matches(Fence.Replace(Pages[page], ""))
        let written = match.Groups[1].Value
        where !written.Contains("://", StringComparison.Ordinal) && !written.StartsWith("mailto:", StringComparison.Ordinal)
        let parts = written.Split('#', 2)
        let target = parts[0].Length == 0 ? page
        : Path.GetRelativePath(Repository.Root, Path.GetFullPath(Path.Combine(Repository.Root, Path.GetDirectoryName(page)!, parts[0])))
        select (written, target, parts.Length > 1 ? parts[1] : "");

    /// <summary>As GitHub makes it from a heading.</summary>
    static string AnchorOf(string heading) =>
        string.Concat(heading.ToLower(CultureInfo.InvariantCulture).Where(c => char.IsLetterOrDigit(c) || c is '-' or '_' or ' '))
        .Replace(' ', '-');

    [Fact]
    public void Every_relative_link_leads_somewhere()
    {
        List<string> broken = [];
        foreach (var page in Pages.Keys)
        {
            foreach (var (written, target, anchor) in LinksOf(page))
            {
                var path = Path.Combine(Repository.Root, target);
                var leads = File.Exists(path) || (Directory.Exists(path) && anchor.Length == 0);
                if (!leads
                    || (anchor.Length > 0 && !Heading.Matches(File.ReadAllText(path))
                        .Select(match => AnchorOf(match.Groups[1].Value.Trim())).Contains(anchor)))
                {
                    broken.Add($"{page}: {written}");
                }
            }
        }
        Assert.True(broken.Count == 0, string.Join('\n', broken));
    }

    [Fact]
    public void Every_source_path_that_a_page_names_is_there()
    {
        var missing = from page in Pages
                      from Match match in SourcePath.Matches(page.Value)
                      let path = match.Groups[1].Value.TrimEnd('/', '.')
                      where !path.Contains('*', StringComparison.Ordinal) && !Path.Exists(Path.Combine(Repository.Root, path))
                      select $"{page.Key}: {path}";
        Assert.True(!missing.Any(), string.Join('\n', missing));
    }

    [Fact]
    public void Every_page_can_be_reached_from_the_index()
    {
        var index = Path.Combine("docs", "README.md");
        HashSet<string> reached = ["README.md", index];
        var open = new Queue<string>(reached);
        while (open.TryDequeue(out var page))
        {
            foreach (var (_, target, _) in LinksOf(page).Where(link => Pages.ContainsKey(link.Target)))
            {
                if (reached.Add(target))
                {
                    open.Enqueue(target);
                }
            }
        }
        Assert.Empty(Pages.Keys.Except(reached));
        // the index itself names each part; a page that only hides behind another is easily missed
        Assert.Empty(Directory.GetFiles(Docs, "*.md").Select(path => Path.GetRelativePath(Repository.Root, path))
            .Where(page => page != index)
            .Except(LinksOf(index).Select(link => link.Target)));
    }

    [Fact]
    public void Every_json_example_parses()
    {
        List<string> wrong = [];
        foreach (var (page, text) in Pages)
        {
            foreach (var block in Fence.Matches(text).Where(match => match.Groups["language"].Value == "json")
                .Select(match => match.Groups["text"].Value))
            {
                try
                {
                    JsonDocument.Parse(block).Dispose();
                }
                catch (JsonException e)
                {
                    wrong.Add($"{page}: {e.Message}: {block}");
                }
            }
        }
        Assert.True(wrong.Count == 0, string.Join('\n', wrong));
    }

    /// <summary>To write it anew: <c>SLUICE_WRITE_DOCS=1</c> and this test.</summary>
    [Fact]
    public void The_page_about_the_configuration_is_what_the_program_says()
    {
        var path = Path.Combine(Docs, "configuration.md");
        if (Environment.GetEnvironmentVariable("SLUICE_WRITE_DOCS") == "1")
        {
            File.WriteAllText(path, SettingsReference.Markdown());
        }
        Assert.True(File.ReadAllText(path) == SettingsReference.Markdown(),
            "docs/configuration.md is not what SettingsKeys.cs says: run this test with SLUICE_WRITE_DOCS=1");
    }

    [Fact]
    public void The_page_about_nginx_names_every_directive_that_has_an_effect()
    {
        var page = Pages[Path.Combine("docs", "concepts", "nginx.md")];
        Assert.All(
            [.. NginxDirectives.Effective.Keys, "http", "server", "location", "include", "listen", "server_name", "http2"],
            name => Assert.Contains($"| `{name}`", page, StringComparison.Ordinal));
    }

    [Fact]
    public void Every_kind_of_resource_is_on_the_pages_about_them()
    {
        foreach (var kind in ResourceKinds.All)
        {
            var segment = kind.Segment();
            Assert.Contains(kind.OwnerKind() is null ? $"`/{segment}`" : $"/{segment}`", Pages[Path.Combine("docs", "admin-api.md")],
                StringComparison.Ordinal);
            Assert.Contains(kind.OwnerKind() is null ? $"`{segment}`" : segment, Pages[Path.Combine("docs", "concepts", "standalone.md")],
                StringComparison.Ordinal);
        }
    }

    /// <summary>Kinds of failures are promised not to change.</summary>
    [Fact]
    public void Every_kind_of_failure_of_an_upstream_is_on_the_page_about_errors()
    {
        var page = Pages[Path.Combine("docs", "concepts", "errors.md")];
        Assert.All(Enum.GetNames<UpstreamFailureKind>().Except([nameof(UpstreamFailureKind.Shutdown)]),
            name => Assert.Contains($"`{JsonNamingPolicy.SnakeCaseLower.ConvertName(name)}`", page, StringComparison.Ordinal));
    }

    [Fact]
    public async Task Every_metric_is_on_the_page_about_metrics()
    {
        var text = new MemoryStream();
        await new GatewayMetrics(NullLogger.Instance).WriteAsync(text);
        var page = Pages[Path.Combine("docs", "concepts", "logs-and-metrics.md")];
        var names = Regex.Matches(Encoding.UTF8.GetString(text.ToArray()), @"^# TYPE (\S+)", RegexOptions.Multiline)
            .Select(match => match.Groups[1].Value).ToArray();
        Assert.NotEmpty(names);
        Assert.All(names, name => Assert.Contains($"`{name}`", page, StringComparison.Ordinal));
    }

    [Fact]
    public void Every_linked_plugin_page_is_of_a_plugin_that_there_is()
    {
        var plugins = Builtin.All.Select(plugin => plugin.Name).ToHashSet();
        Assert.All(Pages.Keys.SelectMany(LinksOf).Select(link => link.Target)
            .Where(target => Path.GetDirectoryName(target) == Path.Combine("docs", "plugins")),
            target => Assert.True(Path.GetFileName(target) == "README.md" || plugins.Contains(Path.GetFileNameWithoutExtension(target)),
                target));
    }

    /// <summary>Names of types go with the code: the walk must not name one that has gone.</summary>
    [Fact]
    public void Every_type_that_the_walk_of_an_event_stream_names_is_there()
    {
        var page = Pages[Path.Combine("docs", "architecture.md")];
        var walk = page[page.IndexOf("### A GET of an event stream", StringComparison.Ordinal)..page.IndexOf("### The relay",
            StringComparison.Ordinal)];
        var types = typeof(Exchange).Assembly.GetTypes().Concat(GetType().Assembly.GetTypes()).Select(type => type.Name.Split('`')[0])
            .Append("PipeWriter").ToHashSet();
        var named = Regex.Matches(walk, "`([A-Z][A-Za-z0-9]*)(?:\\.[A-Za-z]+)?`").Select(match => match.Groups[1].Value).Distinct()
            .ToArray();
        Assert.True(named.Length > 50, $"only {named.Length} types");
        Assert.DoesNotContain(named, name => !types.Contains(name) && name != "GlobalRules");
    }

    /// <summary>EventIds.cs stands beside this file, is compiled and tested, and is printed on the page.</summary>
    [Fact]
    public void The_plugin_on_the_page_about_plugins_is_one_that_works()
    {
        var source = File.ReadAllText(Path.Combine(Repository.Root, "tests", "Sluice.Tests", "Docs", "EventIds.cs"))
            .Replace("namespace Sluice.Tests.Docs;", "namespace Sluice.Plugins.Streaming;", StringComparison.Ordinal);
        Assert.Contains($"```csharp\n{source}```\n", Pages[Path.Combine("docs", "writing-a-plugin.md")], StringComparison.Ordinal);

        var plugin = PluginDescriptor.Of<EventIds, EventIds.Config>();
        Assert.Equal("property \"prefix\" must be one line",
            TestExchange.Maker([plugin]).Check(plugin, new JsonObject { ["prefix"] = "a\nb" }, "route r1"));
        var output = new ArrayBufferWriter<byte>();
        var exchange = TestExchange.Of(TestExchange.Compile([]), "http://gateway.test/");
        exchange.Response.ContentType = "text/event-stream";
        var step = new EventIds(new EventIds.Config("e")).OpenEvents(exchange)!;
        using var framer = step.CreateFramer();
        framer.Push("data: a\n\n: still here\n\nid: x\ndata: b\n\n"u8.ToArray());
        while (framer.TryRead(out var frame))
        {
            step.Filter(frame, output);
        }
        Assert.Equal("id: e1\ndata: a\n\n: still here\n\nid: x\ndata: b\n\n", Encoding.UTF8.GetString(output.WrittenSpan));
    }

    /// <summary>JSON blocks that are a resource or plugins of one pass the check of the Admin API, without a warning.</summary>
    [Fact]
    public void Every_example_of_a_resource_is_accepted()
    {
        List<string> refused = [];
        var examples = 0;
        var documents = DocumentSet.Empty;
        var maker = TestExchange.Maker(Builtin.All);
        var registry = maker.Registry;
        foreach (var (page, text) in Pages)
        {
            foreach (var block in Fence.Matches(text).Where(match => match.Groups["language"].Value == "json")
                .Select(match => match.Groups["text"].Value))
            {
                if (JsonNode.Parse(block) is not JsonObject value)
                {
                    continue;
                }
                if (value.Count > 0 && value.All(property => registry.Find(property.Key) is not null))
                {
                    value = new() { ["plugins"] = value };
                }
                if (ResourceOf(value) is not { } kind)
                {
                    continue;
                }
                if (kind != ResourceKind.Consumers)
                {
                    value["id"] ??= "r1";
                }
                examples++;
                List<string> warnings = [];
                var error = ResourceChecker.Check(kind, "r1", value, documents, maker, warnings);
                refused.AddRange(warnings.Prepend(error).OfType<string>().Select(problem => $"{page}: {problem}: {block}"));
            }
        }
        Assert.True(refused.Count == 0, string.Join('\n', refused));
        Assert.True(examples > 15, $"only {examples} examples were found");
    }

    static ResourceKind? ResourceOf(JsonObject value) =>
        value.ContainsKey("uri") || value.ContainsKey("uris") ? ResourceKind.Routes
        : value.ContainsKey("nodes") ? ResourceKind.Upstreams
        : value.ContainsKey("username") ? ResourceKind.Consumers
        : value.ContainsKey("plugins") ? ResourceKind.GlobalRules
        : null;
}
