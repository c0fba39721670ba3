using System.Globalization;
using System.Text;

namespace Sluice.Model;

/// <summary>A pattern that PCRE would refuse, in its words.</summary>
/// <param name="offset">Where in the pattern it is wrong.</param>
internal sealed class PcreException(string message, int offset) : FormatException(message)
{
    public int Offset { get; } = offset;

    /// <summary>As nginx says it.</summary>
    public string Describe(string pattern) =>
        $"pcre_compile() failed: {Message} in \"{pattern}\"{(Offset < pattern.Length ? $" at \"{pattern[Offset..]}\"" : "")}";
}

[Flags]
internal enum PcreOptions
{
    None = 0,

    /// <summary><c>x</c>: blanks and comments in the pattern count for nothing.</summary>
    Extended = 1,

    /// <summary><c>s</c>: the dot stands for line ends too.</summary>
    DotAll = 2,

    /// <summary>Quantifiers are lazy, and greedy with a question mark: <c>(?U)</c>.</summary>
    Ungreedy = 4,

    /// <summary><c>u</c>: the subject is text; otherwise its chars are bytes.</summary>
    Utf = 8,

    /// <summary><c>J</c>: several groups may have one name.</summary>
    SameNames = 16,
}

/// <summary>
/// A regular expression in PCRE's syntax as one for .NET's engine: groups are numbered from left to right whether they have names or not,
/// <c>\d \w \s</c> are
/// ASCII's, <c>a++</c> gives nothing back. Not there: recursion, <c>\K</c>, <c>\X</c>, <c>\C</c>, and what begins with <c>(*</c>.
/// </summary>
/// <param name="Text">For .NET; all groups have numbers only.</param>
/// <param name="Names">Names and numbers of groups, in the order of the pattern.</param>
internal sealed record PcrePattern(string Text, IReadOnlyList<(string Name, int Number)> Names)
{
    public static PcrePattern Translate(string pattern, PcreOptions options = PcreOptions.None) =>
        new PcreTranslator(pattern, options).Translate();
}

/// <summary>Reads the pattern once, from left to right.</summary>
sealed class PcreTranslator(string pattern, PcreOptions options)
{
    const int MaxRepeat = 65535;

    const string AnyPair = @"[\uD800-\uDBFF][\uDC00-\uDFFF]";

    // -- What stands for a class of characters: members of a [class]
    const string Digits = "0-9";
    const string NotDigits = @"\x00-/:-\uFFFF";
    const string Words = "0-9A-Z_a-z";
    const string NotWords = @"\x00-/:-@\[-\^`{-\uFFFF";
    const string Spaces = @"\t-\r ";
    const string NotSpaces = @"\x00-\x08\x0E-\x1F!-\uFFFF";
    const string Horizontal = @"\t \xA0";
    const string NotHorizontal = @"\x00-\x08\n-\x1F!-\x9F\xA1-\uFFFF";
    const string Vertical = @"\n-\r\x85";
    const string NotVertical = @"\x00-\t\x0E-\x84\x86-\uFFFF";

    readonly StringBuilder _out = new();
    readonly Stack<Group> _open = new();
    readonly List<(string Name, int Number)> _names = [];
    PcreOptions _options = options;
    int _at;
    int _groups;
    int _maxReference;
    int _referenceOffset;

    /// <summary>Where what a quantifier repeats begins in the output; -1: there is nothing.</summary>
    int _atom = -1;

    /// <param name="Reset">The number of groups before <c>(?|</c>; -1: an ordinary group.</param>
    sealed record Group(int Start, PcreOptions Options, int Reset, bool Condition)
    {
        public int Most { get; set; }

        public int Branches { get; set; } = 1;
    }

    bool Has(PcreOptions option) => (_options & option) != 0;

    bool AtEnd => _at >= pattern.Length;

    bool Next(char c) => _at < pattern.Length && pattern[_at] == c;

    bool Take(char c)
    {
        if (!Next(c))
        {
            return false;
        }
        _at++;
        return true;
    }

    bool Take(string text)
    {
        if (string.CompareOrdinal(pattern, _at, text, 0, text.Length) != 0)
        {
            return false;
        }
        _at += text.Length;
        return true;
    }

