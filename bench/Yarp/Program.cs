// The smallest YARP there is: one route to one destination. Arguments: upstream port, plaintext port, TLS port, PEM certificate, PEM key.
using System.Globalization;
using System.Net;
using System.Security.Cryptography.X509Certificates;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Yarp.ReverseProxy.Configuration;

int[] ports = [.. args[..3].Select(port => int.Parse(port, CultureInfo.InvariantCulture))];
using var pem = X509Certificate2.CreateFromPemFile(args[3], args[4]);
var builder = WebApplication.CreateSlimBuilder();
builder.Logging.ClearProviders();
builder.WebHost.UseKestrelHttpsConfiguration().ConfigureKestrel(kestrel =>
{
    kestrel.Limits.MinResponseDataRate = null;
    kestrel.Listen(IPAddress.Loopback, ports[1]);
    kestrel.Listen(IPAddress.Loopback, ports[2], listen =>
    {
        listen.Protocols = HttpProtocols.Http1AndHttp2;
        listen.UseHttps(pem);
    });
});
builder.Services.AddReverseProxy().LoadFromMemory(
    [new RouteConfig { RouteId = "all", ClusterId = "origin", Match = new() { Path = "{**all}" } }],
    [new ClusterConfig { ClusterId = "origin",
        Destinations = new Dictionary<string, DestinationConfig> { ["one"] = new() { Address = $"http://127.0.0.1:{ports[0]}" } } }]);
var app = builder.Build();
app.MapReverseProxy();
await app.RunAsync();
