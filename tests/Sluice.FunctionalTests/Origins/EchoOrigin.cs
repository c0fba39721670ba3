using System.Text;
using System.Text.RegularExpressions;

namespace Sluice.FunctionalTests.Origins;

/// <summary>Answers every request with the request itself: its head and its body as it came over the wire.</summary>
static partial class EchoOrigin
{
    public static ScriptedOrigin Start(Action? onRequest = null) => ScriptedOrigin.Start(async connection =>
    {
        while (true)
        {
            var head = await connection.ReadHeadAsync();
            onRequest?.Invoke();
            var body = Length().Match(head) is { Success: true } length
                ? await connection.ReadAsync(int.Parse(length.Groups[1].Value, System.Globalization.CultureInfo.InvariantCulture)) : "";
            var echo = head + body;
            await connection.SendAsync(
                $"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {Encoding.Latin1.GetByteCount(echo)}\r\n\r\n{(head.StartsWith("HEAD ", StringComparison.Ordinal) ? "" : echo)}");
        }
    });

    [GeneratedRegex(@"\r\ncontent-length: (\d+)\r\n", RegexOptions.IgnoreCase)]
    private static partial Regex Length();
}
