namespace Sluice.Tests.Plugins.Traffic;

public class ClientControlTests
{
    [Fact]
    public void Wrong_configurations_are_refused() => Assert.Equal(
        """property "max_body_size" validation failed: expected -1 to be at least 0""",
        PluginTest.Check("client-control", """{"max_body_size":-1}"""));

    [Theory]
    [InlineData(5, 413)]
    [InlineData(6, 200)]
    [InlineData(0, 200)]
    public async Task Announced_bodies_over_the_limit_are_refused(int limit, int status) =>
        Assert.Equal(status,
            (await new PluginTest($$$"""{"client-control":{"max_body_size":{{{limit}}}}}""").SendAsync("POST", "/", null,
                (":body", "123456"))).Status);
}
