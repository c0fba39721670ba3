using System.Net;
using Sluice.FunctionalTests.Origins;
using Sluice.Hosting;

namespace Sluice.FunctionalTests.Configuration;

/// <summary>Gateways on an <see cref="EtcdServer"/>.</summary>
static class EtcdGateway
{
    public const string DataPlane = "data_plane", Traditional = "traditional", ControlPlane = "control_plane";

    /// <param name="prefix">The directory of an earlier gateway; null: a new one.</param>
    /// <param name="etcd">More of <c>deployment.etcd</c>.</param>
    public static Task<TestGateway> StartAsync(EtcdServer server, string role = Traditional, string? prefix = null, string etcd = "",
        string? hosts = null, int retries = 5) =>
        TestGateway.RunAsync(prefix ?? Directory.CreateTempSubdirectory("sluice-test-").FullName,
            Config(hosts ?? server.Url, role, etcd, retries));

    static string Config(string hosts, string role, string etcd, int retries) => TestGateway.Config()
        .Replace("  role: traditional\n  role_traditional:\n    config_provider: embedded\n",
            $"  role: {role}\n  role_{role}:\n    config_provider: etcd\n  etcd: {{host: [{hosts}], startup_retry: {retries}{(etcd.Length > 0 ? ", " + etcd : "")}}}\n",
            StringComparison.Ordinal);

    /// <summary>A route that a redirect answers, so that there is no need of an upstream: <c>302 Location: TO</c>.</summary>
    public static string Route(string uri, string to) => $$"""{"uri":"{{uri}}","plugins":{"redirect":{"uri":"{{to}}","ret_code":302} } }""";

    /// <summary>Where a path leads now: the redirect's goal, or the status.</summary>
    public static async Task<string> WhereAsync(TestGateway gateway, string path)
    {
        using var response = await gateway.Client.GetAsync(gateway.Url(path));
        return response.StatusCode == HttpStatusCode.Found ? response.Headers.Location!.ToString()
            : ((int)response.StatusCode).ToString(System.Globalization.CultureInfo.InvariantCulture);
    }

    public static Task LeadsAsync(TestGateway gateway, string path, string where) =>
        Eventually.HoldsAsync(async () => await WhereAsync(gateway, path) == where, $"{path} does not lead to {where}", seconds: 30);

    public static Task<string> ReadyAsync(TestGateway gateway) =>
        gateway.Client.GetStringAsync(new Uri($"http://{gateway.Gateway.StatusEndpoint}/status/ready"));

    public static Task ReadySaysAsync(TestGateway gateway, bool reachable) =>
        Eventually.HoldsAsync(async () => (await ReadyAsync(gateway)).Contains("etcd", StringComparison.Ordinal) != reachable,
            $"ready does not say reachable: {reachable}", seconds: 30);

    public static Task<string> MetricsAsync(TestGateway gateway) =>
        gateway.Client.GetStringAsync(new Uri($"http://{gateway.Gateway.MetricsEndpoint}/apisix/prometheus/metrics"));

    /// <summary>Why a gateway does not start.</summary>
    public static async Task<string> RefusalAsync(EtcdServer server, string etcd = "", string? hosts = null) =>
        (await Assert.ThrowsAsync<GatewayStartException>(() => StartAsync(server, etcd: etcd, hosts: hosts, retries: 0))).Message;
}
