using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Sluice.Api;
using Sluice.Pipeline;

namespace Sluice.Admin;

/// <summary>Stands before the Admin API: address → preflight → host → key.</summary>
sealed partial class AdminGate(LiveConfiguration live, ILogger<AdminGate> logger) : IApiGate
{
    volatile AdminAccess _access = AdminAccess.Closed;

    /// <summary>Who may come in. Nobody until it is set.</summary>
    public AdminAccess Access
    {
        get => _access;
        set => _access = value;
    }

    /// <summary>Nobody without a key learns what there is.</summary>
    public ApiAccess Elsewhere(string method) => HttpMethods.IsGet(method) ? ApiAccess.Read : ApiAccess.Write;

    public IApiAnswer NotFound { get; } = JsonAnswer.Error(404, "404 Route Not Found");

    public IApiAnswer? Stop(HttpContext http, ApiAccess asked)
    {
        var (request, response, access) = (http.Request, http.Response, Access);
        if (!access.Allows(http.Connection.RemoteIpAddress))
        {
            LogNotAllowed(http.Connection.RemoteIpAddress);
            return Forbidden;
        }
        if (access.Cors)
        {
            AllowOrigins(request, response);
        }
        if (HttpMethods.IsOptions(request.Method))
        {
            return JsonAnswer.Text(200, "", "text/plain");
        }
        if (!access.KeyRequired && HostCheck.Refuse(request, live.Current.Settings.OwnHosts) is { } misdirected)
        {
            return misdirected;
        }
        if (access.Refuse(request, asked) is { } refusal)
        {
            LogBadKey(refusal, http.Connection.RemoteIpAddress);
            return BadKey(refusal);
        }
        response.Headers["X-API-VERSION"] = "v3";
        return null;
    }

    public static JsonAnswer BadKey(string refusal) =>
        JsonAnswer.Object(401, ("error_msg", "failed to check token"), ("description", refusal));

    static void AllowOrigins(HttpRequest request, HttpResponse response)
    {
        var headers = response.Headers;
        headers.AccessControlAllowOrigin = "*";
        headers.AccessControlAllowCredentials = "true";
        headers.AccessControlMaxAge = "3600";
        if (HttpMethods.IsOptions(request.Method))
        {
            headers.AccessControlAllowMethods = "POST, GET, PUT, OPTIONS, DELETE, PATCH";
            headers.AccessControlAllowHeaders = "*";
        }
        else
        {
            headers.AccessControlExposeHeaders = "*";
        }
    }

    /// <summary>allow_admin is nginx's business in APISIX, so the answer is nginx's page.</summary>
    static readonly JsonAnswer Forbidden = JsonAnswer.Text(
        403,
        "<html>\r\n<head><title>403 Forbidden</title></head>\r\n<body>\r\n<center><h1>403 "
            + "Forbidden</h1></center>\r\n<hr><center>sluice</center>\r\n</body>\r\n</html>\r\n",
        "text/html");

    [LoggerMessage(Level = LogLevel.Warning, Message = "Admin API: failed to check token: {Reason}, client: {Client}")]
    partial void LogBadKey(string reason, System.Net.IPAddress? client);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Admin API: access forbidden by allow_admin, client: {Client}")]
    partial void LogNotAllowed(System.Net.IPAddress? client);
}
