using Microsoft.AspNetCore.Http;

namespace Sluice.Api;

/// <summary>Who may use an endpoint. It is a property of the endpoint, not of its method.</summary>
public enum ApiAccess
{
    /// <summary>Whoever reaches the address.</summary>
    Open,

    /// <summary>Whoever has a key, a viewer's too; the Control API's own address asks for none.</summary>
    Read,

    /// <summary>An administrator, on every address: it shows what clients and upstreams send.</summary>
    Payload,

    /// <summary>An administrator, on every address: it changes something.</summary>
    Write,
}

/// <summary>One endpoint of the Admin API, the Control API or another interface of the gateway's own.</summary>
/// <param name="Method"><c>GET</c> takes HEAD, too; <c>*</c> takes all.</param>
/// <param name="Pattern"><c>/v1/route/{id}</c>; <c>{path...}</c> at the end takes whatever follows, nothing included.</param>
/// <param name="Handle">Gives the answer.</param>
public sealed record ApiRoute(string Method, string Pattern, ApiAccess Access, Func<ApiCall, ValueTask<IApiAnswer>> Handle)
{
    /// <summary>An endpoint whose answer takes no waiting.</summary>
    public ApiRoute(string method, string pattern, ApiAccess access, Func<ApiCall, IApiAnswer> answer)
        : this(method, pattern, access, call => ValueTask.FromResult(answer(call)))
    {
    }
}

/// <summary>Has endpoints to add to an interface: a folder's list, or a plugin's.</summary>
public interface IApiRoutes
{
    IEnumerable<ApiRoute> Routes { get; }
}

/// <summary>A request to an endpoint.</summary>
/// <param name="Path">All segments of the path, decoded.</param>
/// <param name="Rest">What <c>{path...}</c> took.</param>
public sealed record ApiCall(HttpContext Http, string[] Path, string[] Rest, IReadOnlyDictionary<string, string> Values)
{
    /// <summary>What stands in the path in the place of <c>{name}</c>.</summary>
    public string this[string name] => Values[name];

    public HttpRequest Request => Http.Request;

    public IQueryCollection Query => Http.Request.Query;

    /// <summary>Cancelled when the client has gone.</summary>
    public CancellationToken Cancel => Http.RequestAborted;
}
