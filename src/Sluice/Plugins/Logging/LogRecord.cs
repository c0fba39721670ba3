using System.Buffers;
using System.Globalization;
using System.IO.Compression;
using System.Net;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;
using Sluice.Model.Expressions;
using Sluice.Pipeline;
using Sluice.Relay;

namespace Sluice.Plugins.Logging;

/// <summary>Makes the entries of one logger as its configuration and its metadata say, in the shape of APISIX's.</summary>
sealed class LogRecord
{
    const int MaxDepth = 5;

    static readonly JsonWriterOptions Writing = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>Variables that are numbers in the entry.</summary>
    static readonly HashSet<string> Numbers =
    [
        "status", "request_time", "bytes_sent", "body_bytes_sent", "request_length", "upstream_response_time", "upstream_header_time",
        "upstream_connect_time", "server_port", "remote_port",
    ];

    static readonly string Version = typeof(LogRecord).Assembly.GetName().Version!.ToString(3);

    readonly object _key;
    readonly JsonObject? _format;
    readonly JsonObject? _extra;
    readonly bool _requestBody;
    readonly bool _responseBody;
    readonly bool _requestBodyInFormat;
    readonly Expression? _requestExpression;
    readonly Expression? _responseExpression;
    readonly int _maxRequestBody;
    readonly int _maxResponseBody;
    readonly Expression[]? _match;

    /// <param name="key">Under which it keeps what it has collected of a request.</param>
    /// <exception cref="ConfigException">An expression is none.</exception>
    public LogRecord(object key, JsonObject config, JsonObject? metadata, Action<string> warn)
    {
        _key = key;
        _format = Cut(config["log_format"] as JsonObject ?? (metadata?["log_format"] is JsonObject { Count: > 0 } common ? common : null),
            warn);
        _extra = Cut(config["log_format_extra"] as JsonObject ?? metadata?["log_format_extra"] as JsonObject, warn);
        _requestBody = config["include_req_body"]?.GetValue<bool>() == true;
        _responseBody = config["include_resp_body"]?.GetValue<bool>() == true;
        _requestExpression = Compile(config, "include_req_body_expr");
        _responseExpression = Compile(config, "include_resp_body_expr");
        _maxRequestBody = Number(config, "max_req_body_bytes");
        _maxResponseBody = Number(config, "max_resp_body_bytes");
        _match = (config["match"] as JsonArray)?.OfType<JsonArray>()
            .Select(static rule => s_matches.GetValue(rule, static one => Expression.Compile(AsRules(one)))).ToArray();
        _requestBodyInFormat = Names(_format, "$request_body") || Names(_extra, "$request_body");
    }

    static int Number(JsonObject config, string name) => config[name] is { } value ? (int)value.AsValue().GetValue<double>() : 524288;

    /// <summary>What is compiled of a configuration stays with it.</summary>
    static readonly ConditionalWeakTable<JsonArray, Expression> s_matches = [];

    /// <summary>One condition alone is a list of one.</summary>
    static JsonArray AsRules(JsonArray rule) =>
        rule is [JsonValue first, ..] && first.ToString().ToUpperInvariant() is not ("OR" or "AND" or "!OR" or "!AND") ? [rule.DeepClone()]
        : rule;

    static Expression? Compile(JsonObject config, string name)
    {
        try
        {
            return config[name] is JsonArray rule ? Expression.Of(rule) : null;
        }
        catch (FormatException e)
        {
            throw new ConfigException($"failed to validate the '{name}' expression: {e.Message}");
        }
    }

    static bool Names(JsonObject? format, string variable) =>
        format?.Any(pair => pair.Value is JsonObject inner ? Names(inner, variable) : pair.Value?.ToString() == variable) == true;

    /// <summary>The format without what lies too deep.</summary>
    static JsonObject? Cut(JsonObject? format, Action<string> warn, int depth = 1)
    {
        if (format is null)
        {
            return null;
        }
        JsonObject cut = [];
        foreach (var (name, value) in format)
        {
            if (value is JsonObject && depth >= MaxDepth)
            {
                warn($"log_format nesting exceeds max depth {MaxDepth}, truncating");
                cut[name] = new JsonObject();
            }
            else
            {
                cut[name] = value is JsonObject inner ? Cut(inner, warn, depth + 1) : value?.DeepClone();
            }
        }
        return cut;
    }

    /// <summary>Before the request goes on: its body is copied as it is read, if the entry shall have it.</summary>
    public void Begin(Exchange exchange)
    {
        if (_requestBodyInFormat || (_requestBody && _requestExpression?.Matches(exchange) != false))
        {
            exchange.CopyBody(_maxRequestBody);
        }
    }

