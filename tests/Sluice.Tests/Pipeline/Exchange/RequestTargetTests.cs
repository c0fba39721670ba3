using CsCheck;
using Sluice.Pipeline;

namespace Sluice.Tests.Pipeline;

public class RequestTargetTests
{
    [Fact]
    public void A_byte_that_is_no_UTF8_keeps_apart_from_the_letter_of_its_number()
    {
        Assert.True(RequestTarget.TryNormalize("/%ff", out var single));
        Assert.True(RequestTarget.TryNormalize("/%c3%bf", out var letter));
        Assert.Equal("/ÿ", letter);
        Assert.NotEqual(letter, single);
        Assert.Equal(("/%FF", "/%C3%BF"), (RequestTarget.Escape(single), RequestTarget.Escape(letter)));
    }

    [Theory]
    [InlineData("/", "/")]
    [InlineData("/a/b", "/a/b")]
    [InlineData("/a/./b", "/a/b")]
    [InlineData("/a/../b", "/b")]
    [InlineData("/a/b/..", "/a/")]
    [InlineData("/a/b/.", "/a/b/")]
    [InlineData("//a///b//", "/a/b/")]
    [InlineData("/a%2Fb", "/a/b")]
    [InlineData("/%2e%2E/a", null)]
    [InlineData("/a/%2e%2e/b", "/b")]
    [InlineData("/a%20b", "/a b")]
    [InlineData("/caf%C3%A9", "/café")]
    [InlineData("/a#frag", "/a")]
    [InlineData("/..", null)]
    [InlineData("/a/../..", null)]
    [InlineData("/%00", null)]
    [InlineData("/%zz", null)]
    [InlineData("/%4", null)]
    [InlineData("*", null)]
    [InlineData("", null)]
    [InlineData("/a..b/.c", "/a..b/.c")]
    public void Targets_are_normalised_as_nginx_does(string raw, string? expected) =>
        Assert.Equal(expected, RequestTarget.TryNormalize(raw, out var uri) ? uri : null);

    [Fact]
    public void A_normalised_path_never_climbs_or_stutters() =>
        Gen.String[Gen.Char["/.%2eaF0#"], 0, 30].Sample(text =>
        {
            if (RequestTarget.TryNormalize("/" + text, out var uri) && !text.Contains('%', StringComparison.Ordinal))
            {
                Assert.StartsWith("/", uri, StringComparison.Ordinal);
                Assert.DoesNotContain("//", uri, StringComparison.Ordinal);
                Assert.DoesNotContain(uri.Split('/'), segment => segment is "." or "..");
            }
        });

    [Theory]
    [InlineData("/a;v=1/b;x", "/a/b")]
    [InlineData("/a/;x", "/a/")]
    [InlineData("/a/b", "/a/b")]
    [InlineData("/..;/admin", null)]
    [InlineData("/a/.;x/b", null)]
    [InlineData("/a/;/b", null)]
    [InlineData("/%2E%2e;/admin", null)]
    public void Servlet_parameters_go_unless_they_could_hide_a_dot_segment(string path, string? expected) =>
        Assert.Equal(expected, RequestTarget.WithoutParameters(path));
}