    PcreException Wrong(string message, int? at = null) => new(message, Math.Min(at ?? _at, pattern.Length));

    public PcrePattern Translate()
    {
        while (!AtEnd)
        {
            Step();
        }
        if (_open.Count > 0)
        {
            throw Wrong("missing )");
        }
        if (_maxReference > _groups)
        {
            throw Wrong("reference to non-existent subpattern", _referenceOffset);
        }
        return new(_out.ToString(), _names);
    }

    void Step()
    {
        var c = pattern[_at++];
        switch (c)
        {
            case '\\':
                Escape();
                break;
            case '[':
                Class();
                break;
            case '(':
                Open();
                break;
            case ')':
                Close();
                break;
            case '|':
                Alternative();
                break;
            case '^' or '$':
                _out.Append(c);
                _atom = -1;
                break;
            case '.':
                Atom(!Has(PcreOptions.Utf) ? "." : Has(PcreOptions.DotAll) ? $@"(?:{AnyPair}|[\s\S])" : $@"(?:{AnyPair}|[^\n])");
                break;
            case '*' or '+' or '?':
                Repeat(c.ToString());
                break;
            case '{' when Counted() is { } counted:
                Repeat(counted);
                break;
            case '#' when Has(PcreOptions.Extended):
                _at = pattern.IndexOf('\n', _at) is >= 0 and var end ? end + 1 : pattern.Length;
                break;
            case '\t' or '\n' or '\v' or '\f' or '\r' or ' ' when Has(PcreOptions.Extended):
                break;
            default:
                Literal(char.IsHighSurrogate(c) && !AtEnd ? char.ConvertToUtf32(c, pattern[_at++]) : c);
                break;
        }
    }

    void Atom(string text)
    {
        _atom = _out.Length;
        _out.Append(text);
    }

    void Literal(int c) =>
        Atom(c > 0xFFFF ? $"(?:{char.ConvertFromUtf32(c)})" : ".$^{[(|)*+?\\".Contains((char)c, StringComparison.Ordinal) ? $"\\{(char)c}"
            : $"{(char)c}");

    // -- Quantifiers

    /// <summary>The rest of {n}, {n,} or {n,m}; null: the brace stands for itself.</summary>
    string? Counted()
    {
        var end = pattern.IndexOf('}', _at);
        if (end < 0)
        {
            return null;
        }
        var parts = pattern[_at..end].Split(',');
        if (parts.Length > 2 || parts[0].Length == 0 || !parts.All(static part => part.All(char.IsAsciiDigit)))
        {
            return null;
        }
        _at = end;
        if (parts.Any(static part => part.Length > 5 || (part.Length > 0 && int.Parse(part, CultureInfo.InvariantCulture) > MaxRepeat)))
        {
            throw Wrong("number too big in {} quantifier");
        }
        if (parts is [var least, { Length: > 0 } most]
            && int.Parse(least, CultureInfo.InvariantCulture) > int.Parse(most, CultureInfo.InvariantCulture))
        {
            throw Wrong("numbers out of order in {} quantifier");
        }
        _at++;
        return $"{{{string.Join(',', parts)}}}";
    }

    void Repeat(string quantifier)
    {
        if (_atom < 0)
        {
            throw Wrong("nothing to repeat", _at - 1);
        }
        if (Take('+'))
        {
            _out.Insert(_atom, "(?>").Append(quantifier).Append(')');
        }
        else
        {
            _out.Append(quantifier).Append(Take('?') != Has(PcreOptions.Ungreedy) ? "?" : "");
        }
        _atom = -1;
    }

    // -- Groups

