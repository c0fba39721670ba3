using System.Text.Json.Nodes;
using Sluice.Model;
using Sluice.Model.Expressions;
using Sluice.Model.Json;
using Sluice.Model.Schema;
using Sluice.Scripting;
using Sluice.Net;
using Sluice.Pipeline.References;
using Sluice.Pipeline.Tls;
using Sluice.Upstreams.Discovery;

namespace Sluice.Pipeline;

/// <summary>
/// Checks one resource as the Admin API and every other source do, with APISIX's words, and fills the schemas' defaults in.
/// </summary>
internal static class ResourceChecker
{
    /// <summary>The error as it stands in <c>error_msg</c>, or null. <paramref name="value"/> gets the defaults filled in.</summary>
    /// <param name="documents">What the resource may refer to.</param>
    /// <param name="maker">Makes its plugins, to see whether they can be.</param>
    /// <param name="warnings">Gets what is accepted but has no effect: <c>plugins.proxy-rewrite.disable_bufering</c> and the like.</param>
    public static string? Check(
        ResourceKind kind, string id, JsonObject value, DocumentSet documents, PluginMaker maker, ICollection<string>? warnings = null)
    {
        var plugins = maker.Registry;
        if (kind == ResourceKind.PluginMetadata)
        {
            if (plugins.Find(id) is not { } plugin)
            {
                return "invalid plugin name";
            }
            foreach (var property in plugin.UnknownMetadata(value))
            {
                warnings?.Add($"{property}: unknown property, it has no effect");
            }
            return Prefixed("invalid configuration: ", plugin.CheckMetadata(value));
        }
        return (kind == ResourceKind.Routes ? OnlyOne(value, "host", "hosts") ?? OnlyOne(value, "remote_addr", "remote_addrs") : null)
            ?? (ResourceSchemas.Check(kind, value) is not { } invalid ? null
                : IsConsumers(kind) && invalid.StartsWith("invalid plugin conf ", StringComparison.Ordinal)
                ? "invalid plugins configuration: " + invalid
                : "invalid configuration: " + invalid)
            ?? CheckOwn(kind, value)
            ?? (kind == ResourceKind.StreamRoutes && value.ContainsKey("protocol")
                ? "invalid configuration: property \"protocol\": xRPC is not spoken here" : null)
            ?? (kind == ResourceKind.StreamRoutes ? CheckAddresses(value) : null)
            ?? (kind == ResourceKind.Ssls ? CheckSsl(value, warnings) : null)
            ?? (kind == ResourceKind.StreamRoutes
                ? value["upstream"]?["tls"] is JsonObject shown ? CheckClientCertificate(shown, documents) : null
                : CheckUpstream(kind == ResourceKind.Upstreams ? value : value["upstream"] as JsonObject, documents))
            ?? CheckReference(value, "upstream_id", ResourceKind.Upstreams, "upstream", documents)
            ?? CheckReference(value, "service_id", ResourceKind.Services, "service", documents)
            ?? CheckReference(value, "plugin_config_id", ResourceKind.PluginConfigs, "plugin config", documents)
            ?? CheckReference(value, "group_id", ResourceKind.ConsumerGroups, "consumer group", documents)
            ?? Prefixed(IsConsumers(kind) ? "invalid plugins configuration: " : "", CheckPlugins(kind, id, value, maker, warnings))
            ?? (kind == ResourceKind.Credentials
                && (value["plugins"] as JsonObject)?.Any(plugin => plugins.Find(plugin.Key)?.Info.IsAuth == false) == true
                ? "only supports auth type plugins in consumer credential" : null)
            ?? (kind == ResourceKind.Protos
                ? Prefixed("invalid configuration: property \"content\" validation failed: ", ProtoCheck.Check((string)value["content"]!))
                : null)
            ?? CheckVars(value["vars"] as JsonArray)
            ?? Warned(kind, value, warnings);
    }

    static string? CheckAddresses(JsonObject value)
    {
        foreach (var property in (string[])["remote_addr", "server_addr"])
        {
            if (value[property] is JsonValue range && !Cidr.TryParse(range.ToString(), out _))
            {
                return $"invalid {property}: {range}";
            }
        }
        return null;
    }

