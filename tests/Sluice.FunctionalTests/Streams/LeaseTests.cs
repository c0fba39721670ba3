using System.Net;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Streams;

/// <summary>A stream ends when what let it in goes: consumer, credential, key or route. Others go on and notice nothing.</summary>
public sealed class LeaseTests : IAsyncLifetime
{
    const string Head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n";
    const string Auth = """ "key-auth":{} """;

    readonly ManualClock _clock = new();
    readonly TaskCompletionSource _more = new(TaskCreationOptions.RunContinuationsAsynchronously);
    ScriptedOrigin _origin = null!;
    TestGateway _gateway = null!;

    static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync()
    {
        // at its zero nothing would seem to have ended
        _clock.Advance(TimeSpan.FromSeconds(1));
        _origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync(Head);
            await Task.WhenAny(_more.Task, connection.ReadEndAsync());
            if (_more.Task.IsCompleted)
            {
                await connection.SendAsync("9\r\ndata: 2\n\n\r\n0\r\n\r\n");
                await connection.ReadEndAsync();
            }
        });
        _gateway = await TestGateway.StartAsync("nginx_config: {http: {access_log_format: '$uri|$consumer_name|$sluice_stream_end'}}",
            "http { send_timeout 9999; }", time: _clock);
    }

    public async ValueTask DisposeAsync()
    {
        await _gateway.DisposeAsync();
        await _origin.DisposeAsync();
    }

    Task RouteAsync(string id, string plugins = "", string lease = "\"spread\":0", string more = "") =>
        _gateway.RouteAsync(id, $"/{id}", _origin.Port,
        $$""" {{more}}"timeout":{"connect":9999,"send":9999,"read":9999},"plugins":{ {{plugins}}{{(plugins.Length > 0 ? "," : "")}}"streaming":{"lease":{ {{lease}} } } } """);

    async Task<Client> OpenAsync(string path, string? key = null)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, _gateway.Url(path));
        if (key is not null)
        {
            request.Headers.Add("apikey", key);
        }
        var response = await _gateway.Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Cancel);
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        var client = new Client(response, new StreamReader(await response.Content.ReadAsStreamAsync(Cancel)));
        Assert.Equal("data: 1", await client.Reader.ReadLineAsync(Cancel));
        return client;
    }

    sealed record Client(HttpResponseMessage Response, StreamReader Reader) : IDisposable
    {
        public async Task EndsAsync(string reason, string message) => Assert.Equal(
            $"\nevent: error\ndata: {{\"reason\":\"{reason}\",\"message\":\"{message}\"}}\n\n", await Reader.ReadToEndAsync(Cancel));

        public Task IsRevokedAsync() => EndsAsync("revoked", "the right to this stream was revoked");

        public Task IsNotAdmittedAsync() => EndsAsync("not_admitted", "the stream is no longer allowed");

        public async Task GoesOnAsync() => Assert.Equal("\ndata: 2\n\n", await Reader.ReadToEndAsync(Cancel));

        public void Dispose() => Response.Dispose();
    }

    /// <summary>Changes have been looked at when a stream has ended whose consumer went after them.</summary>
    async Task LookedAtAsync()
    {
        await RouteAsync("last", Auth);
        await _gateway.PutAsync("/consumers/last", """{"username":"last","plugins":{"key-auth":{"key":"of-last"}}}""");
        using var last = await OpenAsync("/last", "of-last");
        await _gateway.AdminAsync(HttpMethod.Delete, "/consumers/last");
        await last.IsRevokedAsync();
    }

    [Theory]
    [InlineData("DELETE", "/consumers/jack", null)]
    [InlineData("DELETE", "/consumers/jack/credentials/one", null)]
    [InlineData("PUT", "/consumers/jack/credentials/one", """{"plugins":{"key-auth":{"key":"another"}}}""")]
    public async Task A_stream_ends_when_its_consumer_or_credential_goes_or_has_another_key(string method, string path, string? json)
    {
        await RouteAsync("live", Auth);
        await _gateway.PutAsync("/consumers/jack", """{"username":"jack","plugins":{"key-auth":{"key":"of-jack"}}}""");
        await _gateway.PutAsync("/consumers/jack/credentials/one", """{"plugins":{"key-auth":{"key":"of-one"}}}""");
        await _gateway.PutAsync("/consumers/jill", """{"username":"jill","plugins":{"key-auth":{"key":"of-jill"}}}""");
        using var jacks = await OpenAsync("/live", path == "/consumers/jack" ? "of-jack" : "of-one");
        using var jills = await OpenAsync("/live", "of-jill");

        Assert.InRange((int)(await _gateway.AdminAsync(new(method), path, json)).Status, 200, 201);

        await jacks.IsRevokedAsync();
        await _gateway.ErrorLogSaysAsync("1 streams are ended as revoked: ");
        _more.SetResult();
        await jills.GoesOnAsync();
        await Eventually.TrueAsync(() => Passes(TimeSpan.FromSeconds(1))
            && AccessLog().Contains("/live|jack|revoked\n", StringComparison.Ordinal), AccessLog);
    }

    [Theory]
    [InlineData("\"on_revoke\":\"end\"",
        """{"username":"jack","desc":"someone","labels":{"a":"b"},"plugins":{"key-auth":{"key":"of-jack"},"basic-auth":{"username":"a","password":"b"}}}""")]
    [InlineData("\"on_revoke\":\"ignore\"", """{"username":"jack","plugins":{"key-auth":{"key":"another"}}}""")]
    [InlineData("\"on_revoke\":\"ignore\"", null)]
    public async Task A_stream_goes_on_when_its_key_stays_or_the_route_says_so(string lease, string? consumer)
    {
        await RouteAsync("live", Auth, lease);
        await _gateway.PutAsync("/consumers/jack", """{"username":"jack","plugins":{"key-auth":{"key":"of-jack"}}}""");
        using var stream = await OpenAsync("/live", "of-jack");
        await _gateway.AdminAsync(consumer is null ? HttpMethod.Delete : HttpMethod.Put, "/consumers/jack", consumer);
        await LookedAtAsync();
        _more.SetResult();
        await stream.GoesOnAsync();
    }

    [Theory]
    [InlineData(""" "ip-restriction":{"blacklist":["127.0.0.1"]} """, "")]
    [InlineData(""" "ua-restriction":{"bypass_missing":false,"allowlist":["some"]} """, "")]
    [InlineData(Auth, "")]
    [InlineData("", """ "uris":["/elsewhere"], """)]
    [InlineData("", """ "vars":[["arg_a","==","1"]], """)]
    public async Task A_stream_ends_that_its_route_would_not_let_in_any_more(string plugins, string more)
    {
        await RouteAsync("live");
        await RouteAsync("other");
        using var live = await OpenAsync("/live");
        using var other = await OpenAsync("/other");
        if (more.Contains("uris", StringComparison.Ordinal))
        {
            await _gateway.PutAsync("/routes/live",
                $$"""{"uri":"/elsewhere","plugins":{"streaming":{} },"upstream":{"nodes":{"127.0.0.1:{{_origin.Port}}":1} } }""");
        }
        else
        {
            await RouteAsync("live", plugins, more: more);
        }
        await live.IsNotAdmittedAsync();
        _more.SetResult();
        await other.GoesOnAsync();
    }

    [Fact]
    public async Task A_stream_goes_on_that_its_changed_route_lets_in()
    {
        await _gateway.PutAsync("/consumers/jack", """{"username":"jack","plugins":{"key-auth":{"key":"of-jack"}}}""");
        await RouteAsync("live", """ "key-auth":{"hide_credentials":true} """);
        using var stream = await OpenAsync("/live", "of-jack");
        await RouteAsync("live",
            """ "key-auth":{"hide_credentials":true},"ip-restriction":{"whitelist":["127.0.0.1"]},"consumer-restriction":{"whitelist":["jack"]} """, more: "\"priority\":5,");
        await LookedAtAsync();
        await RouteAsync("live", """ "key-auth":{},"limit-count":{"count":1,"time_window":60} """);
        await LookedAtAsync();
        _more.SetResult();
        await stream.GoesOnAsync();
    }

    [Theory]
    [InlineData("keep", true)]
    [InlineData("end", false)]
    public async Task A_route_says_what_its_change_means(string onChange, bool goesOn)
    {
        await RouteAsync("live", lease: $"\"spread\":0,\"on_change\":\"{onChange}\"");
        using var stream = await OpenAsync("/live");
        await RouteAsync("live", goesOn ? """ "ip-restriction":{"blacklist":["127.0.0.1"]} """ : "", more: "\"priority\":5,");
        if (!goesOn)
        {
            await stream.IsNotAdmittedAsync();
            return;
        }
        await LookedAtAsync();
        _more.SetResult();
        await stream.GoesOnAsync();
    }

    [Fact]
    public async Task A_deleted_route_ends_its_streams_unless_it_comes_back_soon()
    {
        await RouteAsync("gone");
        await RouteAsync("back");
        using var gone = await OpenAsync("/gone");
        using var back = await OpenAsync("/back");
        await _gateway.AdminAsync(HttpMethod.Delete, "/routes/gone");
        await _gateway.AdminAsync(HttpMethod.Delete, "/routes/back");
        await LookedAtAsync();
        await RouteAsync("back");
        await LookedAtAsync();
        Assert.Equal(2, (int)(await _gateway.ControlAsync("/v1/streams"))["total"]!);

        // the ten seconds may begin to be waited for a moment later
        var ending = gone.IsNotAdmittedAsync();
        await Eventually.TrueAsync(() => Passes(TimeSpan.FromSeconds(2)) && ending.IsCompleted, "it goes on");
        await ending;
        _more.SetResult();
        await back.GoesOnAsync();
    }

    [Fact]
    public async Task Streams_of_one_change_do_not_end_at_the_same_moment()
    {
        await RouteAsync("live", Auth, "\"spread\":\"20s\"");
        await _gateway.PutAsync("/consumers/jack", """{"username":"jack","plugins":{"key-auth":{"key":"of-jack"}}}""");
        using var one = await OpenAsync("/live", "of-jack");
        using var two = await OpenAsync("/live", "of-jack");
        await _gateway.AdminAsync(HttpMethod.Delete, "/consumers/jack");
        Task[] ends = [one.IsRevokedAsync(), two.IsRevokedAsync()];
        await await Task.WhenAny(ends);
        Assert.Equal(1, ends.Count(static end => end.IsCompleted));
        await Eventually.TrueAsync(() => Passes(TimeSpan.FromSeconds(5)) && ends.All(static end => end.IsCompleted),
            "the second one goes on");
        await Task.WhenAll(ends);
    }

    [Fact]
    public async Task Streams_that_no_policy_speaks_for_go_on_as_in_APISIX()
    {
        await _gateway.PutAsync("/consumers/jack", """{"username":"jack","plugins":{"key-auth":{"key":"of-jack"}}}""");
        await _gateway.RouteAsync("plain", "/plain", _origin.Port, $$""" "plugins":{ {{Auth}} } """);
        using var stream = await OpenAsync("/plain", "of-jack");
        await _gateway.AdminAsync(HttpMethod.Delete, "/consumers/jack");
        await _gateway.AdminAsync(HttpMethod.Delete, "/routes/plain");
        await LookedAtAsync();
        _more.SetResult();
        await stream.GoesOnAsync();
    }

    bool Passes(TimeSpan time)
    {
        _clock.Advance(time);
        return true;
    }

    string AccessLog() => File.Exists(Path.Combine(_gateway.Prefix, "logs", "access.log"))
        ? File.ReadAllText(Path.Combine(_gateway.Prefix, "logs", "access.log")) : "";
}
