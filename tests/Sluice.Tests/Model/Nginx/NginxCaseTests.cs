using System.Globalization;
using System.Net;
using Sluice.Model;
using Sluice.Model.Nginx;

namespace Sluice.Tests.Model.Nginx;

public class NginxCaseTests
{
    static readonly string Cases = GoldenCase.Directory();

    public static TheoryData<string> Names => GoldenCase.Names(Cases);

    [Theory]
    [MemberData(nameof(Names))]
    public void Configuration_means_what_its_case_says(string name)
    {
        var golden = GoldenCase.Read(Cases, name);
        var (config, problems) = NginxConfigReader.Read(new(
            golden["conf/nginx.conf"], "/nonexistent/conf", golden["http snippet"], golden["server snippet"], golden["location snippet"],
            GatewayAddresses: golden["gateway"]?.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(IPEndPoint.Parse).ToList()));
        golden.Compare([
            .. problems.Select(problem => $"{problem.Severity}: {problem}"),
            .. config.Listens.Select(listen =>
                $"listen {listen.EndPoint}{(listen.Ssl ? " ssl" : "")}{(listen.Http2 ? " http2" : "")} {listen.Place}"),
            .. problems.Any(problem => problem.Severity == Severity.Error) ? [] : Selections(config, golden["select"] ?? "")]);
    }

    static IEnumerable<string> Selections(NginxConfig config, string requests)
    {
        foreach (var request in requests.Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            var words = request.Split(' ');
            var local = IPEndPoint.Parse(words[0]);
            yield return $"> {request}";
            foreach (var line in Describe(config.Select(local.Address, local.Port, words[1], words[2])))
            {
                yield return "  " + line;
            }
        }
    }

    static IEnumerable<string> Describe(NginxScope scope)
    {
        var none = NginxScope.Default;
        yield return scope.Block;
        foreach (var rule in scope.ResponseBuffering)
        {
            yield return $"buffering {(rule.On ? "on" : "off")}: {rule.Level} [{rule.Block}] {rule.Place}";
        }
        foreach (var rule in scope.RequestBuffering)
        {
            yield return $"request buffering {(rule.On ? "on" : "off")}: {rule.Level} [{rule.Block}] {rule.Place}";
        }
        (string Name, object? Value, object? Default)[] values =
        [
            ("buffer_size", scope.ProxyBufferSize, none.ProxyBufferSize),
            ("buffers", (scope.ProxyBuffersNumber, scope.ProxyBuffersSize), (none.ProxyBuffersNumber, none.ProxyBuffersSize)),
            ("busy", scope.ProxyBusyBuffersSize, none.ProxyBusyBuffersSize),
            ("max_temp", scope.ProxyMaxTempFileSize, none.ProxyMaxTempFileSize),
            ("temp_path", scope.ProxyTempPath, none.ProxyTempPath),
            ("client_body_buffer", scope.ClientBodyBufferSize, none.ClientBodyBufferSize),
            ("client_max_body", scope.ClientMaxBodySize, none.ClientMaxBodySize),
            ("chunked", scope.ChunkedTransferEncoding, none.ChunkedTransferEncoding),
            ("connect", scope.ProxyConnectTimeout, none.ProxyConnectTimeout),
            ("send", scope.ProxySendTimeout, none.ProxySendTimeout),
            ("read", scope.ProxyReadTimeout, none.ProxyReadTimeout),
            ("client_send", scope.SendTimeout, none.SendTimeout),
            ("keepalive", scope.KeepaliveTimeout, none.KeepaliveTimeout),
            ("client_header", scope.ClientHeaderTimeout, none.ClientHeaderTimeout),
            ("client_body", scope.ClientBodyTimeout, none.ClientBodyTimeout),
            ("ignore_accel", scope.IgnoreAccelBuffering, none.IgnoreAccelBuffering),
        ];
        foreach (var (name, value, _) in values.Where(value => !Equals(value.Value, value.Default)))
        {
            yield return string.Create(CultureInfo.InvariantCulture, $"{name} = {value}");
        }
        foreach (var page in scope.ErrorPages)
        {
            yield return $"error_page {string.Join(' ', page.Errors)}{(page.Status is { } status ? $" ={status}" : "")} {page.Target}";
        }
        if (scope.Return is { } written)
        {
            yield return $"return {written.Status} {written.Text}";
        }
        if (scope.InterceptErrors || scope.IsInternal || scope.DefaultType is not null || scope.Files is not null)
        {
            yield return $"intercept {scope.InterceptErrors} internal {scope.IsInternal} type {scope.DefaultType} files {scope.Files}";
        }
        foreach (var header in scope.SetHeaders)
        {
            yield return $"set {header.Name}: {header.Value}";
        }
        foreach (var header in scope.AddHeaders)
        {
            yield return $"add {header.Name}: {header.Value}{(header.Always ? " always" : "")}";
        }
    }
}
