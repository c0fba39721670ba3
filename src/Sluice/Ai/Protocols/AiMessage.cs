namespace Sluice.Ai.Protocols;

/// <summary>A message of a prompt, whatever the protocol: who says it, and its text.</summary>
internal sealed record AiMessage(string Role, string Content);
