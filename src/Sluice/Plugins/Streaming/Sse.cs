using System.Buffers;
using System.Collections.Frozen;
using System.Text;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Microsoft.AspNetCore.Http;
using Sluice.Model.Expressions;
using Sluice.Net.Http;
using Sluice.Pipeline;
using Sluice.Relay;

namespace Sluice.Plugins.Streaming;

/// <summary>A route's policy for event streams: which events pass, and how many.</summary>
internal sealed class Sse(Sse.Config config) : IPlugin<Sse, Sse.Config>, IAccess, IBeforeProxy, IHeaderFilter, IEventFilter
{
    public static PluginInfo Info { get; } = new(
        Name: "sse",
        Priority: 997,
        Schema: """
            {
              "type": "object",
              "properties": {
                "filter": {
                  "type": "object",
                  "description": "which events pass, by name; an event without a name is called message",
                  "properties": {
                    "include_events": {
                      "type": "array",
                      "minItems": 1,
                      "items": { "type": "string", "minLength": 1 },
                      "description": "only these pass"
                    },
                    "exclude_events": {
                      "type": "array",
                      "minItems": 1,
                      "items": { "type": "string", "minLength": 1 },
                      "description": "these do not pass"
                    },
                    "vars": {
                      "type": "array",
                      "description": "an expression as in a route's `vars`, over `event`, `id`, `data`, `data.PATH` (JSON), `bytes`, `n` (from 1) and the request's variables: events for which it is false do not pass"
                    }
                  },
                  "additionalProperties": false
                },
                "strip_comments": {
                  "type": "boolean",
                  "default": false,
                  "description": "comments (the heartbeats of many servers) do not pass"
                },
                "transform": {
                  "type": "array",
                  "minItems": 1,
                  "description": "rules, applied in their order to events that pass; an event is written anew only when one has changed it",
                  "items": {
                    "type": "object",
                    "properties": {
                      "vars": { "type": "array", "description": "to which events: an expression as in `filter.vars`" },
                      "set_event": { "type": "string", "minLength": 1, "description": "another name; texts may have variables: `${data.path}`, `$event`, those of the request" },
                      "set_id": { "type": "string", "description": "another id" },
                      "set_data": { "type": "string", "description": "other data; several lines become several fields" },
                      "replace": {
                        "type": "array",
                        "description": "values in data that is JSON; a property that is not there is added to an object that is",
                        "items": {
                          "type": "object",
                          "properties": { "path": { "type": "string", "minLength": 1, "description": "`user.name`, `items.0`" }, "value": {} },
                          "required": ["path", "value"],
                          "additionalProperties": false
                        }
                      },
                      "remove": { "type": "array", "items": { "type": "string", "minLength": 1 }, "description": "paths in data that is JSON" },
                      "mask": { "type": "array", "items": { "type": "string", "minLength": 1 }, "description": "paths whose values become `***`" }
                    },
                    "additionalProperties": false
                  }
                },
                "rename_events": {
                  "type": "object",
                  "additionalProperties": { "type": "string", "minLength": 1 },
                  "description": "`{\"old\": \"new\"}`, before `transform`; an event without a name is called message"
                },
                "finite": {
                  "type": "boolean",
                  "default": false,
                  "description": "at the upstream's proper end a block `id: sluice.end` is added, and a GET that comes back with it as `Last-Event-ID` is answered 204 without asking the upstream: an EventSource then stops instead of running the job again"
                },
                "content_type": {
                  "type": "array",
                  "minItems": 1,
                  "items": { "type": "string", "minLength": 1 },
                  "description": "responses of these media types are event streams, too, and labelled so: for upstreams that forget it"
                },
                "max_events": {
                  "type": "integer",
                  "minimum": 1,
                  "description": "after so many events have passed the stream is ended properly, and the upstream let go"
                },
                "max_event_bytes": {
                  "type": "integer",
                  "minimum": 64,
                  "maximum": 67108864,
                  "default": 1048576,
                  "description": "a larger event ends the stream with an error"
                }
              },
              "additionalProperties": false
            }
            """,
        Summary: """
            Works on the single events of a stream (`Content-Type: text/event-stream`): lets some pass by their name, drops comments, changes them, ends the
            stream after a number of events. Sluice's own plugin. Events that pass leave byte for byte as they came, each at once;
            other answers are not looked at. So that events can be read at all, the upstream is not offered compression: `Accept-Encoding` is
            removed from requests on the route. The priority puts it before plugins that compress.
            """)
    {
        TakesPart = TakesPart,
        Example = """
            ```json
            {"sse": {"filter": {"exclude_events": ["ping"]}, "strip_comments": true, "max_events": 100}}
            ```

            The client sees everything but `event: ping` and comments, and the end of the stream after the hundredth event.
            """,
    };

