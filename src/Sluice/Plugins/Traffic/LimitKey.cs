using Sluice.Observability;
using Sluice.Pipeline;

namespace Sluice.Plugins.Traffic;

/// <summary>What limits count by.</summary>
static class LimitKey
{
    /// <summary>A rule's key: a text with variables, and when none has a value the rule is not for this request.</summary>
    public const string Rule = "rule";

    /// <summary>The value of a key for a request; without one it is the client's address. Null: a rule that is not for this
    /// request.</summary>
    public static string? Of(string key, string type, IVariables variables)
    {
        var resolved = 1;
        var value = type switch
        {
            "constant" => key,
            "var" => variables.Get(key),
            _ => Template.Expand(key, variables, null, out resolved),
        };
        return type == Rule
            ? resolved > 0 ? value : null
            : resolved > 0 && value is not null ? value : variables.Get("remote_addr");
    }
}
