using Microsoft.Net.Http.Headers;
using Sluice.Model.Nginx;

namespace Sluice.Pipeline;

/// <summary>nginx's <c>return</c> and <c>internal</c>: requests that never reach a route.</summary>
static class NginxReturns
{
    /// <summary>Null: go on.</summary>
    public static Answer? Answer(Exchange exchange) =>
        exchange.Scope.IsInternal && !InnerRequest.IsForErrorPage(exchange) ? Pipeline.Answer.OwnError(404, "404 Route Not Found")
        : exchange.Scope.Return is { } written ? Answer(exchange, exchange.Scope, written)
        : null;

    public static Answer Answer(Exchange exchange, NginxScope scope, NginxReturn written)
    {
        if (written.Status == 444)
        {
            exchange.Http.Abort();
            return Pipeline.Answer.Sent;
        }
        if (written.IsRedirect)
        {
            return Pipeline.Answer.Bare(written.Status).With(HeaderNames.Location, Template.ExpandHeader(written.Text!, exchange.InNginx));
        }
        return written.Text is { } text
            ? Pipeline.Answer.Text(written.Status, Template.Expand(text, exchange.InNginx), scope.DefaultType ?? Pipeline.Answer.PlainText)
            : Pipeline.Answer.Bare(written.Status);
    }
}
