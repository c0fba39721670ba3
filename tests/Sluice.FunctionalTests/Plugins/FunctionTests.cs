using System.Net;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;
using Sluice.FunctionalTests.Origins;
using Sluice.Plugins.Functions;

namespace Sluice.FunctionalTests.Plugins;

/// <summary>Functions of clouds answer in the place of an upstream.</summary>
public sealed class FunctionTests : IAsyncLifetime
{
    TestGateway _gateway = null!;

    static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync() => _gateway = await TestGateway.StartAsync();

    public ValueTask DisposeAsync() => _gateway.DisposeAsync();

    /// <summary>Answers with what it was asked.</summary>
    static Task<WebOrigin> StartEchoAsync() => WebOrigin.StartAsync(async context =>
    {
        using var body = new StreamReader(context.Request.Body);
        var headers =
            new JsonObject(
                context.Request.Headers.Select(
                    header => KeyValuePair.Create(header.Key.ToLowerInvariant(), (JsonNode?)header.Value.ToString())));
        context.Response.Headers["X-Function"] = "yes";
        context.Response.Headers.Append("Set-Cookie", new(["a=1", "b=2"]));
        context.Response.ContentType = "application/json";
        await context.Response.WriteAsync(new JsonObject
        {
            ["method"] = context.Request.Method, ["path"] = context.Request.Path.ToUriComponent(),
                ["query"] = context.Request.QueryString.Value, ["headers"] = headers, ["body"] = await body.ReadToEndAsync(),
        }.ToJsonString());
    });

    Task RouteAsync(string plugin, string config, string uri = "/f/*") =>
        _gateway.PutAsync("/routes/1", $$"""{"uri":"{{uri}}","plugins":{"{{plugin}}":{ {{config}} } } }""");

    async Task<(HttpStatusCode Status, string Body, HttpResponseMessage Response)> AskAsync(HttpMethod method, string path,
        string? body = null, params (string Name, string Value)[] headers)
    {
        using var request = new HttpRequestMessage(method,
            _gateway.Url(path)) { Content = body is null ? null : new StringContent(body, new MediaTypeHeaderValue("application/json")) };
        foreach (var (name, value) in headers)
        {
            request.Headers.TryAddWithoutValidation(name, value);
        }
        var response = await _gateway.Client.SendAsync(request, Cancel);
        return (response.StatusCode, await response.Content.ReadAsStringAsync(Cancel), response);
    }

    async Task<JsonNode> EchoAsync(HttpMethod method, string path, string? body = null, params (string Name, string Value)[] headers) =>
        JsonNode.Parse((await AskAsync(method, path, body, headers)).Body)!;

    public static TheoryData<string> Plugins => ["aws-lambda", "azure-functions", "openfunction"];

    [Theory]
    [MemberData(nameof(Plugins))]
    public async Task The_whole_request_goes_to_the_function_and_its_answer_comes_back(string plugin)
    {
        await using var function = await StartEchoAsync();
        await RouteAsync(plugin, $"\"function_uri\":\"http://localhost:{function.Port}/base?own=1\"");
        var (status, body, response) = await AskAsync(HttpMethod.Post, "/f/a%20b/c?x=y&z", """{"n":1}""", ("X-Mine", "1"));
        var asked = JsonNode.Parse(body)!;
        Assert.Equal((HttpStatusCode.OK, "yes", "a=1|b=2"),
            (status, response.Headers.GetValues("X-Function").Single(), string.Join('|', response.Headers.GetValues("Set-Cookie"))));
        Assert.Equal("application/json", response.Content.Headers.ContentType!.ToString());
        Assert.Equal(("POST", "/base/a%20b/c", "?own=1&x=y&z", """{"n":1}"""),
            ((string)asked["method"]!, (string)asked["path"]!, (string)asked["query"]!, (string)asked["body"]!));
        Assert.Equal(("localhost", "1", "application/json", "7"),
            (Header(asked, "host"), Header(asked, "x-mine"), Header(asked, "content-type"), Header(asked, "content-length")));
        Assert.Equal("GET", (string)(await EchoAsync(HttpMethod.Get, "/f/"))["method"]!);
    }

    static string? Header(JsonNode asked, string name) => (string?)asked["headers"]![name];

