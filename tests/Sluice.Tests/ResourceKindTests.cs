using Sluice.Model;

namespace Sluice.Tests;

public class ResourceKindTests
{
    [Fact]
    public void Singular_names_are_those_of_APISIX_messages() =>
        Assert.Equal(["route", "service", "upstream", "consumer", "consumer group", "global rule", "plugin config", "plugin_metadata",
                "credential", "proto", "secret", "ssl", "stream route", "graphql cost decoration"],
            ResourceKinds.All.Select(kind => kind.Singular()));

    [Theory]
    [InlineData("routes/r1", ResourceKind.Routes, "r1")]
    [InlineData("consumers/jack", ResourceKind.Consumers, "jack")]
    [InlineData("consumers/jack/credentials/c1", ResourceKind.Credentials, "jack/credentials/c1")]
    [InlineData("services/shop/graphql_cost_decorations/d1", ResourceKind.GraphqlCostDecorations, "shop/graphql_cost_decorations/d1")]
    [InlineData("secrets/vault/1", ResourceKind.Secrets, "vault/1")]
    [InlineData("ssls/1", ResourceKind.Ssls, "1")]
    public void A_key_names_a_kind_and_an_id(string key, object kind, string id)
    {
        Assert.True(ResourceKinds.TryParseKey(key, out var foundKind, out var foundId));
        Assert.Equal(((ResourceKind)kind, id), (foundKind, foundId));
        Assert.Equal(key, $"{((ResourceKind)kind).Directory()}/{id}");
    }

    [Theory]
    [InlineData("routes")]
    [InlineData("routes/")]
    [InlineData("routes/a/b")]
    [InlineData("secrets/1")]
    [InlineData("credentials/c1")]
    [InlineData("consumers/jack/credentials/")]
    [InlineData("consumers/jack/other/c1")]
    [InlineData("services/shop/credentials/c1")]
    [InlineData("graphql_cost_decorations/d1")]
    [InlineData("consumers/jack/credentials/a/b")]
    [InlineData("data_plane/server_info/1")]
    public void Keys_that_name_no_resource_are_refused(string key) => Assert.False(ResourceKinds.TryParseKey(key, out _, out _));
}
