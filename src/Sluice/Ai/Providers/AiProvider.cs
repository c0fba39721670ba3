namespace Sluice.Ai.Providers;

/// <summary>A provider of language models: where it is, and what it speaks there.</summary>
/// <param name="Name">The name that configurations use.</param>
/// <param name="Host">Where it is; null: the configuration says it.</param>
internal sealed record AiProvider(string Name, string? Host, params AiSpeech[] Speaks)
{
    /// <summary>The path says which model it is; the body must not.</summary>
    public bool RemovesModel { get; init; }

    /// <summary>Where it is in a region.</summary>
    public Func<AiPlace, string?>? HostOf { get; init; }

    public AiSpeech? In(string protocol) => Array.Find(Speaks, speech => speech.Protocol == protocol);

    public string Spoken => string.Join(", ", Speaks.Select(speech => speech.Protocol));
}

/// <summary>What the configuration says of where a provider is.</summary>
internal sealed record AiPlace(string? Project, string? Region);

/// <summary>A protocol that a provider speaks.</summary>
/// <param name="PathOf">Its path; null when it cannot be said without what is missing.</param>
/// <param name="MaxTokens">The name of the limit of tokens; null: it has none.</param>
internal sealed record AiSpeech(string Protocol, Func<AiPlace, string?, string?> PathOf, string? MaxTokens)
{
    public AiSpeech(string protocol, string path, string? maxTokens = "max_tokens") : this(protocol, (_, _) => path, maxTokens)
    {
    }

    /// <summary>Another name of the limit, which is taken out.</summary>
    public string? Instead { get; init; }
}
