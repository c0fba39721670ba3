namespace Sluice.Pipeline;

/// <summary>One rule that says whether answers are buffered.</summary>
/// <param name="Level"><c>upstream header</c>, <c>plugin</c>, <c>location</c>, <c>server</c>, <c>http</c> or <c>default</c>.</param>
/// <param name="Text">What was written: <c>proxy-rewrite.disable_buffering: true</c>, <c>proxy_buffering off</c>.</param>
/// <param name="Place">Where: <c>route r1</c>, <c>conf/nginx.conf:12</c>.</param>
internal sealed record BufferingReason(string Level, bool On, string Text, string Place)
{
    public override string ToString() => $"{(On ? "on" : "off")}; {Text} ({Place})";
}

/// <summary>Whether a body is buffered and by which rule, with every rule it overrode in order of precedence.</summary>
internal sealed record BufferingDecision(BufferingReason Winner, IReadOnlyList<BufferingReason> Overridden)
{
    public bool On => Winner.On;
}
