using System.Net.Http.Headers;
using System.Text;
using System.Text.Json.Nodes;
using Sluice.Pipeline.References;

namespace Sluice.Tests.Pipeline.References;

public class SecretReferenceTests
{
    [Theory]
    [InlineData("$secret://vault/1/a/b/c", "vault", "1", "a/b/c", null)]
    [InlineData("$secret://vault", "", "", "", "no secret manager")]
    [InlineData("$secret://vault/1", "", "", "", "no secret conf id")]
    [InlineData("$secret://vault/1/", "", "", "", "no secret key id")]
    public void A_reference_names_manager_id_and_key(string reference, string manager, string id, string key, string? error)
    {
        if (error is not null)
        {
            Assert.Contains(error, Assert.Throws<SecretException>(() => SecretReference.Parse(reference)).Message,
                StringComparison.Ordinal);
            return;
        }
        Assert.Equal((manager, id, key), SecretReference.Parse(reference));
    }

    [Theory]
    [InlineData("$env://KEY", "value")]
    [InlineData("$ENV://KEY", "value")]
    [InlineData("$env://JSON/name", "jack")]
    [InlineData("$env://JSON/none", null)]
    [InlineData("$env://KEY/name", null)]
    [InlineData("$env://NONE", null)]
    public void The_environment_has_values_and_JSON(string reference, string? expected)
    {
        string? Variable(string name) => name switch { "KEY" => "value", "JSON" => "{\"name\":\"jack\"}", _ => null };
        if (expected is null)
        {
            Assert.DoesNotContain("value", Assert.Throws<SecretException>(() => SecretReference.Environment(reference, Variable)).Message,
                StringComparison.Ordinal);
            return;
        }
        Assert.Equal(expected, SecretReference.Environment(reference, Variable));
    }

    [Fact]
    public void References_are_found_and_replaced_anywhere_in_a_copy()
    {
        var tree = JsonNode.Parse("""{"a":"$env://A","b":[{"c":"$secret://v/1/x/y"},"plain",1],"d":"$money"}""")!;
        Assert.Equal(["$env://A", "$secret://v/1/x/y"], SecretReference.In(tree));
        Assert.Equal("""{"a":"[$env://A]","b":[{"c":"$secret://v/1/x/y"},"plain",1],"d":"$money"}""",
            SecretReference.Replace(tree, text => SecretReference.IsEnvironment(text) ? $"[{text}]" : null)!.ToJsonString());
        Assert.Equal("$env://A", (string?)tree["a"]);
    }

    /// <summary>Checked against an independent computation of AWS Signature Version 4.</summary>
    [Fact]
    public void Requests_to_AWS_are_signed()
    {
        const string body = """{"SecretId":"jack"}""";
        using var request = new HttpRequestMessage(HttpMethod.Post,
            "https://secretsmanager.us-east-1.amazonaws.com/") { Content = new ByteArrayContent(Encoding.UTF8.GetBytes(body)) };
        request.Content.Headers.ContentType = new MediaTypeHeaderValue("application/x-amz-json-1.1");
        request.Headers.TryAddWithoutValidation("X-Amz-Target", "secretsmanager.GetSecretValue");
        AwsSignature.Sign(request, body, new("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "session"), "us-east-1",
            "secretsmanager", DateTimeOffset.FromUnixTimeSeconds(1440938160));

        Assert.Equal("20150830T123600Z", request.Headers.GetValues("X-Amz-Date").Single());
        Assert.Equal(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/secretsmanager/aws4_request, "
                + "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, "
            + "Signature=599bebc1f607f69e1ed8e58973b9fe069a6e6be0791f525f85270f61536391e4",
            request.Headers.GetValues("Authorization").Single());
    }
}