    void Open()
    {
        if (Next('*'))
        {
            throw Wrong("(*VERB) is not supported");
        }
        if (!Take('?'))
        {
            Capture(null);
            return;
        }
        if (Take('#'))
        {
            _at = pattern.IndexOf(')', _at) is >= 0 and var end ? end + 1 : throw Wrong("missing ) after comment", pattern.Length);
        }
        else if (Take(':'))
        {
            Enter("(?:");
        }
        else if (Take('|'))
        {
            Enter("(?:", reset: _groups);
        }
        else if (Take('>'))
        {
            Enter("(?>");
        }
        else if (Take('='))
        {
            Enter("(?=");
        }
        else if (Take('!'))
        {
            Enter("(?!");
        }
        else if (Take("<="))
        {
            Enter("(?<=");
        }
        else if (Take("<!"))
        {
            Enter("(?<!");
        }
        else if (Take('('))
        {
            Condition();
        }
        else if (Take("P="))
        {
            Reference(Named(')'));
        }
        else if (Take('<') || Take("P<"))
        {
            Capture(!Next('>') ? Named('>') : throw Wrong("unrecognized character after (?<"));
        }
        else if (Take('\''))
        {
            Capture(Named('\''));
        }
        else if (Next('R') || Next('&') || Next('+') || (!AtEnd && char.IsAsciiDigit(pattern[_at])) || Take("P>")
            || (Next('-') && _at + 1 < pattern.Length && char.IsAsciiDigit(pattern[_at + 1])))
        {
            throw Wrong("recursion is not supported");
        }
        else
        {
            Inline();
        }
    }

    void Enter(string opening, int reset = -1, bool condition = false)
    {
        _open.Push(new Group(_out.Length, _options, reset, condition) { Most = _groups });
        _out.Append(opening);
        _atom = -1;
    }

    void Capture(string? name)
    {
        _groups++;
        if (name is not null)
        {
            if (_names.Exists(known => known.Name == name && known.Number != _groups) && !Has(PcreOptions.SameNames))
            {
                throw Wrong("two named subpatterns have the same name", _at - 1);
            }
            _names.Add((name, _groups));
        }
        Enter($"(?<{_groups}>");
    }

    /// <summary>A name up to its end, which is taken too.</summary>
    string Named(char end)
    {
        var start = _at;
        while (!AtEnd && (char.IsAsciiLetterOrDigit(pattern[_at]) || pattern[_at] == '_'))
        {
            _at++;
        }
        var name = pattern[start.._at];
        if (name.Length > 0 && char.IsAsciiDigit(name[0]))
        {
            throw Wrong("group name must start with a non-digit", start);
        }
        if (name.Length == 0 && !AtEnd)
        {
            throw Wrong("subpattern name expected");
        }
        return Take(end) ? name : throw Wrong("syntax error in subpattern name (missing terminator)");
    }

    void Close()
    {
        if (!_open.TryPop(out var group))
        {
            throw Wrong("unmatched parentheses", _at - 1);
        }
        if (group is { Condition: true, Branches: > 2 })
        {
            throw Wrong("conditional group contains more than two branches", _at - 1);
        }
        _out.Append(')');
        _options = group.Options;
        _groups = group.Reset >= 0 ? Math.Max(group.Most, _groups) : _groups;
        _atom = group.Start;
    }

    void Alternative()
    {
        _out.Append('|');
        _atom = -1;
        if (_open.TryPeek(out var group))
        {
            group.Branches++;
            if (group.Reset >= 0)
            {
                group.Most = Math.Max(group.Most, _groups);
                _groups = group.Reset;
            }
        }
    }

    /// <summary><c>(?i)</c> and <c>(?i-m:…)</c>: i, m and s are .NET's as well.</summary>
    void Inline()
    {
        var (on, off, without, inside) = ("", "", false, _options);
        while (true)
        {
            var c = AtEnd ? throw Wrong("missing )") : pattern[_at++];
            switch (c)
            {
                case ')' or ':':
                    Switch($"{on}{(off.Length > 0 ? "-" : "")}{off}", inside, c == ':');
                    return;
                case '-':
                    without = true;
                    break;
                case 'i' or 'm' or 's' or 'x' or 'U' or 'J':
                    (on, off) = c is 'x' or 'U' or 'J' ? (on, off) : without ? (on, off + c) : (on + c, off);
                    inside = without ? inside & ~OptionOf(c) : inside | OptionOf(c);
                    break;
                default:
                    throw Wrong("unrecognized character after (? or (?-", _at - 1);
            }
        }
    }

