using System.Collections.Concurrent;
using System.Text;
using System.Text.RegularExpressions;
using Sluice.Model;
using static Sluice.Scripting.LuaNative;

namespace Sluice.Scripting.Api;

/// <summary>Regular expressions: <c>ngx.re</c>.</summary>
static class RegexApi
{
    public static readonly (string Name, LuaHost.HostFunction Function)[] Functions =
    [
        ("regex", RegexMatch), ("regex_check", RegexCheck),
    ];

    const int MaxPatterns = 4096;

    /// <param name="Named">Captures by name are tables (option <c>D</c>): several groups may have one name.</param>
    sealed record LuaRegex(Regex Regex, IReadOnlyList<(string Name, int Number)> Names, bool Utf8, bool Named);

    static readonly ConcurrentDictionary<(string Pattern, string Options), LuaRegex> Patterns = new();

    /// <summary>A pattern that may backtrack. By the wall clock: who was kept from running tries again.</summary>
    static readonly TimeSpan RegexLimit = TimeSpan.FromMilliseconds(50);

    /// <summary>One that needs no more time than its subject is long.</summary>
    static readonly TimeSpan LinearLimit = TimeSpan.FromSeconds(1);

    /// <summary>A pattern and options as they are used from now on: nil, or what is wrong with them.</summary>
    static int RegexCheck(LuaLane lane, LuaStack stack)
    {
        try
        {
            _ = Compiled(stack.Bytes(1), stack.OptionalText(2) ?? "");
            return 0;
        }
        catch (FormatException e)
        {
            stack.PushUtf8(e.Message);
            return 1;
        }
    }

    /// <summary>
    /// subject, pattern, options, where to begin (from 1): nil when nothing matches; otherwise from, to (as string.find has it), then a
    /// table of the
    /// captures. With a group's number as well: from and to of the group, or false if there is no such group. An error: false and its text.
    /// </summary>
    static int RegexMatch(LuaLane lane, LuaStack stack)
    {
        try
        {
            var compiled = Compiled(stack.Bytes(2), stack.OptionalText(3) ?? "");
            var bytes = stack.Bytes(1);
            var from = stack.Integer(4) - 1;
            if (compiled.Utf8 && !System.Text.Unicode.Utf8.IsValid(bytes))
            {
                return RegexFailure(stack, "pcre_exec() failed: -10");
            }
            return from > bytes.Length
                ? RegexFailure(stack, "pcre_exec() failed: -24")
                : RegexMatch(stack, compiled, bytes, Math.Max(from, 0));
        }
        catch (FormatException e)
        {
            return RegexFailure(stack, e.Message);
        }
        catch (RegexMatchTimeoutException)
        {
            return RegexFailure(stack, "pcre_exec() failed: -8");
        }
    }

    static int RegexFailure(LuaStack stack, string message)
    {
        stack.Push(false);
        stack.PushUtf8(message);
        return 2;
    }

    static int RegexMatch(LuaStack stack, LuaRegex compiled, ReadOnlySpan<byte> bytes, int from)
    {
        var encoding = compiled.Utf8 ? Encoding.UTF8 : Encoding.Latin1;
        var subject = encoding.GetString(bytes);
        var match = Match(compiled.Regex, subject, encoding.GetCharCount(bytes[..from]));
        if (!match.Success)
        {
            return 0;
        }
        PushSpan(match);
        PushCaptures(stack, compiled, match, encoding);
        if (stack.OptionalInteger(5) is not { } nth)
        {
            return 3;
        }
        if (nth >= match.Groups.Count)
        {
            stack.Push(false);
            return 4;
        }
        if (nth < 0 || !match.Groups[nth].Success)
        {
            return 3;
        }
        PushSpan(match.Groups[nth]);
        return 5;

        void PushSpan(Capture capture)
        {
            var start = encoding.GetByteCount(subject.AsSpan(0, capture.Index));
            stack.Push(start + 1);
            stack.Push(start + encoding.GetByteCount(capture.ValueSpan));
        }
    }

    /// <exception cref="RegexMatchTimeoutException">It ran for as long as it may.</exception>
    static Match Match(Regex regex, string subject, int from)
    {
        try
        {
            return regex.Match(subject, from);
        }
        catch (RegexMatchTimeoutException) when (ThreadClock.Own != 0)
        {
            return MatchAgain(regex, subject, from);
        }
    }

