using System.Diagnostics.CodeAnalysis;
using System.Text.Json.Nodes;
using Sluice.Model.Json;
using Sluice.Observability;
using Sluice.Pipeline;

namespace Sluice.Plugins.Traffic;

/// <summary>A whole number in a plugin's configuration, or a text whose variables give one for each request.</summary>
/// <param name="least">0 or 1: the smallest number that is one.</param>
sealed class Quantity(JsonNode value, int least = 1)
{
    /// <summary>Beyond that LuaJIT, whose numbers users know, does not count by ones.</summary>
    const double Most = 9007199254740991;

    readonly double? _fixed = Number(value, least);

    public string Text { get; } = value.ToString();

    /// <summary>The number for this request; false when the text gives none, and why in APISIX's words.</summary>
    public bool TryGet(IVariables variables, out long number, [NotNullWhen(false)] out string? error)
    {
        error = null;
        if (_fixed is { } known)
        {
            number = (long)known;
            return true;
        }
        var isNumber = LuaText.TryToNumber(Template.Expand(Text, variables), out var value);
        error = !isNumber ? "resolved value is not a number"
            : value < least ? $"resolved value must be a {(least > 0 ? "positive" : "non-negative")} number, got: {LuaText.Number(value)}"
            : value % 1 != 0 ? $"resolved value must be an integer, got: {LuaText.Number(value)}"
            : value > Most ? $"resolved value exceeds safe integer range (2^53-1), got: {LuaText.Number(value)}"
            : null;
        number = error is null ? (long)value : 0;
        return error is null;
    }

    /// <summary>What is wrong with a quantity that the schema took: a text that never gives a number; or null.</summary>
    public static string? Check(string property, JsonNode? value, int least = 1) =>
        value is null || Number(value, least) is not null || Template.HasVariables(value.ToString())
        ? null
        : $"property \"{property}\" validation failed: expected a {(least > 0 ? "positive " : "")}integer or a text with a variable such as \"${{http_x_quota ?? 10}}\", got \"{value}\"";

    static double? Number(JsonNode value, int least)
    {
        var number = LuaText.Type(value) == "number" ? LuaText.ToDouble(value) : LuaText.TryToNumber(value.ToString(), out var text) ? text
            : double.NaN;
        return number >= least && number <= Most && number % 1 == 0 ? number : null;
    }
}
