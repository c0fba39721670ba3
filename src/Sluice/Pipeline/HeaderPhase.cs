using Microsoft.AspNetCore.Http;
using Sluice.Model.Nginx;
using Sluice.Scripting;

namespace Sluice.Pipeline;

/// <summary>The header_filter phase: global rules, the route's plugins, then <c>add_header</c> of the nginx block.</summary>
static class HeaderPhase
{
    static readonly int[] AddHeaderStatuses = [200, 201, 204, 206, 301, 302, 303, 304, 307, 308];

    /// <summary><c>Sluice/0.1.0</c>; without <c>enable_server_tokens</c> just the name.</summary>
    static readonly string ServerWithVersion = $"Sluice/{typeof(HeaderPhase).Assembly.GetName().Version!.ToString(3)}";

    public static void Run(Exchange exchange)
    {
        exchange.Response.Headers.Server = exchange.Snapshot.Settings.Http.ServerTokens ? ServerWithVersion : "Sluice";
        Run(exchange, exchange.Snapshot.GlobalRules.HeaderFilters);
        Run(exchange, exchange.Chain.HeaderFilters);
        foreach (var header in exchange.Scope.AddHeaders)
        {
            if (header.Always || AddHeaderStatuses.Contains(exchange.Response.StatusCode))
            {
                var value = Template.Expand(header.Value, exchange);
                if (value.Length > 0)
                {
                    exchange.Response.Headers.Append(header.Name, value);
                }
            }
        }
    }

    static void Run(Exchange exchange, Step<IHeaderFilter>[] steps)
    {
        foreach (var (phase, use) in steps)
        {
            if (use.Applies(exchange))
            {
                use.Before(exchange, LuaPhase.HeaderFilter, "header_filter");
                phase.FilterHeaders(exchange);
            }
        }
    }

    public static bool MayHaveBody(int status) => status is >= 200 and not (204 or 304);
}