    /// <summary>Names what is accepted, as in APISIX, and cannot be meant. No error.</summary>
    static string? Warned(ResourceKind kind, JsonObject value, ICollection<string>? warnings)
    {
        if (warnings is null)
        {
            return null;
        }
        WarnOfVariables("vars", value["vars"], warnings);
        foreach (var (name, config) in value["plugins"] as JsonObject ?? [])
        {
            WarnOfVariables($"plugins.{name}._meta.filter", config?["_meta"]?["filter"], warnings);
        }
        if (kind == ResourceKind.Routes)
        {
            foreach (var uri in ((JsonNode?[])[value["uri"], .. value["uris"] as JsonArray ?? []]).OfType<JsonValue>()
                .Select(uri => uri.ToString()))
            {
                if (!uri.StartsWith('/') && !uri.StartsWith('*'))
                {
                    warnings.Add($"uri \"{uri}\" begins with no slash: no request matches it");
                }
            }
        }
        foreach (var (place, timeout) in ((string, JsonNode?)[])[("timeout", value["timeout"]),
            ("upstream.timeout", value["upstream"]?["timeout"])])
        {
            foreach (var (name, seconds) in timeout as JsonObject ?? [])
            {
                if (seconds is not null && LuaText.Type(seconds) == "number" && LuaText.ToDouble(seconds) is >= 1000 and var number
                    && number % 1000 == 0)
                {
                    warnings.Add($"{place}.{name}: {LuaText.Number(number)} seconds; were milliseconds meant?");
                }
            }
        }
        return null;
    }

    /// <summary>Conditions on what nobody fills never hold.</summary>
    static void WarnOfVariables(string place, JsonNode? rule, ICollection<string> warnings)
    {
        if (rule is not JsonArray list)
        {
            return;
        }
        if (list.Count >= 2 && list[0] is JsonValue variable && variable.TryGetValue(out string? name)
            && name.ToUpperInvariant() is not ("OR" or "AND" or "!OR" or "!AND"))
        {
            var (error, warning) = Model.Nginx.NginxVariables.Check(name);
            if ((error ?? warning) is { } problem)
            {
                warnings.Add($"{place}: {problem}; the condition finds no value, unless a plugin in Lua registers the variable");
            }
            return;
        }
        foreach (var member in list)
        {
            WarnOfVariables(place, member, warnings);
        }
    }

    /// <summary>The schema would say it too, in words that nobody understands.</summary>
    static string? OnlyOne(JsonObject value, string one, string several) =>
        value[one] is not null && value[several] is not null ? $"only one of {one} or {several} is allowed" : null;

    /// <summary>Plugins stand there with their credentials' schema.</summary>
    static bool IsConsumers(ResourceKind kind) => kind is ResourceKind.Consumers or ResourceKind.Credentials;

    /// <summary>What a reference stands for shows only in the handshake.</summary>
    static string? CheckSsl(JsonObject value, ICollection<string>? warnings)
    {
        if (value["ocsp_stapling"] is JsonObject { } stapling && stapling["enabled"]?.GetValue<bool>() == true)
        {
            foreach (var name in ((string[])["skip_verify", "cache_ttl"]).Where(name => stapling[name] is { } given
                && given.ToJsonString() is not ("false" or "3600")))
            {
                warnings?.Add(
                    $"ocsp_stapling.{name}: it has no effect, .NET verifies every OCSP answer and keeps it as long as the answer itself says");
            }
        }
        if ((value["certs"] as JsonArray)?.Count is var certificates && (value["keys"] as JsonArray)?.Count is var own
            && (certificates ?? 0) != (own ?? 0))
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
            ? "invalid configuration: property \"ssl_protocols\" validation failed: TLSv1.1 is broken and is not offered, use TLSv1.2 "
                + "and TLSv1.3"
            : null;
    }

    /// <summary>What LuaCheck says first; plugins' functions have it in their messages, a route's own have not.</summary>
    const string Loading = "failed to loadstring: ";

    /// <summary>Lua in a route: whether it is Lua.</summary>
    static string? CheckOwn(ResourceKind kind, JsonObject value)
    {
        if (kind != ResourceKind.Routes)
        {
            return null;
        }
        // the schema, which is APISIX's, takes any whole number
        if (value["priority"] is JsonValue priority && LuaText.ToDouble(priority) is < int.MinValue or > int.MaxValue)
        {
            return $"property \"priority\" validation failed: expected {LuaText.Number(LuaText.ToDouble(priority))} to be between {int.MinValue} and {int.MaxValue}";
        }
        if (value["filter_func"]?.ToString() is { } filter)
        {
            if (LuaCheck.Syntax("return " + filter) is { } notLua)
            {
                return $"failed to load 'filter_func' string: {WithoutLoadstring(notLua)}";
            }
            if (LuaCheck.Function("return " + filter) is not null)
            {
                return "'filter_func' should be a function";
            }
        }
        return value["script"]?.ToString() is { } script && LuaCheck.Syntax(script) is { } notScript
            ? $"failed to load 'script' string: {WithoutLoadstring(notScript)}" : null;

        static string WithoutLoadstring(string error) =>
            error.StartsWith(Loading, StringComparison.Ordinal) ? error[Loading.Length..] : error;
    }

