using System.Globalization;

namespace Sluice.Model.Nginx;

/// <summary>One directive as written: its name, its arguments without quotes and escapes, its block if it has one.</summary>
/// <param name="Place"><c>conf/nginx.conf:12</c></param>
sealed record NginxDirective(string Name, string[] Arguments, IReadOnlyList<NginxDirective>? Block, string Place);

/// <summary>The text breaks nginx's grammar.</summary>
sealed class NginxSyntaxException(string place, string message) : Exception(message)
{
    public Problem ToProblem() => Problem.Error(place, Message);
}

/// <summary>One text to parse.</summary>
/// <param name="Name">What places begin with: <c>conf/nginx.conf</c>, <c>conf/config.yaml
/// (nginx_config.http_configuration_snippet)</c>.</param>
sealed record NginxText(string Name, string Text)
{
    public string Place(int line) => string.Create(CultureInfo.InvariantCulture, $"{Name}:{line}");
}
