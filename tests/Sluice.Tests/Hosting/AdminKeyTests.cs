using Sluice.Model;
using Sluice.Model.Settings;
using AdminKey = Sluice.Hosting.AdminKey;

namespace Sluice.Tests.Hosting;

public sealed class AdminKeyTests : IDisposable
{
    readonly string _prefix = Directory.CreateTempSubdirectory("sluice-test-").FullName;

    string File => Path.Combine(_prefix, "conf", "config.yaml");

    public void Dispose() => Directory.Delete(_prefix, recursive: true);

    bool IsRead(string text) => SettingsReader.Parse(_prefix, text, null, static _ => null).Settings?.Admin?.Keys.Count > 0;

    void Write(string text)
    {
        Directory.CreateDirectory(Path.Combine(_prefix, "conf"));
        System.IO.File.WriteAllText(File, text);
    }

    const string ByHand =
        "# edited by hand\napisix:\n  node_listen: [{ip: 127.0.0.1, port: 9080}]   # public\ndeployment:\n  role: traditional\n";

    [Fact]
    public void A_file_that_cannot_be_renamed_over_is_written_into()
    {
        Write(ByHand);
        var key = AdminKey.Create(File, IsRead, static (_, to) => throw new IOException($"Device or resource busy : '{to}'"));
        var text = System.IO.File.ReadAllText(File);
        Assert.Contains($"key: {key}", text, StringComparison.Ordinal);
        Assert.StartsWith("# edited by hand\n", text, StringComparison.Ordinal);
        Assert.Contains("# public", text, StringComparison.Ordinal);
        Assert.Equal([File], Directory.GetFiles(Path.GetDirectoryName(File)!));
    }

    [Fact]
    public void A_file_that_cannot_be_written_at_all_gives_the_reason_and_leaves_nothing_behind()
    {
        Directory.CreateDirectory(File);
        // a directory can be neither read nor written as a file
        var e = Assert.Throws<InvalidOperationException>(() => AdminKey.Create(File, IsRead));
        Assert.Contains("write  deployment: {admin:", e.Message, StringComparison.Ordinal);
        Assert.Empty(Directory.GetFiles(Path.GetDirectoryName(File)!));
    }

    [Fact]
    public void What_the_check_says_is_what_the_start_does()
    {
        Write(ByHand);
        Assert.Null(AdminKey.WhyNot(File, IsRead));
        Assert.Equal(ByHand, System.IO.File.ReadAllText(File));
        Write("deployment: {role: traditional}\n");
        Assert.Contains("could not be added", AdminKey.WhyNot(File, IsRead)!, StringComparison.Ordinal);
        Assert.Equal(Assert.Throws<InvalidOperationException>(() => AdminKey.Create(File, IsRead)).Message, AdminKey.WhyNot(File, IsRead));
    }

    [Theory]
    [InlineData("key: ''", "conf/config.yaml:1 (deployment.admin.admin_key[0].key)")]
    [InlineData("role: admin", "conf/config.yaml:1 (deployment.admin.admin_key[0])")]
    public void An_empty_key_is_refused_at_its_place(string entry, string place)
    {
        var (settings, problems) = SettingsReader.Parse(_prefix, $"deployment: {{admin: {{admin_key: [{{name: admin, {entry}}}]}}}}", null,
            static _ => null);
        Assert.Null(settings);
        var problem = Assert.Single(problems, problem => problem.Severity == Severity.Error);
        Assert.Equal((place, "the key is empty: write one, or leave admin_key out and the first start makes one"),
            (problem.Place, problem.Message));
    }
}
