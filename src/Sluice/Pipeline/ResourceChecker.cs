using System.Text.Json.Nodes;
using Sluice.Model;
using Sluice.Model.Expressions;
using Sluice.Model.Schema;
using Sluice.Scripting;
using Sluice.Net;
using Sluice.Pipeline.Secrets;
using Sluice.Pipeline.Tls;
using Sluice.Upstreams.Discovery;

namespace Sluice.Pipeline;

/// <summary>
/// Checks one resource as the Admin API and every other source do, with APISIX's words, and fills the schemas' defaults in.
/// </summary>
public static class ResourceChecker
{
    /// <summary>The error as it stands in <c>error_msg</c>, or null. <paramref name="value"/> gets the defaults filled in.</summary>
    /// <param name="documents">What the resource may refer to.</param>
    /// <param name="warnings">Gets what is accepted but has no effect: <c>plugins.proxy-rewrite.disable_bufering</c> and the like.</param>
    public static string? Check(
        ResourceKind kind, string id, JsonObject value, DocumentSet documents, PluginRegistry plugins, ICollection<string>? warnings = null)
    {
        if (kind == ResourceKind.PluginMetadata)
        {
            return plugins.Find(id) is not { } plugin ? "invalid plugin name" : Prefixed("invalid configuration: ", plugin.CheckMetadata(value));
        }
        return Prefixed("invalid configuration: ", ResourceSchemas.Check(kind, value))
            ?? CheckLua(kind, value)
            ?? (kind == ResourceKind.StreamRoutes && value.ContainsKey("protocol") ? "invalid configuration: property \"protocol\": xRPC is not spoken here" : null)
            ?? (kind == ResourceKind.Ssls ? CheckSsl(value, warnings) : null)
            ?? CheckUpstream(kind == ResourceKind.Upstreams ? value : kind == ResourceKind.StreamRoutes ? null : value["upstream"] as JsonObject, documents)
            ?? CheckReference(value, "upstream_id", ResourceKind.Upstreams, "upstream", documents)
            ?? CheckReference(value, "service_id", ResourceKind.Services, "service", documents)
            ?? CheckReference(value, "plugin_config_id", ResourceKind.PluginConfigs, "plugin config", documents)
            ?? CheckReference(value, "group_id", ResourceKind.ConsumerGroups, "consumer group", documents)
            ?? Prefixed(IsConsumers(kind) ? "invalid plugins configuration: " : "", CheckPlugins(kind, value["plugins"] as JsonObject, plugins, warnings))
            ?? (kind == ResourceKind.Credentials && (value["plugins"] as JsonObject)?.Any(plugin => plugins.Find(plugin.Key)?.Info.IsAuth == false) == true
                ? "only supports auth type plugins in consumer credential" : null)
            ?? (kind == ResourceKind.Protos ? Prefixed("invalid configuration: property \"content\" validation failed: ", ProtoCheck.Check((string)value["content"]!)) : null)
            ?? CheckVars(value["vars"] as JsonArray);
    }

    /// <summary>Plugins stand there with their credentials' schema.</summary>
    static bool IsConsumers(ResourceKind kind) => kind is ResourceKind.Consumers or ResourceKind.Credentials;

    /// <summary>What a reference stands for shows only in the handshake.</summary>
    static string? CheckSsl(JsonObject value, ICollection<string>? warnings)
    {
        if (value["ocsp_stapling"] is JsonObject { } stapling && stapling["enabled"]?.GetValue<bool>() == true)
        {
            foreach (var name in ((string[])["skip_verify", "cache_ttl"]).Where(name => stapling[name] is { } given && given.ToJsonString() is not ("false" or "3600")))
            {
                warnings?.Add($"ocsp_stapling.{name}: it has no effect, .NET verifies every OCSP answer and keeps it as long as the answer itself says");
            }
        }
        if ((value["certs"] as JsonArray)?.Count is var certificates && (value["keys"] as JsonArray)?.Count is var own && (certificates ?? 0) != (own ?? 0))
        {
            return "mismatched number of certs and keys";
        }
        var config = ResourceBinder.Ssl(new Document(ResourceKind.Ssls, "", value, 0, 0, ""));
        for (var i = 0; i < config.Pairs.Length; i++)
        {
            try
            {
                var (certificate, key) = config.Pairs[i];
                if (!SecretReference.Is(certificate) && !SecretReference.Is(key))
                {
                    TlsCertificate.Parse(certificate, key);
                }
            }
            catch (FormatException e)
            {
                return i == 0 ? e.Message : $"failed to handle cert-key pair[{i}]: {e.Message}";
            }
        }
        try
        {
            _ = config.Client is { } client ? new TlsClients(client) : null;
        }
        catch (FormatException e)
        {
            return e.Message;
        }
        return config.Protocols is { Length: > 0 } protocols && !protocols.Contains("TLSv1.2") && !protocols.Contains("TLSv1.3")
            ? "invalid configuration: property \"ssl_protocols\" validation failed: TLSv1.1 is broken and is not offered, use TLSv1.2 and TLSv1.3"
            : null;
    }

