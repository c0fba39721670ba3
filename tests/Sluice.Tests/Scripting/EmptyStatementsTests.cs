using System.Text;
using Sluice.Scripting;

namespace Sluice.Tests.Scripting;

public class EmptyStatementsTests
{
    [Theory]
    [InlineData("a();; b()", "a();  b()")]
    [InlineData("; a()", "  a()")]
    [InlineData("if x then; a(); else; b() end", "if x then  a(); else  b() end")]
    [InlineData("while x do;;; end", "while x do    end")]
    [InlineData("repeat; until x", "repeat  until x")]
    [InlineData("local f = function(a, b); return f(a); end", "local f = function(a, b)  return f(a); end")]
    [InlineData("function t.m(); end", "function t.m()  end")]
    [InlineData("a() --[[ ; ]] ; -- ;;\n;b()", "a() --[[ ; ]] ; -- ;;\n b()")]
    [InlineData("::go::; goto go", "::go::  goto go")]
    public void An_empty_statement_becomes_a_space(string text, string without) =>
        Assert.Equal(without, Encoding.Latin1.GetString(EmptyStatements.Remove(Encoding.Latin1.GetBytes(text))!));

    [Theory]
    [InlineData("a(); b();")]
    [InlineData("local s = ';;' local t = \"then;\" local u = 'it\\'s ;;'")]
    [InlineData("local s = [[;;]] local t = [==[ ]] ;; ]==]")]
    [InlineData("-- ;;\nreturn 1;")]
    [InlineData("--[==[ ;;\n ]] ;; ]==] a()")]
    [InlineData("local athen; local b")]
    [InlineData("t[1];")]
    [InlineData("")]
    [InlineData("local s = 'open ;;")]
    [InlineData("[==")]
    public void Strings_comments_and_ends_of_statements_stay(string text) =>
        Assert.Null(EmptyStatements.Remove(Encoding.Latin1.GetBytes(text)));
}
