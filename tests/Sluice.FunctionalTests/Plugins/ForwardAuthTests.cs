using System.Net;
using Microsoft.AspNetCore.Http;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Plugins;

/// <summary>A real service decides about requests.</summary>
public sealed class ForwardAuthTests
{
    static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("""{"uri":3233}""", "property \\\"uri\\\" validation failed: wrong type: expected string, got number")]
    [InlineData("""{"uri":"auth"}""", "property \\\"uri\\\" must be a URL that begins with http:// or https://")]
    [InlineData("""{"uri":"http://a","request_method":"PUT"}""",
        "property \\\"request_method\\\" validation failed: matches none of the enum values")]
    [InlineData("""{"uri":"http://a","extra_headers":{"a b":"c"} }""", "which is no name of a header")]
    public async Task What_cannot_be_is_refused(string config, string error)
    {
        await using var gateway = await TestGateway.StartAsync();
        var (status, body) = await gateway.AdminAsync(HttpMethod.Put, "/routes/r1",
            $$"""{"uri":"/*","upstream":{"nodes":{"127.0.0.1:1":1} },"plugins":{"forward-auth":{{config}} } }""");
        Assert.Equal(HttpStatusCode.BadRequest, status);
        Assert.Contains(error.Replace("\\\"", "\"", StringComparison.Ordinal), (string)body!["error_msg"]!, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_service_gets_the_facts_and_what_is_listed_and_nothing_else()
    {
        var asked = new TaskCompletionSource<Dictionary<string, string>>();
        await using var service = await WebOrigin.StartAsync(context =>
        {
            asked.TrySetResult(Seen(context));
            return Task.CompletedTask;
        });
        await using var origin = EchoOrigin.Start();
        await using var gateway = await StartAsync(service.Port, origin, """
            "request_headers":["Authorization","x-forwarded-host","Content-Length"],"extra_headers":{"X-Where":"$host$uri","X-Forwarded-Proto":"other"}
            """);
        using var response = await AskAsync(gateway, "/a/b?c=1", ("Authorization", "secret"), ("X-Forwarded-Host", "evil.test"),
            ("Cookie", "a=b"));
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        var seen = await asked.Task;
        Assert.Equal(
            ["Authorization: secret", "Host: 127.0.0.1:" + service.Port, "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Host: 127.0.0.1",
                "X-Forwarded-Method: GET",
                "X-Forwarded-Proto: other", "X-Forwarded-Uri: /a/b?c=1", "X-Where: 127.0.0.1/a/b"],
            seen.Where(header => header.Key is not (":method" or ":target")).Select(header => $"{header.Key}: {header.Value}")
            .Order(StringComparer.Ordinal));
        Assert.Equal(("GET", "/check?x=1"), (seen[":method"], seen[":target"]));
    }

    [Fact]
    public async Task Headers_of_the_service_go_to_the_upstream_and_a_clients_own_never_do()
    {
        await using var service = await WebOrigin.StartAsync(context =>
        {
            context.Response.Headers["X-User-ID"] = "jack";
            context.Response.Headers["X-Other"] = "not asked for";
            return Task.CompletedTask;
        });
        await using var origin = EchoOrigin.Start();
        await using var gateway = await StartAsync(service.Port, origin,
            """ "upstream_headers":["X-User-ID","X-Role","Content-Length"] """);
        using var response = await AskAsync(gateway, "/", ("X-User-ID", "root"), ("X-Role", "admin"));
        var sent = await response.Content.ReadAsStringAsync(Cancel);
        Assert.Contains("\r\nx-user-id: jack\r\n", sent, StringComparison.OrdinalIgnoreCase);
        Assert.DoesNotContain("x-role", sent, StringComparison.OrdinalIgnoreCase);
        Assert.DoesNotContain("x-other", sent, StringComparison.OrdinalIgnoreCase);
        Assert.DoesNotContain("content-length", sent, StringComparison.OrdinalIgnoreCase);
    }

    [Theory]
    [InlineData(403)]
    [InlineData(302)]
    public async Task A_refusal_is_the_clients_answer_with_the_headers_that_are_listed(int status)
    {
        await using var service = await WebOrigin.StartAsync(context =>
        {
            context.Response.StatusCode = status;
            context.Response.Headers.Location = "http://login.test/";
            context.Response.Headers["X-Inner"] = "1";
            context.Response.Headers.Append("Set-Cookie", "a=1");
            context.Response.Headers.Append("Set-Cookie", "b=2");
            return context.Response.WriteAsync("who are you?", Cancel);
        });
        var reached = false;
        await using var origin = EchoOrigin.Start(() => reached = true);
        await using var gateway = await StartAsync(service.Port, origin,
            """ "client_headers":["Location","Set-Cookie","Content-Length"] """);
        using var response = await AskAsync(gateway, "/");
        Assert.Equal((status, "who are you?"), ((int)response.StatusCode, await response.Content.ReadAsStringAsync(Cancel)));
        Assert.Equal("http://login.test/", response.Headers.Location?.ToString());
        Assert.Equal(["a=1", "b=2"], response.Headers.GetValues("Set-Cookie"));
        Assert.False(response.Headers.Contains("X-Inner"));
        Assert.False(reached);
    }

    [Theory]
    [InlineData("", 403)]
    [InlineData(""" "status_on_error":503 """, 503)]
    [InlineData(""" "allow_degradation":true """, 200)]
    public async Task A_service_that_is_away_lets_nobody_in_unless_told_to(string more, int status)
    {
        await using var origin = EchoOrigin.Start();
        await using var gateway = await StartAsync(1, origin, more);
        using var response = await AskAsync(gateway, "/");
        Assert.Equal(status, (int)response.StatusCode);
        await gateway.ErrorLogSaysAsync("failed to process forward auth, err: connection refused");
    }

    [Fact]
    public async Task A_line_break_in_a_variable_never_makes_a_header()
    {
        var asked = false;
        await using var service = await WebOrigin.StartAsync(_ =>
        {
            asked = true;
            return Task.CompletedTask;
        });
        await using var origin = EchoOrigin.Start();
        await using var gateway = await StartAsync(service.Port, origin, """ "extra_headers":{"X-User":"$arg_user"} """);
        using var response = await AskAsync(gateway, "/?user=guest%0d%0ax-user1:%20admin");
        Assert.Equal(HttpStatusCode.Forbidden, response.StatusCode);
        Assert.False(asked);
        using var path = await AskAsync(gateway, "/a%0d%0ax-user1:%20admin");
        Assert.Equal(HttpStatusCode.Forbidden, path.StatusCode);
        Assert.False(asked);
        await gateway.ErrorLogSaysAsync("failed to process forward auth, err: invalid characters found in header value");
    }

    [Fact]
    public async Task A_POST_gives_the_service_the_body_and_the_upstream_gets_it_too()
    {
        var asked = new TaskCompletionSource<(Dictionary<string, string> Head, string Body)>();
        await using var service = await WebOrigin.StartAsync(async context =>
        {
            using var reader = new StreamReader(context.Request.Body);
            asked.TrySetResult((Seen(context), await reader.ReadToEndAsync(Cancel)));
        });
        await using var origin = EchoOrigin.Start();
        await using var gateway = await StartAsync(service.Port, origin, """ "request_method":"POST","max_req_body_size":10 """);
        using var request = new HttpRequestMessage(HttpMethod.Put, gateway.Url("/")) { Content = new StringContent("ten bytes.") };
        request.Headers.TransferEncodingChunked = true;
        request.Content.Headers.ContentEncoding.Add("none");
        using var response = await gateway.Client.SendAsync(request, Cancel);
        Assert.EndsWith("\r\n\r\nten bytes.", await response.Content.ReadAsStringAsync(Cancel), StringComparison.Ordinal);
        var (head, body) = await asked.Task;
        Assert.Equal(("POST", "PUT", "ten bytes.", "10", "none"),
            (head[":method"], head["X-Forwarded-Method"], body, head["Content-Length"], head["Content-Encoding"]));
        Assert.False(head.ContainsKey("Transfer-Encoding"));

        using var large = await gateway.Client.PutAsync(gateway.Url("/"), new StringContent("eleven bytes"), Cancel);
        Assert.Equal(HttpStatusCode.RequestEntityTooLarge, large.StatusCode);
        await gateway.ErrorLogSaysAsync("failed to read request body: ");
        Assert.Contains("forward-auth", (await gateway.ControlAsync("/v1/buffering?uri=/")).ToJsonString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_service_is_asked_before_the_body_is_there()
    {
        await using var service = await WebOrigin.StartAsync(context =>
        {
            context.Response.StatusCode = 401;
            return Task.CompletedTask;
        });
        await using var origin = EchoOrigin.Start();
        await using var gateway = await StartAsync(service.Port, origin, "");
        using var client = await RawClient.ConnectAsync(gateway.EndPoint);
        await client.SendAsync("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n");
        Assert.StartsWith("HTTP/1.1 401 ", await client.UntilAsync("\r\n\r\n"), StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_call_ends_when_the_client_leaves()
    {
        var (asked, ended) = (new TaskCompletionSource(), new TaskCompletionSource());
        await using var service = await WebOrigin.StartAsync(async context =>
        {
            context.RequestAborted.Register(() => ended.TrySetResult());
            asked.TrySetResult();
            await ended.Task;
        });
        await using var origin = EchoOrigin.Start();
        await using var gateway = await StartAsync(service.Port, origin, """ "timeout":60000 """);
        using (var client = await RawClient.ConnectAsync(gateway.EndPoint))
        {
            await client.SendAsync("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            await asked.Task.WaitAsync(TimeSpan.FromSeconds(30), Cancel);
        }
        await ended.Task.WaitAsync(TimeSpan.FromSeconds(30), Cancel);
    }

    static Dictionary<string, string> Seen(HttpContext context) =>
        new(context.Request.Headers.ToDictionary(header => header.Key, header => header.Value.ToString()), StringComparer.OrdinalIgnoreCase)
    {
        [":method"] = context.Request.Method,
        [":target"] = context.Request.Path + context.Request.QueryString,
    };

    static async Task<TestGateway> StartAsync(int port, ScriptedOrigin origin, string more)
    {
        var gateway = await TestGateway.StartAsync();
        await gateway.RouteAsync("r1", "/*", origin.Port,
            $$""" "plugins":{"forward-auth":{"uri":"http://127.0.0.1:{{port}}/check?x=1"{{(string.IsNullOrWhiteSpace(more) ? "" : "," + more)}}} } """);
        return gateway;
    }

    static async Task<HttpResponseMessage> AskAsync(TestGateway gateway, string path, params (string Name, string Value)[] headers)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, gateway.Url(path));
        foreach (var (name, value) in headers)
        {
            request.Headers.TryAddWithoutValidation(name, value);
        }
        return await gateway.Client.SendAsync(request, Cancel);
    }
}
