using System.Threading.Channels;
using Microsoft.Extensions.Logging;
using Sluice.Sources;

namespace Sluice.FunctionalTests.Configuration;

public sealed class YamlSourceTests : IDisposable
{
    readonly TemporaryPrefix _prefix = new();
    readonly LogLines _log = new();

    public YamlSourceTests() => Directory.CreateDirectory(Path.Combine(_prefix.Path, "conf"));

    static CancellationToken Cancel => TestContext.Current.CancellationToken;

    string Yaml => Path.Combine(_prefix.Path, "conf", "apisix.yaml");

    public void Dispose() => _prefix.Dispose();

    [Xunit.Fact]
    public void A_missing_file_is_an_error_at_the_start()
    {
        var resources = Source(notifications: true).Load();
        Assert.True(resources.HasErrors);
        Assert.Contains(Yaml, Assert.Single(resources.Problems).Message);
    }

    [Xunit.Fact]
    public void A_half_written_file_is_an_error_at_the_start()
    {
        File.WriteAllText(Yaml, "routes:\n- uri: /a\n");
        Assert.Contains("#END", Assert.Single(Source(notifications: true).Load().Problems).Message);
    }

    [Xunit.Fact]
    public void A_file_that_is_not_text_is_an_error_with_its_line()
    {
        File.WriteAllBytes(Yaml, [.. "routes:\n- uri: /"u8, 0xff, .. "\n#END\n"u8]);
        Assert.Equal("conf/apisix.yaml:2: not UTF-8", Assert.Single(Source(notifications: true).Load().Problems).ToString());
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Each_way_to_change_the_file_is_noticed(bool notifications)
    {
        File.WriteAllText(Yaml, Routes("/1"));
        var source = Source(notifications);
        Assert.Equal("/1", Uri(source.Load()));
        await using var changes = source.Watch(Cancel).GetAsyncEnumerator(Cancel);

        File.WriteAllText(Yaml, Routes("/written"));
        Assert.Equal("/written", Uri(await Next(changes)));

        File.WriteAllText(Yaml + ".tmp", Routes("/renamed"));
        File.Move(Yaml + ".tmp", Yaml, overwrite: true);
        Assert.Equal("/renamed", Uri(await Next(changes)));

        var next = Next(changes);
        File.Delete(Yaml);
        Assert.Contains("there is no file", await _log.Lines.ReadAsync(Cancel));
        File.WriteAllText(Yaml, Routes("/back"));
        Assert.Equal("/back", Uri(await next));

        // as Kubernetes mounts a ConfigMap: the link stays, what it points to is turned
        var directory = Directory.CreateDirectory(Path.Combine(_prefix.Path, "conf", "v1")).FullName;
        File.WriteAllText(Path.Combine(directory, "apisix.yaml"), Routes("/linked"));
        File.Delete(Yaml);
        File.CreateSymbolicLink(Yaml, Path.Combine(directory, "apisix.yaml"));
        Assert.Equal("/linked", Uri(await Next(changes)));
        File.WriteAllText(Path.Combine(directory, "apisix.yaml"), Routes("/behind-the-link"));
        Assert.Equal("/behind-the-link", Uri(await Next(changes)));
    }

    [Fact]
    public async Task A_half_written_file_is_logged_once_and_applied_when_it_is_complete()
    {
        File.WriteAllText(Yaml, Routes("/1"));
        var source = Source(notifications: true);
        source.Load();
        await using var changes = source.Watch(Cancel).GetAsyncEnumerator(Cancel);
        var next = Next(changes);

        File.WriteAllText(Yaml, "routes:\n- uri: /2\n");
        Assert.Contains("no #END", await _log.Lines.ReadAsync(Cancel));
        Assert.False(next.IsCompleted);
        File.AppendAllText(Yaml, "#END\n");
        Assert.Equal("/2", Uri(await next));
        Assert.False(_log.Lines.TryRead(out _));
    }

    [Fact]
    public async Task A_broken_edit_comes_with_its_errors_and_its_repair_with_the_old_content()
    {
        File.WriteAllText(Yaml, Routes("/1"));
        var source = Source(notifications: true);
        source.Load();
        await using var changes = source.Watch(Cancel).GetAsyncEnumerator(Cancel);

        File.WriteAllText(Yaml, "routes: {\n#END\n");
        var broken = await Next(changes);
        Assert.True(broken.HasErrors);
        Assert.StartsWith("conf/apisix.yaml:", Assert.Single(broken.Problems).Place);

        File.WriteAllText(Yaml, Routes("/1"));
        Assert.Equal("/1", Uri(await Next(changes)));
    }

    [Fact]
    public async Task A_file_that_was_only_touched_is_not_passed_on()
    {
        File.WriteAllText(Yaml, Routes("/1"));
        var source = Source(notifications: false);
        source.Load();
        await using var changes = source.Watch(Cancel).GetAsyncEnumerator(Cancel);
        var next = Next(changes);

        File.SetLastWriteTimeUtc(Yaml, new DateTime(2020, 1, 1, 0, 0, 0, DateTimeKind.Utc));
        File.Delete(Yaml);
        await _log.Lines.ReadAsync(Cancel);
        File.WriteAllText(Yaml, Routes("/1"));
        File.WriteAllText(Yaml, Routes("/2"));
        Assert.Equal("/2", Uri(await next));
    }

    [Fact]
    public async Task An_unreadable_file_is_logged_once_and_tried_again()
    {
        File.WriteAllText(Yaml, Routes("/1"));
        var source = Source(notifications: false);
        source.Load();
        await using var changes = source.Watch(Cancel).GetAsyncEnumerator(Cancel);
        var next = Next(changes);
        File.Delete(Yaml);
        Directory.CreateDirectory(Yaml);
        Assert.Contains("apisix.yaml", await _log.Lines.ReadAsync(Cancel));
        Directory.Delete(Yaml);
        File.WriteAllText(Yaml, Routes("/2"));
        Assert.Equal("/2", Uri(await next));
    }

    static async Task<YamlResources> Next(IAsyncEnumerator<YamlResources> changes)
    {
        Assert.True(await changes.MoveNextAsync());
        return changes.Current;
    }

    static string Routes(string uri) => $"routes:\n- uri: {uri}\n#END\n";

    static string Uri(YamlResources resources)
    {
        Assert.Empty(resources.Problems);
        return Assert.Single(resources.Documents).Value["uri"]!.GetValue<string>();
    }

    /// <summary>Without notifications the file is looked at often.</summary>
    YamlSource Source(bool notifications) => new(_prefix.Path, TimeProvider.System, _log)
    {
        UseNotifications = notifications,
        PollInterval = notifications ? TimeSpan.FromSeconds(1) : TimeSpan.FromMilliseconds(20),
    };

    sealed class LogLines : ILogger
    {
        readonly Channel<string> _lines = Channel.CreateUnbounded<string>();

        public ChannelReader<string> Lines => _lines.Reader;

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception,
            Func<TState, Exception?, string> formatter) =>
            _lines.Writer.TryWrite(formatter(state, exception));
    }
}
