using System.Text;

namespace Sluice.Model.Nginx;

/// <summary>
/// nginx's configuration grammar, token for token. Beyond nginx, the spaces of web pages (U+00A0, U+3000, U+FEFF) separate tokens too:
/// text that was copied from an article means what it looks like.
/// </summary>
sealed class NginxParser
{
    const int MaxDepth = 50;

    readonly NginxText _source;
    readonly string _text;
    readonly StringBuilder _token = new();
    int _at;
    int _line = 1;

    NginxParser(NginxText source)
    {
        _source = source;
        _text = source.Text;
    }

    /// <exception cref="NginxSyntaxException">An unclosed block or quote, a missing semicolon, a brace too many.</exception>
    public static IReadOnlyList<NginxDirective> Parse(NginxText source) => new NginxParser(source).ReadBlock(0, openedOn: 0);

    List<NginxDirective> ReadBlock(int depth, int openedOn)
    {
        if (depth > MaxDepth)
        {
            throw Wrong($"blocks are nested more than {MaxDepth} deep");
        }
        var directives = new List<NginxDirective>();
        var words = new List<string>();
        while (true)
        {
            SkipSpace();
            var line = _line;
            if (_at >= _text.Length)
            {
                return words.Count > 0 ? throw Wrong("unexpected end of file, expecting \";\" or \"}\"")
                    : depth > 0 ? throw Wrong($"unexpected end of file, expecting \"}}\" for the block that line {openedOn} opens")
                    : directives;
            }
            switch (_text[_at])
            {
                case ';' when words.Count > 0:
                    _at++;
                    directives.Add(new(words[0], [.. words[1..]], null, _source.Place(FirstLine)));
                    words.Clear();
                    break;
                case '{' when words.Count > 0:
                    _at++;
                    var first = FirstLine;
                    var block = words[0].EndsWith("_by_lua_block", StringComparison.Ordinal) ? SkipLua() : ReadBlock(depth + 1, line);
                    directives.Add(new(words[0], [.. words[1..]], block, _source.Place(first)));
                    words.Clear();
                    break;
                case '}' when words.Count > 0:
                    throw Wrong($"unexpected \"}}\": directive \"{words[0]}\" is not terminated by \";\"");
                case '}' when depth > 0:
                    _at++;
                    return directives;
                case ';' or '{' or '}':
                    throw Wrong($"unexpected \"{_text[_at]}\"");
                default:
                    if (words.Count == 0)
                    {
                        FirstLine = line;
                    }
                    words.Add(ReadToken());
                    break;
            }
        }
    }

    /// <summary>Where the directive that is being read begins: nginx blames its end, people look for its name.</summary>
    int FirstLine { get; set; }

    void SkipSpace()
    {
        for (; _at < _text.Length; _at++)
        {
            var c = _text[_at];
            if (c == '#')
            {
                var end = _text.IndexOf('\n', _at);
                _at = (end < 0 ? _text.Length : end) - 1;
            }
            else if (c == '\n')
            {
                _line++;
            }
            else if (!IsSpace(c))
            {
                return;
            }
        }
    }

    static bool IsSpace(char c) => c is ' ' or '\t' or '\r' or '\n' or '\u00A0' or '\u3000' or '\uFEFF';

    string ReadToken()
    {
        _token.Clear();
        return _text[_at] is '"' or '\'' ? ReadQuoted(_text[_at]) : ReadPlain();
    }

    string ReadQuoted(char quote)
    {
        var opened = _line;
        for (_at++; _at < _text.Length; _at++)
        {
            var c = _text[_at];
            if (c == quote)
            {
                _at++;
                // after a closing quote nginx wants a space, ";", "{" or ")"
                return _at >= _text.Length || IsSpace(_text[_at]) || _text[_at] is ';' or '{' or ')'
                    ? _token.ToString()
                    : throw Wrong($"unexpected \"{_text[_at]}\" after a closing quote");
            }
            Take(c);
        }
        throw new NginxSyntaxException(_source.Place(opened), $"unexpected end of file, expecting a closing {quote}");
    }

    string ReadPlain()
    {
        var variable = false;
        for (; _at < _text.Length; _at++)
        {
            var c = _text[_at];
            if (IsSpace(c) || c == ';' || (c == '{' && !variable))
            {
                break;
            }
            variable = c == '$';
            Take(c);
        }
        return _token.ToString();
    }

    // nginx drops the backslash before quotes and itself, knows \t \r \n, and keeps it before everything else (regular expressions).
    void Take(char c)
    {
        if (c == '\n')
        {
            _line++;
        }
        else if (c is '\0' or (< ' ' and not '\t' and not '\r'))
        {
            throw Wrong($"control character U+{(int)c:X4} is not allowed");
        }
        if (c != '\\' || _at + 1 >= _text.Length)
        {
            _token.Append(c);
            return;
        }
        var next = _text[++_at];
        if (next == '\n')
        {
            _line++;
        }
        AppendEscaped(_token, next);
    }

    static void AppendEscaped(StringBuilder token, char next) => _ = next switch
    {
        '"' or '\'' or '\\' => token.Append(next),
        't' => token.Append('\t'),
        'r' => token.Append('\r'),
        'n' => token.Append('\n'),
        _ => token.Append('\\').Append(next),
    };

    /// <summary>A text as it would be read between quotes, whatever quotes stand in it.</summary>
    public static string Unescape(string text)
    {
        if (!text.Contains('\\', StringComparison.Ordinal))
        {
            return text;
        }
        var token = new StringBuilder(text.Length);
        for (var at = 0; at < text.Length; at++)
        {
            if (text[at] == '\\' && at + 1 < text.Length)
            {
                AppendEscaped(token, text[++at]);
            }
            else
            {
                token.Append(text[at]);
            }
        }
        return token.ToString();
    }

    // Lua is not nginx's language: its braces are counted, its strings and comments passed over.
    List<NginxDirective> SkipLua()
    {
        var opened = _line;
        for (var depth = 1; _at < _text.Length; _at++)
        {
            switch (_text[_at])
            {
                case '\n':
                    _line++;
                    break;
                case '{':
                    depth++;
                    break;
                case '}' when --depth == 0:
                    _at++;
                    return [];
                case '-' when Follows("--") && !Follows("--[["):
                    _at = _text.IndexOf('\n', _at) is >= 0 and var end ? end - 1 : _text.Length;
                    break;
                case '[' when Follows("[["):
                    PassOver("]]");
                    break;
                case '"' or '\'':
                    PassOverString(_text[_at]);
                    break;
            }
        }
        throw new NginxSyntaxException(_source.Place(opened), "unexpected end of file, expecting \"}\" for the Lua block that opens here");
    }

    bool Follows(string what) => _text.AsSpan(_at).StartsWith(what);

    void PassOver(string end)
    {
        var stop = _text.IndexOf(end, _at, StringComparison.Ordinal);
        stop = stop < 0 ? _text.Length : stop + end.Length - 1;
        _line += _text.AsSpan(_at, stop - _at).Count('\n');
        _at = stop;
    }

    void PassOverString(char quote)
    {
        for (_at++; _at < _text.Length && _text[_at] != quote; _at++)
        {
            if (_text[_at] == '\n')
            {
                _line++;
            }
            else if (_text[_at] == '\\')
            {
                _at++;
            }
        }
    }

    NginxSyntaxException Wrong(string message) => new(_source.Place(_line), message);
}
