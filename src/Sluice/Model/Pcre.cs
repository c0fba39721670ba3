using System.Text.RegularExpressions;

namespace Sluice.Model;

/// <summary>
/// Regular expressions as nginx and APISIX configurations write them (PCRE), on .NET's engine: in linear time where the pattern allows it,
/// else with a time limit, so that no request can make one run away.
/// </summary>
public static class Pcre
{
    /// <summary>For patterns that may backtrack. By the wall clock, so a machine that has other things to do must not be taken for a bad pattern.</summary>
    static readonly TimeSpan Limit = TimeSpan.FromMilliseconds(500);

    /// <exception cref="FormatException">The pattern is malformed; the message says what and where.</exception>
    public static Regex Compile(string pattern, bool ignoreCase = false)
    {
        var options = RegexOptions.CultureInvariant | (ignoreCase ? RegexOptions.IgnoreCase : RegexOptions.None);
        var translated = Translate(pattern);
        try
        {
            try
            {
                // needs no limit, and a first match on a busy machine would take longer than any
                return new Regex(translated, options | RegexOptions.NonBacktracking);
            }
            catch (NotSupportedException) // look-arounds, back references, huge repetitions
            {
                return new Regex(translated, options, Limit);
            }
        }
        catch (RegexParseException e)
        {
            throw new FormatException($"invalid regular expression {pattern}: {e.Message}", e);
        }
    }

    /// <summary>Whether the text matches anywhere; a match that runs out of time is none, as in nginx.</summary>
    public static bool Finds(this Regex regex, string text)
    {
        try
        {
            return regex.IsMatch(text);
        }
        catch (RegexMatchTimeoutException)
        {
            return false;
        }
    }

    // .NET has no (?P<name>…); everything else that configurations use is written alike
    static string Translate(string pattern) => pattern.Replace("(?P<", "(?<", StringComparison.Ordinal);
}
