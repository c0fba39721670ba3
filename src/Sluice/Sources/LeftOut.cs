using Sluice.Model;

namespace Sluice.Sources;

/// <summary>A resource as it stands in the store, that is wrong and therefore not in force; what was in force before it, if anything, still
/// is.</summary>
/// <param name="Document">As stored, secrets in clear; without properties when it is no JSON object.</param>
/// <param name="Problem">What is wrong.</param>
internal sealed record LeftOut(Document Document, string Problem);
