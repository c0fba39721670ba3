using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.RegularExpressions;

namespace Sluice.Model;

/// <summary>A regular expression as a configuration writes it (PCRE), compiled when the configuration is read.</summary>
[JsonConverter(typeof(PatternConverter))]
public sealed class Pattern
{
    Pattern(string text, Regex regex) => (Text, Regex) = (text, regex);

    /// <summary>The expression as it was written.</summary>
    public string Text { get; }

    public Regex Regex { get; }

    /// <exception cref="FormatException">PCRE's words, as nginx has them.</exception>
    /// <param name="form">What is compiled in its place, of the same meaning: for subjects that are bytes.</param>
    public static Pattern Parse(string text, string? form = null, bool ignoreCase = false)
    {
        try
        {
            return new(text, Pcre.Compile(form ?? text, ignoreCase));
        }
        catch (FormatException e)
        {
            throw new FormatException(Pcre.Refusal(text) ?? e.Message, e);
        }
    }

    /// <summary>Whether the text matches anywhere; a match that runs out of time is none, as in nginx.</summary>
    public bool Finds(ReadOnlySpan<char> text) => Regex.Finds(text);

    public override string ToString() => Text;
}

sealed class PatternConverter : ParsedConverter<Pattern>
{
    protected override Pattern Parse(JsonNode value) => Pattern.Parse(value.GetValue<string>());
}
