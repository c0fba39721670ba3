using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace Sluice.Model;

/// <summary>A number of bytes as users write it: a number, or a text with its unit (<c>"64k"</c>, <c>"8m"</c>, <c>"1g"</c>).</summary>
[JsonConverter(typeof(Converter))]
public readonly record struct ByteSize(long Bytes)
{
    /// <exception cref="JsonException">The text is none; says what would be one.</exception>
    public static ByteSize Parse(string text)
    {
        var shift = text.Length == 0 ? 0 : (text[^1] | 0x20) switch { 'k' => 10, 'm' => 20, 'g' => 30, _ => 0 };
        return long.TryParse(shift == 0 ? text : text[..^1], NumberStyles.None, CultureInfo.InvariantCulture, out var number)
            && number <= long.MaxValue >> shift
            ? new(number << shift)
            : throw None($"\"{text}\"");
    }

    static JsonException None(string given) => new($"{given} is no size: write bytes as a number, or \"64k\", \"8m\", \"1g\"");

    internal sealed class Converter : JsonConverter<ByteSize>
    {
        public override ByteSize Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
        {
            if (reader.TokenType == JsonTokenType.String)
            {
                return Parse(reader.GetString()!);
            }
            using var given = JsonDocument.ParseValue(ref reader);
            return given.RootElement.ValueKind == JsonValueKind.Number && given.RootElement.TryGetInt64(out var bytes) && bytes >= 0
                ? new(bytes)
                : throw None(given.RootElement.GetRawText());
        }

        public override void Write(Utf8JsonWriter writer, ByteSize value, JsonSerializerOptions options) =>
            writer.WriteNumberValue(value.Bytes);
    }
}
