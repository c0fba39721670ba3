namespace Sluice.FunctionalTests.Lua;

/// <summary>They take all the processors for seconds: nothing else runs beside them.</summary>
[CollectionDefinition(nameof(HostileScriptTests), DisableParallelization = true)]
public sealed class HostileScriptCollection;

/// <summary>Scripts that go wrong (<c>hostile.lua</c>), all at once: each concerns itself only.</summary>
[Collection(nameof(HostileScriptTests))]
public sealed class HostileScriptTests() : LuaGatewayTests("plugins: [serverless-pre-function]")
{
    static readonly TimeSpan Patience = TimeSpan.FromSeconds(1);

    [Fact]
    public async Task Hostile_scripts_harm_no_other_request()
    {
        string[] scripts =
            [.. (await File.ReadAllLinesAsync(Path.Combine(AppContext.BaseDirectory, "Lua", "hostile.lua"), TestContext.Current.CancellationToken))
            .Where(line => !line.StartsWith("--", StringComparison.Ordinal))];
        await FunctionAsync("fine", "ngx.print('fine')");
        for (var i = 0; i < scripts.Length; i++)
        {
            await FunctionAsync($"s{i}", scripts[i]);
        }
        await Task.WhenAll(Enumerable.Range(0, scripts.Length).Select(i => LeaveAsync($"/s{i}")));
        for (var i = 0; i < 8; i++)
        {
            // a connection of its own each: every event loop has some
            using var client = new HttpClient();
            await Eventually.HoldsAsync(async () => await TryAsync(client) == "fine", "nobody gets an answer any more");
        }
        await Eventually.TrueAsync(() => Enumerable.Range(0, scripts.Length).All(i => Ended().Contains($"GET /s{i} ")),
            "a script goes on without its client");
    }

    string Ended() => File.ReadAllText(Path.Combine(Gateway.Prefix, "logs", "access.log"));

    /// <summary>A client that takes what it gets for a while.</summary>
    async Task LeaveAsync(string path)
    {
        using var patience = new CancellationTokenSource(Patience);
        try
        {
            using var client = new HttpClient();
            using var answer = await client.GetAsync(Gateway.Url(path), HttpCompletionOption.ResponseHeadersRead, patience.Token);
            await answer.Content.CopyToAsync(Stream.Null, patience.Token);
        }
        catch (Exception e) when (e is HttpRequestException or IOException or OperationCanceledException)
        {
            // whatever it was answered
        }
    }

    async Task<string> TryAsync(HttpClient client)
    {
        try
        {
            return await client.GetStringAsync(Gateway.Url("/fine"), TestContext.Current.CancellationToken);
        }
        catch (HttpRequestException e)
        {
            // a state whose memory is used up is replaced
            return e.Message;
        }
    }
}