    static PcreOptions OptionOf(char letter) => letter switch
    {
        's' => PcreOptions.DotAll,
        'x' => PcreOptions.Extended,
        'U' => PcreOptions.Ungreedy,
        'J' => PcreOptions.SameNames,
        _ => PcreOptions.None,
    };

    /// <summary>From here on, or within a group that begins here.</summary>
    void Switch(string letters, PcreOptions inside, bool group)
    {
        if (group)
        {
            Enter($"(?{letters}:");
        }
        else if (letters.Length > 0)
        {
            _out.Append("(?").Append(letters).Append(')');
        }
        _atom = -1;
        _options = inside;
    }

    /// <summary><c>(?(1)yes|no)</c>, by a name, or with an assertion.</summary>
    void Condition()
    {
        if (Next('?'))
        {
            _at--;
            Enter("(?", condition: true);
            return;
        }
        var start = _at;
        int number;
        if (!AtEnd && char.IsAsciiDigit(pattern[_at]))
        {
            number = Number();
            Refer(number, start);
        }
        else
        {
            var end = Take('<') ? '>' : Take('\'') ? '\'' : '\0';
            var name = Named(end == '\0' ? ')' : end);
            if (name is "R" or "DEFINE")
            {
                throw Wrong("recursion is not supported", start);
            }
            _at -= end == '\0' ? 1 : 0;
            number = NumberOf(name, start);
        }
        if (!Take(')'))
        {
            throw Wrong("malformed number or name after (?(");
        }
        Enter($"(?({number})", condition: true);
    }

    // -- References

    int Number()
    {
        var start = _at;
        while (!AtEnd && char.IsAsciiDigit(pattern[_at]))
        {
            _at++;
        }
        return _at - start is > 0 and < 6 ? int.Parse(pattern.AsSpan(start, _at - start), CultureInfo.InvariantCulture)
            : throw Wrong("a numbered reference must not be zero");
    }

    int NumberOf(string name, int at) => _names.Find(known => known.Name == name) is { Number: > 0 and var number } ? number
        : throw Wrong("reference to non-existent subpattern", at);

    void Refer(int number, int? at = null)
    {
        if (number > _maxReference)
        {
            (_maxReference, _referenceOffset) = (number, at ?? _at);
        }
    }

    void Reference(int number)
    {
        Refer(number);
        Atom($@"(?:\k<{number}>)");
    }

    /// <summary>Of several groups of that name the one that has matched.</summary>
    void Reference(string name)
    {
        _ = NumberOf(name, _at);
        var numbers = _names.Where(known => known.Name == name).Select(static known => known.Number).ToArray();
        Atom(numbers is [var only] ? $@"(?:\k<{only}>)" : $"(?:{string.Join('|', numbers.Select(static number => $@"\k<{number}>"))})");
    }

    /// <summary><c>\g1 \g{1} \g{-1} \g{name}</c>.</summary>
    void GeneralReference()
    {
        if (Next('<') || Next('\''))
        {
            throw Wrong("recursion is not supported");
        }
        var braced = Take('{');
        if (braced && !AtEnd && pattern[_at] != '-' && !char.IsAsciiDigit(pattern[_at]))
        {
            Reference(Named('}'));
            return;
        }
        var back = Take('-');
        var number = Number();
        if (braced && !Take('}'))
        {
            throw Wrong("a numbered reference must not be zero");
        }
        Reference(!back ? number : number <= _groups ? _groups + 1 - number : throw Wrong("reference to non-existent subpattern"));
    }

    // -- Escapes

    void Escape()
    {
        if (AtEnd)
        {
            throw Wrong(@"\ at end of pattern");
        }
        var c = pattern[_at++];
        if (MembersOf(c) is { } members)
        {
            Atom(Set(members));
            return;
        }
        switch (c)
        {
            case 'Q':
                Quoted();
                break;
            case 'E':
                break;
            case 'A' or 'Z' or 'z' or 'G' or 'b' or 'B':
                _out.Append('\\').Append(c);
                _atom = -1;
                break;
            case 'N':
                Atom(Has(PcreOptions.Utf) ? $@"(?:{AnyPair}|[^\n])" : @"[^\n]");
                break;
            case 'R':
                Atom($@"(?>\r\n|[{Vertical}])");
                break;
            case 'g':
                GeneralReference();
                break;
            case 'k' when Take('<'):
                Reference(Named('>'));
                break;
            case 'k' when Take('\''):
                Reference(Named('\''));
                break;
            case 'k' when Take('{'):
                Reference(Named('}'));
                break;
            case 'K' or 'X' or 'C':
                throw Wrong($@"\{c} is not supported");
            case >= '1' and <= '9' when ReferenceNumber() is { } number:
                Reference(number);
                break;
            default:
                _at--;
                Literal(Character());
                break;
        }
    }

