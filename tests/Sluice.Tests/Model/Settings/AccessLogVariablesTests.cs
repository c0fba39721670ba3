using Sluice.Model;
using Sluice.Model.Settings;

namespace Sluice.Tests.Model.Settings;

public class AccessLogVariablesTests
{
    static IReadOnlyList<Problem> Problems(string key, string format) =>
        SettingsReader.Parse("/", $"nginx_config: {{{key}: {{access_log_format: '{format}'}}}}", null, _ => null).Problems;

    [Fact]
    public void A_variable_that_nobody_fills_is_named()
    {
        var problem = Assert.Single(Problems("http", "$status $remote_adr"));
        Assert.Equal("unknown \"remote_adr\" variable; did you mean \"remote_addr\"?: it is empty unless a script registers it",
            problem.Message);
        problem = Assert.Single(Problems("http", "$status $ssl_session_id"));
        Assert.Equal("the variable \"ssl_session_id\" is always empty here", problem.Message);
    }

    [Fact]
    public void In_the_log_of_streams_nobody_registers_any()
    {
        var problem = Assert.Single(Problems("stream", "$status $no_such"));
        Assert.Equal((Severity.Error, "unknown \"no_such\" variable"), (problem.Severity, problem.Message));
    }

    [Fact]
    public void The_default_formats_are_sound() => Assert.Empty(SettingsReader.Parse("/", "", null, _ => null).Problems);
}
