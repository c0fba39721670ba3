using System.Text.RegularExpressions;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Bodies;

public class SpooledBytesTests
{
    [Fact]
    public async Task What_went_through_a_temporary_file_is_counted()
    {
        const int size = 32 * 1024 * 1024;
        var sent = new TaskCompletionSource();
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync($"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
            var piece = new byte[1024 * 1024];
            for (var bytes = 0; bytes < size; bytes += piece.Length)
            {
                await connection.SendAsync(piece);
            }
            sent.SetResult();
        });
        await using var gateway = await TestGateway.StartAsync();
        await gateway.RouteAsync("r1", "/*", origin.Port,
            """ "plugins":{"prometheus":{},"proxy-buffering":{"disable_proxy_buffering":false}} """);

        using var response = await gateway.Client.GetAsync(gateway.Url("/"), HttpCompletionOption.ResponseHeadersRead);
        // the client takes nothing: what no socket holds is in the file
        await sent.Task.WaitAsync(TimeSpan.FromSeconds(30));
        Assert.Equal(size, (await response.Content.ReadAsByteArrayAsync()).Length);
        await Eventually.HoldsAsync(async () => await SpooledAsync(gateway) is > 0 and <= size, "no spooled bytes were counted");
    }

    static async Task<double> SpooledAsync(TestGateway gateway)
    {
        var text = await gateway.Client.GetStringAsync(new Uri($"http://{gateway.Gateway.MetricsEndpoint}/apisix/prometheus/metrics"));
        var found = Regex.Match(text, "sluice_spooled_bytes_total\\{route=\"r1\"\\} (\\S+)");
        return found.Success ? double.Parse(found.Groups[1].Value, System.Globalization.CultureInfo.InvariantCulture) : 0;
    }
}
