using System.Globalization;
using System.Text.Json;

namespace Sluice.Pipeline;

/// <summary>What a quota has said about a request: <c>$rate_limiting_info</c>.</summary>
/// <param name="Reset">Seconds.</param>
internal sealed record RateLimit(string Key, long Limit, long Remaining, double Reset)
{
    /// <summary>As APISIX writes it.</summary>
    public string ToJson() => string.Create(
        CultureInfo.InvariantCulture,
        $$"""{"rate_limiting_key":"{{JsonEncodedText.Encode(Key)}}","rate_limiting_limit":{{Limit}},"rate_limiting_remaining":{{Remaining}},"rate_limiting_reset":{{Reset:0.##}}}""");
}
