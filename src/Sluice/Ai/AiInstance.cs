using System.Globalization;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Sluice.Ai.Protocols;
using Sluice.Ai.Providers;
using Sluice.Pipeline;

namespace Sluice.Ai;

/// <summary>A provider as a configuration has it: where it is asked, as whom, and what is changed of requests to it. Made once, when the
/// configuration is compiled.</summary>
internal sealed partial class AiInstance
{
    /// <summary>The schema of the properties of an instance.</summary>
    public const string Schema = """
        "provider": {
          "type": "string",
          "enum": ["openai", "deepseek", "aimlapi", "anthropic", "openai-compatible", "azure-openai", "openrouter", "gemini", "vertex-ai", "bedrock"],
          "description": "who is asked"
        },
        "provider_conf": {
          "type": "object",
          "properties": {
            "project_id": { "type": "string", "description": "project of Google's cloud (vertex-ai)" },
            "region": { "type": "string", "minLength": 1, "description": "region (vertex-ai)" }
          }
        },
        "auth": {
          "type": "object",
          "description": "headers and arguments that say who asks: they go over the client's",
          "properties": {
            "header": { "type": "object", "patternProperties": { "^[a-zA-Z0-9._-]+$": { "type": "string" } } },
            "query": { "type": "object", "patternProperties": { "^[a-zA-Z0-9._-]+$": { "type": "string" } } },
            "gcp": {
              "type": "object",
              "description": "an account of Google's cloud",
              "properties": {
                "service_account_json": { "type": "string" },
                "max_ttl": { "type": "integer", "minimum": 1 },
                "expire_early_secs": { "type": "integer", "minimum": 0, "default": 60 }
              }
            },
            "aws": {
              "type": "object",
              "description": "an account of Amazon's",
              "required": ["access_key_id", "secret_access_key"],
              "properties": {
                "access_key_id": { "type": "string", "minLength": 1 },
                "secret_access_key": { "type": "string", "minLength": 1 },
                "session_token": { "type": "string", "minLength": 1 }
              }
            }
          },
          "additionalProperties": false
        },
        "options": {
          "type": "object",
          "description": "properties that are put into the request's body",
          "properties": { "model": { "type": "string", "description": "the model that is asked, whatever the client names" } },
          "additionalProperties": true
        },
        "override": {
          "type": "object",
          "properties": {
            "endpoint": { "type": "string", "minLength": 1, "description": "where the provider is: scheme and host, or a whole URL, whose path and query are taken then" },
            "llm_options": {
              "type": "object",
              "properties": { "max_tokens": { "type": "integer", "minimum": 1, "description": "under the name that the provider has for it; over what the client says" } },
              "additionalProperties": false
            },
            "request_body": {
              "type": "object",
              "description": "by protocol: what is put into bodies, deep into objects; what the client says wins",
              "properties": {
                "anthropic-messages": { "type": "object" },
                "bedrock-converse": { "type": "object" },
                "openai-chat": { "type": "object" },
                "openai-embeddings": { "type": "object" },
                "openai-responses": { "type": "object" },
                "passthrough": { "type": "object" }
              },
              "additionalProperties": false
            },
            "request_body_force_override": { "type": "boolean", "default": false, "description": "what request_body says wins" }
          }
        }
        """;

    readonly AiPlace _place;
    readonly string? _path;
    readonly KeyValuePair<string, string>[] _query;
    readonly HashSet<string> _secretQuery;
    readonly string _queryText;
    readonly JsonObject? _options;
    readonly JsonObject? _bodies;
    readonly bool _forces;
    readonly int? _maxTokens;

