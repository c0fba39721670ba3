namespace Sluice.Model;

/// <summary>"did you mean": the known word that a misspelt one is nearest to.</summary>
internal static class Suggestion
{
    /// <summary><c>; did you mean "routes"?</c>, or nothing when no word is near.</summary>
    public static string For(string word, IEnumerable<string> known) =>
        Nearest(word, known) is { } nearest ? $"; did you mean \"{nearest}\"?" : "";

    /// <param name="most">More letters than these are never a typing error.</param>
    public static string? Nearest(string word, IEnumerable<string> known, int most = int.MaxValue)
    {
        if (word.Length is 0 or > 64)
        {
            return null;
        }
        var wanted = word.ToLowerInvariant().Replace('-', '_');
        return known
            .Select(candidate => (Candidate: candidate, Distance: Distance(wanted, candidate.Replace('-', '_'))))
            .Where(pair => pair.Distance <= Math.Clamp(word.Length / 3, 1, most))
            .OrderBy(pair => pair.Distance)
            .FirstOrDefault().Candidate;
    }

    /// <summary>How many letters must be changed, added, removed or swapped with their neighbour.</summary>
    static int Distance(string a, string b)
    {
        var rows = new int[a.Length + 1, b.Length + 1];
        for (var i = 0; i <= a.Length; i++)
        {
            for (var j = 0; j <= b.Length; j++)
            {
                if (i == 0 || j == 0)
                {
                    rows[i, j] = i + j;
                    continue;
                }
                var change = rows[i - 1, j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
                rows[i, j] = Math.Min(change, Math.Min(rows[i - 1, j], rows[i, j - 1]) + 1);
                if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                {
                    rows[i, j] = Math.Min(rows[i, j], rows[i - 2, j - 2] + 1);
                }
            }
        }
        return rows[a.Length, b.Length];
    }
}
