using System.Net;
using Microsoft.AspNetCore.Http;

namespace Sluice.Api;

/// <summary>
/// Keeps a web page from reaching an interface by a name of its own that it has pointed at this machine (DNS rebinding): the browser sends
/// that name as Host.
/// </summary>
static class HostCheck
{
    /// <summary>The 421, or null for a Host that no stranger can point anywhere: an IP address, <c>localhost</c>, one of
    /// <c>sluice.ui.hosts</c>, or none.</summary>
    public static JsonAnswer? Refuse(HttpRequest request, IReadOnlyList<string> hosts)
    {
        var host = request.Host.Host;
        if (host.EndsWith('.'))
        {
            host = host[..^1];
        }
        return host.Length == 0 || IPAddress.TryParse(host, out _) || host.Equals("localhost", StringComparison.OrdinalIgnoreCase)
            || hosts.Contains(host, StringComparer.OrdinalIgnoreCase)
            ? null
            : JsonAnswer.Error(StatusCodes.Status421MisdirectedRequest,
                $"the host {Shown(host)} is not known here: ask by IP address or localhost, or add it to sluice.ui.hosts");
    }

    static string Shown(string host) => host.Length <= 100 ? host : host[..100] + "…";
}
