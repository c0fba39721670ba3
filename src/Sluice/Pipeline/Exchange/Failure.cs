namespace Sluice.Pipeline;

public enum FailureSource
{
    Client,
    Gateway,
    Upstream,
}

/// <summary>Why an exchange went wrong. The kind is stable: it shows in logs, metrics and the access log
/// (<c>$sluice_failure</c>).</summary>
/// <param name="Kind">snake_case, for example <c>connect_refused</c>, <c>read_timeout</c>, <c>client_gone</c>.</param>
/// <param name="Detail">For the error log; never sent to clients.</param>
/// <param name="Status">The status if nothing was sent yet.</param>
public sealed record Failure(FailureSource Source, string Kind, string Detail, int Status);
