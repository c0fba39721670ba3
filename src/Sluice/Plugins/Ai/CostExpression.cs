using System.Globalization;

namespace Sluice.Plugins.Ai;

/// <summary>Arithmetic over named numbers, as Lua writes it: <c>input_tokens + output_tokens * 4</c>. A name without a number is
/// 0.</summary>
sealed class CostExpression
{
    delegate double Term(IReadOnlyDictionary<string, double> numbers);

    readonly Term _root;

    CostExpression(Term root) => _root = root;

    /// <exception cref="FormatException">It is none.</exception>
    public static CostExpression Parse(string text)
    {
        var parser = new Parser(text);
        var root = parser.Sum();
        parser.End();
        return new(root);
    }

    /// <summary>The value, rounded and not below 0; null when it is no finite number.</summary>
    public long? Of(IReadOnlyDictionary<string, double> numbers)
    {
        var value = _root(numbers);
        return double.IsFinite(value) ? (long)Math.Floor(Math.Clamp(value, 0, 1e15) + 0.5) : null;
    }

    sealed class Parser(string text)
    {
        const int Deepest = 100;

        int _at, _depth;

        public Term Sum()
        {
            var left = Product();
            while (true)
            {
                var before = left;
                if (Take('+'))
                {
                    var right = Product();
                    left = numbers => before(numbers) + right(numbers);
                }
                else if (Take('-'))
                {
                    var right = Product();
                    left = numbers => before(numbers) - right(numbers);
                }
                else
                {
                    return left;
                }
            }
        }

        Term Product()
        {
            var left = Signed();
            while (true)
            {
                var before = left;
                if (Take('*'))
                {
                    var right = Signed();
                    left = numbers => before(numbers) * right(numbers);
                }
                else if (Take('/'))
                {
                    var right = Signed();
                    left = numbers => before(numbers) / right(numbers);
                }
                else if (Take('%'))
                {
                    var right = Signed();
                    left = numbers => Modulo(before(numbers), right(numbers));
                }
                else
                {
                    return left;
                }
            }
        }

        static double Modulo(double left, double right) => left - (Math.Floor(left / right) * right);

        Term Signed()
        {
            if (!Take('-'))
            {
                return Power();
            }
            Deeper();
            var inner = Signed();
            _depth--;
            return numbers => -inner(numbers);
        }

        Term Power()
        {
            var left = Primary();
            if (!Take('^'))
            {
                return left;
            }
            Deeper();
            var right = Signed();
            _depth--;
            return numbers => Math.Pow(left(numbers), right(numbers));
        }

        Term Primary()
        {
            Skip();
            if (Take('('))
            {
                Deeper();
                var inner = Sum();
                _depth--;
                Expect(')');
                return inner;
            }
            var start = _at;
            while (_at < text.Length && (char.IsAsciiLetterOrDigit(text[_at]) || text[_at] is '_' or '.'))
            {
                _at++;
            }
            var word = text[start.._at];
            if (word.Length > 0 && (char.IsAsciiDigit(word[0]) || word[0] == '.'))
            {
                return double.TryParse(word, NumberStyles.AllowDecimalPoint | NumberStyles.AllowExponent, CultureInfo.InvariantCulture,
                    out var number)
                    ? _ => number : throw Wrong($"malformed number near '{word}'");
            }
            if (word.Length == 0)
            {
                throw Wrong(_at < text.Length ? $"unexpected symbol near '{text[_at]}'" : "unexpected end");
            }
            return Take('(') ? Call(word) : word.Contains('.', StringComparison.Ordinal) ? throw Wrong($"unknown name '{word}'")
                : numbers => numbers.GetValueOrDefault(word);
        }

        Term Call(string name)
        {
            Deeper();
            List<Term> arguments = [Sum()];
            while (Take(','))
            {
                arguments.Add(Sum());
            }
            _depth--;
            Expect(')');
            Func<double, double>? one = name switch
            {
                "abs" or "math.abs" => Math.Abs,
                "ceil" or "math.ceil" => Math.Ceiling,
                "floor" or "math.floor" => Math.Floor,
                "math.sqrt" => Math.Sqrt,
                _ => null,
            };
            if (one is not null && arguments.Count == 1)
            {
                return numbers => one(arguments[0](numbers));
            }
            return name switch
            {
                "max" or "math.max" => numbers => arguments.Max(argument => argument(numbers)),
                "min" or "math.min" => numbers => arguments.Min(argument => argument(numbers)),
                _ => throw Wrong($"unknown function '{name}'"),
            };
        }

        void Deeper()
        {
            if (++_depth > Deepest)
            {
                throw Wrong("too deep");
            }
        }

        void Skip()
        {
            while (_at < text.Length && char.IsWhiteSpace(text[_at]))
            {
                _at++;
            }
        }

        bool Take(char symbol)
        {
            Skip();
            if (_at == text.Length || text[_at] != symbol)
            {
                return false;
            }
            _at++;
            return true;
        }

        void Expect(char symbol)
        {
            if (!Take(symbol))
            {
                throw Wrong($"'{symbol}' expected");
            }
        }

        public void End()
        {
            Skip();
            if (_at < text.Length)
            {
                throw Wrong($"unexpected symbol near '{text[_at]}'");
            }
        }

        static FormatException Wrong(string why) => new(why);
    }
}
