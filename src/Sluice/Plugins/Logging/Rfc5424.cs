using System.Globalization;
using System.Text;
using Sluice.Pipeline;

namespace Sluice.Plugins.Logging;

/// <summary>Syslog messages (RFC 5424) and the times in them (RFC 3339, in UTC).</summary>
static class Rfc5424
{
    public static string Now(Exchange exchange) =>
        exchange.Services.Time.GetUtcNow().ToString("yyyy-MM-dd'T'HH:mm:ss.fff'Z'", CultureInfo.InvariantCulture);

    /// <summary>What stands before an entry, a blank at its end included.</summary>
    /// <param name="priority">Facility times 8 and severity.</param>
    /// <param name="structuredData"><c>-</c>: none.</param>
    public static byte[] Head(Exchange exchange, int priority, string structuredData) => Encoding.UTF8.GetBytes(string.Create(
        CultureInfo.InvariantCulture,
        $"<{priority}>1 {Now(exchange)} {exchange.Get("host") ?? "-"} apisix {Environment.ProcessId} - {structuredData} "));
}
