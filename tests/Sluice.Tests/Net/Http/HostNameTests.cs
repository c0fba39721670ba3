using Sluice.Net.Http;

namespace Sluice.Tests.Net.Http;

public class HostNameTests
{
    /// <summary>As nginx 1.22 answered each of them: <c>$host</c>, or 400.</summary>
    [Theory]
    [InlineData("admin.test", "admin.test")]
    [InlineData("ADMIN.Test.", "admin.test")]
    [InlineData("admin.test.:80", "admin.test")]
    [InlineData("admin.test:", "admin.test")]
    [InlineData(".a", ".a")]
    [InlineData("[::1]:80", "[::1]")]
    [InlineData("[::1]", "[::1]")]
    [InlineData("admin.test..", null)]
    [InlineData("admin.test..:80", null)]
    [InlineData("a..b", null)]
    [InlineData(".", null)]
    [InlineData(".:80", null)]
    [InlineData(":80", null)]
    [InlineData("", null)]
    public void One_dot_at_the_end_is_taken_off_and_two_are_no_name(string authority, string? name) =>
        Assert.Equal(name, HostName.Of(authority));

    [Theory]
    [InlineData("Admin.Test.", "admin.test")]
    [InlineData("*.Corp.Test.", "*.corp.test")]
    [InlineData(null, null)]
    public void Names_of_the_configuration_become_what_requests_are_compared_with(string? written, string? name) =>
        Assert.Equal(name, HostName.Normalize(written));
}
