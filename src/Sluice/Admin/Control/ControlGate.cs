using Microsoft.AspNetCore.Http;
using Sluice.Api;
using Sluice.Pipeline;

namespace Sluice.Admin.Control;

/// <summary>
/// Stands before the Control API. Its address is the protection, so that reading asks for no key; what shows payload or changes something
/// does, and on a loopback address no web page gets in by a name of its own.
/// </summary>
/// <param name="access">Whose keys count.</param>
sealed class ControlGate(LiveConfiguration live, Func<AdminAccess> access) : IApiGate
{
    static readonly JsonAnswer NeedsKey = JsonAnswer.Error(401, "this needs an admin key in X-API-KEY, or sluice.streams.control_write");

    public IApiAnswer? Stop(HttpContext http, ApiAccess asked)
    {
        var address = http.Connection.LocalIpAddress;
        if (address is not null && System.Net.IPAddress.IsLoopback(address)
            && HostCheck.Refuse(http.Request, live.Current.Settings.OwnHosts) is { } misdirected)
        {
            return misdirected;
        }
        return asked > ApiAccess.Read && !(asked == ApiAccess.Write && live.Current.Settings.Live.ControlWrite)
            && access().Refuse(http.Request, asked) is not null
            ? NeedsKey : null;
    }
}
