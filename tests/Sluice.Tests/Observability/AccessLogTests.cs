using System.Buffers;
using System.Text;
using Microsoft.Extensions.Logging;
using Sluice.Observability;

namespace Sluice.Tests.Observability;

public sealed class AccessLogTests : IDisposable
{
    readonly string _directory = Directory.CreateTempSubdirectory("sluice-log").FullName;
    readonly LogLines _log = new();
    readonly FakeTime _time = new();

    string FileName => Path.Combine(_directory, "access.log");

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    sealed class Values(params (string Name, string Value)[] values) : IVariables
    {
        public string? Get(string name) => values.FirstOrDefault(value => value.Name == name).Value;
    }

    static string Line(string format, AccessLogEscape escape, params (string, string)[] values)
    {
        var line = new ArrayBufferWriter<byte>();
        AccessLogFormat.Compile(format, escape).Render(new Values(values), line);
        return Encoding.UTF8.GetString(line.WrittenSpan);
    }

    [Theory]
    [InlineData("$a", "-\n", AccessLogEscape.Default)]
    [InlineData("[$a]", "[]\n", AccessLogEscape.Json)]
    [InlineData("[$a]", "[]\n", AccessLogEscape.None)]
    [InlineData("$b$b ${b}c \"$b\"", "vv vc \"v\"\n", AccessLogEscape.Default)]
    [InlineData("$bc", "-\n", AccessLogEscape.Default)]
    [InlineData("$evil", "a\\x22\\x5C\\x0Ab\\xC3\\xA9\\x7F\n", AccessLogEscape.Default)]
    [InlineData("{\"x\":\"$evil\"}", "{\"x\":\"a\\\"\\\\\\nbé\u007F\"}\n", AccessLogEscape.Json)]
    [InlineData("$bell", "\\u0007\\u001F\n", AccessLogEscape.Json)]
    [InlineData("$bell", "\a\u001F\n", AccessLogEscape.None)]
    [InlineData("", "\n", AccessLogEscape.Default)]
    public void A_line_is_escaped_as_nginx_does(string format, string line, object escape) =>
        Assert.Equal(line, Line(format, (AccessLogEscape)escape, ("b", "v"), ("evil", "a\"\\\nbé\u007F"), ("bell", "\a\u001F")));

    [Theory]
    [InlineData("abc $", 5)]
    [InlineData("$-", 1)]
    [InlineData("ab ${x", 4)]
    [InlineData("${}", 1)]
    public void A_dollar_without_a_name_is_refused_with_its_column(string format, int column) =>
        Assert.EndsWith($"column {column}", Assert.Throws<FormatException>(() => AccessLogFormat.Compile(format)).Message);

    [Fact]
    public void The_default_format_is_that_of_APISIX() =>
        Assert.Equal("127.0.0.1 - - [-] x:9080 \"GET / HTTP/1.1\" 200 - - \"-\" \"-\" - - - \"http://up/y\"\n",
            Line(AccessLogFormat.Default, AccessLogEscape.Default, ("remote_addr", "127.0.0.1"), ("http_host", "x:9080"),
                ("request", "GET / HTTP/1.1"),
                ("status", "200"), ("upstream_scheme", "http"), ("upstream_host", "up"), ("upstream_uri", "/y")));

    [Fact]
    public async Task Lines_of_many_requests_arrive_whole_and_are_appended()
    {
        await File.WriteAllTextAsync(FileName, "before\n", TestContext.Current.CancellationToken);
        var format = AccessLogFormat.Compile("$x $x");
        await using (var writer = new AccessLogWriter(FileName, _log, _time))
        {
            Parallel.For(0, 5000, i => writer.Write(format, new Values(("x", $"{i}"))));
        }
        var lines = await File.ReadAllLinesAsync(FileName, TestContext.Current.CancellationToken);
        Assert.Equal("before", lines[0]);
        Assert.Equal(Enumerable.Range(0, 5000).Select(i => $"{i} {i}").Order(), lines[1..].Order());
    }

    [Fact]
    public async Task A_full_queue_drops_lines_counts_them_and_says_so()
    {
        var writer = new AccessLogWriter(FileName, _log, _time, capacity: 10);
        writer.Write(AccessLogFormat.Compile("longer than ten bytes"), new Values());
        writer.Write(AccessLogFormat.Compile("short"), new Values());
        await writer.DisposeAsync();
        Assert.Equal(1, writer.Dropped);
        Assert.Equal("short\n", await File.ReadAllTextAsync(FileName, TestContext.Current.CancellationToken));
        Assert.Equal(["Warning access log: 1 lines were dropped"], _log.Lines);
    }