    public sealed record Config(
        FilterConfig? Filter = null, bool StripComments = false, int? MaxEvents = null, int MaxEventBytes = SseFramer.DefaultMaxEventBytes,
        TransformConfig[]? Transform = null, Dictionary<string, string>? RenameEvents = null, bool Finite = false,
        string[]? ContentType = null);

    public sealed record FilterConfig(string[]? IncludeEvents = null, string[]? ExcludeEvents = null, Expression? Vars = null);

    public sealed record TransformConfig(
        Expression? Vars = null, string? SetEvent = null, string? SetId = null, string? SetData = null, ReplaceConfig[]? Replace = null,
        string[]? Remove = null,
        string[]? Mask = null);

    public sealed record ReplaceConfig(string Path, JsonNode? Value);

    /// <summary>The id of a stream that has come to its end.</summary>
    const string EndId = "sluice.end";

    readonly FrozenSet<string>? _include = config.Filter?.IncludeEvents?.ToFrozenSet();
    readonly FrozenSet<string>? _exclude = config.Filter?.ExcludeEvents?.ToFrozenSet();
    readonly Expression? _vars = config.Filter?.Vars;
    readonly EventRule[] _rules = [.. (config.Transform ?? []).Select(static rule => new EventRule(rule))];
    readonly bool _isRuled = config is { Filter.Vars: not null } or { Transform: not null } or { RenameEvents.Count: > 0 };

    public static JsonTypeInfo<Config> ConfigType => SseJson.Default.Config;

    public static Sse Create(Config config, PluginContext context) => new(config);

    static bool TakesPart(JsonObject config, Phase phase) =>
        phase == Phase.Access ? config["finite"]?.GetValue<bool>() == true : phase != Phase.HeaderFilter
        || config.ContainsKey("content_type");

    /// <summary>Who has seen the end is told that there is no more.</summary>
    public ValueTask<Answer?> AccessAsync(Exchange exchange) =>
        new(HttpMethods.IsGet(exchange.Request.Method) && exchange.Request.Headers["Last-Event-ID"] == EndId ? new Answer(204) : null);

    public void FilterHeaders(Exchange exchange)
    {
        if (!exchange.AnsweredByGateway && exchange.Response.StatusCode == 200
            && Array.Exists(config.ContentType!, type => MediaType.Is(exchange.Response.ContentType ?? "", type)))
        {
            exchange.Response.ContentType = "text/event-stream";
        }
    }

    public ValueTask<Answer?> BeforeProxyAsync(Exchange exchange)
    {
        exchange.Request.Headers.Remove("Accept-Encoding");
        return default;
    }

    public IEventStep? OpenEvents(Exchange exchange)
    {
        var headers = exchange.Response.Headers;
        var isPlain = headers.ContentEncoding.Count == 0 || headers.ContentEncoding == "identity";
        return isPlain && MediaType.IsEventStream(headers.ContentType.ToString()) ? new Step(this, exchange) : null;
    }

