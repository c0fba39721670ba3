using Sluice.Model;

namespace Sluice.Tests;

public class ResourceKindTests
{
    [Fact]
    public void Singular_names_are_those_of_APISIX_messages() =>
        Assert.Equal(["route", "service", "upstream", "consumer", "consumer group", "global rule", "plugin config", "plugin_metadata"],
            ResourceKinds.All.Select(kind => kind.Singular()));
}
