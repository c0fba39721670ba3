using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.CSharp.Syntax;
using Microsoft.CodeAnalysis.Text;

namespace Sluice.Mutate;

/// <summary>A small change of the source that a test should notice.</summary>
/// <param name="Span">What of the file's text is replaced.</param>
sealed record Fault(string File, TextSpan Span, LinePosition At, string Old, string New)
{
    public override string ToString() => $"{File}:{At.Line + 1}:{At.Character + 1}  {OneLine(Old)}  ->  {OneLine(New)}";

    static string OneLine(string text)
    {
        var line = string.Join(' ', text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries));
        return line.Length == 0 ? "(nothing)" : line.Length > 70 ? line[..69] + "…" : line;
    }
}

/// <summary>Finds the places of a file that can be changed: comparisons, conditions, constants, and calls that can be left out.</summary>
sealed class FaultFinder(string file, SourceText text) : CSharpSyntaxWalker
{
    static readonly Dictionary<SyntaxKind, string[]> Operators = new()
    {
        [SyntaxKind.LessThanExpression] = ["<=", ">="],
        [SyntaxKind.LessThanOrEqualExpression] = ["<", ">"],
        [SyntaxKind.GreaterThanExpression] = [">=", "<="],
        [SyntaxKind.GreaterThanOrEqualExpression] = [">", "<"],
        [SyntaxKind.EqualsExpression] = ["!="],
        [SyntaxKind.NotEqualsExpression] = ["=="],
        [SyntaxKind.LogicalAndExpression] = ["||"],
        [SyntaxKind.LogicalOrExpression] = ["&&"],
        [SyntaxKind.AddExpression] = ["-"],
        [SyntaxKind.SubtractExpression] = ["+"],
    };

    readonly List<Fault> _faults = [];

    public static IReadOnlyList<Fault> Of(string file, string source)
    {
        var text = SourceText.From(source);
        var finder = new FaultFinder(file, text);
        finder.Visit(CSharpSyntaxTree.ParseText(text, new CSharpParseOptions(LanguageVersion.Latest)).GetRoot());
        return finder._faults;
    }

    void Add(TextSpan span, string replacement) =>
        _faults.Add(new(file, span, text.Lines.GetLinePosition(span.Start), text.ToString(span), replacement));

    /// <summary>Attributes are for the compiler.</summary>
    public override void VisitAttributeList(AttributeListSyntax node)
    {
    }

    /// <summary>What an operator says of types or patterns is the compiler's, as are names.</summary>
    public override void VisitInvocationExpression(InvocationExpressionSyntax node)
    {
        if (node.Expression is not IdentifierNameSyntax { Identifier.ValueText: "nameof" })
        {
            base.VisitInvocationExpression(node);
        }
    }

    public override void VisitBinaryExpression(BinaryExpressionSyntax node)
    {
        foreach (var other in Operators.GetValueOrDefault(node.Kind()) ?? [])
        {
            Add(node.OperatorToken.Span, other);
        }
        base.VisitBinaryExpression(node);
    }

    public override void VisitIfStatement(IfStatementSyntax node)
    {
        Negate(node.Condition);
        base.VisitIfStatement(node);
    }

    public override void VisitConditionalExpression(ConditionalExpressionSyntax node)
    {
        Negate(node.Condition);
        base.VisitConditionalExpression(node);
    }

    /// <summary>A comparison is changed by its operator; one that declares names cannot be negated.</summary>
    void Negate(ExpressionSyntax condition)
    {
        if (condition is not BinaryExpressionSyntax
            && !condition.DescendantNodesAndSelf().Any(node => node is SingleVariableDesignationSyntax))
        {
            Add(condition.Span, $"!({text.ToString(condition.Span)})");
        }
    }

    public override void VisitLiteralExpression(LiteralExpressionSyntax node)
    {
        switch (node.Token.Value)
        {
            case true:
                Add(node.Span, "false");
                break;
            case false:
                Add(node.Span, "true");
                break;
            case int number and >= 0 and < int.MaxValue:
                Add(node.Span, $"{number + 1}");
                break;
        }
    }

    public override void VisitExpressionStatement(ExpressionStatementSyntax node)
    {
        var call = node.Expression is AwaitExpressionSyntax waiting ? waiting.Expression : node.Expression;
        if ((call is InvocationExpressionSyntax or PostfixUnaryExpressionSyntax
            or AssignmentExpressionSyntax { Left: not (TupleExpressionSyntax or DeclarationExpressionSyntax) })
            && !IsLogging(call))
        {
            Add(node.Span, ";");
        }
        base.VisitExpressionStatement(node);
    }

    /// <summary>What is written to the log for people is asserted where it matters.</summary>
    static bool IsLogging(ExpressionSyntax call) =>
        call is InvocationExpressionSyntax { Expression: var what }
        && what.ToString().Split('.')[^1].StartsWith("Log", StringComparison.Ordinal);
}