    bool Passes(SseEvent sse)
    {
        if (_include is null && _exclude is null)
        {
            return true;
        }
        Span<char> room = stackalloc char[MaxShortName];
        ReadOnlySpan<char> name = sse.Name.IsEmpty ? "message"
            : sse.Name.Length <= MaxShortName ? room[..Encoding.UTF8.GetChars(sse.Name, room)] : Encoding.UTF8.GetString(sse.Name);
        return (_include is null || Has(_include, name)) && (_exclude is null || !Has(_exclude, name));
    }

    const int MaxShortName = 128;

    static bool Has(FrozenSet<string> names, ReadOnlySpan<char> name) => names.GetAlternateLookup<ReadOnlySpan<char>>().Contains(name);

    /// <summary>What lies between events besides comments: blank lines, the LF of a CRLF that came late, a byte order mark.</summary>
    static readonly SearchValues<byte> LineEndsAndMark = SearchValues.Create([(byte)'\r', (byte)'\n', 0xEF, 0xBB, 0xBF]);

    sealed class Step(Sse plugin, Exchange exchange) : IEventStep
    {
        readonly RuledEvent? _ruled = plugin._isRuled ? new(exchange) : null;
        int _passed;
        bool _incomplete;

        public bool Ended => _passed == plugin.Settings.MaxEvents;

        public void End(IBufferWriter<byte> output)
        {
            // behind a block that was cut it would become a part of that
            if (plugin.Settings.Finite && !Ended && !_incomplete)
            {
                output.Write("id: sluice.end\n\n"u8);
            }
        }

        public IEventFramer CreateFramer() => new SseFramer(plugin.Settings.MaxEventBytes);

        public void Filter(in Frame frame, IBufferWriter<byte> output)
        {
            switch (frame.Kind)
            {
                case FrameKind.Event:
                    var sse = new SseEvent(frame.Raw.Span);
                    _ruled?.Read(sse);
                    if (plugin.Passes(sse) && (plugin._vars is not { } vars || vars.Matches(_ruled!)))
                    {
                        _passed++;
                        Change();
                        Write(sse, output);
                        if (Ended)
                        {
                            exchange.StreamEndReason = "max_events";
                        }
                    }
                    break;
                case FrameKind.Passage when plugin.Settings.StripComments && frame.Raw.Span.ContainsAnyExcept(LineEndsAndMark):
                    break;
                case FrameKind.Incomplete when plugin._include is not null || plugin._exclude is not null:
                    // a receiver forgets it, but it may be the beginning of an event that must not pass
                    break;
                default:
                    _incomplete = frame.Kind == FrameKind.Incomplete;
                    output.Write(frame.Raw.Span);
                    break;
            }
        }

        void Change()
        {
            if (_ruled is null)
            {
                return;
            }
            if (plugin.Settings.RenameEvents?.GetValueOrDefault(_ruled.Name) is { } name)
            {
                _ruled.Name = name;
            }
            foreach (var rule in plugin._rules)
            {
                rule.Apply(_ruled);
            }
        }

        void Write(SseEvent sse, IBufferWriter<byte> output)
        {
            if (_ruled?.Changed == true)
            {
                _ruled.Write(output);
            }
            else if (plugin.Settings.StripComments && HasComment(sse))
            {
                WriteWithoutComments(sse.Raw, output);
            }
            else
            {
                output.Write(sse.Raw);
            }
        }

        static bool HasComment(SseEvent sse)
        {
            foreach (var line in sse)
            {
                if (line.IsComment)
                {
                    return true;
                }
            }
            return false;
        }

        static void WriteWithoutComments(ReadOnlySpan<byte> raw, IBufferWriter<byte> output)
        {
            while (!raw.IsEmpty)
            {
                var end = raw.IndexOfAny((byte)'\r', (byte)'\n');
                var next = end < 0 ? raw.Length : end + 1;
                if (end >= 0 && raw[end] == '\r' && next < raw.Length && raw[next] == '\n')
                {
                    next++;
                }
                if (raw[0] != ':')
                {
                    output.Write(raw[..next]);
                }
                raw = raw[next..];
            }
        }
    }

    Config Settings => config;
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(Sse.Config))]
sealed partial class SseJson : JsonSerializerContext;