    static Match MatchAgain(Regex regex, string subject, int from)
    {
        var before = ThreadClock.Read(ThreadClock.Own);
        while (true)
        {
            try
            {
                return regex.Match(subject, from);
            }
            catch (RegexMatchTimeoutException) when (ThreadClock.Read(ThreadClock.Own) - before < regex.MatchTimeout.TotalNanoseconds)
            {
                // the machine had more to do
            }
        }
    }

    static void PushCaptures(LuaStack stack, LuaRegex compiled, Match match, Encoding encoding)
    {
        stack.NewTable(match.Groups.Count, compiled.Names.Count);
        for (var i = 0; i < match.Groups.Count; i++)
        {
            PushCapture(stack, match.Groups[i], encoding);
            stack.SetIndex(i);
        }
        if (compiled.Named)
        {
            PushLists(stack, compiled, match, encoding);
            return;
        }
        foreach (var (name, number) in compiled.Names)
        {
            stack.Push(name);
            PushCapture(stack, match.Groups[number], encoding);
            lua_rawset(stack.State, -3);
        }
    }

    /// <summary>What the groups of each name have matched; names of which none has are not there.</summary>
    static void PushLists(LuaStack stack, LuaRegex compiled, Match match, Encoding encoding)
    {
        foreach (var groups in compiled.Names.Select(named => (named.Name, Group: match.Groups[named.Number]))
            .Where(named => named.Group.Success).GroupBy(named => named.Name))
        {
            stack.Push(groups.Key);
            stack.NewTable();
            var i = 0;
            foreach (var (_, group) in groups)
            {
                PushCapture(stack, group, encoding);
                stack.SetIndex(++i);
            }
            lua_rawset(stack.State, -3);
        }
    }

    static void PushCapture(LuaStack stack, Group group, Encoding encoding)
    {
        if (group.Success)
        {
            stack.Push(encoding.GetBytes(group.Value));
        }
        else
        {
            stack.Push(false);
        }
    }

    static LuaRegex Compiled(ReadOnlySpan<byte> pattern, string options)
    {
        var utf8 = options.Contains('u', StringComparison.OrdinalIgnoreCase);
        var key = ((utf8 ? Encoding.UTF8 : Encoding.Latin1).GetString(pattern), options);
        if (Patterns.TryGetValue(key, out var known))
        {
            return known;
        }
        if (Patterns.Count > MaxPatterns)
        {
            Patterns.Clear();
        }
        return Patterns.GetOrAdd(key, static key => Compile(key.Pattern, key.Options));
    }

    static LuaRegex Compile(string pattern, string options)
    {
        var flags = RegexOptions.None;
        var own = PcreOptions.None;
        foreach (var option in options)
        {
            flags |= option switch
            {
                'i' => RegexOptions.IgnoreCase,
                'm' => RegexOptions.Multiline,
                's' => RegexOptions.Singleline,
                'a' or 'x' or 'u' or 'U' or 'D' or 'J' or 'j' or 'o' => RegexOptions.None,
                'd' => throw new FormatException("matching as a DFA (flag \"d\") is not supported"),
                _ => throw new LuaException($"unknown flag \"{option}\" (flags \"{options}\")"),
            };
            own |= option switch
            {
                'x' => PcreOptions.Extended,
                's' => PcreOptions.DotAll,
                'u' or 'U' => PcreOptions.Utf,
                'D' or 'J' => PcreOptions.SameNames,
                _ => PcreOptions.None,
            };
        }
        try
        {
            var translated = PcrePattern.Translate(pattern, own);
            if (options.Contains('a', StringComparison.Ordinal))
            {
                translated = translated with { Text = $@"\G(?:{translated.Text})" };
            }
            return new(Pcre.Compile(translated, flags, LinearLimit, RegexLimit), translated.Names, (own & PcreOptions.Utf) != 0,
                options.Contains('D', StringComparison.Ordinal));
        }
        catch (PcreException e)
        {
            throw new FormatException(e.Describe((own & PcreOptions.Utf) != 0
                ? pattern : Encoding.UTF8.GetString(Encoding.Latin1.GetBytes(pattern))), e);
        }
    }
}
