using System.Text.RegularExpressions;
using Sluice.Model;

namespace Sluice.Tests.Model;

public sealed class PcrePatternTests
{
    static Match Find(string pattern, string text, PcreOptions options = PcreOptions.None, RegexOptions flags = RegexOptions.None) =>
        Pcre.Compile(PcrePattern.Translate(pattern, options), flags, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan).Match(text);

    [Theory]
    [InlineData("(?<a>x)(y)", "xy", "x", "y")]
    [InlineData("(?|a(X)|b(Y))(Z)", "bYZ", "Y", "Z")]
    [InlineData("(?P<n>ab)(?P=n)", "abab", "ab")]
    [InlineData(@"(ab)\g{-1}\g1", "ababab", "ab")]
    [InlineData(@"(?'n'a)\k{n}\k'n'\k<n>", "aaaa", "a")]
    [InlineData("(?<n>a)?(?(n)b|c)", "ab", "a")]
    [InlineData("(?(?=a)(a)b|c)", "ab", "a")]
    [InlineData("[[:alpha:]]([[:^alpha:]])[[:xdigit:][:space:]]", "x-f", "-")]
    [InlineData(@"([]a\]\-[]+)", "a]-[", "a]-[")]
    [InlineData("([a-b-[b]])", "[]", "[]")]
    [InlineData(@"(\Qa.b\E+)", "a.bbb", "a.bbb")]
    [InlineData(@"(\x{41}\101\e\cA)", "AA\u001b\u0001", "AA\u001b\u0001")]
    [InlineData(@"(\h\H\v\V)", "\u00a0x\rx", "\u00a0x\rx")]
    [InlineData(@"(a\Rb\N)", "a\r\nbx", "a\r\nbx")]
    [InlineData("(a{,2}{1)", "a{,2}{1", "a{,2}{1")]
    [InlineData(@"(\w+)", "é٣a_1", "a_1")]
    [InlineData("(?U)(a+)", "aaa", "a")]
    [InlineData("(?U)(a+?)", "aaa", "aaa")]
    [InlineData("(?x) ( a # (\n b ) [ ]", "ab ", "ab")]
    [InlineData("(?i:(a))B", "AB", "A")]
    [InlineData("((?i)a)b", "Ab", "A")]
    [InlineData(@"(?#comment)(a)\#", "a#", "a")]
    public void Patterns_mean_what_they_mean_in_PCRE(string pattern, string text, params string[] groups)
    {
        var match = Find(pattern, text);
        Assert.True(match.Success);
        Assert.Equal(groups, match.Groups.Values.Skip(1).Select(group => group.Value));
    }

    [Theory]
    [InlineData("a++a", "aaa")]
    [InlineData("a{2,}+a", "aaaa")]
    [InlineData("(?>a+)a", "aaa")]
    [InlineData("(?i)B(?-i)b", "bB")]
    public void The_pattern_does_not_match_the_text(string pattern, string text) => Assert.False(Find(pattern, text).Success);

    [Theory]
    [InlineData("^(.)$", "😀")]
    [InlineData("^([^a])$", "😀")]
    [InlineData(@"^([a\x{1F600}-\x{1F64F}])$", "😀")]
    [InlineData(@"^([\W])$", "😀")]
    [InlineData(@"^(\S)$", "😀")]
    [InlineData(@"^(\p{Han}+)$", "你好")]
    [InlineData(@"^(\pL\p{^Lu}[\p{Lu}\P{L}])$", "éa1")]
    [InlineData(@"^(😀+)$", "😀😀")]
    public void Characters_are_whole_ones_in_UTF(string pattern, string text) =>
        Assert.Equal(text, Find(pattern, text, PcreOptions.Utf).Groups[1].Value);

    [Theory]
    [InlineData("(", "missing )", 1)]
    [InlineData("a)", "unmatched parentheses", 1)]
    [InlineData("[a", "missing terminating ] for character class", 2)]
    [InlineData("*", "nothing to repeat", 0)]
    [InlineData("a**", "nothing to repeat", 2)]
    [InlineData(@"a\", @"\ at end of pattern", 2)]
    [InlineData("[z-a]", "range out of order in character class", 3)]
    [InlineData("a{2,1}", "numbers out of order in {} quantifier", 5)]
    [InlineData("a{99999}", "number too big in {} quantifier", 7)]
    [InlineData(@"\1", "reference to non-existent subpattern", 2)]
    [InlineData("(?<a>x)(?<a>y)", "two named subpatterns have the same name", 11)]
    [InlineData("(?<1>a)", "group name must start with a non-digit", 3)]
    [InlineData("(?<n", "syntax error in subpattern name (missing terminator)", 4)]
    [InlineData("(?z)", "unrecognized character after (? or (?-", 2)]
    [InlineData("[[:foo:]]", "unknown POSIX class name", 3)]
    [InlineData("[:alpha:]", "POSIX named classes are supported only within a class", 0)]
    [InlineData(@"\p{Foo}", @"unknown property name after \P or \p", 6)]
    [InlineData(@"\x{100}", @"character value in \x{} or \o{} is too large", 6)]
    [InlineData("(a)(?(1)b|c|d)", "conditional group contains more than two branches", 13)]
    [InlineData("(?R)", "recursion is not supported", 2)]
    [InlineData(@"a\Kb", @"\K is not supported", 3)]
    [InlineData("(*UTF8)a", "(*VERB) is not supported", 1)]
    public void What_PCRE_refuses_is_refused_in_its_words(string pattern, string message, int offset)
    {
        var error = Assert.Throws<PcreException>(() => PcrePattern.Translate(pattern));
        Assert.Equal((message, offset), (error.Message, error.Offset));
    }

    /// <summary>Whatever the text, it is a pattern for .NET or an error of ours.</summary>
    [Fact]
    public void Any_text_is_translated_or_refused()
    {
        const string Alphabet = @"ab1()[]{}*+?|\^$.-:=!<>P'#,dwxQEgk";
        var random = new Random(7);
        for (var i = 0; i < 20000; i++)
        {
            var pattern = string.Concat(Enumerable.Range(0, random.Next(1, 12)).Select(_ => Alphabet[random.Next(Alphabet.Length)]));
            try
            {
                _ = new Regex(PcrePattern.Translate(pattern, (PcreOptions)random.Next(32)).Text);
            }
            catch (PcreException)
            {
            }
            catch (Exception e)
            {
                Assert.Fail($"{pattern}: {e.Message}");
            }
        }
    }
}
