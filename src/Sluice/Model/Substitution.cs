using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;

namespace Sluice.Model;

/// <summary>
/// What stands in the place of a regular expression's match, as <c>ngx.re.sub</c> reads it: <c>$0</c> the match, <c>$1</c> or <c>${1}</c>
/// a group, <c>$$</c> a dollar sign. A group that does not exist or did not take part is nothing.
/// </summary>
internal sealed class Substitution
{
    readonly List<(string? Text, int Group)> _parts = [];

    /// <exception cref="FormatException">The template is malformed.</exception>
    public Substitution(string template)
    {
        var text = new StringBuilder();
        for (var i = 0; i < template.Length; i++)
        {
            if (template[i] != '$')
            {
                text.Append(template[i]);
                continue;
            }
            if (i + 1 < template.Length && template[i + 1] == '$')
            {
                text.Append('$');
                i++;
                continue;
            }
            var braces = i + 1 < template.Length && template[i + 1] == '{';
            var start = i + (braces ? 2 : 1);
            var end = start;
            while (end < template.Length && char.IsAsciiDigit(template[end]))
            {
                end++;
            }
            var closed = !braces || (end < template.Length && template[end] == '}');
            if (end == start || !closed
                || !int.TryParse(template.AsSpan(start, end - start), NumberStyles.None, CultureInfo.InvariantCulture, out var group))
            {
                throw new FormatException("failed to compile the replacement template");
            }
            Flush();
            _parts.Add((null, group));
            i = braces ? end : end - 1;
        }
        Flush();

        void Flush()
        {
            if (text.Length > 0)
            {
                _parts.Add((text.ToString(), 0));
                text.Clear();
            }
        }
    }

    /// <summary>The text with the first match (or all of them) replaced, and how many there were.</summary>
    /// <exception cref="RegexMatchTimeoutException">The expression ran away.</exception>
    public string Replace(Regex regex, string text, bool all, out int count)
    {
        var replaced = 0;
        var result = regex.Replace(text, match =>
        {
            replaced++;
            return Of(match);
        }, all ? -1 : 1);
        count = replaced;
        return result;
    }

    public string Of(Match match)
    {
        var result = new StringBuilder();
        foreach (var (text, group) in _parts)
        {
            result.Append(text ?? match.Groups[group].Value);
        }
        return result.ToString();
    }
}
