using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Plugins;

/// <summary>Copies go to the other server, and the request does not notice.</summary>
public sealed class ProxyMirrorTests
{
    [Theory]
    [InlineData("", "/a/b?c=1")]
    [InlineData(""","path":"/new" """, "/new?c=1")]
    [InlineData(""","path":"/new","path_concat_mode":"prefix" """, "/new/a/b?c=1")]
    public async Task A_copy_has_method_path_headers_and_body(string more, string target)
    {
        await using var origin = EchoOrigin.Start();
        var copied = new TaskCompletionSource<string>();
        await using var mirror = ScriptedOrigin.Start(async connection =>
        {
            var head = await connection.ReadHeadAsync();
            copied.TrySetResult(head + await connection.ReadAsync(5));
            await connection.SendAsync("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        });
        await using var gateway = await TestGateway.StartAsync();
        await gateway.RouteAsync("r1", "/*", origin.Port,
            $$$""" "plugins":{"proxy-rewrite":{"uri":"/rewritten"},"proxy-mirror":{"host":"http://127.0.0.1:{{{mirror.Port}}}"{{{more}}}}} """);
        using var request = new HttpRequestMessage(HttpMethod.Post, gateway.Url("/a/b?c=1")) { Content = new StringContent("hello") };
        request.Headers.Add("X-A", "b");
        using var response = await gateway.Client.SendAsync(request, TestContext.Current.CancellationToken);
        Assert.StartsWith("POST /rewritten?c=1 ", await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken),
            StringComparison.Ordinal);
        var copy = await copied.Task.WaitAsync(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken);
        Assert.StartsWith($"POST {target} HTTP/1.1\r\n", copy, StringComparison.Ordinal);
        Assert.Contains("\r\nX-A: b\r\n", copy, StringComparison.OrdinalIgnoreCase);
        Assert.Contains("\r\nContent-Length: 5\r\n", copy, StringComparison.OrdinalIgnoreCase);
        Assert.EndsWith("\r\n\r\nhello", copy, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("refuses")]
    [InlineData("never reads")]
    public async Task A_mirror_that_fails_or_hangs_holds_nothing_up(string how)
    {
        await using var origin = EchoOrigin.Start();
        await using var mirror = ScriptedOrigin.Start(connection => connection.StallAsync());
        await using var gateway = await TestGateway.StartAsync();
        await gateway.RouteAsync("r1", "/*", origin.Port,
            $$$""" "plugins":{"proxy-mirror":{"host":"http://127.0.0.1:{{{(how == "refuses" ? 1 : mirror.Port)}}}"}} """);
        // much more than the copy may be behind and than sockets hold
        var body = new string('x', 12 * 1024 * 1024);
        using var response = await gateway.Client.PostAsync(gateway.Url("/"), new StringContent(body),
            TestContext.Current.CancellationToken);
        Assert.EndsWith("\r\n\r\n" + body, await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken),
            StringComparison.Ordinal);
    }
}
