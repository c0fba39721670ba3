using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.SignalR;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Playwright;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Streams.WebSocket;

/// <summary>
/// WebSocket in a real Chromium over HTTPS: the page came over HTTP/2, so the socket is an extended CONNECT on the same connection (RFC
/// 8441). Plain, and as socket.io and SignalR make them.
/// </summary>
public sealed class BrowserWebSocketTests(Chromium chromium, ProtocolsGateway fixture) : IClassFixture<Chromium>,
    IClassFixture<ProtocolsGateway>
{
    const string WebSocketAllowed = """ "enable_websocket":true """;

    [Fact]
    public async Task A_page_talks_over_a_plain_WebSocket()
    {
        await using var origin = await WebOrigin.StartAppAsync(app => app.UseWebSockets().Run(UpgradeTests.EchoAsync));
        await fixture.Gateway.RouteAsync("ws", "/ws", origin.Port, WebSocketAllowed);
        await using var page = await OpenAsync();

        await page.Tab.EvaluateAsync("""
            () => {
              window.received = [];
              window.socket = new WebSocket(`wss://${location.host}/ws`, ['chat']);
              socket.onmessage = message => received.push(message.data);
              socket.onopen = () => { received.push(socket.protocol); socket.send('one'); socket.send('two'); };
              socket.onclose = close => received.push(close.code);
            }
            """);

        await page.ReceivesAsync("chat", "one", "two");
        await page.Tab.EvaluateAsync("socket.close(1000)");
        await page.ReceivesAsync("chat", "one", "two", "1000");
        await CameOverHttp2Async("GET /ws HTTP/2");
    }

    [Fact]
    public async Task Socket_io_upgrades_from_polling_to_a_WebSocket()
    {
        await using var origin = await NodeOrigin.StartAsync("socketio.js");
        await fixture.Gateway.RouteAsync("socketio", "/socket.io/*", origin.Port, WebSocketAllowed);
        await using var page = await OpenAsync("socket.io/client-dist/socket.io.min.js");

        await page.Tab.EvaluateAsync("""
            () => {
              window.received = [];
              window.socket = io();
              socket.on('text', text => received.push(text));
            }
            """);

        await page.ReceivesAsync("welcome");
        await page.Tab.WaitForFunctionAsync("socket.io.engine.transport.name === 'websocket'");
        await page.Tab.EvaluateAsync("void socket.emit('text', 'hello')");
        await page.ReceivesAsync("welcome", "HELLO");
        await page.Tab.EvaluateAsync("void socket.disconnect()");
        await CameOverHttp2Async("&transport=websocket&");
    }

    sealed class EchoHub : Hub
    {
        public async Task Say(string text) => await Clients.Caller.SendAsync("said", text.ToUpperInvariant());
    }

    [Fact]
    public async Task SignalR_talks_over_a_WebSocket()
    {
        await using var origin = await WebOrigin.StartAppAsync(app => app.MapHub<EchoHub>("/hub"),
            services: services => services.AddSignalR());
        await fixture.Gateway.RouteAsync("signalr", "/hub*", origin.Port, WebSocketAllowed);
        await using var page = await OpenAsync("@microsoft/signalr/dist/browser/signalr.min.js");

        await page.Tab.EvaluateAsync("""
            async () => {
              window.received = [];
              window.hub = new signalR.HubConnectionBuilder().withUrl('/hub', { transport: signalR.HttpTransportType.WebSockets }).build();
              hub.on('said', text => received.push(text));
              await hub.start();
              await hub.invoke('Say', 'hello');
            }
            """);

        await page.ReceivesAsync("HELLO");
        await page.Tab.EvaluateAsync("hub.stop()");
        await CameOverHttp2Async("GET /hub?id=");
    }

    /// <summary>The line of the WebSocket, which is written when it has ended.</summary>
    async Task CameOverHttp2Async(string part)
    {
        var file = Path.Combine(fixture.Gateway.Prefix, "logs", "access.log");
        await Eventually.TrueAsync(
            () => File.ReadLines(file).Any(line => line.Contains(part, StringComparison.Ordinal)
                && line.Contains(" HTTP/2", StringComparison.Ordinal) && line.Contains("\" 200 ", StringComparison.Ordinal)),
            () => $"no {part} over HTTP/2 in the access log:\n{File.ReadAllText(file)}");
    }

    /// <summary>A tab on a page that came over HTTPS, with a script of an npm package.</summary>
    sealed class Page(IPage tab, WebOrigin site) : IAsyncDisposable
    {
        public IPage Tab => tab;

        public async Task ReceivesAsync(params string[] texts)
        {
            var all = string.Join('|', texts);
            await Eventually.HoldsAsync(async () => await tab.EvaluateAsync<string>("received.join('|')") == all, $"not received: {all}");
        }

        public async ValueTask DisposeAsync()
        {
            await tab.CloseAsync();
            await site.DisposeAsync();
        }
    }

    async Task<Page> OpenAsync(string? script = null)
    {
        var site = await WebOrigin.StartAsync("hello");
        var path = await fixture.RouteAsync(site.Port);
        var tab = await chromium.Browser.NewPageAsync(new() { IgnoreHTTPSErrors = true });
        await tab.GotoAsync(fixture.Url(Protocol.TlsHttp2, path).ToString());
        if (script is not null)
        {
            await tab.AddScriptTagAsync(new() { Path = NodeOrigin.Module(script) });
        }
        return new(tab, site);
    }
}
