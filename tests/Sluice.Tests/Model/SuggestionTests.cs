using Sluice.Model;

namespace Sluice.Tests.Model;

public class SuggestionTests
{
    [Theory]
    [InlineData("ruotes", "routes")]
    [InlineData("Plugin-Config", "plugin_configs")]
    [InlineData("up_streams", "upstreams")]
    [InlineData("bogus", null)]
    [InlineData("", null)]
    public void The_nearest_word_is_suggested_if_it_is_near(string word, string? expected) =>
        Assert.Equal(expected, Suggestion.Nearest(word, ["routes", "upstreams", "plugin_configs", "services"]));
}
