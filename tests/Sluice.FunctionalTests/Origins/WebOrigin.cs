using System.Net;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Https;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace Sluice.FunctionalTests.Origins;

/// <summary>A proper upstream on 127.0.0.1, port 0, for tests in which it is not the bytes that matter.</summary>
public sealed class WebOrigin : IAsyncDisposable
{
    readonly WebApplication _app;

    WebOrigin(WebApplication app, int port)
    {
        _app = app;
        Port = port;
    }

    public int Port { get; }

    /// <param name="port">0: a free one.</param>
    /// <param name="https">Null: without TLS.</param>
    public static async Task<WebOrigin> StartAppAsync(
        Action<WebApplication> map, int port = 0, HttpProtocols protocols = HttpProtocols.Http1,
        HttpsConnectionAdapterOptions? https = null,
        Action<IServiceCollection>? services = null)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.WebHost.UseKestrelHttpsConfiguration().ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, port, listen =>
        {
            listen.Protocols = protocols;
            if (https is not null)
            {
                listen.UseHttps(https);
            }
        }));
        builder.Logging.ClearProviders();
        services?.Invoke(builder.Services);
        var app = builder.Build();
        map(app);
        await app.StartAsync();
        var address = app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.Single();
        return new(app, new Uri(address).Port);
    }

    public static Task<WebOrigin> StartAsync(RequestDelegate handler, int port = 0, HttpsConnectionAdapterOptions? https = null) =>
        StartAppAsync(app => app.Run(handler), port, https: https);

    /// <summary>Answers every request with a text.</summary>
    public static Task<WebOrigin> StartAsync(string text, int port = 0) => StartAsync(context => context.Response.WriteAsync(text), port);

    /// <summary>At once: connections are cut.</summary>
    public async ValueTask DisposeAsync()
    {
        using var now = new CancellationTokenSource();
        await now.CancelAsync();
        await _app.StopAsync(now.Token);
        await _app.DisposeAsync();
    }
}