    void Quoted()
    {
        var end = pattern.IndexOf(@"\E", _at, StringComparison.Ordinal);
        foreach (var rune in pattern[_at..(end < 0 ? pattern.Length : end)].EnumerateRunes())
        {
            Literal(rune.Value);
        }
        _at = end < 0 ? pattern.Length : end + 2;
    }

    /// <summary>After the first digit: the number of a group; null: it is an octal number.</summary>
    int? ReferenceNumber()
    {
        var start = --_at;
        var number = Number();
        if (number < 10 || number <= _groups)
        {
            return number;
        }
        _at = start + 1;
        return null;
    }

    /// <summary>The character that an escape stands for; its letter comes next.</summary>
    int Character()
    {
        var c = pattern[_at++];
        switch (c)
        {
            case 'a':
                return 7;
            case 'e':
                return 27;
            case 'f':
                return 12;
            case 'n':
                return 10;
            case 'r':
                return 13;
            case 't':
                return 9;
            case 'c':
                return AtEnd ? throw Wrong(@"\c at end of pattern") : char.ToUpperInvariant(pattern[_at++]) ^ 64;
            case 'x' when Take('{'):
                return Braced(16);
            case 'o' when Take('{'):
                return Braced(8);
            case 'x':
                return Digits16();
            case >= '0' and <= '7':
                _at--;
                return Octal();
            case 'L' or 'l' or 'U' or 'u':
                throw Wrong(@"PCRE does not support \L, \l, \N{name}, \U, or \u");
            default:
                return char.IsHighSurrogate(c) && !AtEnd ? char.ConvertToUtf32(c, pattern[_at++]) : c;
        }
    }

    int Octal()
    {
        var (value, count) = (0, 0);
        while (count < 3 && !AtEnd && pattern[_at] is >= '0' and <= '7')
        {
            value = (value * 8) + pattern[_at++] - '0';
            count++;
        }
        return value & (Has(PcreOptions.Utf) ? 0x1FF : 0xFF);
    }

    int Digits16()
    {
        var (value, count) = (0, 0);
        while (count < 2 && !AtEnd && char.IsAsciiHexDigit(pattern[_at]))
        {
            value = (value * 16) + Convert.ToInt32(pattern[_at++].ToString(), 16);
            count++;
        }
        return value;
    }

    int Braced(int radix)
    {
        var end = pattern.IndexOf('}', _at);
        var digits = end < 0 ? "" : pattern[_at..end];
        if (digits.Length == 0 || !digits.All(c => radix == 16 ? char.IsAsciiHexDigit(c) : c is >= '0' and <= '7'))
        {
            throw Wrong("missing terminating } for hexadecimal or octal escape");
        }
        _at = end;
        var value = digits.TrimStart('0').Length > 8 ? int.MaxValue : Convert.ToInt64(digits, radix);
        if (value > (Has(PcreOptions.Utf) ? 0x10FFFF : 0xFF))
        {
            throw Wrong(@"character value in \x{} or \o{} is too large");
        }
        _at++;
        return (int)value;
    }

    // -- Classes

    /// <summary>What stands for several characters, as members of a class; null: it is something else.</summary>
    string? MembersOf(char c) => c switch
    {
        'd' => Digits,
        'D' => NotDigits,
        'w' => Words,
        'W' => NotWords,
        's' => Spaces,
        'S' => NotSpaces,
        'h' => Horizontal,
        'H' => NotHorizontal,
        'v' => Vertical,
        'V' => NotVertical,
        'p' or 'P' => Property(c == 'P'),
        _ => null,
    };

