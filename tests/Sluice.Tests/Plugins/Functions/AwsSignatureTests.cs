using Sluice.Plugins.Functions;

namespace Sluice.Tests.Plugins.Functions;

/// <summary>AWS's published test vectors for version 4 of its signature.</summary>
public class AwsSignatureTests
{
    const string Unreserved = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

    static FunctionRequest Sign(string method, string path, string query, string header = "", string body = "")
    {
        var call = new FunctionRequest
        {
            Method = method, Path = path, Query = query,
                Headers = new(StringComparer.OrdinalIgnoreCase) { ["Host"] = "example.amazonaws.com" },
            Body = System.Text.Encoding.UTF8.GetBytes(body),
        };
        foreach (var one in header.Split('|', StringSplitOptions.RemoveEmptyEntries))
        {
            var at = one.IndexOf(':', StringComparison.Ordinal);
            call.Headers[one[..at]] = one[(at + 1)..];
        }
        AwsSignature.Sign(call, "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "us-east-1", "service",
            new DateTimeOffset(2015, 8, 30, 12, 36, 0, TimeSpan.Zero));
        return call;
    }

    [Theory]
    [InlineData("GET", "/", "", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31")]
    [InlineData("GET", "/", "Param2=value2&Param1=value1", "", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500")]
    [InlineData("GET", "/", "Param-3=Value3&Param=Value2&%E1%88%B4=Value1", "",
        "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac")]
    [InlineData("GET", "/", $"{Unreserved}={Unreserved}", "", "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197")]
    [InlineData("GET", "/", "ሴ=bar", "", "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04")]
    [InlineData("GET", "/", "Param1=value1", "", "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb")]
    [InlineData("GET", $"/{Unreserved}", "", "", "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f")]
    [InlineData("GET", "/ሴ", "", "", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85")]
    [InlineData("GET", "/example space/", "", "", "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741")]
    [InlineData("GET", "/example/..", "", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31")]
    [InlineData("GET", "/example1/example2/../..", "", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31")]
    [InlineData("GET", "//", "", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31")]
    [InlineData("GET", "//example//", "", "", "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84")]
    [InlineData("GET", "/./example", "", "", "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5")]
    [InlineData("GET", "/./", "", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31")]
    [InlineData("GET", "/", "", "My-Header1: value1|My-Header2: \"a   b   c\"",
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736")]
    [InlineData("GET", "/", "", "My-Header1:value2,value2,value1", "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea")]
    [InlineData("GET", "/", "", "My-Header1:value4,value1,value3,value2",
        "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01")]
    [InlineData("GET", "/", "", "My-Header1:value1\n  value2\n     value3",
        "cfd34249e4b1c8d6b91ef74165d41a32e5fab3306300901bb65a51a73575eefd")]
    [InlineData("POST", "/", "", "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b")]
    [InlineData("POST", "/", "", "My-Header1:value1", "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c")]
    [InlineData("POST", "/", "", "My-Header1:VALUE1", "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d")]
    [InlineData("POST", "/", "Param1=value1", "", "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11")]
    public void A_request_is_signed_as_AWS_says(string method, string path, string query, string header, string signature) =>
        Assert.EndsWith($", Signature={signature}", Sign(method, path, query, header).Headers["authorization"], StringComparison.Ordinal);

    [Theory]
    [InlineData("application/x-www-form-urlencoded", "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b")]
    [InlineData("application/x-www-form-urlencoded; charset=utf-8", "328d1b9eaadca9f5818ef05e8392801e091653bafec24fcab71e7344e7f51422")]
    public void So_is_a_body(string type, string signature)
    {
        const string Hash = "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e";
        var call = Sign("POST", "/", "", $"Content-Type:{type}|Content-Length:13|X-Amz-Content-Sha256:{Hash}", "Param1=value1");
        Assert.Equal(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
            + $"SignedHeaders=content-length;content-type;host;x-amz-content-sha256;x-amz-date, Signature={signature}",
            call.Headers["Authorization"]);
    }

    [Theory]
    [InlineData("with%20space=a%2Fb%20c&multi=m2&multi=m1&flag&a=*&a-=x", "a=%2A&a-=x&flag=&multi=m1&multi=m2&with%20space=a%2Fb%20c")]
    [InlineData("a=b+c&&%zz=%ff", "%25zz=%FF&a=b%20c")]
    public void The_query_goes_out_as_it_is_signed(string query, string expected) => Assert.Equal(expected, Sign("GET", "/", query).Query);

    [Fact]
    public void Connection_is_not_signed() =>
        Assert.Contains("SignedHeaders=host;x-amz-date,", Sign("GET", "/", "", "connection:close").Headers["Authorization"],
            StringComparison.Ordinal);
}
