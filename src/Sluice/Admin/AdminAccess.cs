using System.Net;
using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Http;
using Sluice.Api;
using Sluice.Model;
using Sluice.Model.Settings;

namespace Sluice.Admin;

internal enum AdminRole
{
    Admin,

    /// <summary>May only read.</summary>
    Viewer,
}

/// <summary>Who may use the Admin API: <c>deployment.admin</c> of conf/config.yaml. Immutable; a reload makes a new one.</summary>
internal sealed class AdminAccess
{
    readonly (byte[] Hash, AdminRole Role)[] _keys;
    readonly CidrSet? _allowed;

    /// <param name="keys"><c>admin_key</c>. None: nobody gets in.</param>
    /// <param name="allowed"><c>allow_admin</c>; null: every address.</param>
    /// <param name="keyRequired"><c>admin_key_required</c>; false lets everybody in whose address is allowed.</param>
    /// <param name="cors"><c>enable_admin_cors</c></param>
    public AdminAccess(IEnumerable<(string Key, AdminRole Role)> keys, CidrSet? allowed = null, bool keyRequired = true, bool cors = true)
    {
        _keys = [.. keys.Where(key => key.Key.Length > 0).Select(key => (Hash(key.Key), key.Role))];
        _allowed = allowed;
        KeyRequired = keyRequired;
        Cors = cors;
    }

    public static AdminAccess Of(AdminSettings settings) => new(
        RolesOf(settings.Keys), settings.Allow.Count == 0 ? null : new CidrSet(settings.Allow), settings.KeyRequired, settings.Cors);

    /// <summary>Keys alone.</summary>
    public static AdminAccess Of(IReadOnlyList<AdminKey> keys) => new(RolesOf(keys));

    static IEnumerable<(string, AdminRole)> RolesOf(IReadOnlyList<AdminKey> keys) =>
        keys.Select(key => (key.Key, key.Viewer ? AdminRole.Viewer : AdminRole.Admin));

    /// <summary>Nobody gets in.</summary>
    public static AdminAccess Closed { get; } = new([]);

    public bool Cors { get; }

    /// <summary>False lets everybody in whose address is allowed.</summary>
    public bool KeyRequired { get; }

    public bool Allows(IPAddress? address) => _allowed is null || (address is not null && _allowed.Contains(address));

    /// <summary>Why the request's key does not do, in APISIX's words; null when it does.</summary>
    /// <param name="asked">What the endpoint asks for.</param>
    public string? Refuse(HttpRequest request, ApiAccess asked)
    {
        if (!KeyRequired || asked == ApiAccess.Open)
        {
            return null;
        }
        if (KeyOf(request) is not { } key)
        {
            return "missing apikey";
        }
        return RoleOf(key) switch
        {
            null => "wrong apikey",
            AdminRole.Viewer when asked > ApiAccess.Read =>
                HttpMethods.IsGet(request.Method) ? "not allowed for role viewer" : "invalid method for role viewer",
            _ => null,
        };
    }

    static string? KeyOf(HttpRequest request) =>
        request.Query.TryGetValue("api_key", out var argument) ? argument[0]
        : request.Headers.TryGetValue("X-API-KEY", out var header) ? header[0]
        : request.Cookies["x_api_key"];

    /// <summary>Looks at every key to its end, so that the time tells nothing.</summary>
    AdminRole? RoleOf(string given)
    {
        AdminRole? role = null;
        var hash = Hash(given);
        foreach (var (known, its) in _keys)
        {
            if (CryptographicOperations.FixedTimeEquals(known, hash))
            {
                role ??= its;
            }
        }
        return role;
    }

    static byte[] Hash(string key) => SHA256.HashData(Encoding.UTF8.GetBytes(key));
}
