using System.Net;
using System.Runtime.CompilerServices;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.RegularExpressions;
using Sluice.Model.Json;
using Sluice.Net.Http;
using Sluice.Observability;

namespace Sluice.Model.Expressions;

/// <summary>
/// Conditions over a request's variables as APISIX writes them in <c>vars</c> (lua-resty-expr):
/// <c>[["arg_name", "==", "json"], ["OR", ["arg_age", ">", 18], ["http_x", "!", "~~", "^a"]]]</c>.
/// Values keep Lua's types: a variable is text, so <c>==</c> with a number compares numbers, while <c>in</c> finds no numbers.
/// </summary>
[JsonConverter(typeof(VarsConverter))]
public abstract class Expression
{
    /// <exception cref="FormatException">The rule is wrong; the message shows it.</exception>
    public static Expression Compile(JsonArray rule)
    {
        if (rule.Count > 0 && rule[0] is not (JsonArray or JsonObject { Count: 0 }) && !Group.IsOperator(rule[0]))
        {
            // all of it is wrong, so there is nothing to show
            throw new FormatException("rule should be wrapped inside brackets");
        }
        return rule.Count == 0 ? new Group(any: false, negated: false, []) : CompileRule(rule);
    }

    /// <summary>The condition that a document holds, compiled once however often it is asked for.</summary>
    /// <exception cref="FormatException">The rule is wrong; the message shows it.</exception>
    public static Expression Of(JsonArray rule) => s_known.GetValue(rule, Compile);

    static readonly ConditionalWeakTable<JsonArray, Expression> s_known = [];

    public abstract bool Matches(IVariables variables);

    static Expression CompileRule(JsonArray rule)
    {
        if (rule.Count == 0)
        {
            throw new FormatException("rule too short");
        }
        if (!RuntimeHelpers.TryEnsureSufficientExecutionStack())
        {
            throw new FormatException("rule nested too deeply");
        }
        if (rule[0] is JsonArray or JsonObject { Count: 0 })
        {
            return new Group(any: false, negated: false, CompileAll(rule, rule));
        }
        if (!Group.IsOperator(rule[0]))
        {
            return Comparison.Create(rule);
        }
        if (rule.Count <= 2)
        {
            throw Wrong("rule too short", rule);
        }
        var name = rule[0]!.GetValue<string>().ToUpperInvariant();
        return new Group(any: name is "OR" or "!OR", negated: name[0] == '!', CompileAll(rule.Skip(1), rule));
    }

    static Expression[] CompileAll(IEnumerable<JsonNode?> rules, JsonArray within) =>
        [.. rules.Select(rule => CompileRule(rule is JsonObject { Count: 0 } ? [] : rule as JsonArray ?? throw Wrong("invalid expression", within)))];

    static FormatException Wrong(string what, JsonNode rule)
    {
        var text = rule.ToJsonString(Readable);
        return new FormatException($"{what}: {(text.Length <= 200 ? text : text[..200] + "…")}");
    }

