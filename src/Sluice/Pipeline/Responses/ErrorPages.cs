using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.StaticFiles;
using Microsoft.Net.Http.Headers;
using Sluice.Model.Nginx;
using Sluice.Net.Http;

namespace Sluice.Pipeline;

/// <summary>
/// nginx's <c>error_page</c>: a page in the place of an error that the gateway answers, and of an upstream's with
/// <c>proxy_intercept_errors</c>. The page is
/// what a location of the server returns, a file below its <c>root</c>, or what the gateway answers to a request for the path.
/// </summary>
static class ErrorPages
{
    const int MaxFile = 1024 * 1024;

    static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    static readonly FileExtensionContentTypeProvider Types = new();

    /// <summary>What to answer instead; null: the block has no page for this status, or there is nothing where the page should
    /// be.</summary>
    public static ValueTask<Answer?> FindAsync(Exchange exchange, int status)
    {
        foreach (var page in exchange.Scope.ErrorPages)
        {
            if (page.Errors.Contains(status) && !InnerRequest.IsForErrorPage(exchange))
            {
                return AnswerAsync(exchange, page, status);
            }
        }
        return default;
    }

    /// <summary>An upstream's answer, its head in the response already, becomes the page.</summary>
    public static async ValueTask InterceptAsync(Exchange exchange)
    {
        var response = exchange.Response;
        if (!exchange.Scope.InterceptErrors || response.StatusCode < 300 || await FindAsync(exchange, response.StatusCode) is not { } page)
        {
            return;
        }
        var challenge = response.Headers.WWWAuthenticate;
        response.Headers.Clear();
        response.Headers.WWWAuthenticate = response.StatusCode == 401 ? challenge : default;
        response.StatusCode = page.Status;
        response.ContentType = page.ContentType;
        foreach (var (name, value) in page.Headers)
        {
            response.Headers.Append(name, value);
        }
        exchange.ReplacedBody = page.Body;
    }

    static async ValueTask<Answer?> AnswerAsync(Exchange exchange, NginxErrorPage page, int error)
    {
        if (page.IsRedirect)
        {
            return Answer.Bare(page.Status is 301 or 302 or 303 or 307 or 308 ? page.Status.Value : 302)
                .With(HeaderNames.Location, Template.ExpandHeader(page.Target, exchange.InNginx)) with { IsPlainError = false };
        }
        var path = page.Target.Split('?')[0];
        var scope = exchange.Snapshot.Settings.Nginx.Select(exchange.Http.Connection.LocalIpAddress!, exchange.Http.Connection.LocalPort,
            exchange.Host, path);
        var answer = scope.Return is { } written ? NginxReturns.Answer(exchange, scope, written)
            : await FileAsync(exchange, scope, path) ?? (path.StartsWith('/') ? await AskAsync(exchange, page.Target) : null);
        return answer is null ? null : answer with { Status = page.Status switch { null => error, 0 => answer.Status, { } other => other },
            IsPlainError = false };
    }

    static async ValueTask<Answer?> FileAsync(Exchange exchange, NginxScope scope, string path)
    {
        if (scope.Files is not { } files || !path.StartsWith('/'))
        {
            return null;
        }
        var file = exchange.Snapshot.Settings.Absolute(files.IsAlias ? files.Directory : files.Directory.TrimEnd('/') + path);
        try
        {
            if (new FileInfo(file) is not { Exists: true, Length: <= MaxFile })
            {
                return null;
            }
            var type = Types.TryGetContentType(file, out var known) ? known : scope.DefaultType ?? "text/plain";
            return new(200, await File.ReadAllBytesAsync(file, exchange.ClientGone), type);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    /// <summary>As a client's GET of the path, with the headers of the request that failed.</summary>
    static async ValueTask<Answer?> AskAsync(Exchange exchange, string target)
    {
        var headers = new HeaderDictionary();
        foreach (var (name, values) in exchange.Request.Headers)
        {
            if (!name.StartsWith("Content-", StringComparison.OrdinalIgnoreCase) && !IsHop(name))
            {
                headers[name] = values;
            }
        }
        var request = new InnerRequest("GET", target, headers, default) { ForErrorPage = true };
        return await request.RunAsync(exchange, Patience) is not { } inner || inner.Status == 404 ? null
            : new(inner.Status, inner.Body, inner.Headers.ContentType)
            {
                Headers = [.. inner.Headers.Where(header => !header.Key.StartsWith("Content-", StringComparison.OrdinalIgnoreCase)
                    && !IsHop(header.Key) && !IsOurs(header.Key))
                    .SelectMany(header => header.Value, (header, value) => KeyValuePair.Create(header.Key, value!))],
            };
    }

    static bool IsHop(string name) => HopByHop.ContainsOfRequest(name) || HeaderName.Is(name, "Trailer");

    static bool IsOurs(string name) => name.ToLowerInvariant() is "server" or "date" or "etag" or "last-modified" or "accept-ranges";
}