    /// <summary>Checks an upstream that stands in a plugin's configuration, and fills its defaults in.</summary>
    public static string? CheckPluginUpstream(JsonObject upstream) => upstream["tls"]?["client_cert_id"] is not null
        ? "property \"tls\" validation failed: client_cert_id has no effect in a plugin: write client_cert and client_key"
        : ResourceSchemas.Check(ResourceKind.Upstreams, upstream) ?? CheckUpstream(upstream, DocumentSet.Empty);

    static string? CheckUpstream(JsonObject? upstream, DocumentSet documents)
    {
        if (upstream is null)
        {
            return null;
        }
        if (upstream["scheme"] is JsonValue scheme
            && scheme.GetValue<string>() is not ("http" or "https" or "grpc" or "grpcs" or "tcp" or "udp" or "tls") and var wire)
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
        if (upstream["pass_host"] is JsonValue pass && pass.GetValue<string>() == "rewrite"
            && string.IsNullOrEmpty((string?)upstream["upstream_host"]))
        {
            return "`upstream_host` can't be empty when `pass_host` is `rewrite`";
        }
        return (string?)upstream["type"] == "chash" ? CheckHashKey(upstream) : null;
    }

    static string? CheckHashKey(JsonObject upstream) =>
        (string?)upstream["hash_on"] == "consumer" ? null
        : upstream["key"] is null ? "missing key"
        : Prefixed("invalid configuration: ", ResourceSchemas.CheckHashKey(upstream));

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
        if (((JsonArray?)active["req_headers"])?.Any(header => header!.GetValue<string>() is var line
            && (line.AsSpan().ContainsAny("\r\n\0") || line.IndexOf(':', StringComparison.Ordinal) < 1)) == true)
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

    static string? CheckPlugins(ResourceKind kind, string id, JsonObject resource, PluginMaker maker, ICollection<string>? warnings)
    {
        var registry = maker.Registry;
        foreach (var (name, value) in resource["plugins"] as JsonObject ?? [])
        {
            if ((kind == ResourceKind.StreamRoutes ? registry.FindForStreams(name) : registry.Find(name)) is not { } plugin)
            {
                return $"unknown plugin [{name}]";
            }
            if (value is not JsonObject config)
            {
                return $"invalid plugin conf type for plugin [{name}]";
            }
            if ((IsConsumers(kind) && plugin.IsCredential ? plugin.CheckCredential(config)
                : maker.Check(plugin, config, $"{kind.Singular().Replace(' ', '_')} {id}")) is { } error)
            {
                return error.StartsWith(PluginMeta.BadPreFunction, StringComparison.Ordinal)
                    ? error.Insert(PluginMeta.BadPreFunction.Length, name)
                    : $"failed to check the configuration of plugin {name} err: {error}";
            }
            foreach (var warning in warnings is null ? [] : plugin.Info.Warnings?.Invoke(config, resource) ?? [])
            {
                warnings!.Add(warning);
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
            _ = vars is { Count: > 0 } ? Expression.Of(vars) : null;
            return vars is null ? null : Prefixed("failed to validate the 'vars' expression: ", CheckBodyVariables(vars));
        }
        catch (FormatException e)
        {
            return $"failed to validate the 'vars' expression: {e.Message}";
        }
    }

    static string? CheckBodyVariables(JsonArray rule) =>
        rule.Count >= 2 && rule[0] is JsonValue variable && variable.TryGetValue(out string? name)
        && name.StartsWith("post_arg.", StringComparison.Ordinal)
            ? JsonPath.Check(name["post_arg.".Length..])
            : rule.OfType<JsonArray>().Select(CheckBodyVariables).FirstOrDefault(error => error is not null);

    static string? Prefixed(string prefix, string? error) => error is null ? null : prefix + error;
}
