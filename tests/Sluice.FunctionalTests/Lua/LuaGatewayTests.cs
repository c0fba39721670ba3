using System.Text.Json;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Lua;

/// <summary>What tests of plugins in Lua begin with: a gateway that has them, and behind it a server that answers with what it
/// gets.</summary>
/// <param name="config">conf/config.yaml, with <c>plugins:</c> in it.</param>
/// <param name="plugins">Files of <c>lua/apisix/plugins</c>.</param>
public abstract class LuaGatewayTests(string config, params (string Name, string Text)[] plugins) : IAsyncLifetime
{
    protected TestGateway Gateway { get; private set; } = null!;

    protected int Origin => _origin.Port;

    ScriptedOrigin _origin = null!;

    public async ValueTask InitializeAsync()
    {
        _origin = EchoOrigin.Start();
        Gateway = await TestGateway.StartAsync(config);
        foreach (var (name, text) in plugins)
        {
            Gateway.Write($"lua/apisix/plugins/{name}.lua", text);
        }
        await LuaPluginTests.ReloadAsync(Gateway);
    }

    public async ValueTask DisposeAsync()
    {
        await Gateway.DisposeAsync();
        await _origin.DisposeAsync();
        GC.SuppressFinalize(this);
    }

    protected async Task PluginAsync(string name, string text)
    {
        Gateway.Write($"lua/apisix/plugins/{name}.lua", text);
        await LuaPluginTests.ReloadAsync(Gateway);
    }

    /// <summary>A route <c>/ID</c> that runs a function's body in access.</summary>
    protected Task FunctionAsync(string id, string code) =>
        Gateway.RouteAsync(id, $"/{id}", Origin, "\"plugins\":" + JsonSerializer.Serialize(
        new Dictionary<string, object> { ["serverless-pre-function"] = new { phase = "access",
            functions = new[] { $"return function(conf, ctx) {code} end" } } }));

    protected Task<string> GetStringAsync(string path) =>
        Gateway.Client.GetStringAsync(Gateway.Url(path), TestContext.Current.CancellationToken);
}