    /// <param name="config">With the schema's defaults.</param>
    /// <exception cref="ConfigException">It cannot be.</exception>
    public AiInstance(string name, JsonObject config, AiSettings settings, PluginContext context)
    {
        Name = name;
        var provider = (string)config["provider"]!;
        Provider = AiProviders.Find(provider) ?? throw new ConfigException($"ai provider: {provider} is not supported.");
        var place = config["provider_conf"] as JsonObject;
        _place = new((string?)place?["project_id"], (string?)place?["region"]);
        var auth = config["auth"] as JsonObject;
        foreach (var later in (string[])["gcp", "aws"])
        {
            if (auth?[later] is not null)
            {
                throw new ConfigException($"auth.{later} is not supported yet: use auth.header or auth.query");
            }
        }
        var change = config["override"] as JsonObject;
        if (provider == "vertex-ai" && change?["endpoint"] is null && (_place.Project is null || _place.Region is null))
        {
            throw new ConfigException("vertex-ai requires either provider_conf (project_id + region) or override.endpoint");
        }
        var endpoint = (string?)change?["endpoint"]
            ?? $"https://{Provider.HostOf?.Invoke(_place) ?? Provider.Host ?? throw new ConfigException($"{provider} requires override.endpoint")}";
        if (Endpoint.Match(endpoint) is not { Success: true } parts)
        {
            throw new ConfigException("invalid endpoint");
        }
        _path = parts.Groups["path"] is { Length: > 0 } path ? path.Value : null;
        Origin =
            $"{parts.Groups["scheme"].Value}://{parts.Groups["host"].Value}{(parts.Groups["port"] is { Length: > 0 } own ? $":{own.Value}" : "")}";
        Headers = [.. Texts(auth?["header"])];
        var secrets = Texts(auth?["query"]).ToArray();
        _secretQuery = [.. secrets.Select(argument => argument.Key)];
        var arguments = Arguments(parts.Groups["query"].Value).ToArray();
        _query = [.. secrets.Where(secret => Array.TrueForAll(arguments, argument => argument.Key != secret.Key)), .. arguments];
        _queryText = Join(_query);
        _options = config["options"] as JsonObject;
        _bodies = change?["request_body"] as JsonObject;
        _forces = change?["request_body_force_override"]?.GetValue<bool>() == true;
        _maxTokens = (int?)change?["llm_options"]?["max_tokens"]?.GetValue<double>();
        Upstream = context.Upstreams.Make(UpstreamOf(parts, settings, config["checks"] as JsonObject));
    }

    [GeneratedRegex(
        @"^(?<scheme>https?)://(?<host>\[[0-9a-fA-F:.]+\]|[^:/?#\[\]\s]+)(:(?<port>\d{1,5}))?(?<path>/[^?#\s]*)?(\?(?<query>[^#\s]*))?$",
        RegexOptions.ExplicitCapture)]
    private static partial Regex Endpoint { get; }

    /// <summary>What is counted and chosen by it has this name.</summary>
    public string Name { get; }

    public AiProvider Provider { get; }

    public ForwardTo.To Upstream { get; }

    /// <summary>Its health checks begin, if there are some and they have not yet.</summary>
    public void BeginChecks() => Upstream.Follower?.Begin();

    /// <summary>One of its addresses is healthy, or nobody looks.</summary>
    public bool IsHealthy => Upstream.Upstream.Checks is null || Upstream.Upstream.Nodes.Count == 0
        || Upstream.Upstream.Nodes.Any(static node => node.IsHealthy);

    /// <summary>Scheme, host and port.</summary>
    public string Origin { get; }

    /// <summary>Headers that say who asks.</summary>
    public KeyValuePair<string, string>[] Headers { get; }

    /// <summary>Who is asked for its health is told who asks, as by requests.</summary>
    JsonObject ChecksOf(JsonObject checks)
    {
        checks = checks.DeepClone().AsObject();
        if (checks["active"] is JsonObject active)
        {
            if (Headers.Length > 0)
            {
                active["req_headers"] = new JsonArray(
                    [.. (active["req_headers"] as JsonArray ?? []).Select(header => header?.DeepClone()),
                        .. Headers.Select(header => (JsonNode?)$"{header.Key}: {header.Value}")]);
            }
            if (_secretQuery.Count > 0)
            {
                var path = (string?)active["http_path"] ?? "/";
                active["http_path"] =
                    $"{path}{(path.Contains('?', StringComparison.Ordinal) ? '&' : '?')}{Join(_query.Where(argument => _secretQuery.Contains(argument.Key)))}";
            }
        }
        return checks;
    }

