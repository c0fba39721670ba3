using System.Text.Json.Serialization;

namespace Sluice.Relay.Cache;

/// <summary>All that is known of a stored response but its body.</summary>
/// <param name="Key">What it is found by.</param>
/// <param name="Vary">Names of request headers that it depends on, in lower case and sorted.</param>
/// <param name="Variant">What these were in its request.</param>
/// <param name="Stored">When it came, in milliseconds since 1970.</param>
/// <param name="Lifetime">For how many milliseconds from then on it is fresh.</param>
/// <param name="Age">How old it was when it came, in milliseconds: another cache had it.</param>
internal sealed record CachedHead(string Key, string[] Vary, string Variant, int Status, CachedHeader[] Headers, long Stored, long Lifetime,
    long Age)
{
    /// <summary>So much memory it takes about.</summary>
    public int Bytes =>
        512
        + (2 * (Key.Length + Variant.Length
            + Headers.Sum(static header => header.Name.Length + header.Values.Sum(static value => value.Length) + 16)));
}

/// <summary>A header of a stored response.</summary>
internal sealed record CachedHeader(string Name, string[] Values);

[JsonSerializable(typeof(CachedHead))]
sealed partial class CachedHeadJson : JsonSerializerContext;
