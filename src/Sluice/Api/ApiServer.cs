using System.Net;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Logging;

namespace Sluice.Api;

/// <summary>Stands before the endpoints of an interface.</summary>
interface IApiGate
{
    /// <summary>The answer to a request that goes no further; null lets it in.</summary>
    /// <param name="access">What the endpoint asks for.</param>
    IApiAnswer? Stop(HttpContext http, ApiAccess access);

    /// <summary>What a path without an endpoint asks for.</summary>
    ApiAccess Elsewhere(string method) => ApiAccess.Open;

    /// <summary>The answer where no endpoint is.</summary>
    IApiAnswer NotFound => JsonAnswer.Error(404, "404 Not Found");
}

/// <summary>Lets everybody in.</summary>
sealed class OpenGate : IApiGate
{
    public IApiAnswer? Stop(HttpContext http, ApiAccess access) => null;
}

/// <summary>Answers the requests of one interface: path → endpoint → gate → handler → answer.</summary>
/// <param name="name">As the log calls it: <c>Admin API</c>.</param>
/// <param name="table">Asked for each request: what is enabled may change.</param>
sealed partial class ApiServer(string name, Func<ApiTable> table, IApiGate gate, ILogger<ApiServer> logger)
{
    public async Task HandleAsync(HttpContext http)
    {
        IApiAnswer answer;
        try
        {
            answer = await AnswerAsync(http);
        }
        catch (BadHttpRequestException e)
        {
            answer = JsonAnswer.Error(e.StatusCode, $"invalid request body: {e.Message}");
        }
        catch (OperationCanceledException) when (http.RequestAborted.IsCancellationRequested)
        {
            return;
        }
        catch (Exception e)
        {
            LogBug(e, name, http.Request.Method, http.Request.Path);
            answer = JsonAnswer.Error(500, "internal error, see the error log");
        }
        if (!HttpMethods.IsGet(http.Request.Method))
        {
            // never the answer's text: it may quote a key
            LogAnswered(name, http.Request.Method, http.Request.Path, answer.Status, http.Connection.RemoteIpAddress);
        }
        try
        {
            await answer.SendAsync(http);
        }
        catch (OperationCanceledException) when (http.RequestAborted.IsCancellationRequested)
        {
            // the client has gone
        }
        catch (Exception e)
        {
            LogBug(e, name, http.Request.Method, http.Request.Path);
            http.Abort();
        }
    }

    async ValueTask<IApiAnswer> AnswerAsync(HttpContext http)
    {
        ApiRoute? route = null;
        ApiCall? call = null;
        var isPath = ApiPath.TryParse(http.Features.Get<IHttpRequestFeature>()?.RawTarget ?? http.Request.Path, out var path,
            out var wrong);
        if (isPath)
        {
            table().TryFind(http, path, out route, out call);
        }
        return gate.Stop(http, route?.Access ?? gate.Elsewhere(http.Request.Method))
            ?? (!isPath ? JsonAnswer.Error(400, wrong!) : route is null ? gate.NotFound : await route.Handle(call!));
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "{Interface}: {Method} {Path} from {Client}: {Status}")]
    partial void LogAnswered(string @interface, string method, string path, int status, IPAddress? client);

    [LoggerMessage(Level = LogLevel.Error, Message = "{Interface}: unexpected failure in {Method} {Path}")]
    partial void LogBug(Exception exception, string @interface, string method, string path);
}
