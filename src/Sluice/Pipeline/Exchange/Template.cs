using System.Text;
using Sluice.Net.Http;
using Sluice.Observability;

namespace Sluice.Pipeline;

/// <summary>
/// Texts with variables in them: <c>$name</c> and <c>${name}</c>, as nginx and APISIX's <c>core.utils.resolve_var</c> read them.
/// <c>${name ?? other}</c> is <c>other</c> when the variable has no value; a backslash before the dollar sign makes it plain text.
/// </summary>
public static class Template
{
    /// <summary>The text with every variable replaced by its value; a missing one becomes nothing.</summary>
    public static string Expand(string text, IVariables variables) => Expand(text, variables, null, out _);

    /// <summary>The same as a header's value: text as its UTF-8 bytes, what came from the wire as it came, and safe whatever the variables
    /// hold.</summary>
    public static string ExpandHeader(string text, IVariables variables) => HeaderText.Escape(ExpandWire(text, variables));

    /// <summary>The same as it comes: the variables may hold line breaks.</summary>
    internal static string ExpandWire(string text, IVariables variables) =>
        text.Contains('$', StringComparison.Ordinal) ? Expand(text, new Wire(variables), null, out _, ByteText.ToWire)
        : ByteText.ToWire(text);

    sealed class Wire(IVariables variables) : IVariables
    {
        public string? Get(string name) => variables.Get(name) is { } value ? ByteText.IsWire(name) ? value : ByteText.ToWire(value) : null;
    }

    /// <param name="escape">Applied to each value; null = as it is.</param>
    /// <param name="resolved">How many variables had a value, or another one for want of it.</param>
    /// <param name="plain">Applied to the text between the variables.</param>
    public static string Expand(string text, IVariables variables, Func<string, string>? escape, out int resolved,
        Func<string, string>? plain = null)
    {
        resolved = 0;
        var dollar = text.IndexOf('$', StringComparison.Ordinal);
        if (dollar < 0)
        {
            return text;
        }
        var result = new StringBuilder();
        var at = 0;
        while (dollar >= 0)
        {
            Append(at, dollar - at);
            if ((dollar > 0 && text[dollar - 1] == '\\') || !TryName(text, dollar + 1, out var name, out var other, out var end))
            {
                result.Append('$');
                at = dollar + 1;
            }
            else
            {
                var value = variables.Get(name);
                value ??= plain is null || other is null ? other : plain(other);
                resolved += value is null ? 0 : 1;
                result.Append(value is not null && escape is not null ? escape(value) : value);
                at = end;
            }
            dollar = text.IndexOf('$', at);
        }
        Append(at, text.Length - at);
        return result.ToString();

        void Append(int start, int length)
        {
            if (plain is null)
            {
                result.Append(text, start, length);
            }
            else
            {
                result.Append(plain(text.Substring(start, length)));
            }
        }
    }

    /// <summary>Whether the text asks for at least one variable.</summary>
    public static bool HasVariables(string text)
    {
        for (var dollar = text.IndexOf('$', StringComparison.Ordinal); dollar >= 0; dollar = text.IndexOf('$', dollar + 1))
        {
            if ((dollar == 0 || text[dollar - 1] != '\\') && TryName(text, dollar + 1, out _, out _, out _))
            {
                return true;
            }
        }
        return false;
    }

    /// <param name="start">Behind the dollar sign.</param>
    /// <param name="other">What stands behind <c>??</c>.</param>
    static bool TryName(string text, int start, out string name, out string? other, out int end)
    {
        other = null;
        var braces = start < text.Length && text[start] == '{';
        start += braces ? 1 : 0;
        end = start;
        while (end < text.Length && (char.IsAsciiLetterOrDigit(text[end]) || text[end] == '_' || (braces && text[end] == '.')))
        {
            end++;
        }
        name = text[start..end];
        if (!braces && name == "post_arg" && end < text.Length && text[end] == '.')
        {
            // APISIX takes dots into every name; elsewhere they would end a sentence's last word
            while (end < text.Length && (char.IsAsciiLetterOrDigit(text[end]) || text[end] is '_' or '.'))
            {
                end++;
            }
            name = text[start..end];
        }
        if (!braces || end == start)
        {
            return end > start;
        }
        var close = text.IndexOf('}', end);
        if (close < 0)
        {
            return false;
        }
        var rest = text.AsSpan(end, close - end).Trim();
        end = close + 1;
        if (rest.StartsWith("??"))
        {
            other = rest[2..].Trim().ToString();
            return true;
        }
        return rest.IsEmpty;
    }
}
