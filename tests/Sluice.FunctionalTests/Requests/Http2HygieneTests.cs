namespace Sluice.FunctionalTests.Requests;

/// <summary>What must not get past HTTP/1.1 does not get past HTTP/2 either.</summary>
public sealed class Http2HygieneTests(HygieneFixture fixture) : IClassFixture<HygieneFixture>
{
    static (string Name, string Value)[] Request(string path = "/", string? authority = "a.test",
        params (string Name, string Value)[] more) =>
        [(":method", "GET"), (":scheme", "http"), (":path", path),
            .. authority is null ? [] : ((string, string)[])[(":authority", authority)], .. more];

    Task<(int Status, string Body)> AskAsync(params (string Name, string Value)[] fields) =>
        RawHttp2.AskAsync(fixture.Gateway.EndPoint, fields);

    [Fact]
    public async Task An_ordinary_request_passes() => Assert.Equal(200, (await AskAsync(Request())).Status);

    [Theory]
    [InlineData("/\u00e4")]
    [InlineData("/a?\u00ff")]
    [InlineData("/\u00c3\u00a4")]
    public async Task A_path_with_raw_8_bit_characters_never_reaches_the_upstream(string path)
    {
        var before = fixture.Requests;
        Assert.Equal(400, (await AskAsync(Request(path))).Status);
        Assert.Equal(before, fixture.Requests);
    }

    [Fact]
    public async Task A_request_for_no_host_is_refused()
    {
        var before = fixture.Requests;
        Assert.Equal(400, (await AskAsync(Request(authority: null))).Status);
        Assert.Equal(before, fixture.Requests);
        Assert.Equal(200, (await AskAsync(Request("/", null, ("host", "a.test")))).Status);
    }

    [Theory]
    [InlineData("x(a")]
    [InlineData("x\u00e4")]
    [InlineData("x y")]
    public async Task A_header_with_an_illegal_name_never_reaches_the_upstream(string name)
    {
        var (status, body) = await AskAsync(Request("/", "a.test", (name, "1"), ("x-good", "1")));
        Assert.Contains(status, (int[])[0, 200, 400]);
        Assert.Equal(status == 200, body.Contains("x-good: 1", StringComparison.OrdinalIgnoreCase));
        Assert.DoesNotContain(name, body, StringComparison.OrdinalIgnoreCase);
    }
}