    [Fact]
    public async Task A_full_disk_loses_lines_says_so_once_and_stalls_nobody()
    {
        if (!OperatingSystem.IsLinux())
        {
            return;
        }
        var writer = new AccessLogWriter("/dev/full", _log, _time);
        for (var i = 0; i < 1000; i++)
        {
            writer.Write(AccessLogFormat.Compile("line"), new Values());
            await Task.Yield();
        }
        await writer.DisposeAsync();
        Assert.Equal(1000, writer.Dropped);
        Assert.Single(_log.Lines, line => line.Contains("cannot be written"));
    }

    [Fact]
    public async Task Reopen_follows_the_name_after_rotation()
    {
        var format = AccessLogFormat.Compile("$x");
        await using var writer = new AccessLogWriter(FileName, _log, _time);
        writer.Write(format, new Values(("x", "old")));
        await Eventually(() => new FileInfo(FileName).Length > 0);
        File.Move(FileName, FileName + ".1");
        writer.Reopen();
        await Eventually(() => File.Exists(FileName));
        writer.Write(format, new Values(("x", "new")));
        await Eventually(() => new FileInfo(FileName).Length > 0);
        Assert.Equal("old\n", await File.ReadAllTextAsync(FileName + ".1", TestContext.Current.CancellationToken));
        Assert.Equal("new\n", await File.ReadAllTextAsync(FileName, TestContext.Current.CancellationToken));
    }

    [Fact]
    public void A_file_that_cannot_be_opened_is_named() =>
        Assert.Contains(_directory + "/no/access.log",
            Assert.Throws<IOException>(() => new AccessLogWriter(_directory + "/no/access.log", _log, _time)).Message);

    [Fact]
    public async Task The_error_log_has_one_line_per_event_in_nginx_shape()
    {
        await using (var log = new ErrorLog([FileName], LogSeverity.Warn, _time))
        {
            var logger = log.CreateLogger("x");
            logger.Log(LogLevel.Information, 0, "quiet", null, (state, _) => state);
            logger.Log(LogLevel.Warning, 0, "evil\r\n\u001B[31m, client: 1.2.3.4", null, (state, _) => state);
            log.Level = ErrorLog.ParseLevel("notice")!.Value;
            logger.Log(LogLevel.Information, 0, "quiet", null, (state, _) => state);
            foreach (var severity in Enum.GetValues<LogSeverity>())
            {
                SevereText.Log(logger, severity, $"as {severity}");
            }
            log.Level = ErrorLog.ParseLevel("info")!.Value;
            logger.Log(LogLevel.Information, 0, "loud", new InvalidOperationException("in\nner"), (state, _) => state);
            log.Level = ErrorLog.ParseLevel("emerg")!.Value;
            logger.Log(LogLevel.Error, 0, "quiet", null, (state, _) => state);
            SevereText.Log(logger, LogSeverity.Crit, "quiet");
            logger.Log(LogLevel.Critical, 0, "last", null, (state, _) => state);
        }
        var pid = Environment.ProcessId;
        var lines = await File.ReadAllLinesAsync(FileName, TestContext.Current.CancellationToken);
        Assert.Equal(
            [
                $"2026/11/23 23:33:30 [warn] {pid}#0: evil\\r\\n\\x1B[31m, client: 1.2.3.4",
                .. Enum.GetValues<LogSeverity>().Where(severity => severity <= LogSeverity.Notice)
                    .Select(severity => $"2026/11/23 23:33:30 [{severity.ToString().ToLowerInvariant()}] {pid}#0: as {severity}"),
                $"2026/11/23 23:33:30 [info] {pid}#0: loud, exception: System.InvalidOperationException: in | ner",
                $"2026/11/23 23:33:30 [crit] {pid}#0: last",
            ],
            lines);
        Assert.Null(ErrorLog.ParseLevel("loud"));
    }

    static async Task Eventually(Func<bool> condition)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(30));
        while (!condition())
        {
            limit.Token.ThrowIfCancellationRequested();
            await Task.Yield();
        }
    }
}