    [Theory]
    [InlineData("http://localhost:{0}", "/f/*", "/f/x", "/x")]
    [InlineData("http://localhost:{0}/", "/f/*", "/f/x", "/x")]
    [InlineData("http://localhost:{0}/b", "/f*", "/f/x", "/b/x")]
    [InlineData("http://localhost:{0}/b", "/f/x", "/f/x", "/b")]
    public async Task What_stands_for_the_star_is_appended_with_one_slash(string function, string uri, string path, string expected)
    {
        await using var echo = await StartEchoAsync();
        await RouteAsync("openfunction", $"\"function_uri\":\"{string.Format(null, function, echo.Port)}\"", uri);
        Assert.Equal(expected, (string)(await EchoAsync(HttpMethod.Get, path))["path"]!);
    }

    [Fact]
    public async Task A_function_that_streams_is_heard_piece_by_piece()
    {
        using var turns = new SemaphoreSlim(0);
        await using var function = await WebOrigin.StartAsync(async context =>
        {
            context.Response.ContentType = "text/event-stream";
            await context.Response.Body.FlushAsync();
            for (var i = 0; i < 3; i++)
            {
                await turns.WaitAsync(context.RequestAborted);
                await context.Response.WriteAsync($"data: {i}\n\n");
                await context.Response.Body.FlushAsync();
            }
        });
        await RouteAsync("openfunction", $"\"function_uri\":\"http://localhost:{function.Port}\",\"timeout\":60000");
        using var response = await _gateway.Client.GetAsync(_gateway.Url("/f/"), HttpCompletionOption.ResponseHeadersRead, Cancel);
        using var body = await response.Content.ReadAsStreamAsync(Cancel);
        for (var i = 0; i < 3; i++)
        {
            turns.Release();
            var piece = new byte[9];
            await body.ReadExactlyAsync(piece, Cancel);
            Assert.Equal($"data: {i}\n\n", Encoding.ASCII.GetString(piece));
        }
        Assert.Equal(0, await body.ReadAsync(new byte[1], Cancel));
    }

    [Theory]
    [MemberData(nameof(Plugins))]
    public async Task A_function_that_cannot_be_reached_is_503(string plugin)
    {
        await RouteAsync(plugin, "\"function_uri\":\"http://127.0.0.1:1/\"");
        Assert.Equal(HttpStatusCode.ServiceUnavailable, (await AskAsync(HttpMethod.Get, "/f/")).Status);
        await _gateway.ErrorLogSaysAsync($"failed to process {plugin}, err: connection refused");
    }

    [Fact]
    public async Task A_function_that_does_not_answer_in_time_is_503()
    {
        await using var function = await WebOrigin.StartAsync(context => Task.Delay(Timeout.Infinite, context.RequestAborted));
        await RouteAsync("aws-lambda", $"\"function_uri\":\"http://localhost:{function.Port}\",\"timeout\":100");
        Assert.Equal(HttpStatusCode.ServiceUnavailable, (await AskAsync(HttpMethod.Get, "/f/")).Status);
        await _gateway.ErrorLogSaysAsync("failed to process aws-lambda, err: timeout");
    }

