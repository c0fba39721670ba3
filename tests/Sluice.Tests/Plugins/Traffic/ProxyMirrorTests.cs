namespace Sluice.Tests.Plugins.Traffic;

public class ProxyMirrorTests
{
    [Theory]
    [InlineData("{}", """property "host" is required""")]
    [InlineData("""{"host":"http://a","sample_ratio":1.1}""",
        """property "sample_ratio" validation failed: expected 1.1 to be at most 1""")]
    [InlineData("""{"host":"grpc://a:1"}""", "host: mirroring over gRPC is not supported by this version of Sluice: use http or https")]
    public void Wrong_configurations_are_refused(string config, string error) =>
        Assert.Equal(error, PluginTest.Check("proxy-mirror", config));
}
