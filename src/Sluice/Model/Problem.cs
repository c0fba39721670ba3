namespace Sluice.Model;

public enum Severity
{
    Warning,
    Error,
}

/// <summary>One thing that is wrong in what a user wrote.</summary>
/// <param name="Place">Where: <c>conf/nginx.conf:12</c>, <c>conf/config.yaml:7 (apisix.node_listen[0].port)</c>,
/// <c>/apisix/routes/r1</c>.</param>
/// <param name="Message">What is wrong and, where it can be said, what would be right. One line.</param>
public sealed record Problem(Severity Severity, string Place, string Message)
{
    public static Problem Error(string place, string message) => new(Severity.Error, place, message);

    public static Problem Warning(string place, string message) => new(Severity.Warning, place, message);

    public override string ToString() => $"{Place}: {Message}";
}
