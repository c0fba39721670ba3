using System.Text;

namespace Sluice.Relay.Topics;

/// <summary>Keeps the ids of streams, which are secrets, out of what others read.</summary>
static class StreamIds
{
    const int Length = 25;

    /// <summary>The text with <c>***</c> in the place of every id, and of the number behind it; also where it is percent-encoded.</summary>
    public static string Hide(string text)
    {
        if (text.Length < Length)
        {
            return text;
        }
        var (plain, places) = Plain(text);
        StringBuilder? shown = null;
        var from = 0;
        for (var at = plain.IndexOf('s', StringComparison.Ordinal); at >= 0 && at + Length <= plain.Length; at = plain.IndexOf('s', at + 1))
        {
            if (!TopicStore.IsId(plain.AsSpan(at, Length)))
            {
                continue;
            }
            var end = at + Length;
            var number = end;
            while (number + 1 < plain.Length && plain[end] == '.' && char.IsAsciiDigit(plain[number + 1]))
            {
                number++;
            }
            end = number > end ? number + 1 : end;
            (shown ??= new()).Append(text, from, Place(at) - from).Append("***");
            from = Place(end);
            at = end - 1;
        }
        return shown is null ? text : shown.Append(text, from, text.Length - from).ToString();

        int Place(int index) => places is null ? index : index == places.Length ? text.Length : places[index];
    }

    /// <summary>The text decoded, and where in it each character began; null: nothing is encoded.</summary>
    static (string Text, int[]? Places) Plain(string text)
    {
        if (!text.Contains('%', StringComparison.Ordinal))
        {
            return (text, null);
        }
        var (plain, places) = (new char[text.Length], new int[text.Length]);
        var length = 0;
        for (var at = 0; at < text.Length; length++)
        {
            places[length] = at;
            var isCode = text[at] == '%' && at + 2 < text.Length && char.IsAsciiHexDigit(text[at + 1])
                && char.IsAsciiHexDigit(text[at + 2]);
            plain[length] = isCode ? (char)Convert.ToByte(text.Substring(at + 1, 2), 16) : text[at];
            at += isCode ? 3 : 1;
        }
        return (new(plain, 0, length), places[..length]);
    }
}
