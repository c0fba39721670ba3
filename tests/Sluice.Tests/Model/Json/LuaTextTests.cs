using Sluice.Model.Json;

namespace Sluice.Tests.Model.Json;

public class LuaTextTests
{
    [Theory]
    [InlineData(0, "0")]
    [InlineData(-0.0, "-0")]
    [InlineData(5, "5")]
    [InlineData(100, "100")]
    [InlineData(-1.5, "-1.5")]
    [InlineData(0.1, "0.1")]
    [InlineData(1 / 3.0, "0.33333333333333")]
    [InlineData(99999999999999, "99999999999999")]
    [InlineData(1e14, "1e+14")]
    [InlineData(1.5e300, "1.5e+300")]
    [InlineData(0.0001, "0.0001")]
    [InlineData(0.00001, "1e-05")]
    [InlineData(123456.789, "123456.789")]
    public void Numbers_print_as_in_Lua(double number, string text) => Assert.Equal(text, LuaText.Number(number));

    [Theory]
    [InlineData("a", "\"a\"")]
    [InlineData("^\\/.*", "\"^\\\\/.*\"")]
    [InlineData("a\"b", "\"a\\\"b\"")]
    [InlineData("a\nb\r", "\"a\\\nb\\13\"")]
    [InlineData("\u00001", "\"\\0001\"")]
    public void Text_is_quoted_as_in_Lua(string text, string quoted) => Assert.Equal(quoted, LuaText.Quote(text));

    [Theory]
    [InlineData("10", 10)]
    [InlineData(" 1.5e1\n", 15)]
    [InlineData("-.5", -.5)]
    [InlineData("0x1F", 31)]
    public void Text_converts_to_numbers_as_in_Lua(string text, double number) =>
        Assert.Equal((true, number), (LuaText.TryToNumber(text, out var converted), converted));

    [Theory]
    [InlineData("")]
    [InlineData("1 2")]
    [InlineData("ten")]
    [InlineData("1,000")]
    [InlineData("NaN")]
    [InlineData("0x")]
    public void Text_that_is_no_number_does_not_convert(string text) => Assert.False(LuaText.TryToNumber(text, out _));
}
