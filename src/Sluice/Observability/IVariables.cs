namespace Sluice.Observability;

/// <summary>
/// The named values of one request, as access-log formats (<c>$status</c>), route <c>vars</c> and plugin templates read them.
/// Names are nginx's and APISIX's, without the dollar sign: <c>remote_addr</c>, <c>arg_x</c>, <c>http_x_y</c>, <c>cookie_z</c>,
/// <c>upstream_addr</c>.
/// </summary>
public interface IVariables
{
    /// <summary>The value, or null when the variable does not exist or has no value for this request.</summary>
    string? Get(string name);
}