    /// <summary>Lua in a route: whether it is Lua.</summary>
    static string? CheckLua(ResourceKind kind, JsonObject value)
    {
        if (kind != ResourceKind.Routes)
        {
            return null;
        }
        return value["filter_func"]?.ToString() is { } filter && LuaCheck.Function("return " + filter) is { } notFilter
            ? $"failed to load 'filter_func' string: {notFilter}"
            : value["script"]?.ToString() is { } script && LuaCheck.Syntax(script) is { } notScript ? $"failed to load 'script' string: {notScript}" : null;
    }

    static string? CheckUpstream(JsonObject? upstream, DocumentSet documents)
    {
        if (upstream is null)
        {
            return null;
        }
        if (upstream["scheme"] is JsonValue scheme && scheme.GetValue<string>() is not ("http" or "https" or "grpc" or "grpcs" or "tcp" or "udp" or "tls") and var wire)
        {
            return $"invalid configuration: upstream scheme \"{wire}\" is not supported by this version of Sluice: use \"http\", \"https\", \"grpc\" or \"grpcs\", for stream routes \"tcp\", \"udp\" or \"tls\"";
        }
        if (upstream["checks"]?["active"] is JsonObject active && BadProbe(active) is { } bad)
        {
            return $"invalid configuration: property \"checks\" validation failed: property \"active\" validation failed: {bad}";
        }
        if (upstream["discovery_type"] is JsonValue discovery && !Discoveries.Types.Contains(discovery.GetValue<string>()))
        {
            return $"invalid configuration: discovery_type \"{discovery}\" is not supported by this version of Sluice: use {string.Join(" or ", Discoveries.Types)}";
        }
        if (upstream["tls"] is JsonObject tls && CheckClientCertificate(tls, documents) is { } badCertificate)
        {
            return badCertificate;
        }
        return upstream["pass_host"] is JsonValue pass && pass.GetValue<string>() == "rewrite" && upstream["upstream_host"] is null
            ? "`upstream_host` can't be empty when `pass_host` is `rewrite`"
            : null;
    }

    static string? CheckClientCertificate(JsonObject tls, DocumentSet documents)
    {
        if (ResourceBinder.Id(tls, "client_cert_id") is { } id)
        {
            return documents.Find(ResourceKind.Ssls, id) is not { } ssl ? $"failed to fetch ssl info by ssl id [{id}], response code: 404"
                : (string?)ssl.Value["type"] != "client" ? $"failed to fetch ssl info by ssl id [{id}], wrong ssl type"
                : null;
        }
        try
        {
            if (tls["client_cert"] is JsonValue certificate && tls["client_key"] is JsonValue key
                && !SecretReference.Is(certificate.GetValue<string>()) && !SecretReference.Is(key.GetValue<string>()))
            {
                _ = new ClientCertificate(certificate.GetValue<string>(), key.GetValue<string>());
            }
            return null;
        }
        catch (FormatException e)
        {
            return e.Message;
        }
    }

    /// <summary>What would not be one HTTP request.</summary>
    static string? BadProbe(JsonObject active)
    {
        if (((JsonArray?)active["req_headers"])?.Any(header => header!.GetValue<string>() is var line && (line.AsSpan().ContainsAny("\r\n\0") || line.IndexOf(':', StringComparison.Ordinal) < 1)) == true)
        {
            return "property \"req_headers\" validation failed: expected lines like \"Name: value\"";
        }
        foreach (var property in (string[])["http_path", "http_method"])
        {
            if (((string?)active[property])?.AsSpan().ContainsAny(" \r\n\0") == true)
            {
                return $"property \"{property}\" validation failed: it must not contain white space";
            }
        }
        return null;
    }

    static string? CheckReference(JsonObject value, string property, ResourceKind kind, string name, DocumentSet documents) =>
        value[property] is JsonValue reference && documents.Find(kind, reference.ToString()) is null
            ? $"failed to fetch {name} info by {name} id [{reference}], response code: 404"
            : null;

    static string? CheckPlugins(ResourceKind kind, JsonObject? plugins, PluginRegistry registry, ICollection<string>? warnings)
    {
        foreach (var (name, value) in plugins ?? [])
        {
            if ((kind == ResourceKind.StreamRoutes ? registry.FindForStreams(name) : registry.Find(name)) is not { } plugin)
            {
                return $"unknown plugin [{name}]";
            }
            if (value is not JsonObject config)
            {
                return $"invalid plugin conf type for plugin [{name}]";
            }
            if ((IsConsumers(kind) ? plugin.CheckForConsumer(config) : plugin.Check(config)) is { } error)
            {
                return $"failed to check the configuration of plugin {name} err: {error}";
            }
            foreach (var property in plugin.Unknown(config, IsConsumers(kind)))
            {
                warnings?.Add($"plugins.{name}.{property}: unknown property, it has no effect");
            }
        }
        return null;
    }

    static string? CheckVars(JsonArray? vars)
    {
        try
        {
            _ = vars is { Count: > 0 } ? Expression.Compile(vars) : null;
            return null;
        }
        catch (FormatException e)
        {
            return $"failed to validate the 'vars' expression: {e.Message}";
        }
    }

    static string? Prefixed(string prefix, string? error) => error is null ? null : prefix + error;
}
