using System.Text;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Net;
using Sluice.Pipeline;

namespace Sluice.Plugins.Auth;

/// <summary>Lets only requests pass whose user name and password a directory knows.</summary>
sealed class LdapAuth : ConsumerAuth, IPlugin<LdapAuth, LdapAuth.Config>
{
    public static PluginInfo Info { get; } = new(
        Name: "ldap-auth",
        Priority: 2540,
        Schema: $$"""
            {
              "type": "object",
              "title": "work with route or service object",
              "properties": {
                "base_dn": { "type": "string", "description": "below which the users' entries are" },
                "ldap_uri": { "type": "string", "description": "host or host:port, also as `ldap://…`; `ldaps://…` is TLS. Without a port 389, with `ldaps` 636" },
                "use_tls": { "type": "boolean", "default": false, "description": "LDAPS" },
                "tls_verify": { "type": "boolean", "default": false, "description": "the directory's certificate must be valid" },
                "uid": { "type": "string", "default": "cn", "description": "attribute that the user name is" },
                "hide_credentials": { "type": "boolean", "default": false, "description": "the upstream does not get the Authorization header" },
                {{RealmSchema("ldap")}}
              },
              "required": ["base_dn", "ldap_uri"]
            }
            """,
        Summary: """
            Lets only requests pass whose user name and password (RFC 7617) an LDAP directory knows: it is asked with a simple bind as `UID=NAME,BASE_DN`, and the
            consumer is the one with that `user_dn`. White space in names and passwords does not count, as in APISIX; an empty password never passes.
            """)
    {
        IsAuth = true,
        ConsumerKey = "user_dn",
        ConsumerSchema = """
            {
              "type": "object",
              "title": "work with consumer object",
              "properties": { "user_dn": { "type": "string", "description": "the name of the user's entry, different from all others" } },
              "required": ["user_dn"]
            }
            """,
        Example = """
            A consumer:

            ```json
            {"username": "jack", "plugins": {"ldap-auth": {"user_dn": "cn=jack,ou=users,dc=example,dc=org"}}}
            ```

            The route:

            ```json
            {"ldap-auth": {"base_dn": "ou=users,dc=example,dc=org", "ldap_uri": "ldap.example.org", "use_tls": true, "tls_verify": true}}
            ```

            `curl -u jack:PASSWORD …` passes; without credentials the answer is `401 {"message":"Missing authorization in request"}`.
            """,
    };

    public sealed record Config(
        string BaseDn, string LdapUri, bool UseTls = false, bool TlsVerify = false, string Uid = "cn", bool HideCredentials = false,
        string Realm = "ldap");

    readonly Config _config;
    readonly LdapBind _directory;

    LdapAuth(Config config, PluginContext context)
        : base("Basic", config.Realm)
    {
        var (host, port) = AddressOf(config.LdapUri) ?? throw new ConfigException(WrongAddress);
        (_config, _directory) = (config,
            new(host, port, config.UseTls || config.LdapUri.StartsWith(Tls, StringComparison.Ordinal), config.TlsVerify,
                context.Services.Time));
    }

    public static JsonTypeInfo<Config> ConfigType => LdapAuthJson.Default.Config;

    public static LdapAuth Create(Config config, PluginContext context) => new(config, context);

    const int DefaultPort = 389, DefaultTlsPort = 636;
    const string WrongAddress = "property \"ldap_uri\" validation failed: expected host or host:port";

    const string Plain = "ldap://", Tls = "ldaps://";

    static (string Host, int Port)? AddressOf(string uri)
    {
        var text = uri.StartsWith(Tls, StringComparison.Ordinal) ? uri[Tls.Length..] : uri.StartsWith(Plain, StringComparison.Ordinal)
            ? uri[Plain.Length..] : uri;
        var colon = text.LastIndexOf(':');
        // an IPv6 address ends with a bracket, or stands alone
        var hasPort = colon >= 0 && (text[0] == '[' ? text[colon - 1] == ']' : text.IndexOf(':', StringComparison.Ordinal) == colon);
        var host = (hasPort ? text[..colon] : text).Trim('[', ']');
        var port = uri.StartsWith(Tls, StringComparison.Ordinal) ? DefaultTlsPort : DefaultPort;
        return host.Length == 0 || host.Contains('/', StringComparison.Ordinal)
            || (hasPort
                && !(int.TryParse(text.AsSpan(colon + 1), System.Globalization.NumberStyles.None,
                    System.Globalization.CultureInfo.InvariantCulture, out port) && port is > 0 and < 65536))
            ? null : (host, port);
    }

    protected override async ValueTask<Found> FindAsync(Exchange exchange)
    {
        if (Header(exchange, "Authorization") is not { } header)
        {
            return Refused("Missing authorization in request");
        }
        if (BasicCredentials.Read(header, out var error) is not { } credentials)
        {
            return Refused("Invalid authorization in request", error);
        }
        var name = $"{_config.Uid}={Escape(credentials.User)},{_config.BaseDn}";
        try
        {
            if (await _directory.TryAsync(name, credentials.Password, exchange.ClientGone) is { } refusal)
            {
                return Refused("Invalid user authorization", $"ldap-auth failed: {refusal}");
            }
        }
        catch (IOException e)
        {
            return Refused("Invalid user authorization", $"ldap-auth failed: {e.Message}");
        }
        return exchange.Snapshot.Consumers.Find("ldap-auth", name) is { } consumer ? consumer
            : Refused(exchange.Snapshot.Consumers.HasAny("ldap-auth") ? "Invalid user authorization" : "Missing related consumer");
    }

    /// <summary>A value within a distinguished name (RFC 4514, section 2.4).</summary>
    static string Escape(string value)
    {
        var text = new StringBuilder(value.Length);
        for (var i = 0; i < value.Length; i++)
        {
            var c = value[i];
            if (c == '\0')
            {
                text.Append("\\00");
                continue;
            }
            if (c is '"' or '+' or ',' or ';' or '<' or '>' or '\\' || (c == '#' && i == 0))
            {
                text.Append('\\');
            }
            text.Append(c);
        }
        return text.ToString();
    }

    protected override void Hide(Exchange exchange, bool isAnonymous)
    {
        if (_config.HideCredentials)
        {
            exchange.Request.Headers.Remove("Authorization");
        }
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(LdapAuth.Config))]
sealed partial class LdapAuthJson : JsonSerializerContext;