    [Fact]
    public async Task A_function_that_breaks_off_is_no_whole_answer()
    {
        await using var function = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
        });
        await RouteAsync("aws-lambda", $"\"function_uri\":\"http://127.0.0.1:{function.Port}\"");
        await Assert.ThrowsAnyAsync<HttpRequestException>(() => AskAsync(HttpMethod.Get, "/f/"));
    }

    [Fact]
    public async Task A_body_over_the_limit_is_400()
    {
        await RouteAsync("aws-lambda", "\"function_uri\":\"http://127.0.0.1:1/\",\"max_req_body_size\":4");
        Assert.Equal(HttpStatusCode.BadRequest, (await AskAsync(HttpMethod.Post, "/f/", "12345")).Status);
        await _gateway.ErrorLogSaysAsync("error while reading request body");
    }

    [Fact]
    public async Task What_is_signed_is_what_is_sent()
    {
        await using var function = await StartEchoAsync();
        await RouteAsync("aws-lambda", $$$"""
            "function_uri":"http://localhost:{{{function.Port}}}/prod","authorization":{"iam":{"accesskey":"KEY1","secretkey":"KeySecret","aws_region":"eu-central-1"}}
            """);
        foreach (var (method, path, body) in ((HttpMethod, string, string?)[])[
            (HttpMethod.Get, "/f/a%20b?with%20space=a%2Fb%20c&multi=m2&multi=m1&flag&a=*&a-=x", null),
            (HttpMethod.Post, "/f/x/", """{"a":1}""")])
        {
            var asked = await EchoAsync(method, path, body, ("X-Two", "a  b"), ("Cookie", "c=1"));
            var headers = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
            var said = Header(asked, "authorization")!;
            foreach (var name in said.Split("SignedHeaders=")[1].Split(',')[0].Split(';'))
            {
                headers[name] = Header(asked, name) ?? throw new InvalidOperationException($"{name} is signed and not sent");
            }
            Assert.Contains("Credential=KEY1/", said, StringComparison.Ordinal);
            var again = new FunctionRequest
            {
                Method = method.Method, Path = (string)asked["path"]!, Query = ((string?)asked["query"] ?? "").TrimStart('?'),
                    Headers = headers, Body = Encoding.UTF8.GetBytes((string)asked["body"]!),
            };
            var time = DateTimeOffset.ParseExact(headers["X-Amz-Date"], "yyyyMMdd'T'HHmmss'Z'", null,
                System.Globalization.DateTimeStyles.AssumeUniversal);
            AwsSignature.Sign(again, "KEY1", "KeySecret", "eu-central-1", "execute-api", time);
            Assert.Equal(again.Headers["Authorization"], said);
        }
    }

    [Theory]
    [InlineData("aws-lambda", """{"apikey":"k"}""", "", "x-api-key=k")]
    [InlineData("aws-lambda", """{"apikey":"k"}""", "x-api-key:mine", "x-api-key=mine")]
    [InlineData("aws-lambda", """{"iam":{"accesskey":"a","secretkey":"s"} }""", "Authorization:mine", "authorization=mine")]
    [InlineData("azure-functions", """{"apikey":"k","clientid":"c"}""", "", "x-functions-key=k,x-functions-clientid=c")]
    [InlineData("azure-functions", """{"apikey":"k","clientid":"c"}""", "x-functions-clientid:mine",
        "x-functions-key=,x-functions-clientid=mine")]
    [InlineData("openfunction", """{"service_token":"test:test"}""", "Authorization:mine", "authorization=Basic dGVzdDp0ZXN0")]
    [InlineData("openfunction", "{}", "Authorization:mine", "authorization=mine")]
    public async Task A_clients_own_credentials_are_not_overwritten_but_by_openfunction(string plugin, string authorization, string header,
        string expected)
    {
        await using var function = await StartEchoAsync();
        await RouteAsync(plugin, $"\"function_uri\":\"http://localhost:{function.Port}\",\"authorization\":{authorization}");
        var asked = await EchoAsync(HttpMethod.Get, "/f/", null, header.Length == 0 ? [] : [(header.Split(':')[0], header.Split(':')[1])]);
        foreach (var pair in expected.Split(','))
        {
            Assert.Equal(pair.Split('=', 2)[1], Header(asked, pair.Split('=')[0]) ?? "");
        }
    }

    [Fact]
    public async Task The_master_key_of_the_metadata_stands_for_a_route_without_authorization()
    {
        await using var function = await StartEchoAsync();
        await _gateway.PutAsync("/plugin_metadata/azure-functions", """{"master_apikey":"master"}""");
        await RouteAsync("azure-functions", $"\"function_uri\":\"http://localhost:{function.Port}\"");
        var asked = await EchoAsync(HttpMethod.Get, "/f/");
        Assert.Equal(("master", null), (Header(asked, "x-functions-key"), Header(asked, "x-functions-clientid")));
        await RouteAsync("azure-functions",
            $"\"function_uri\":\"http://localhost:{function.Port}\",\"authorization\":{{\"apikey\":\"own\"}}");
        Assert.Equal("own", Header(await EchoAsync(HttpMethod.Get, "/f/"), "x-functions-key"));
    }

    [Theory]
    [InlineData("aws-lambda", """{"function_uri":"https://a","authorization":{"iam":{"secretkey":"x"} } }""",
        "property \"authorization\" validation failed: property \"iam\" validation failed: property \"accesskey\" is required")]
    [InlineData("aws-lambda", "{}", "property \"function_uri\" is required")]
    [InlineData("azure-functions", """{"function_uri":"app"}""",
        "property \"function_uri\" must be a URL that begins with http:// or https://")]
    [InlineData("openfunction", """{"function_uri":"https://a","timeout":50}""",
        "property \"timeout\" validation failed: expected 50 to be at least 100")]
    [InlineData("openwhisk", """{"api_host":"https://a","service_token":"t","namespace":"a/b","action":"x"}""",
        "property \"namespace\" validation failed: failed to match pattern")]
    public async Task What_cannot_be_is_refused(string plugin, string config, string error)
    {
        var (status, body) = await _gateway.AdminAsync(HttpMethod.Put, "/routes/1",
            $$"""{"uri":"/*","plugins":{"{{plugin}}":{{config}} } }""");
        Assert.Equal(HttpStatusCode.BadRequest, status);
        Assert.Contains(error, (string)body!["error_msg"]!, StringComparison.Ordinal);
    }

    // -- OpenWhisk

    [Fact]
    public async Task An_action_gets_the_body_and_is_waited_for()
    {
        await using var whisk = await StartEchoAsync();
        await RouteAsync("openwhisk", $$"""
            "api_host":"http://localhost:{{whisk.Port}}","service_token":"user:secret","namespace":"guest","package":"p","action":"hello world","result":false,"timeout":2000
            """);
        var asked = Encoding.UTF8.GetString(
            await (await _gateway.Client.PostAsync(_gateway.Url("/f/"), new StringContent("""{"name":"x"}"""),
                Cancel)).Content.ReadAsByteArrayAsync(Cancel));
        // the echo's own "body" is what an action would have said
        Assert.Equal("""{"name":"x"}""", asked);
    }

    [Theory]
    [InlineData("""{"hello":"test"}""", 200, """{"hello":"test"}""", null)]
    [InlineData("""{"statusCode":407,"body":"no"}""", 407, "no", null)]
    [InlineData("""{"headers":{"test":"header","n":1},"body":{"a":[1]} }""", 200, "{\"a\":[1]}\n", "header")]
    [InlineData("""{"headers":{"Content-Length":"99","test":["a","b"]},"body":""}""", 200, "", "a,b")]
    [InlineData("[1]", 200, "[1]", null)]
    [InlineData("no JSON", 503, null, null)]
    [InlineData("""{"statusCode":20}""", 503, null, null)]
    public async Task What_an_action_returns_is_the_answer_or_says_what_it_is(string result, int status, string? body, string? header)
    {
        string? target = null, authorization = null;
        await using var whisk = await WebOrigin.StartAsync(context =>
        {
            (target, authorization) = ($"{context.Request.Method} {context.Request.Path.ToUriComponent()}{context.Request.QueryString}",
                context.Request.Headers.Authorization.ToString());
            return context.Response.WriteAsync(result);
        });
        await RouteAsync("openwhisk",
            $"\"api_host\":\"http://localhost:{whisk.Port}\",\"service_token\":\"user:secret\",\"namespace\":\"guest\",\"action\":\"a\"");
        var answer = await AskAsync(HttpMethod.Get, "/f/");
        Assert.Equal(status, (int)answer.Status);
        if (body is not null)
        {
            Assert.Equal(body, answer.Body);
        }
        Assert.Equal(header, answer.Response.Headers.TryGetValues("test", out var values) ? string.Join(',', values) : null);
        Assert.Equal(("POST /api/v1/namespaces/guest/actions/a?blocking=true&result=true&timeout=3000", "Basic dXNlcjpzZWNyZXQ="),
            (target, authorization));
    }

    [Fact]
    public async Task A_whisk_that_cannot_be_reached_is_503_and_a_body_over_the_limit_413()
    {
        await RouteAsync("openwhisk",
            "\"api_host\":\"http://127.0.0.1:1\",\"service_token\":\"t\",\"namespace\":\"guest\",\"action\":\"a\",\"max_req_body_size\":4");
        Assert.Equal(HttpStatusCode.ServiceUnavailable, (await AskAsync(HttpMethod.Get, "/f/")).Status);
        await _gateway.ErrorLogSaysAsync("failed to process openwhisk action, err: connection refused");
        Assert.Equal(HttpStatusCode.RequestEntityTooLarge, (await AskAsync(HttpMethod.Post, "/f/", "12345")).Status);
    }
}
