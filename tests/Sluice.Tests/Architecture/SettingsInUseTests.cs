using System.Text.RegularExpressions;
using Sluice.Model.Nginx;
using Sluice.Model.Settings;

namespace Sluice.Tests.Architecture;

/// <summary>A setting that is read, documented and then used by nobody is a promise that is not kept.</summary>
public class SettingsInUseTests
{
    static readonly string Source = Path.Combine(Repository.Root, "src", "Sluice");

    /// <summary>What the documentation says to have no effect.</summary>
    static readonly string[] WithoutEffect = [nameof(NginxScope.ProxyBusyBuffersSize)];

    /// <summary>Files that only fill the settings in.</summary>
    static readonly string[] Readers = ["SettingsReader.cs", "NginxLevel.cs", "NginxDirectives.cs"];

    [Fact]
    public void Every_setting_is_used_by_somebody()
    {
        var sources = Directory.EnumerateFiles(Source, "*.cs", SearchOption.AllDirectories)
            .Where(file => !Readers.Contains(Path.GetFileName(file)) && Path.GetRelativePath(Source, file).Split(Path.DirectorySeparatorChar)[0] is not ("bin" or "obj"))
            .Select(file => string.Join('\n', File.ReadLines(file).Where(line => !line.TrimStart().StartsWith("//", StringComparison.Ordinal))))
            .ToArray();
        Type[] settings =
            [typeof(GatewaySettings), typeof(HttpSettings), typeof(TlsSettings), typeof(AdminSettings), typeof(DnsSettings), typeof(LogSettings), typeof(ListenSettings), typeof(NginxScope)];
        // one mention declares it
        var unused = from type in settings
                     from property in type.GetProperties(System.Reflection.BindingFlags.Instance | System.Reflection.BindingFlags.Public | System.Reflection.BindingFlags.DeclaredOnly)
                     where !WithoutEffect.Contains(property.Name) && sources.Sum(text => Regex.Count(text, $@"\b{property.Name}\b")) < 2
                     select $"{type.Name}.{property.Name}";
        Assert.True(!unused.Any(), string.Join('\n', unused));
    }
}
