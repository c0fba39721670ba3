using System.Diagnostics.CodeAnalysis;
using Microsoft.AspNetCore.Http;

namespace Sluice.Api;

/// <summary>The endpoints of an interface. The first that takes a request has it: what is special stands above what is general.</summary>
sealed class ApiTable(IEnumerable<ApiRoute> routes)
{
    readonly (ApiRoute Route, string[] Pattern)[] _routes = [.. routes.Select(route => (route, Segments(route.Pattern)))];

    public IEnumerable<ApiRoute> Routes => _routes.Select(one => one.Route);

    public bool TryFind(HttpContext http, string[] path, [NotNullWhen(true)] out ApiRoute? route, [NotNullWhen(true)] out ApiCall? call)
    {
        foreach (var (candidate, pattern) in _routes)
        {
            if (TakesMethod(candidate.Method, http.Request.Method) && Match(pattern, path, out var values, out var rest))
            {
                (route, call) = (candidate, new ApiCall(http, path, rest, values));
                return true;
            }
        }
        (route, call) = (null, null);
        return false;
    }

    static string[] Segments(string pattern) => pattern.Trim('/').Split('/', StringSplitOptions.RemoveEmptyEntries);

    static bool TakesMethod(string wanted, string method) =>
        wanted == "*" || HttpMethods.Equals(wanted, method) || (HttpMethods.IsGet(wanted) && HttpMethods.IsHead(method));

    static bool Match(string[] pattern, string[] path, out Dictionary<string, string> values, out string[] rest)
    {
        values = [];
        rest = [];
        for (var i = 0; i < pattern.Length; i++)
        {
            var part = pattern[i];
            if (part.EndsWith("...}", StringComparison.Ordinal))
            {
                rest = path[Math.Min(i, path.Length)..];
                return path.Length >= i;
            }
            if (i >= path.Length)
            {
                return false;
            }
            if (part is ['{', .. var name, '}'])
            {
                values[name] = path[i];
            }
            else if (part != path[i])
            {
                return false;
            }
        }
        return pattern.Length == path.Length;
    }
}
