using System.Text.Json.Nodes;
using Sluice.Model;
using Sluice.Pipeline;
using Sluice.Plugins;
using Sluice.Sources;

namespace Sluice.Tests.Sources;

public class SecretsTests
{
    static readonly DataEncryption Encryption = new(["0123456789abcdef"], true);
    static readonly PluginRegistry Plugins = new(Builtin.All);

    [Theory]
    [InlineData(ResourceKind.Consumers, "jack", """{"plugins":{"key-auth":{"key":"SECRET"}}}""")]
    [InlineData(ResourceKind.Credentials, "jack/credentials/1", """{"plugins":{"key-auth":{"key":"SECRET"}}}""")]
    [InlineData(ResourceKind.Ssls, "1", """{"key":"--- SECRET","keys":["--- SECRET"]}""")]
    [InlineData(ResourceKind.Secrets, "vault/1", """{"token":"SECRET","auth_config":{"private_key":"SECRET"}}""")]
    public void Secrets_go_into_the_store_encrypted_and_come_back_clear(object kind, string id, string json)
    {
        var value = JsonNode.Parse(json)!.AsObject();
        var stored = Secrets.Encrypted((ResourceKind)kind, id, value, Plugins, Encryption);
        Assert.DoesNotContain("SECRET", stored.ToJsonString());
        Secrets.Decrypt((ResourceKind)kind, id, stored, Plugins, Encryption);
        Assert.True(JsonNode.DeepEquals(value, stored));
    }

    [Theory]
    [InlineData(ResourceKind.Ssls, """{"key":"$env://KEY"}""")]
    [InlineData(ResourceKind.Routes, """{"plugins":{"key-auth":{"header":"apikey"}}}""")]
    [InlineData(ResourceKind.Consumers, """{"plugins":{"unknown":{"key":"k"}}}""")]
    [InlineData(ResourceKind.PluginMetadata, "{}")]
    public void A_value_that_is_no_secret_is_stored_as_it_is(object kind, string json)
    {
        var value = JsonNode.Parse(json)!.AsObject();
        Assert.True(JsonNode.DeepEquals(value, Secrets.Encrypted((ResourceKind)kind, "1", value, Plugins, Encryption)));
    }

    [Theory]
    [InlineData(ResourceKind.Consumers, """{"plugins":{"key-auth":{"key":"SECRET"}}}""")]
    [InlineData(ResourceKind.Ssls, """{"key":"SECRET","keys":["SECRET"]}""")]
    [InlineData(ResourceKind.Secrets, """{"token":"SECRET","auth_config":{"private_key":"SECRET"}}""")]
    [InlineData(ResourceKind.Routes, """{"upstream":{"tls":{"client_key":"SECRET"}}}""")]
    public void Secrets_are_shown_to_people_as_stars(object kind, string json) =>
        Assert.DoesNotContain("SECRET", Secrets.Masked((ResourceKind)kind, "1", JsonNode.Parse(json)!.AsObject(), Plugins).ToJsonString());
}