    static readonly JsonSerializerOptions Readable =
        new() { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    sealed class Group(bool any, bool negated, Expression[] members) : Expression
    {
        public static bool IsOperator(JsonNode? node) =>
            LuaText.Kind(node) == JsonValueKind.String && node!.GetValue<string>().ToUpperInvariant() is "OR" or "!OR" or "AND" or "!AND";

        public override bool Matches(IVariables variables)
        {
            foreach (var member in members)
            {
                if (member.Matches(variables) == any)
                {
                    return any != negated;
                }
            }
            return any == negated;
        }
    }

    enum Operator
    {
        Equal,
        NotEqual,
        Greater,
        GreaterOrEqual,
        Less,
        LessOrEqual,
        Finds,
        In,
        Has,
        InRange,
    }

    sealed class Comparison : Expression
    {
        readonly string variable;
        readonly Operator op;
        readonly bool reversed;

        // the right side, as the operator needs it
        readonly JsonValueKind kind;
        readonly string? text;
        readonly double? number;
        readonly Regex? regex;
        readonly HashSet<string>? texts;
        readonly CidrSet? ranges;

        /// <summary>Texts as the bytes that they are on the wire, a character each: as the variable's value has them.</summary>
        static JsonNode? OnWire(JsonNode? right) => right switch
        {
            JsonArray list => new JsonArray([.. list.Select(item => OnWire(item)?.DeepClone())]),
            JsonValue value when value.TryGetValue(out string? text) && ByteText.ToWire(text) is var bytes
                && !ReferenceEquals(bytes, text) => JsonValue.Create(bytes),
            _ => right,
        };

        Comparison(string variable, string opName, JsonNode? right, bool reversed, JsonArray rule)
        {
            this.variable = variable;
            this.reversed = reversed;
            right = ByteText.IsWire(variable) ? OnWire(right) : right;
            op = Parse(opName) ?? throw new FormatException($"invalid operator '{opName}'");
            kind = LuaText.Kind(right);
            text = kind == JsonValueKind.String ? right!.GetValue<string>() : null;
            number = kind == JsonValueKind.Number ? LuaText.ToDouble(right!)
                : LuaText.TryToNumber(text, out var converted) ? converted
                : null;
            switch (op)
            {
                case Operator.Finds:
                    var pattern = TextOf(right) ?? throw Wrong("invalid regular expression", rule);
                    regex = InRule(rule, () => Pcre.Compile(pattern, ignoreCase: opName == "~*"));
                    break;
                case Operator.In:
                    // numbers and other things in the list never equal a variable's text
                    texts = [.. (right as JsonArray ?? []).Where(item => LuaText.Kind(item) == JsonValueKind.String)
                        .Select(item => item!.GetValue<string>())];
                    break;
                case Operator.InRange:
                    var items = right is JsonArray list ? list.Select(TextOf) : [TextOf(right)];
                    ranges = InRule(rule, () => CidrSet.Parse(items.Select(item => item ?? "null")));
                    break;
            }
        }

        public static Comparison Create(JsonArray rule)
        {
            var reversed = rule.Count == 4;
            if (reversed && TextOf(rule[1]) != "!")
            {
                throw Wrong("bad 'not' expression", rule);
            }
            var op = reversed ? rule[2] : rule.ElementAtOrDefault(1);
            var right = reversed ? rule[3] : rule.ElementAtOrDefault(2);
            var variable = TextOf(rule[0]);
            var opName = TextOf(op)?.ToLowerInvariant();
            if (variable is null || opName is null)
            {
                throw Wrong("invalid expression", rule);
            }
            // the short form: ["arg_name", "json"]
            return rule.Count == 2 && Parse(opName) is null
                ? new Comparison(variable, "==", op, reversed, rule)
                : new Comparison(variable, opName, right, reversed, rule);
        }

        public override bool Matches(IVariables variables) => Holds(variables.Get(variable)) != reversed;

        bool Holds(string? left) => op switch
        {
            Operator.Equal => Equal(left),
            Operator.NotEqual => !Equal(left),
            Operator.Greater => Numbers(left, out var value) && value > number,
            Operator.GreaterOrEqual => Numbers(left, out var value) && value >= number,
            Operator.Less => Numbers(left, out var value) && value < number,
            Operator.LessOrEqual => Numbers(left, out var value) && value <= number,
            Operator.Finds => left is not null && regex!.Finds(left),
            Operator.In => left is not null && texts!.Contains(left),
            Operator.Has => left is not null && Has(left),
            _ => left is not null && Cidr.TryParseAddress(left, out var address) && ranges!.Contains(address),
        };

        bool Equal(string? left) => kind switch
        {
            JsonValueKind.Number => Numbers(left, out var value) && value == number,
            JsonValueKind.Null => left is null,
            JsonValueKind.String => left == text,
            _ => false,
        };

        bool Numbers(string? left, out double value) => LuaText.TryToNumber(left, out value) && number is not null;

        /// <summary>Variables that hold lists (<c>graphql_root_fields</c>) hold them as text, separated by commas.</summary>
        bool Has(ReadOnlySpan<char> left)
        {
            foreach (var range in left.Split(','))
            {
                if (text is not null && left[range].Trim().SequenceEqual(text))
                {
                    return true;
                }
            }
            return false;
        }

        static T InRule<T>(JsonArray rule, Func<T> make)
        {
            try
            {
                return make();
            }
            catch (FormatException e)
            {
                throw Wrong(e.Message, rule);
            }
        }

        static Operator? Parse(string name) => name switch
        {
            "==" => Operator.Equal,
            "~=" => Operator.NotEqual,
            ">" => Operator.Greater,
            ">=" => Operator.GreaterOrEqual,
            "<" => Operator.Less,
            "<=" => Operator.LessOrEqual,
            "~~" or "~*" => Operator.Finds,
            "in" => Operator.In,
            "has" => Operator.Has,
            "ipmatch" => Operator.InRange,
            _ => null,
        };

        static string? TextOf(JsonNode? node) => LuaText.Kind(node) switch
        {
            JsonValueKind.String => node!.GetValue<string>(),
            JsonValueKind.Number => LuaText.Number(LuaText.ToDouble(node!)),
            _ => null,
        };
    }
}
