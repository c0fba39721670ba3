using System.Text.RegularExpressions;

namespace Sluice.Model;

/// <summary>
/// Regular expressions as nginx and APISIX configurations write them (PCRE), on .NET's engine: in linear time where the pattern allows it,
/// else with a time limit, so that no request can make one run away.
/// </summary>
internal static class Pcre
{
    /// <summary>For patterns that may backtrack. By the wall clock, so a machine that has other things to do must not be taken for a bad
    /// pattern.</summary>
    static readonly TimeSpan Limit = TimeSpan.FromMilliseconds(500);

    /// <summary>Told each expression that is compiled, for tests that count.</summary>
    internal static event Action<string>? Compiling;

    /// <exception cref="FormatException">The pattern is malformed; the message says what and where.</exception>
    public static Regex Compile(string pattern, bool ignoreCase = false)
    {
        Compiling?.Invoke(pattern);
        try
        {
            return Compile(PcrePattern.Translate(pattern), ignoreCase ? RegexOptions.IgnoreCase : RegexOptions.None,
                Timeout.InfiniteTimeSpan, Limit);
        }
        catch (PcreException e)
        {
            throw new FormatException($"invalid regular expression {pattern}: {e.Message} at offset {e.Offset}", e);
        }
    }

    /// <summary>What is wrong with a pattern, in PCRE's words as nginx has them; null: nothing.</summary>
    public static string? Refusal(string pattern)
    {
        try
        {
            _ = Compile(PcrePattern.Translate(pattern), RegexOptions.None, Timeout.InfiniteTimeSpan, Limit);
            return null;
        }
        catch (PcreException e)
        {
            return e.Describe(pattern);
        }
    }

    /// <param name="limit">For a pattern that needs no more time than its subject is long; a first match on a busy machine takes longer
    /// than one may think.</param>
    /// <param name="backtracking">For look-arounds, back references, huge repetitions.</param>
    /// <exception cref="PcreException">.NET cannot do what PCRE could.</exception>
    public static Regex Compile(PcrePattern pattern, RegexOptions options, TimeSpan limit, TimeSpan backtracking)
    {
        options |= RegexOptions.CultureInvariant;
        try
        {
            try
            {
                return new Regex(pattern.Text, options | RegexOptions.NonBacktracking, limit);
            }
            catch (NotSupportedException)
            {
                return new Regex(pattern.Text, options, backtracking);
            }
        }
        catch (RegexParseException e)
        {
            throw new PcreException(e.Message, 0);
        }
    }

    /// <summary>Whether the text matches anywhere; a match that runs out of time is none, as in nginx.</summary>
    public static bool Finds(this Regex regex, ReadOnlySpan<char> text)
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
}
