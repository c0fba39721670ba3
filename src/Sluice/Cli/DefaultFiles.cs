using Sluice.Model.Settings;

namespace Sluice.Cli;

/// <summary>What <c>sluice init</c> writes.</summary>
static class DefaultFiles
{
    public static string Config => SettingsReference.DefaultConfigYaml();

    /// <summary>For the gateway's user only: these files come to hold keys.</summary>
    public static FileStreamOptions Private(FileMode mode)
    {
        var options = new FileStreamOptions { Mode = mode, Access = FileAccess.Write };
        if (!OperatingSystem.IsWindows())
        {
            options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        }
        return options;
    }

    public const string Resources =
        """
        # Routes and what belongs to them, for the standalone mode: in conf/config.yaml
        #   deployment: {role: data_plane, role_data_plane: {config_provider: yaml}}
        # Watched: a change is applied within a second; one with errors is logged and changes nothing.
        # The file ends with the line #END; without it, it counts as not written to the end.
        routes: []
        #  - id: events
        #    uri: /events/*
        #    upstream:
        #      type: roundrobin
        #      nodes:
        #        "127.0.0.1:8080": 1
        #    plugins:
        #      proxy-buffering:
        #        disable_proxy_buffering: true
        upstreams: []
        #END

        """;
}
