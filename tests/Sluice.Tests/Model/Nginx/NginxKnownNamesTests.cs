using System.Text.RegularExpressions;
using Sluice.Model;
using Sluice.Model.Nginx;

namespace Sluice.Tests.Model.Nginx;

public partial class NginxKnownNamesTests
{
    /// <summary>Every <c>directive name</c> of nginx's documentation (nginx.org, xml/en/docs), of all contexts.</summary>
    static string[] Documented =>
        File.ReadAllLines(Path.Combine(Repository.Root, "tests", "Sluice.Tests", "Model", "Nginx", "nginx-directives.txt"));

    [Fact]
    public void Every_directive_of_nginx_s_documentation_works_or_says_what_to_use_instead()
    {
        string[] read = ["http", "server", "location", "listen", "server_name", "include", "http2", "map",
            .. NginxDirectives.Effective.Keys];
        Assert.True(Documented.Length > 800);
        Assert.All(Documented, name => Assert.True(read.Contains(name) || NginxUnusedDirectives.Instead(name) is not null, name));
    }

    [Fact]
    public void No_directive_of_nginx_s_documentation_is_called_unknown()
    {
        foreach (var name in Documented)
        {
            foreach (var text in (string[])[$"{name} x;", $"http {{ {name} x; }}",
                $"http {{ server {{ {name} x; location / {{ {name} x; }} }} }}"])
            {
                var (_, problems) = NginxConfigReader.Read(new(text));
                Assert.DoesNotContain(problems, problem => problem.Message.StartsWith("unknown directive", StringComparison.Ordinal));
            }
        }
    }

    [Fact]
    public void Only_documented_directives_have_an_instead() => Assert.Empty(NginxUnusedDirectives.Names.Except(Documented));

    [Fact]
    public void If_points_to_cors()
    {
        var (_, problems) = NginxConfigReader.Read(
            new("http { server { location / { if ($request_method = OPTIONS) { return 204; } } } }"));
        var problem = Assert.Single(problems);
        Assert.Equal(Severity.Warning, problem.Severity);
        Assert.Contains("cors", problem.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_variables_that_are_known_are_those_that_the_pipeline_fills()
    {
        var source = File.ReadAllText(Path.Combine(Repository.Root, "src", "Sluice", "Pipeline", "Exchange", "ExchangeVariables.cs"));
        var table = source[source.IndexOf("return name switch", StringComparison.Ordinal)..source.IndexOf("_ => ByPrefix(name)",
            StringComparison.Ordinal)];
        var filled = Arm().Matches(table).SelectMany(arm => Name().Matches(arm.Value)).Select(match => match.Groups[1].Value).ToHashSet();
        Assert.Equal(filled.Order(), NginxVariables.Names.Order());
    }

    [GeneratedRegex("""^ {12}("[a-z0-9_]+"(?: or "[a-z0-9_]+")*) =>""", RegexOptions.Multiline)]
    private static partial Regex Arm();

    [GeneratedRegex("\"([a-z0-9_]+)\"")]
    private static partial Regex Name();
}
