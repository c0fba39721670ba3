using System.Collections.Frozen;

namespace Sluice.Admin.Doctor;

/// <summary>Something that hurts streams, or will.</summary>
/// <param name="Code">One of <see cref="Names"/>.</param>
/// <param name="Severity"><c>info</c>, <c>warn</c> or <c>error</c>.</param>
/// <param name="Hop">Where: <c>direct</c>, <c>gateway</c>, <c>public</c>, or the place in the configuration.</param>
/// <param name="Evidence">What was measured, or read.</param>
/// <param name="Fix">What to do.</param>
internal sealed record Finding(string Code, string Severity, string Hop, string Text, string Evidence, string Fix)
{
    public static FrozenDictionary<string, string> Names { get; } = new Dictionary<string, string>
    {
        ["D01"] = "buffered",
        ["D02"] = "compressed",
        ["D03"] = "head_late",
        ["D04"] = "cut_when_silent",
        ["D05"] = "heartbeat_lost",
        ["D06"] = "length_or_http10",
        ["D07"] = "downgraded",
        ["D08"] = "six_connections",
        ["D10"] = "cached",
        ["D11"] = "upgrade_refused",
        ["D12"] = "post_stream_broken",
        ["D14"] = "slow_head",
        ["C01"] = "milliseconds",
        ["C02"] = "whole_body",
        ["C03"] = "buffering_on",
        ["C04"] = "compresses",
        ["C05"] = "shorter_than_heartbeat",
        ["C06"] = "no_heartbeat",
        ["C07"] = "no_effect",
        ["C09"] = "descriptors",
        ["C10"] = "lease",
        ["C11"] = "key_in_url",
        ["C12"] = "gives_up",
        ["C15"] = "max_duration",
    }.ToFrozenDictionary();

    public static Finding Error(string code, string hop, string text, string evidence, string fix) =>
        new(code, "error", hop, text, evidence, fix);

    public static Finding Warn(string code, string hop, string text, string evidence, string fix) =>
        new(code, "warn", hop, text, evidence, fix);

    public static Finding Info(string code, string hop, string text, string evidence, string fix) =>
        new(code, "info", hop, text, evidence, fix);

    public override string ToString() => $"{Severity} {Code} {Names[Code]}: {Text}";
}
