using System.Text.Json.Nodes;

namespace Sluice.Model.Expressions;

/// <summary>A condition in a configuration; null when it is empty, and so holds always.</summary>
class VarsConverter : ParsedConverter<Expression>
{
    /// <summary>The property's name in the error.</summary>
    protected virtual string Property => "vars";

    protected sealed override Expression? Parse(JsonNode value)
    {
        try
        {
            return value is JsonArray { Count: > 0 } rule ? Expression.Compile(rule) : null;
        }
        catch (FormatException e)
        {
            throw new FormatException(Describe(value, e.Message), e);
        }
    }

    protected virtual string Describe(JsonNode value, string problem) => $"failed to validate the '{Property}' expression: {problem}";
}
