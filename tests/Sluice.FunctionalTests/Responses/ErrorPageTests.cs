using System.Globalization;
using Microsoft.AspNetCore.Http;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Responses;

/// <summary>nginx's <c>error_page</c>, <c>return</c> and <c>internal</c>, in conf/nginx.conf.</summary>
public sealed class ErrorPageTests(ErrorPageTests.Fixture fixture) : IClassFixture<ErrorPageTests.Fixture>
{
    public sealed class Fixture : IAsyncLifetime
    {
        WebOrigin _origin = null!;

        public TestGateway Gateway { get; private set; } = null!;

        public async ValueTask InitializeAsync()
        {
            _origin = await WebOrigin.StartAsync(context =>
            {
                var path = context.Request.Path.Value!;
                context.Response.StatusCode = path.StartsWith("/status/", StringComparison.Ordinal)
                    ? int.Parse(path[8..], CultureInfo.InvariantCulture) : 200;
                context.Response.Headers["X-Origin"] = "yes";
                context.Response.Headers.WWWAuthenticate = "Basic";
                return context.Response.WriteAsync($"origin {context.Request.Method} {path}");
            });
            Gateway = await TestGateway.StartAsync(nginx: Nginx);
            Gateway.Write("html/50x.html", "<h1>away</h1>");
            Gateway.Write("html/401.json", "{}");
            await Gateway.RouteAsync("dead", "/dead", 1);
            await Gateway.RouteAsync("status", "/status/*", _origin.Port);
            await Gateway.RouteAsync("pages", "/pages/*", _origin.Port);
            await Gateway.RouteAsync("limited", "/limited", _origin.Port, """ "plugins":{"ip-restriction":{"blacklist":["127.0.0.1"]}} """);
            await Gateway.RouteAsync("fault", "/bare", _origin.Port,
                """ "plugins":{"limit-count":{"count":1,"time_window":600,"rejected_code":503}} """);
        }

        public async ValueTask DisposeAsync()
        {
            await Gateway.DisposeAsync();
            await _origin.DisposeAsync();
        }
    }

    const string Nginx = """
        http {
          error_page 404 /pages/404;
          server {
            server_name files.test;
            error_page 502 503 /50x.html;
            location = /50x.html { root html; internal; }
          }
          server {
            server_name intercept.test;
            proxy_intercept_errors on;
            error_page 401 403 /401.json;
            error_page 500 =200 /pages/instead;
            error_page 404 = @nothing;
            error_page 503 https://status.test/?for=$host;
            location = /401.json { alias html/401.json; }
            location @nothing { default_type application/json; return 410 '{"gone":"$uri"}'; }
          }
          server { server_name nowhere.test; error_page 502 /not/there; }
          server { server_name moved.test; return 301 https://new.test$request_uri; }
          server {
            server_name return.test;
            location = /health { return 200 "fine\n"; }
            location = /not-found { return 404; }
            location = /closed { return 444; }
          }
        }
        """;

    async Task<(int Status, string Body, HttpResponseMessage Response)> GetAsync(string host, string path, HttpMethod? method = null)
    {
        using var request = new HttpRequestMessage(method ?? HttpMethod.Get, fixture.Gateway.Url(path)) { Headers = { Host = host } };
        var response = await fixture.Gateway.Client.SendAsync(request, TestContext.Current.CancellationToken);
        return ((int)response.StatusCode, await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken), response);
    }

    [Fact]
    public async Task A_file_is_the_page_of_an_upstream_that_cannot_be_reached()
    {
        var (status, body, response) = await GetAsync("files.test", "/dead");
        Assert.Equal((502, "<h1>away</h1>"), (status, body));
        Assert.Equal("text/html", response.Content.Headers.ContentType!.ToString());
        Assert.Equal("502", response.Headers.GetValues("X-APISIX-Upstream-Status").Single());
        Assert.Equal(404, (await GetAsync("files.test", "/50x.html")).Status);
    }

    [Fact]
    public async Task A_route_is_the_page_of_what_no_route_matches()
    {
        var (status, body, response) = await GetAsync("any.test", "/nothing", HttpMethod.Post);
        Assert.Equal((404, "origin GET /pages/404"), (status, body));
        Assert.True(response.Headers.Contains("X-Origin"));
    }

    [Theory]
    [InlineData("/status/403", 403, "{}")]
    [InlineData("/status/500", 200, "origin GET /pages/instead")]
    [InlineData("/status/404", 410, """{"gone":"/status/404"}""")]
    [InlineData("/status/418", 418, "origin GET /status/418")]
    [InlineData("/status/200", 200, "origin GET /status/200")]
    public async Task An_upstreams_errors_are_intercepted(string path, int status, string body)
    {
        var answer = await GetAsync("intercept.test", path);
        Assert.Equal((status, body), (answer.Status, answer.Body));
    }

    [Fact]
    public async Task Of_an_intercepted_401_the_challenge_stays_and_a_URL_is_a_redirect()
    {
        var (_, _, response) = await GetAsync("intercept.test", "/status/401");
        Assert.Equal("Basic", response.Headers.WwwAuthenticate.ToString());
        Assert.False(response.Headers.Contains("X-Origin"));
        Assert.Equal("application/json", response.Content.Headers.ContentType!.ToString());
        var redirect = await GetAsync("intercept.test", "/status/503");
        Assert.Equal((302, "https://status.test/?for=intercept.test"), (redirect.Status, redirect.Response.Headers.Location!.ToString()));
    }

    [Fact]
    public async Task Without_proxy_intercept_errors_the_upstreams_answer_stays_and_a_plugins_words_always_do()
    {
        Assert.Equal("origin GET /status/502", (await GetAsync("files.test", "/status/502")).Body);
        Assert.Contains("Your IP address is not allowed", (await GetAsync("intercept.test", "/limited")).Body, StringComparison.Ordinal);
        // a plugin that says nothing but a status
        await GetAsync("files.test", "/bare");
        Assert.Equal((503, "<h1>away</h1>"), await GetAsync("files.test", "/bare") is var (status, body, _) ? (status, body) : default);
    }

    [Fact]
    public async Task Where_there_is_no_page_the_answer_is_what_it_was() =>
        Assert.Equal((502, "{\"error_msg\":\"502 Bad Gateway\"}\n"),
            await GetAsync("nowhere.test", "/dead") is var (status, body, _) ? (status, body) : default);

    [Fact]
    public async Task Return_answers_before_any_route()
    {
        var moved = await GetAsync("moved.test", "/a?b=c");
        Assert.Equal((301, "https://new.test/a?b=c"), (moved.Status, moved.Response.Headers.Location!.ToString()));
        var health = await GetAsync("return.test", "/health");
        Assert.Equal((200, "fine\n", "text/plain; charset=utf-8"),
            (health.Status, health.Body, health.Response.Content.Headers.ContentType!.ToString()));
        Assert.Equal((404, "origin GET /pages/404"),
            await GetAsync("return.test", "/not-found") is var (status, body, _) ? (status, body) : default);
        await Assert.ThrowsAsync<HttpRequestException>(() => GetAsync("return.test", "/closed"));
    }
}
