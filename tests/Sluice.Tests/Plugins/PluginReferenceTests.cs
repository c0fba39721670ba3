using Sluice.Plugins;

namespace Sluice.Tests.Plugins;

public class PluginReferenceTests
{
    /// <summary><c>docs/plugins/</c> is what the plugins say of themselves. To write it anew: <c>SLUICE_WRITE_DOCS=1</c> and this
    /// test.</summary>
    [Fact]
    public void The_committed_reference_is_what_the_plugins_say()
    {
        var directory = Path.Combine(Repository.Root, "docs", "plugins");
        var pages = PluginReference.Pages(Builtin.All);
        if (Environment.GetEnvironmentVariable("SLUICE_WRITE_DOCS") == "1")
        {
            Directory.CreateDirectory(directory);
            foreach (var stale in Directory.GetFiles(directory, "*.md"))
            {
                File.Delete(stale);
            }
            foreach (var (name, text) in pages)
            {
                File.WriteAllText(Path.Combine(directory, name), text);
            }
        }
        foreach (var (name, text) in pages)
        {
            var path = Path.Combine(directory, name);
            Assert.True(File.Exists(path) && File.ReadAllText(path) == text,
                $"docs/plugins/{name} is not what the plugins say: run this test with SLUICE_WRITE_DOCS=1");
        }
        Assert.Equal(pages.Keys.Order(), Directory.GetFiles(directory, "*.md").Select(path => Path.GetFileName(path)).Order());
    }

    [Fact]
    public void Every_plugin_has_a_page_with_summary_properties_and_example()
    {
        foreach (var plugin in Builtin.All)
        {
            Assert.False(string.IsNullOrWhiteSpace(plugin.Info.Summary), plugin.Name);
            Assert.False(string.IsNullOrWhiteSpace(plugin.Info.Example), plugin.Name);
            Assert.NotEmpty(plugin.Phases);
        }
    }
}
