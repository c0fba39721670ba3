using Microsoft.AspNetCore.Http;
using Sluice.Model.Nginx;

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
        PhaseRunner.Tell(exchange, Phase.HeaderFilter, exchange.Snapshot.GlobalRules);
        PhaseRunner.Tell(exchange, Phase.HeaderFilter, exchange.Chain);
        PhaseRunner.Tell(exchange, Phase.Compression, exchange.Snapshot.GlobalRules);
        PhaseRunner.Tell(exchange, Phase.Compression, exchange.Chain);
        if (exchange is { ExtendedConnect: not null, OpensTunnel: false } && exchange.Response.StatusCode is >= 200 and < 300)
        {
            // to a CONNECT these would say that the tunnel is open
            exchange.Response.StatusCode = StatusCodes.Status400BadRequest;
        }
        foreach (var header in exchange.Scope.AddHeaders)
        {
            if (header.Always || AddHeaderStatuses.Contains(exchange.Response.StatusCode))
            {
                var value = Template.ExpandHeader(header.Value, exchange.InNginx);
                if (value.Length > 0)
                {
                    exchange.Response.Headers.Append(header.Name, value);
                }
            }
        }
    }

    public static bool MayHaveBody(int status) => status is >= 200 and not (204 or 304);
}
