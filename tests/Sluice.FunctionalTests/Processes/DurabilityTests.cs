using System.Net;
using System.Text;
using Sluice.Cli;

namespace Sluice.FunctionalTests.Processes;

/// <summary>The embedded store behind a real gateway process.</summary>
public sealed class DurabilityTests : IAsyncDisposable
{
    readonly CommandFixture _sluice = new();

    static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public ValueTask DisposeAsync() => _sluice.DisposeAsync();

    [Fact]
    public async Task What_the_Admin_API_acknowledged_survives_kill_9()
    {
        var admin = CommandFixture.FreePort();
        var config = await File.ReadAllTextAsync(_sluice.PathOf("conf/config.yaml"), Cancel);
        var begin = config.IndexOf("deployment:", StringComparison.Ordinal);
        var end = config.IndexOf("plugin_attr:", StringComparison.Ordinal);
        await File.WriteAllTextAsync(_sluice.PathOf("conf/config.yaml"), $$"""
            {{config[..begin]}}deployment:
              admin:
                admin_listen: {ip: 127.0.0.1, port: {{admin}}}
                admin_key: [{name: admin, key: durable, role: admin}]
            {{config[end..]}}
            """, Cancel);
        _sluice.Client.DefaultRequestHeaders.Add("X-API-KEY", "durable");
        await _sluice.SucceedAsync("start");
        var pid = _sluice.Instance.RunningPid()!.Value;

        // writers go on until their connection breaks: what was answered before must be there afterwards
        var (acknowledged, gate) = (new List<string>(), new Lock());
        var writers = Enumerable.Range(0, 4).Select(async writer =>
        {
            for (var i = 0; ; i++)
            {
                var id = $"w{writer}-{i}";
                try
                {
                    using var body = new StringContent($$"""{"uri":"/{{id}}","plugins":{"redirect":{"uri":"/{{id}}-found"} } }""",
                        Encoding.UTF8, "application/json");
                    using var answer = await _sluice.Client.PutAsync($"http://127.0.0.1:{admin}/apisix/admin/routes/{id}", body, Cancel);
                    Assert.Equal(HttpStatusCode.Created, answer.StatusCode);
                }
                catch (HttpRequestException)
                {
                    return;
                }
                lock (gate)
                {
                    acknowledged.Add(id);
                }
            }
        }).ToArray();
        await Eventually.TrueAsync(() => Count() >= 40, "too few writes", seconds: 30);
        Assert.True(Native.Signal(pid, Native.Kill));
        await Task.WhenAll(writers);

        await _sluice.SucceedAsync("start");
        var list = await _sluice.Client.GetStringAsync($"http://127.0.0.1:{admin}/apisix/admin/routes", Cancel);
        Assert.All(acknowledged, id => Assert.Contains($"\"/apisix/routes/{id}\"", list, StringComparison.Ordinal));
        using var plain = new HttpClient(new SocketsHttpHandler { AllowAutoRedirect = false });
        using var found = await plain.GetAsync(_sluice.Url($"/{acknowledged[^1]}"), Cancel);
        Assert.Equal(HttpStatusCode.Found, found.StatusCode);

        int Count()
        {
            lock (gate)
            {
                return acknowledged.Count;
            }
        }
    }
}