    string Property(bool not)
    {
        string name;
        if (Take('{'))
        {
            var end = pattern.IndexOf('}', _at);
            name = end < 0 ? throw Wrong(@"malformed \P or \p sequence", pattern.Length) : pattern[_at..end];
            _at = end;
        }
        else
        {
            name = AtEnd ? throw Wrong(@"malformed \P or \p sequence") : pattern[_at].ToString();
        }
        (name, not) = name.StartsWith('^') ? (name[1..], !not) : (name, not);
        var members = PcreProperties.MembersOf(name, not) ?? throw Wrong(@"unknown property name after \P or \p");
        _at++;
        return members;
    }

    /// <summary>A class of these members; one that takes what is not ASCII takes whole characters.</summary>
    string Set(string members) =>
        Has(PcreOptions.Utf)
        && (members.EndsWith(@"\uFFFF", StringComparison.Ordinal) || members.StartsWith(@"\P", StringComparison.Ordinal))
        ? $"(?:{AnyPair}|[{members}])" : $"[{members}]";

    void Class()
    {
        if (PosixOutside())
        {
            throw Wrong("POSIX named classes are supported only within a class", _at - 1);
        }
        var not = Take('^');
        var members = new StringBuilder();
        List<string> pairs = [];
        var wide = false;
        for (var first = true; first || !Next(']'); first = false)
        {
            Member(members, pairs, ref wide);
        }
        _at++;
        Atom(Put(members, pairs, not, wide));
    }

    string Put(StringBuilder members, List<string> pairs, bool not, bool wide)
    {
        if (!Has(PcreOptions.Utf))
        {
            return $"[{(not ? "^" : "")}{members}]";
        }
        if (not)
        {
            var any = wide ? $@"[^{members}\uD800-\uDFFF]" : $@"(?:{AnyPair}|[^{members}\uD800-\uDFFF])";
            return pairs.Count == 0 || wide ? any : $"(?:(?!{string.Join('|', pairs)}){any})";
        }
        pairs = wide ? [AnyPair] : pairs;
        return pairs.Count == 0 ? $"[{members}]" : members.Length == 0 ? $"(?:{string.Join('|', pairs)})"
            : $"(?:{string.Join('|', pairs)}|[{members}])";
    }

    /// <summary><c>[:alpha:]</c> where a class would begin.</summary>
    bool PosixOutside() => !AtEnd && pattern[_at] is ':' or '.' or '='
        && pattern.IndexOf($"{pattern[_at]}]", _at + 1, StringComparison.Ordinal) is > 0 and var end
        && pattern.AsSpan(_at + 1, end - _at - 1).IndexOfAny(']', '\\') < 0;

    void Member(StringBuilder members, List<string> pairs, ref bool wide)
    {
        if (AtEnd)
        {
            throw Wrong("missing terminating ] for character class");
        }
        if (Next('[') && Posix() is { } posix)
        {
            members.Append(posix);
            return;
        }
        if (Take(@"\E"))
        {
            return;
        }
        if (Take(@"\Q"))
        {
            var end = pattern.IndexOf(@"\E", _at, StringComparison.Ordinal);
            foreach (var rune in pattern[_at..(end < 0 ? pattern.Length : end)].EnumerateRunes())
            {
                Range(members, pairs, rune.Value, rune.Value);
            }
            _at = end < 0 ? pattern.Length : end + 2;
            return;
        }
        if (Several() is { } several)
        {
            wide |= several.EndsWith(@"\uFFFF", StringComparison.Ordinal) || several.StartsWith(@"\P", StringComparison.Ordinal);
            members.Append(several);
            return;
        }
        var from = One();
        var dash = _at;
        if (!Take('-') || AtEnd || Next(']') || Several() is not null || (Next('[') && Posix() is not null))
        {
            _at = dash;
            Range(members, pairs, from, from);
            return;
        }
        var to = One();
        Range(members, pairs, from, to >= from ? to : throw Wrong("range out of order in character class", _at - 1));
    }

    /// <summary><c>\d</c> and the like inside a class.</summary>
    string? Several()
    {
        if (!Next('\\') || _at + 1 >= pattern.Length)
        {
            return null;
        }
        var start = _at;
        _at += 2;
        if (MembersOf(pattern[start + 1]) is { } members)
        {
            return members;
        }
        _at = start;
        return null;
    }

