namespace Sluice.Pipeline.Secrets;

/// <summary>The secrets that consumers of a snapshot refer to, with the values that it was compiled with; null: not known then.</summary>
public sealed class ConsumerSecrets(IReadOnlyDictionary<string, string?> values)
{
    public IEnumerable<string> References => values.Keys;

    public bool IsEmpty => values.Count == 0;

    /// <summary>Whether the snapshot's consumers have the values that are known now.</summary>
    public bool AreCurrent(SecretStore secrets) => values.All(pair => secrets.Known(pair.Key) == pair.Value);
}