    JsonObject UpstreamOf(Match endpoint, AiSettings settings, JsonObject? checks)
    {
        var scheme = endpoint.Groups["scheme"].Value;
        var seconds = settings.Timeout / 1000.0;
        var node = new JsonObject { ["host"] = endpoint.Groups["host"].Value.Trim('[', ']'), ["weight"] = 1 };
        node["port"] = endpoint.Groups["port"] is { Length: > 0 } port ? int.Parse(port.Value, CultureInfo.InvariantCulture)
            : scheme == "https" ? 443 : 80;
        var upstream = new JsonObject
        {
            ["type"] = "roundrobin",
            ["nodes"] = new JsonArray(node),
            ["scheme"] = scheme,
            ["pass_host"] = "node",
            ["retries"] = 0,
            ["timeout"] = new JsonObject { ["connect"] = seconds, ["send"] = seconds, ["read"] = seconds },
            ["keepalive_pool"] = new JsonObject
            {
                ["size"] = settings.KeepalivePool, ["idle_timeout"] = settings.KeepaliveTimeout / 1000.0,
                    ["requests"] = settings.Keepalive ? 1000 : 1,
            },
        };
        if (scheme == "https")
        {
            upstream["tls"] = new JsonObject { ["verify"] = settings.SslVerify };
        }
        if (checks is not null)
        {
            upstream["checks"] = ChecksOf(checks);
        }
        return upstream;
    }

    static IEnumerable<KeyValuePair<string, string>> Texts(JsonNode? members) =>
        (members as JsonObject ?? []).Where(member => member.Value is not null)
        .Select(member => KeyValuePair.Create(member.Key, member.Value!.ToString()));

    static IEnumerable<KeyValuePair<string, string>> Arguments(string query)
    {
        foreach (var pair in query.Split('&', StringSplitOptions.RemoveEmptyEntries))
        {
            var equals = pair.IndexOf('=', StringComparison.Ordinal);
            yield return KeyValuePair.Create(Uri.UnescapeDataString(equals < 0 ? pair : pair[..equals]),
                equals < 0 ? "" : Uri.UnescapeDataString(pair[(equals + 1)..]));
        }
    }

    static string Join(IEnumerable<KeyValuePair<string, string>> query) =>
        string.Join('&', query.Select(argument => $"{Uri.EscapeDataString(argument.Key)}={Uri.EscapeDataString(argument.Value)}"));

    /// <summary>The model that is asked; null when nobody names one.</summary>
    public string? ModelOf(JsonObject body) => (_options?["model"] ?? body["model"]) switch
    {
        null => null,
        JsonValue value => value.ToString(),
        _ => "<non-scalar>",
    };

    /// <summary>Path and query of a request; null when what would say it is missing.</summary>
    /// <param name="target">The client's own, for what goes on as it is; null for all else.</param>
    public string? TargetOf(AiSpeech? speech, string? model, string? target)
    {
        var own = target?.Split('?', 2);
        var path = _path ?? (own is null ? speech?.PathOf(_place, model) : own[0]);
        var query = own is [_, var arguments] ? Join(Over(Arguments(arguments))) : _queryText;
        return path is null ? null : query.Length == 0 ? path : $"{path}?{query}";
    }

    /// <summary>The client's arguments go over those of the endpoint, never over those that say who asks.</summary>
    IEnumerable<KeyValuePair<string, string>> Over(IEnumerable<KeyValuePair<string, string>> arguments)
    {
        KeyValuePair<string, string>[] client = [.. arguments.Where(argument => !_secretQuery.Contains(argument.Key))];
        return _query.Where(own => Array.TrueForAll(client, argument => argument.Key != own.Key)).Concat(client);
    }

    /// <summary>Whether a request's body is changed at all.</summary>
    public bool ChangesBody(AiSpeech? speech, AiProtocol protocol, JsonObject body) =>
        _options is { Count: > 0 } || (_maxTokens is not null && speech?.MaxTokens is not null) || _bodies?[protocol.Name] is not null
        || (Provider.RemovesModel && body.ContainsKey("model"));

    /// <summary>Makes a body that of a request to this instance.</summary>
    public void Change(JsonObject body, AiSpeech? speech, AiProtocol protocol)
    {
        foreach (var (name, value) in _options ?? [])
        {
            body[name] = value?.DeepClone();
        }
        if (_maxTokens is { } most && speech?.MaxTokens is { } limit)
        {
            body[limit] = most;
            if (speech.Instead is { } instead)
            {
                body.Remove(instead);
            }
        }
        if (_bodies?[protocol.Name] is JsonObject patch)
        {
            Merge(body, patch);
        }
        if (Provider.RemovesModel)
        {
            body.Remove("model");
        }
    }

    void Merge(JsonObject target, JsonObject patch)
    {
        foreach (var (name, value) in patch)
        {
            if (value is JsonObject inner && target[name] is JsonObject into)
            {
                Merge(into, inner);
            }
            else if (_forces || target[name] is null)
            {
                target[name] = value?.DeepClone();
            }
        }
    }
}
