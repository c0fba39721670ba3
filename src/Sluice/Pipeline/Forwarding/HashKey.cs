using Sluice.Model;

namespace Sluice.Pipeline;

/// <summary>What <c>chash</c> hashes of a request: <c>hash_on</c> and <c>key</c>. Whatever has no value is replaced by the client's
/// address, as in APISIX.</summary>
static class HashKey
{
    public static string Of(Exchange exchange, UpstreamConfig upstream) => upstream.Type == "chash"
        ? Named(exchange, upstream) ?? exchange.Get("remote_addr")!
        : "";

    static string? Named(Exchange exchange, UpstreamConfig upstream) => upstream.HashOn switch
    {
        "consumer" => exchange.Get("consumer_name"),
        "header" => exchange.Get("http_" + upstream.Key),
        "cookie" => exchange.Get("cookie_" + upstream.Key),
        "vars_combinations" => Template.Expand(upstream.Key!, exchange, null, out var resolved) is var text && resolved > 0 ? text : null,
        _ => exchange.Get(upstream.Key!),
    };
}
