using Sluice.Cli.Demo;

namespace Sluice.Tests.Cli;

public class DemoPortsTests
{
    [Fact]
    public void All_ports_move_with_the_one_that_was_asked_for()
    {
        var ports = DemoPorts.Choose(21080);
        Assert.Equal(21080, ports.Proxy);
        int[] others = [ports.Admin, ports.Control, ports.Metrics, ports.Status];
        Assert.All(others, port => Assert.InRange(port, 21081, 21300));
        Assert.Equal(4, others.Distinct().Count());
    }
}
