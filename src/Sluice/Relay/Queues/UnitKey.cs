using System.Globalization;
using System.Text;
using System.Text.Json;

namespace Sluice.Relay.Queues;

/// <summary>What a unit is of: its event's name, its id, or what stands at a path of its data. Of units with the same only the newest is
/// worth waiting for.</summary>
sealed class UnitKey
{
    readonly string _text;
    readonly byte[][] _path;

    UnitKey(string text, byte[][] path) => (_text, _path) = (text, path);

    /// <summary>Null: it is none.</summary>
    public static UnitKey? Parse(string text)
    {
        if (text is "event" or "id")
        {
            return new(text, []);
        }
        return text.StartsWith("data.", StringComparison.Ordinal) && !text.Split('.').Contains("")
            ? new(text, [.. text.Split('.')[1..].Select(Encoding.UTF8.GetBytes)]) : null;
    }

    /// <param name="isLine">The unit is a line of JSON, and all of it data.</param>
    public bool TryFind(ReadOnlySpan<byte> unit, bool isLine, out ReadOnlySpan<byte> key)
    {
        key = default;
        if (_path.Length > 0)
        {
            return TryFind(isLine ? unit : new SseEvent(unit).Data, out key);
        }
        if (isLine)
        {
            return false;
        }
        var one = new SseEvent(unit);
        key = _text == "id" ? one.Id : one.Name;
        return _text == "event" || one.HasId;
    }

    bool TryFind(ReadOnlySpan<byte> json, out ReadOnlySpan<byte> value)
    {
        value = default;
        try
        {
            var reader = new Utf8JsonReader(json);
            if (!reader.Read())
            {
                return false;
            }
            foreach (var part in _path)
            {
                if (!Step(ref reader, part))
                {
                    return false;
                }
            }
            if (reader.TokenType is JsonTokenType.StartObject or JsonTokenType.StartArray)
            {
                return false;
            }
            value = reader.ValueSpan;
            return true;
        }
        catch (JsonException)
        {
            return false;
        }
    }

    static bool Step(ref Utf8JsonReader reader, byte[] part)
    {
        if (reader.TokenType == JsonTokenType.StartObject)
        {
            while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
            {
                var found = reader.ValueTextEquals(part);
                reader.Read();
                if (found)
                {
                    return true;
                }
                reader.Skip();
            }
            return false;
        }
        if (reader.TokenType != JsonTokenType.StartArray
            || !int.TryParse(part, NumberStyles.None, CultureInfo.InvariantCulture, out var index))
        {
            return false;
        }
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            if (index-- == 0)
            {
                return true;
            }
            reader.Skip();
        }
        return false;
    }
}
