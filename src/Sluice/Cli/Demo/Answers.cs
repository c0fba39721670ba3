using System.Text;

namespace Sluice.Cli.Demo;

/// <summary>What the pretended language model says.</summary>
static class Answers
{
    public static string To(string question) =>
        (question.Length == 0 ? "You asked nothing, so here is something about sluices. " : $"You asked: {Shorten(question)}\n\n")
        + "A sluice lets water pass at the pace at which it comes. This gateway does the same with your tokens: each one left the sample "
        + "upstream as an event of its own, passed the gateway without waiting for the next, and was painted when it arrived. "
        + "No model was harmed, or even asked: the words are canned, their timing is real.";

    /// <summary>Words with the space before them, as models cut text; their concatenation is the text.</summary>
    public static IEnumerable<string> Tokens(string text)
    {
        var token = new StringBuilder();
        foreach (var character in text)
        {
            if (character == ' ' && token.Length > 0)
            {
                yield return token.ToString();
                token.Clear();
            }
            token.Append(character);
        }
        if (token.Length > 0)
        {
            yield return token.ToString();
        }
    }

    static string Shorten(string text) => text.Length <= 200 ? text : text[..200] + "…";
}
