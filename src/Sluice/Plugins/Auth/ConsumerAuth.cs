using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Http;
using Sluice.Net.Http;
using Sluice.Pipeline;

namespace Sluice.Plugins.Auth;

/// <summary>
/// What auth plugins have in common: a consumer is found and attached, or the anonymous one takes its place, or the answer is a challenge
/// of the plugin's scheme.
/// </summary>
/// <param name="scheme">Stands before the realm in <c>WWW-Authenticate</c>.</param>
/// <param name="anonymous">The consumer that requests without valid credentials count as; null: there is none.</param>
abstract class ConsumerAuth(string scheme, string realm, string? anonymous = null) : IRewrite
{
    readonly string _challenge = HeaderText.Escape($"{scheme} realm=\"{realm}\"");

    /// <summary>The schema of <c>realm</c>: printable ASCII without what would end the quoted text.</summary>
    protected static string RealmSchema(string realm) => $$"""
        "realm": {
          "type": "string", "pattern": "^[ -!#-[\\]-~]+$", "minLength": 1, "maxLength": 128, "default": "{{realm}}",
          "description": "realm in WWW-Authenticate"
        }
        """;

    /// <summary>The schema of <c>anonymous_consumer</c>.</summary>
    protected const string AnonymousSchema = """
        "anonymous_consumer": { "type": "string", "minLength": 1, "description": "consumer that requests without valid credentials count as" }
        """;

    /// <summary>Who asks, or the answer to somebody who is nobody.</summary>
    protected abstract ValueTask<Found> FindAsync(Exchange exchange);

    /// <summary>The request goes on: what the upstream need not see is removed, when the configuration says so.</summary>
    /// <param name="isAnonymous">Its credentials are nobody's.</param>
    protected abstract void Hide(Exchange exchange, bool isAnonymous);

    /// <summary>Who is known already is looked at as a consumer; its credentials may have been removed from the request.</summary>
    public virtual bool CanReadmit(Exchange exchange) => exchange.Consumer is null;

    public async ValueTask<Answer?> RewriteAsync(Exchange exchange)
    {
        var found = await FindAsync(exchange);
        var consumer = found.Consumer;
        if (consumer is null)
        {
            var refusal = found.Refusal!;
            if (refusal.Status != StatusCodes.Status401Unauthorized)
            {
                return refusal;
            }
            if (anonymous is not null && (consumer = exchange.Snapshot.Consumers.All.GetValueOrDefault(anonymous)) is null)
            {
                refusal = Refused("Invalid user authorization", $"failed to get anonymous consumer {anonymous}").Refusal!;
            }
            if (consumer is null)
            {
                return refusal.With("WWW-Authenticate", _challenge);
            }
        }
        Hide(exchange, isAnonymous: found.Consumer is null);
        exchange.Attach(consumer);
        return null;
    }

    /// <param name="reason">What only the log says; null: it says nothing.</param>
    protected static Found Refused(string message, string? reason = null) =>
        new(null, Answer.Message(StatusCodes.Status401Unauthorized, message) with { Reason = reason });

    /// <summary>A header's first value; null when there is none.</summary>
    protected static string? Header(Exchange exchange, string name) =>
        exchange.Request.Headers[name] is { Count: > 0 } values ? values[0] : null;

    /// <summary>What a header says as text: on the wire each character is a byte.</summary>
    protected static string Text(string wire) => Ascii.IsValid(wire) ? wire : ByteText.Of(Encoding.Latin1.GetBytes(wire));

    /// <summary>Compares without telling by its time where the difference is.</summary>
    protected static bool IsSame(string one, string other) =>
        CryptographicOperations.FixedTimeEquals(ByteText.GetBytes(one), ByteText.GetBytes(other));

    /// <param name="Refusal">Null when the consumer is not.</param>
    protected readonly record struct Found(Consumer? Consumer, Answer? Refusal)
    {
        public static implicit operator Found(Consumer consumer) => new(consumer, null);
    }
}