    int One()
    {
        if (Take('\\'))
        {
            return AtEnd ? throw Wrong(@"\ at end of pattern")
                : Take('b') ? 8
                : pattern[_at] is 'B' or 'N' or 'R' or 'X' ? throw Wrong("invalid escape sequence in character class")
                : Character();
        }
        var c = pattern[_at++];
        return char.IsHighSurrogate(c) && !AtEnd ? char.ConvertToUtf32(c, pattern[_at++]) : c;
    }

    static void Range(StringBuilder members, List<string> pairs, int from, int to)
    {
        if (from <= 0xFFFF)
        {
            members.Append(Shown(from));
            if (to > from)
            {
                members.Append('-').Append(Shown(Math.Min(to, 0xFFFF)));
            }
        }
        for (var next = Math.Max(from, 0x10000); next <= to;)
        {
            // those that begin with the same surrogate
            var last = Math.Min(to, next | 0x3FF);
            var (high, low, end) = (0xD800 + ((next - 0x10000) >> 10), 0xDC00 + (next & 0x3FF), 0xDC00 + (last & 0x3FF));
            pairs.Add($@"\u{high:X4}[\u{low:X4}-\u{end:X4}]");
            next = last + 1;
        }
    }

    static string Shown(int c) => c < 128 && (char.IsAsciiLetterOrDigit((char)c) || c is ' ' or '_') ? ((char)c).ToString() : $@"\u{c:X4}";

    string? Posix()
    {
        var end = pattern.IndexOf(":]", _at, StringComparison.Ordinal);
        if (_at + 1 >= pattern.Length || pattern[_at + 1] != ':' || end < 0
            || pattern.AsSpan(_at + 2, end - _at - 2).IndexOfAny(']', '\\') >= 0)
        {
            return null;
        }
        var name = pattern[(_at + 2)..end];
        var members = PcreProperties.PosixMembersOf(name) ?? throw Wrong("unknown POSIX class name", _at + 2);
        _at = end + 2;
        return members;
    }
}

/// <summary>What POSIX classes and Unicode properties stand for, as members of a .NET class.</summary>
static class PcreProperties
{
    public static string? PosixMembersOf(string name) => name switch
    {
        "alpha" => "A-Za-z",
        "^alpha" => @"\x00-@\[-`{-\uFFFF",
        "digit" => "0-9",
        "^digit" => @"\x00-/:-\uFFFF",
        "alnum" => "0-9A-Za-z",
        "^alnum" => @"\x00-/:-@\[-`{-\uFFFF",
        "upper" => "A-Z",
        "^upper" => @"\x00-@\[-\uFFFF",
        "lower" => "a-z",
        "^lower" => @"\x00-`{-\uFFFF",
        "space" => @"\t-\r ",
        "^space" => @"\x00-\x08\x0E-\x1F!-\uFFFF",
        "blank" => @"\t ",
        "^blank" => @"\x00-\x08\n-\x1F!-\uFFFF",
        "punct" => @"!-/:-@\[-`{-~",
        "^punct" => @"\x00- 0-9A-Za-z\x7F-\uFFFF",
        "print" => " -~",
        "^print" => @"\x00-\x1F\x7F-\uFFFF",
        "graph" => "!-~",
        "^graph" => @"\x00- \x7F-\uFFFF",
        "cntrl" => @"\x00-\x1F\x7F",
        "^cntrl" => @" -~\x80-\uFFFF",
        "xdigit" => "0-9A-Fa-f",
        "^xdigit" => @"\x00-/:-@G-`g-\uFFFF",
        "word" => "0-9A-Z_a-z",
        "^word" => @"\x00-/:-@\[-\^`{-\uFFFF",
        "ascii" => @"\x00-\x7F",
        "^ascii" => @"\x80-\uFFFF",
        _ => null,
    };

