using Microsoft.AspNetCore.Http;

namespace Sluice.Admin;

/// <summary>
/// <c>/status</c>: the process answers. <c>/status/ready</c>: it has its configuration and takes requests, too; load balancers ask here.
/// </summary>
public sealed class StatusApi
{
    volatile string? _notReady = "no configuration was loaded yet";

    /// <summary>Why requests should go elsewhere; null when the gateway is ready.</summary>
    public string? NotReady
    {
        get => _notReady;
        set => _notReady = value;
    }

    /// <summary>What is not as it should be though the gateway is ready; null when all is well.</summary>
    public Func<string?>? Warning { get; set; }

    public Task HandleAsync(HttpContext http) => Answer(http.Request).SendAsync(http);

    JsonAnswer Answer(HttpRequest request) => request.Path.Value switch
    {
        "/status" => JsonAnswer.Object(200, ("status", "ok")),
        "/status/ready" => NotReady is { } reason
            ? JsonAnswer.Object(503, ("status", "error"), ("error", reason))
            : Warning?.Invoke() is { } warning ? JsonAnswer.Object(200, ("status", "ok"), ("warning", warning))
            : JsonAnswer.Object(200, ("status", "ok")),
        _ => JsonAnswer.Error(404, "404 Not Found"),
    };
}
