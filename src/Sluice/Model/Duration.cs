using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.RegularExpressions;

namespace Sluice.Model;

/// <summary>A length of time as users write it: seconds as a number, or a text with its unit (<c>"500ms"</c>, <c>"15s"</c>, <c>"5m"</c>,
/// <c>"2h"</c>, <c>"1d"</c>). 0 = off.</summary>
[JsonConverter(typeof(Converter))]
public readonly partial record struct Duration(TimeSpan Time)
{
    /// <summary>What is longer is a slip of the pen, and no timer keeps it.</summary>
    const double LongestSeconds = 100 * 366 * 86400.0;

    public bool IsOff => Time <= TimeSpan.Zero;

    /// <exception cref="JsonException">The text is none; says what would be one.</exception>
    public static Duration Parse(string text) => Units().Match(text) is { Success: true } match
        && double.TryParse(match.Groups[1].ValueSpan, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var number)
        && (number *= SecondsOf(match.Groups[2].Value)) <= LongestSeconds
        ? new(TimeSpan.FromSeconds(number))
        : throw None($"\"{text}\"");

    static double SecondsOf(string unit) => unit switch { "ms" => 0.001, "s" => 1, "m" => 60, "h" => 3600, _ => 86400 };

    static JsonException None(string given) =>
        new($"{given} is no duration: write seconds as a number, or \"500ms\", \"15s\", \"5m\", \"2h\", \"1d\"");

    [GeneratedRegex(@"^(\d+(?:\.\d+)?)(ms|s|m|h|d)\z", RegexOptions.CultureInvariant)]
    private static partial Regex Units();

    internal sealed class Converter : JsonConverter<Duration>
    {
        public override Duration Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
        {
            if (reader.TokenType == JsonTokenType.String)
            {
                return Parse(reader.GetString()!);
            }
            using var given = JsonDocument.ParseValue(ref reader);
            return given.RootElement.ValueKind == JsonValueKind.Number && given.RootElement.TryGetDouble(out var seconds)
                && seconds is >= 0 and <= LongestSeconds
                ? new(TimeSpan.FromSeconds(seconds))
                : throw None(given.RootElement.GetRawText());
        }

        public override void Write(Utf8JsonWriter writer, Duration value, JsonSerializerOptions options) =>
            writer.WriteNumberValue(value.Time.TotalSeconds);
    }
}