    static readonly HashSet<string> Categories = new(StringComparer.Ordinal)
    {
        "C", "Cc", "Cf", "Cn", "Co", "Cs", "L", "Ll", "Lm", "Lo", "Lt", "Lu", "M", "Mc", "Me", "Mn", "N", "Nd", "Nl", "No", "P", "Pc", "Pd",
            "Pe", "Pf", "Pi", "Po", "Ps",
        "S", "Sc", "Sk", "Sm", "So", "Z", "Zl", "Zp", "Zs",
    };

    /// <summary>Scripts, of which .NET knows blocks only.</summary>
    static string? Script(string name) => name switch
    {
        "Han" => @"\u2E80-\u2FD5\u3005\u3007\u3021-\u3029\u3038-\u303B\u3400-\u4DBF\u4E00-\u9FFF\uF900-\uFAD9",
        "Hiragana" => @"\u3041-\u3096\u309D-\u309F",
        "Katakana" => @"\u30A1-\u30FA\u30FD-\u30FF\u31F0-\u31FF\u32D0-\u32FE\u3300-\u3357\uFF66-\uFF6F\uFF71-\uFF9D",
        "Hangul" =>
            @"\u1100-\u11FF\u302E-\u302F\u3131-\u318E\u3200-\u321E\u3260-\u327E\uA960-\uA97C\uAC00-\uD7A3\uD7B0-\uD7FB\uFFA0-\uFFDC",
        "Latin" =>
            @"A-Za-z\xAA\xBA\xC0-\xD6\xD8-\xF6\xF8-\u02B8\u1E00-\u1EFF\u2C60-\u2C7F\uA722-\uA7CA\uFB00-\uFB06\uFF21-\uFF3A\uFF41-\uFF5A",
        "Greek" => @"\u0370-\u0373\u0375-\u037D\u037F-\u0384\u0386\u0388-\u03E1\u03F0-\u03FF\u1F00-\u1FFE",
        "Cyrillic" => @"\u0400-\u0484\u0487-\u052F\u1C80-\u1C88\u1D2B\u1D78\u2DE0-\u2DFF\uA640-\uA69F",
        "Arabic" =>
            @"\u0600-\u0604\u0606-\u060B\u060D-\u061A\u061E\u0620-\u063F\u0641-\u064A\u0656-\u066F\u0671-\u06DC\u06DE-\u06FF\u0750-\u077F\uFB50-\uFDFF\uFE70-\uFEFC",
        "Hebrew" => @"\u0591-\u05F4\uFB1D-\uFB4F",
        "Thai" => @"\u0E01-\u0E3A\u0E40-\u0E5B",
        _ => null,
    };

    /// <summary>Null: nobody knows such a property.</summary>
    public static string? MembersOf(string name, bool not) => name switch
    {
        "L&" => not ? null : @"\p{Lu}\p{Ll}\p{Lt}",
        "Any" => not ? null : @"\x00-\uFFFF",
        "Xan" => not ? null : @"\p{L}\p{N}",
        "Xwd" => not ? null : @"\p{L}\p{N}_",
        "Xsp" or "Xps" => not ? null : @"\p{Z}\t-\r",
        _ when Categories.Contains(name) => not ? $@"\P{{{name}}}" : $@"\p{{{name}}}",
        _ => Script(name) is { } members ? not ? Complement(members) : members : null,
    };

    /// <summary>All that a script is not.</summary>
    static string Complement(string members)
    {
        var result = new System.Text.StringBuilder();
        var next = 0;
        foreach (var (from, to) in Ranges(members))
        {
            result.Append(next < from ? $@"\u{next:X4}-\u{from - 1:X4}" : "");
            next = to + 1;
        }
        return result.Append($@"\u{next:X4}-\uFFFF").ToString();
    }

    static IEnumerable<(int From, int To)> Ranges(string members)
    {
        for (var at = 0; at < members.Length;)
        {
            var from = Character(members, ref at);
            var to = from;
            if (at < members.Length && members[at] == '-')
            {
                at++;
                to = Character(members, ref at);
            }
            yield return (from, to);
        }
    }

    static int Character(string members, ref int at)
    {
        if (members[at] != '\\')
        {
            return members[at++];
        }
        var digits = members[at + 1] == 'u' ? 4 : 2;
        at += 2 + digits;
        return Convert.ToInt32(members[(at - digits)..at], 16);
    }
}