    /// <summary>Copies the pieces of the response's body, if the entry shall have it; null: it shall not.</summary>
    public IPieceFilter? OpenBody(Exchange exchange)
    {
        if (!_responseBody || _responseExpression?.Matches(exchange) == false)
        {
            return null;
        }
        var copy = new Copy(_maxResponseBody, exchange.Response.Headers.ContentEncoding.ToString());
        exchange.Items[_key] = copy;
        return copy;
    }

    sealed class Copy(int max, string encoding) : IPieceFilter
    {
        readonly ArrayBufferWriter<byte> _bytes = new();

        public void Filter(ReadOnlyMemory<byte> piece, bool last, IBufferWriter<byte> output)
        {
            if (!piece.IsEmpty)
            {
                _bytes.Write(piece.Span[..Math.Min(piece.Length, max - _bytes.WrittenCount)]);
                output.Write(piece.Span);
            }
        }

        /// <summary>Decoded: of a body that was cut, what can be read of it.</summary>
        public string Text => Encoding.UTF8.GetString(encoding switch
        {
            "gzip" or "x-gzip" when _bytes.WrittenSpan is [0x1f, 0x8b, ..] =>
                Decoded(static stream => new GZipStream(stream, CompressionMode.Decompress)),
            "br" => Decoded(static stream => new BrotliStream(stream, CompressionMode.Decompress)),
            _ => _bytes.WrittenSpan,
        });

        ReadOnlySpan<byte> Decoded(Func<Stream, Stream> open)
        {
            var plain = new byte[max];
            var length = 0;
            try
            {
                using var stream = open(new MemoryStream(_bytes.WrittenMemory.ToArray()));
                int read;
                while (length < max && (read = stream.Read(plain, length, max - length)) > 0)
                {
                    length += read;
                }
            }
            catch (Exception e) when (e is InvalidDataException or InvalidOperationException or IOException)
            {
                // what this gateway itself compresses comes here as plain text
            }
            return length == 0 ? _bytes.WrittenSpan : plain.AsSpan(0, length);
        }
    }

    /// <summary>A <c>log_format</c> says what an entry is.</summary>
    public bool IsCustom => _format is not null;

    /// <summary>The entry of a request that has ended; null: the configuration does not want it.</summary>
    /// <param name="unmatched">What stands as <c>route_id</c> when no route matched; null: nothing.</param>
    public JsonObject? Of(Exchange exchange, string? unmatched = null)
    {
        if (_match is not null && !Array.Exists(_match, rule => rule.Matches(exchange)))
        {
            return null;
        }
        var entry = _format is null ? Default(exchange) : Formatted(exchange, _format);
        if (!IsCustom)
        {
            AddExtra(exchange, entry);
        }
        exchange.Ai?.AddTo(entry);
        if (unmatched is not null && !entry.ContainsKey("route_id"))
        {
            entry["route_id"] = unmatched;
        }
        Hide(exchange, entry);
        return entry;
    }

    /// <summary>What is secret in a request's target, in headers and in bodies is not logged.</summary>
    static void Hide(Exchange exchange, JsonNode? node)
    {
        if (!exchange.Services.Topics.IsUsed)
        {
            return;
        }
        switch (node)
        {
            case JsonObject members:
                foreach (var (name, value) in members.ToArray())
                {
                    if (Shown(exchange, value) is { } shown)
                    {
                        members[name] = shown;
                    }
                }
                break;
            case JsonArray items:
                for (var i = 0; i < items.Count; i++)
                {
                    if (Shown(exchange, items[i]) is { } shown)
                    {
                        items[i] = shown;
                    }
                }
                break;
        }
    }

    static string? Shown(Exchange exchange, JsonNode? value)
    {
        if (value is not JsonValue text)
        {
            Hide(exchange, value);
            return null;
        }
        return text.TryGetValue(out string? said) && exchange.Shown(said) is var shown && !ReferenceEquals(shown, said) ? shown : null;
    }

    /// <summary>Adds what <c>log_format_extra</c> names and is not there.</summary>
    public void AddExtra(Exchange exchange, JsonObject entry)
    {
        foreach (var (name, value) in _extra is null ? [] : Fill(exchange, _extra))
        {
            if (!entry.ContainsKey(name))
            {
                entry[name] = value?.DeepClone();
            }
        }
        Hide(exchange, entry);
    }

    public static byte[] Bytes(JsonNode entry)
    {
        var output = new ArrayBufferWriter<byte>(1024);
        using (var writer = new Utf8JsonWriter(output, Writing))
        {
            entry.WriteTo(writer);
        }
        return output.WrittenSpan.ToArray();
    }

    JsonObject Formatted(Exchange exchange, JsonObject format)
    {
        var entry = Fill(exchange, format);
        if (exchange.Route is { } route)
        {
            if (route.Config.ServiceId is { } service)
            {
                entry["service_id"] = service;
            }
            entry["route_id"] = route.Id;
        }
        return entry;
    }

