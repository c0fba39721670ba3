using System.Reflection;
using Sluice.Pipeline;

namespace Sluice.Tests.Architecture;

/// <summary>What every plugin does alike.</summary>
public class PluginContractTests
{
    /// <summary>What a schema cannot say is the message of a converter (<c>ParsedConverter</c>), or of the ConfigException that
    /// <c>Create</c> throws.</summary>
    [Fact]
    public void No_plugin_checks_its_configuration_beside_Create() => Assert.Empty(typeof(PluginDescriptor).Assembly.GetTypes()
        .Where(type => type.GetInterfaces().Any(one => one.IsGenericType && one.GetGenericTypeDefinition() == typeof(IPlugin<,>)))
        .Where(type => type.GetMethod("Check",
            BindingFlags.Static | BindingFlags.Public | BindingFlags.NonPublic) is { ReturnType.Name: "String" })
        .Select(type => $"{type.Name}.Check is never called: throw its error as a ConfigException in Create"));
}
