using Sluice.Plugins.Logging;

namespace Sluice.Tests.Plugins.Logging;

public class StrftimeTests
{
    // what `date -d '2026-02-03 04:05:06' +FORMAT` of GNU coreutils says with LC_ALL=C and TZ=UTC
    [Theory]
    [InlineData("%Y.%m.%d", "2026.02.03")]
    [InlineData("%y%j %H:%M:%S", "26034 04:05:06")]
    [InlineData("%a %A %b %B %e", "Tue Tuesday Feb February  3")]
    [InlineData("%I %p %u %w %C", "04 AM 2 2 20")]
    [InlineData("%U %W %V %G %g", "05 05 06 2026 26")]
    [InlineData("%F %T %R %D", "2026-02-03 04:05:06 04:05 02/03/26")]
    [InlineData("%c", "Tue Feb  3 04:05:06 2026")]
    [InlineData("%s %z %Z", "1770091506 +0000 UTC")]
    [InlineData("100%% %n%t", "100% \n\t")]
    [InlineData("%Q plain %", "%Q plain %")]
    public void A_date_is_written_as_the_C_library_writes_it(string format, string text) =>
        Assert.Equal(text, Strftime.Format(format, new DateTimeOffset(2026, 2, 3, 4, 5, 6, TimeSpan.Zero)));

    [Fact]
    public void An_exclamation_mark_means_utc() =>
        Assert.Equal("23", Strftime.Format("!%H", new DateTimeOffset(2026, 2, 3, 1, 0, 0, TimeSpan.FromHours(2))));

    [Fact]
    public void A_table_is_no_text() => Assert.Null(Strftime.Format("*t", default));
}
