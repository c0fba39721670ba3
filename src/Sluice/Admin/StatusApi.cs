using Sluice.Api;

namespace Sluice.Admin;

/// <summary>
/// <c>/status</c>: the process answers. <c>/status/ready</c>: it has its configuration and takes requests, too; load balancers ask here.
/// </summary>
sealed class StatusApi : IApiRoutes
{
    volatile string? _notReady = "no configuration was loaded yet";

    volatile Func<string?>? _source;

    /// <summary>Why requests should go elsewhere; null when the gateway is ready.</summary>
    public string? NotReady
    {
        get => _notReady;
        set => _notReady = value;
    }

    /// <summary>Ready from now on, as far as the source of the configuration says.</summary>
    public void Started(Func<string?> notReady)
    {
        _source = notReady;
        NotReady = null;
    }

    /// <summary>What is not as it should be though the gateway is ready; null when all is well.</summary>
    public Func<string?>? Warning { get; set; }

    public IEnumerable<ApiRoute> Routes =>
    [
        new("*", "/status", ApiAccess.Open, static _ => JsonAnswer.Object(200, ("status", "ok"))),
        new("*", "/status/ready", ApiAccess.Open, _ => (NotReady ?? _source?.Invoke()) is { } reason
            ? JsonAnswer.Object(503, ("status", "error"), ("error", reason))
            : Warning?.Invoke() is { } warning ? JsonAnswer.Object(200, ("status", "ok"), ("warning", warning))
            : JsonAnswer.Object(200, ("status", "ok"))),
    ];
}
