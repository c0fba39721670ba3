using System.Globalization;
using System.Text;

namespace Sluice.Net.Http1;

/// <summary>The Date line of answers that have none, made once a second.</summary>
sealed class DateHeader(TimeProvider time)
{
    sealed record Made(long Second, byte[] Line);

    Made _made = new(long.MinValue, []);

    public byte[] Line()
    {
        var now = time.GetUtcNow();
        var second = now.ToUnixTimeSeconds();
        var made = _made;
        if (made.Second != second)
        {
            _made = made = new(second, Encoding.ASCII.GetBytes(string.Create(CultureInfo.InvariantCulture, $"Date: {now:R}\r\n")));
        }
        return made.Line;
    }
}
