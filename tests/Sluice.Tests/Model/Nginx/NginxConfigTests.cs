using System.Net;
using System.Text;
using CsCheck;
using Sluice.Model;
using Sluice.Model.Nginx;

namespace Sluice.Tests.Model.Nginx;

public sealed class NginxConfigTests : IDisposable
{
    readonly string _conf = Directory.CreateTempSubdirectory("sluice-nginx").FullName;

    public void Dispose() => Directory.Delete(_conf, recursive: true);

    void Write(string name, string text)
    {
        var path = Path.Combine(_conf, name);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllText(path, text);
    }

    (NginxConfig Config, string[] Problems) Read(string conf)
    {
        var (config, problems) = NginxConfigReader.Read(new(conf, _conf));
        return (config, [.. problems.Select(problem => problem.ToString())]);
    }

    [Fact]
    public void Includes_are_relative_to_the_conf_directory_and_sorted()
    {
        Write("conf.d/b.conf", "proxy_read_timeout 2s;");
        Write("conf.d/a.conf", "proxy_connect_timeout 1s;\nproxy_send_timeout nope;");
        Write("conf.d/.hidden.conf", "nonsense;");
        Write("conf.d/c.txt", "nonsense;");
        Write("sites/x/site.conf", "server { server_name x; include conf.d/deep/*.conf; }");
        Write("conf.d/deep/z.conf", "proxy_temp_path /z;");
        var (config, problems) = Read("http { include conf.d/*.conf; include sites/*/site.conf; include none/*.conf; }");
        Assert.Equal(
            ["conf/conf.d/a.conf:2: invalid value \"nope\" in \"proxy_send_timeout\" directive, it must be a time like 60s, 5m, 1h30m or 500ms"], problems);
        var scope = config.Select(IPAddress.Loopback, 80, "x", "/");
        Assert.Equal(("/z", TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(2)),
            (scope.ProxyTempPath, scope.ProxyConnectTimeout, scope.ProxyReadTimeout));
    }

    [Theory]
    [InlineData("include a.conf;", "include b.conf;",
        "conf/b.conf:1: \"include a.conf\" goes round in a circle: conf/a.conf is being read already")]
    [InlineData("include nginx.conf;", "",
        "conf/a.conf:1: \"include nginx.conf\" goes round in a circle: conf/nginx.conf is being read already")]
    [InlineData("include nope.conf;", "", "conf/a.conf:1: open() \"conf/nope.conf\" failed (No such file or directory)")]
    [InlineData("include \"\";", "", "conf/a.conf:1: invalid value \"\" in \"include\" directive")]
    public void Includes_that_cannot_be_followed_say_why(string a, string b, string problem)
    {
        Write("a.conf", a.Contains("a.conf", StringComparison.Ordinal) ? b : a);
        Write("b.conf", a.Contains("a.conf", StringComparison.Ordinal) ? a : b);
        Assert.Equal([problem], Read("http { include a.conf; }").Problems);
    }

    [Fact]
    public void An_include_that_includes_everything_ends()
    {
        for (var i = 0; i < 15; i++)
        {
            Write($"{i}.conf", "include *.conf;");
        }
        Assert.Contains(Read("include *.conf;").Problems, problem => problem.Contains("more than 1000 files", StringComparison.Ordinal));
    }

    [Fact]
    public void Selecting_allocates_nothing()
    {
        var (config, _) = Read("""
            http {
              server { listen 80; server_name a.example *.b.example c.* ~^d; location /x { } location ~ \.js$ { } }
              server { server_name e.example; }
            }
            """);
        var address = IPAddress.Parse("10.0.0.1");
        string[] hosts = ["A.example:80", "x.b.example", "c.net", "dd", "e.example", "none"];
        void Run()
        {
            foreach (var host in hosts)
            {
                config.Select(address, 80, host, "/x/y.js");
                config.Select(address, 81, host, "/z");
            }
        }
        for (var i = 0; i < 200; i++)
        {
            Run();
        }
        Assert.Equal(0, Allocation.Of(Run));
    }

    [Theory]
    [InlineData("{")]
    [InlineData("a{")]
    [InlineData("}")]
    [InlineData(";")]
    [InlineData("\"")]
    [InlineData("\\")]
    [InlineData("$")]
    [InlineData("${")]
    [InlineData("http{}")]
    [InlineData("server{listen 80;}")]
    [InlineData("\0")]
    [InlineData("x_by_lua_block{")]
    [InlineData("x_by_lua_block{'")]
    [InlineData("#")]
    public void A_megabyte_of_one_thing_does_no_harm(string unit)
    {
        var text = new StringBuilder().Insert(0, unit, (unit.Length > 5 ? 20_000 : 1_000_000) / unit.Length).ToString();
        var started = TimeProvider.System.GetTimestamp();
        Read(text);
        Assert.True(TimeProvider.System.GetElapsedTime(started) < TimeSpan.FromSeconds(20));
    }

    [Fact]
    public void Random_text_never_crashes_it()
    {
        string[] words = ["http", "server", "location", "listen", "server_name", "proxy_buffering", "proxy_buffers", "add_header", "on",
            "off", "1k", "80",
            "{", "}", ";", "\"", "'", "\\", "$", "#", "\n", " ", "~", "~*", "=", "^~", "/", "*.x", "(", "include", "content_by_lua_block",
            "\u00A0", "[::]:1", "if"];
        Gen.OneOf(Gen.OneOfConst(words).Array[0, 60].Select(parts => string.Join(' ', parts)), Gen.String[0, 100],
            Gen.Byte.Array[0, 100].Select(bytes => Encoding.UTF8.GetString(bytes)))
            .Sample(text =>
            {
                var (config, _) = NginxConfigReader.Read(new(text, null, text, text, text));
                config.Select(IPAddress.Any, 80, text, text);
            }, iter: 5_000);
    }

    [Theory]
    [InlineData("0", 0L)]
    [InlineData("1k", 1024L)]
    [InlineData("4M", 4L << 20)]
    [InlineData("1g", 1L << 30)]
    [InlineData("", null)]
    [InlineData("k", null)]
    [InlineData("1kb", null)]
    [InlineData("-1", null)]
    [InlineData(" 1", null)]
    [InlineData("9999999999999g", null)]
    public void Sizes(string text, long? bytes) => Assert.Equal(bytes, NginxUnits.TryParseSize(text, out var size) ? size : null);

    [Theory]
    [InlineData("60", 60_000d)]
    [InlineData("60s", 60_000d)]
    [InlineData("1h30m", 5_400_000d)]
    [InlineData("1h 30m", 5_400_000d)]
    [InlineData("500ms", 500d)]
    [InlineData("1s500ms", 1_500d)]
    [InlineData("0", 0d)]
    [InlineData("9y", 49d * 86_400_000)]
    [InlineData("1M", 30d * 86_400_000)]
    [InlineData("1m1h", null)]
    [InlineData("1m1m", null)]
    [InlineData("", null)]
    [InlineData("s", null)]
    [InlineData("1.5s", null)]
    [InlineData("-1s", null)]
    [InlineData("1x", null)]
    [InlineData("99999999999999999999y", null)]
    public void Times(string text, double? milliseconds) =>
        Assert.Equal(milliseconds, NginxUnits.TryParseTime(text, out var time) ? time.TotalMilliseconds : null);
}
