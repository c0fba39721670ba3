using System.Net;
using System.Net.Sockets;
using Microsoft.Extensions.Logging.Abstractions;
using Sluice.Model;
using Sluice.Model.Settings;
using Sluice.Observability;
using Sluice.Pipeline;
using Sluice.Plugins;
using Sluice.Sources;

namespace Sluice.Hosting;

/// <summary>
/// Tries what a start would do, and leaves nothing behind: settings, resources of conf/apisix.yaml, logs, and every address. So
/// <c>restart</c> knows, while
/// the old gateway still serves, whether the new one will.
/// </summary>
static class StartCheck
{
    /// <summary>Settings, nginx.conf, apisix.yaml.</summary>
    public static async Task<IReadOnlyList<Problem>> ConfigurationAsync(GatewayOptions options) => (await ReadAsync(options)).Problems;

    /// <summary>The configuration, and whether its addresses and logs can be had.</summary>
    /// <param name="running">The gateway of this instance that holds some of them now; null when none runs.</param>
    /// <param name="inUse">How grave it is that somebody else holds an address now: until the start it may be free.</param>
    public static async Task<IReadOnlyList<Problem>> StartAsync(GatewayOptions options, int? running, Severity inUse)
    {
        var (settings, problems) = await ReadAsync(options);
        return settings is null || problems.Any(problem => problem.Severity == Severity.Error)
            ? problems
            : [.. problems, .. Logs(settings), .. Addresses(settings, running, inUse)];
    }

    static async Task<(GatewaySettings? Settings, IReadOnlyList<Problem> Problems)> ReadAsync(GatewayOptions options)
    {
        var (settings, problems) = SettingsReader.Load(options.Prefix, options.Environment);
        if (settings is null)
        {
            return (settings, problems);
        }
        if (settings.Admin is { KeyRequired: true, Keys.Count: 0 }
            && AdminKey.WhyNot(Gateway.ConfigFile(options.Prefix), Gateway.KeyIsRead(options.Prefix, options.Environment)) is { } wrong)
        {
            problems = [.. problems, Problem.Error("conf/config.yaml", wrong)];
        }
        await using var parts = new GatewayParts(settings, options, NullLoggerFactory.Instance, Path.GetTempPath());
        problems = [.. problems, .. PluginNames.Check(settings, Builtin.All, parts.Services.IsScript)];
        if (!settings.IsStandalone || settings.IsPushed)
        {
            return (settings, problems);
        }
        parts.Live.Apply(settings);
        await using var source = parts.CreateSource(settings, options);
        return (settings, [.. problems, .. await source.ReloadAsync()]);
    }

    static IEnumerable<Problem> Logs(GatewaySettings settings)
    {
        foreach (var (path, key) in new[]
        {
            (settings.Logs.ErrorLog == "stderr" ? null : settings.Logs.ErrorLog, "nginx_config.error_log"),
            (settings.Logs.Access.Path, "nginx_config.http.access_log"),
            (settings.Logs.StreamAccess.Path, "nginx_config.stream.access_log"),
        })
        {
            if (path is not null && LogFile.WhyNot(path) is { } reason)
            {
                yield return Problem.Error($"conf/config.yaml ({key})", reason);
            }
        }
    }

    static IEnumerable<Problem> Addresses(GatewaySettings settings, int? running, Severity inUse)
    {
        var http = settings.Listens.Where(listen => !listen.Tls || settings.Tls is not null).Select(EndpointAddress.Of)
            .Concat(OwnInterfaces.Addresses(settings).Select(own => own.Address))
            .Select(address => (address.EndPoint, IsUdp: false, address.Optional, address.DualMode, address.Place.Text));
        foreach (var (endPoint, isUdp, optional, dualMode,
            place) in http.Concat(settings.Streams.Listens.Select(listen => (listen.EndPoint, listen.IsUdp, false, false, listen.Place))))
        {
            if (endPoint.Port != 0 && !optional && WhyNot(endPoint, isUdp, dualMode, running, inUse) is var (severity, reason))
            {
                yield return new Problem(severity, place, $"{endPoint}: {reason}");
            }
        }
    }

    static (Severity Severity, string Reason)? WhyNot(IPEndPoint endPoint, bool isUdp, bool dualMode, int? running, Severity inUse)
    {
        try
        {
            using var socket = isUdp
                ? new Socket(endPoint.AddressFamily, SocketType.Dgram, ProtocolType.Udp)
                : new Socket(endPoint.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
            if (endPoint.AddressFamily == AddressFamily.InterNetworkV6)
            {
                socket.DualMode = dualMode;
            }
            socket.Bind(endPoint);
            return null;
        }
        catch (SocketException e) when (e.SocketErrorCode == SocketError.AddressAlreadyInUse)
        {
            return running is { } pid && PortHolder.IsHeldOnlyBy(pid, endPoint.Port, isUdp) ? null
                : (inUse, $"address already in use{PortHolder.Describe(endPoint.Port, isUdp)}");
        }
        catch (SocketException e)
        {
            return (Severity.Error, $"cannot listen: {e.Message}");
        }
    }
}
