using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Model;
using Sluice.Pipeline;
using Sluice.Pipeline.TcpUdp;

namespace Sluice.Plugins.Security;

/// <summary>Lets requests pass or not by the client's address.</summary>
internal sealed class IpRestriction : IPlugin<IpRestriction, IpRestriction.Config>, IAccess, IStreamAccess, IReadmit
{
    const string Addresses = """
        {
          "type": "array",
          "minItems": 1,
          "items": {
            "anyOf": [
              { "title": "IPv4", "type": "string", "format": "ipv4" },
              { "title": "IPv4/CIDR", "type": "string", "pattern": "^([0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])\\.([0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])\\.([0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])\\.([0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])/([12]?[0-9]|3[0-2])$" },
              { "title": "IPv6", "type": "string", "format": "ipv6" },
              { "title": "IPv6/CIDR", "type": "string", "pattern": "^([a-fA-F0-9]{0,4}:){1,8}(:[a-fA-F0-9]{0,4}){0,8}([a-fA-F0-9]{0,4})?/[0-9]{1,3}$" }
            ]
          }
        }
        """;

    public static PluginInfo Info { get; } = new(
        Name: "ip-restriction",
        Priority: 3000,
        Schema: $$"""
            {
              "type": "object",
              "properties": {
                "message": { "type": "string", "minLength": 1, "maxLength": 1024, "default": "Your IP address is not allowed" },
                "response_code": { "type": "integer", "minimum": 403, "maximum": 404, "default": 403 },
                "whitelist": {{Addresses}},
                "blacklist": {{Addresses}}
              },
              "oneOf": [ { "required": ["whitelist"] }, { "required": ["blacklist"] } ]
            }
            """,
        Summary: """
            Lets only clients from the addresses in `whitelist` pass, or all but those in `blacklist`. Entries are addresses or ranges
            (`10.0.0.0/8`, `2001:db8::/32`). The client's address is `$remote_addr`. In a stream route connections of the others are closed.
            """)
    {
        Example = """
            ```json
            {"ip-restriction": {"whitelist": ["127.0.0.1", "10.0.0.0/8"]}}
            ```

            Everybody else is answered `403 {"message":"Your IP address is not allowed"}`.
            """,
    };

    public sealed record Config(
        string Message = "Your IP address is not allowed", int ResponseCode = 403, CidrSet? Whitelist = null, CidrSet? Blacklist = null);

    readonly Config _config;
    readonly CidrSet _addresses;
    readonly bool _areAllowed;

    IpRestriction(Config config)
    {
        _config = config;
        _areAllowed = config.Whitelist is not null;
        _addresses = config.Whitelist ?? config.Blacklist ?? new([]);
    }

    public static JsonTypeInfo<Config> ConfigType => IpRestrictionJson.Default.Config;

    public static IpRestriction Create(Config config, PluginContext context) => new(config);

    public ValueTask<string?> AdmitAsync(StreamSession session) =>
        new(_addresses.Contains(session.Remote.Address) == _areAllowed ? null : _config.Message);

    public ValueTask<Answer?> AccessAsync(Exchange exchange) =>
        new(_addresses.Contains(exchange.RemoteAddress) == _areAllowed ? null : Answer.Message(_config.ResponseCode, _config.Message));
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(IpRestriction.Config))]
sealed partial class IpRestrictionJson : JsonSerializerContext;
