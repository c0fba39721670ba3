using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Sluice.Admin;
using Sluice.Admin.Control;
using Sluice.Admin.Doctor;
using Sluice.Api;
using Sluice.Model.Settings;
using Sluice.Pipeline;
using Sluice.Sources;

namespace Sluice.Hosting;

/// <summary>Admin API, Control API, status and metrics: which the settings ask for, where they listen, what they answer.</summary>
sealed class OwnInterfaces(GatewayParts parts, IConfigurationSource source)
{
    readonly AdminGate _admin = new(parts.Live, parts.Loggers.CreateLogger<AdminGate>());
    volatile AdminAccess _control = AdminAccess.Closed;

    public StatusApi Status { get; } = new() { Warning = () => source.Warning };

    /// <summary>Who may use the Admin API from now on.</summary>
    public void LetIn(GatewaySettings settings)
    {
        _admin.Access = settings.Admin is { } admin ? AdminAccess.Of(admin) : AdminAccess.Closed;
        _control = settings.Admin is null ? AdminAccess.Of(settings.AdminKeys) : _admin.Access;
    }

    /// <summary>The interfaces by their names.</summary>
    public IEnumerable<(string Name, EndpointAddress Address, RequestDelegate Handler)> All(GatewaySettings settings)
    {
        foreach (var (name, address) in Addresses(settings))
        {
            yield return (name, address, name switch
            {
                "admin" =>
                    Serve("Admin API",
                        new AdminApi(parts.Live, parts.Services, source.Writer, source as PushedConfiguration, Streams(AdminApi.Prefix)),
                        _admin),
                "control" => Serve(
                    "Control API",
                    new ControlApi(parts.Live, parts.Services, parts.Upstreams, source.Writer, Streams("/v1"),
                        new DoctorApi(parts.Live, parts.Services)),
                    new ControlGate(parts.Live, () => _control)),
                "status" => Serve("status", Status, new OpenGate()),
                _ =>
                    Serve("metrics",
                        new MetricsApi(parts.Metrics,
                            MetricsApi.Address(settings.PluginAttributes.GetValueOrDefault("prometheus"))!.Value.Uri), new OpenGate()),
            });
        }
    }

    StreamsApi Streams(string prefix) => new(prefix, parts.Services.Live, parts.Time, parts.Loggers.CreateLogger<StreamsApi>());

    public static IEnumerable<(string Name, EndpointAddress Address)> Addresses(GatewaySettings settings)
    {
        if (settings.Admin is { } admin)
        {
            yield return ("admin", new(admin.Listen) { Place = settings.PlaceOf("deployment.admin.admin_listen.port") });
        }
        if (settings.Control is { } control)
        {
            yield return ("control", new(control) { Place = settings.PlaceOf("apisix.control.port") });
        }
        yield return ("status", new(settings.Status) { Place = settings.PlaceOf("apisix.status.port") });
        if (MetricsApi.Address(settings.PluginAttributes.GetValueOrDefault("prometheus")) is { } metrics)
        {
            yield return ("metrics", new(metrics.Listen) { Place = settings.PlaceOf("plugin_attr.prometheus.export_addr.port") });
        }
    }

    /// <summary>The table is made anew when other plugins were enabled.</summary>
    RequestDelegate Serve(string name, IApiRoutes api, IApiGate gate)
    {
        (PluginRegistry Plugins, ApiTable Table)? made = null;
        return new ApiServer(name, Table, gate, parts.Loggers.CreateLogger<ApiServer>()).HandleAsync;

        ApiTable Table()
        {
            var plugins = parts.Live.Current.Plugins;
            if (made is not { } known || known.Plugins != plugins)
            {
                made = known = (plugins, new ApiTable(api.Routes));
            }
            return known.Table;
        }
    }
}
