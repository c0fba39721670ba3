using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;

namespace Sluice.Model;

/// <summary>
/// Reads a property of a configuration as what it stands for: a pattern, a condition, a set of addresses. It is read once, and the message
/// of the
/// <see cref="FormatException"/> of what it cannot be is the error that the user gets.
/// </summary>
/// <typeparam name="T">What the configuration's record holds.</typeparam>
public abstract class ParsedConverter<T> : JsonConverter<T>
    where T : class
{
    public sealed override T? Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
        Parse(JsonNode.Parse(ref reader)!);

    /// <summary>Nobody writes what was parsed: a document keeps what was sent.</summary>
    public sealed override void Write(Utf8JsonWriter writer, T value, JsonSerializerOptions options) =>
        throw new NotSupportedException("a configuration is only read");

    /// <exception cref="FormatException">It cannot be; the message is the whole error.</exception>
    protected abstract T? Parse(JsonNode value);
}