    JsonObject Fill(Exchange exchange, JsonObject format)
    {
        JsonObject entry = [];
        foreach (var (name, value) in format)
        {
            var filled = value switch
            {
                JsonObject inner => Fill(exchange, inner),
                JsonValue text when text.TryGetValue(out string? variable) && variable.StartsWith('$') => Variable(exchange, variable[1..]),
                _ => value?.DeepClone(),
            };
            if (filled is not null)
            {
                entry[name] = filled;
            }
        }
        return entry;
    }

    JsonNode? Variable(Exchange exchange, string name) => name switch
    {
        "request_body" => RequestBody(exchange),
        "resp_body" => ResponseBody(exchange),
        _ when exchange.Get(name) is not { } value => null,
        _ when Numbers.Contains(name)
            && decimal.TryParse(exchange.Get(name), NumberStyles.Float, CultureInfo.InvariantCulture, out var number) =>
            JsonValue.Create(number),
        _ => JsonValue.Create(exchange.Get(name)),
    };

    string? RequestBody(Exchange exchange)
    {
        var body = exchange.CopiedBody;
        return body.IsEmpty ? null : Encoding.UTF8.GetString(body.Span[..Math.Min(body.Length, _maxRequestBody)]);
    }

    string? ResponseBody(Exchange exchange) => (exchange.Find(_key) as Copy)?.Text;

    JsonObject Default(Exchange exchange)
    {
        var target = exchange.Get("request_uri") ?? "";
        var request = new JsonObject
        {
            ["url"] = $"{exchange.Get("scheme")}://{exchange.Get("host")}:{exchange.Get("server_port")}{target}",
            ["uri"] = target,
            ["method"] = exchange.Request.Method,
            ["headers"] = Headers(exchange.Request.Headers),
            ["querystring"] = Query(exchange.Args),
            ["size"] = Variable(exchange, "request_length"),
        };
        if (_requestBody && _requestExpression?.Matches(exchange) != false && RequestBody(exchange) is { } requestBody)
        {
            request["body"] = requestBody;
        }
        var response = new JsonObject
        {
            ["status"] = exchange.Response.StatusCode,
            ["headers"] = Headers(exchange.Response.Headers),
            ["size"] = Variable(exchange, "bytes_sent"),
        };
        if (ResponseBody(exchange) is { } responseBody)
        {
            response["body"] = responseBody;
        }
        var latency = exchange.ElapsedMs;
        var upstream = exchange.Upstream.ResponseSeconds * 1000;
        var entry = new JsonObject
        {
            ["request"] = request,
            ["response"] = response,
            ["server"] = new JsonObject { ["hostname"] = Environment.MachineName, ["version"] = Version },
        };
        if (exchange.Upstream.Addresses is { } address)
        {
            entry["upstream"] = address;
        }
        entry["service_id"] = exchange.Route is { } route ? route.Config.ServiceId ?? "" : exchange.Get("host");
        if (exchange.Route is not null)
        {
            entry["route_id"] = exchange.Route.Id;
        }
        if (exchange.Consumer is { } consumer)
        {
            entry["consumer"] = new JsonObject { ["username"] = consumer.Username };
        }
        entry["client_ip"] = exchange.RemoteAddress.ToString();
        entry["start_time"] = Math.Round((exchange.Services.Time.GetUtcNow() - DateTimeOffset.UnixEpoch).TotalMilliseconds - latency);
        entry["latency"] = latency;
        if (upstream is { } ofUpstream)
        {
            entry["upstream_latency"] = ofUpstream;
        }
        entry["apisix_latency"] = Math.Max(0, latency - (upstream ?? 0));
        return entry;
    }

    static JsonObject Headers(IHeaderDictionary headers)
    {
        JsonObject all = [];
        foreach (var (name, values) in headers)
        {
            if (!name.StartsWith(':'))
            {
                all[name.ToLowerInvariant()] = values.Count == 1 ? JsonValue.Create(values[0])
                    : new JsonArray([.. values.Select(value => JsonValue.Create(value))]);
            }
        }
        return all;
    }

    static JsonObject Query(string args)
    {
        JsonObject all = [];
        foreach (var pair in args.Split('&', StringSplitOptions.RemoveEmptyEntries))
        {
            var equals = pair.IndexOf('=', StringComparison.Ordinal);
            var name = WebUtility.UrlDecode(equals < 0 ? pair : pair[..equals]);
            JsonNode value = equals < 0 ? JsonValue.Create(true) : JsonValue.Create(WebUtility.UrlDecode(pair[(equals + 1)..]))!;
            switch (all[name])
            {
                case null:
                    all[name] = value;
                    break;
                case JsonArray list:
                    list.Add(value);
                    break;
                case var first:
                    all.Remove(name);
                    all[name] = new JsonArray(first.DeepClone(), value);
                    break;
            }
        }
        return all;
    }
}
