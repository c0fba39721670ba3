using System.Buffers;
using System.Collections.Frozen;
using System.Text;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Pipeline;
using Sluice.Relay;

namespace Sluice.Plugins.Streaming;

/// <summary>A route's policy for event streams: which events pass, and how many.</summary>
public sealed class Sse(Sse.Config config) : IPlugin<Sse, Sse.Config>, IBeforeProxy, IEventFilter
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
                    }
                  },
                  "additionalProperties": false
                },
                "strip_comments": {
                  "type": "boolean",
                  "default": false,
                  "description": "comments (the heartbeats of many servers) do not pass"
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
            Works on the single events of a stream (`Content-Type: text/event-stream`): lets some pass by their name, drops comments, ends the
            stream after a number of events. Sluice's own plugin. Events that pass leave byte for byte as they came, each at once;
            other answers are not looked at. So that events can be read at all, the upstream is not offered compression: `Accept-Encoding` is
            removed from requests on the route. The priority puts it before plugins that compress.
            """)
    {
        Example = """
            ```json
            {"sse": {"filter": {"exclude_events": ["ping"]}, "strip_comments": true, "max_events": 100}}
            ```

            The client sees everything but `event: ping` and comments, and the end of the stream after the hundredth event.
            """,
    };

    public sealed record Config(FilterConfig? Filter = null, bool StripComments = false, int? MaxEvents = null, int MaxEventBytes = SseFramer.DefaultMaxEventBytes);

    public sealed record FilterConfig(string[]? IncludeEvents = null, string[]? ExcludeEvents = null);

    readonly FrozenSet<string>? _include = config.Filter?.IncludeEvents?.ToFrozenSet();
    readonly FrozenSet<string>? _exclude = config.Filter?.ExcludeEvents?.ToFrozenSet();

    public static JsonTypeInfo<Config> ConfigType => SseJson.Default.Config;

    public static Sse Create(Config config, PluginContext context) => new(config);

    public ValueTask<Answer?> BeforeProxyAsync(Exchange exchange)
    {
        exchange.Request.Headers.Remove("Accept-Encoding");
        return default;
    }

    public IEventStep? OpenEvents(Exchange exchange)
    {
        var headers = exchange.Response.Headers;
        var isPlain = headers.ContentEncoding.Count == 0 || headers.ContentEncoding == "identity";
        return isPlain && IsEventStream(headers.ContentType.ToString()) ? new Step(this) : null;
    }

    static bool IsEventStream(string contentType)
    {
        var semicolon = contentType.IndexOf(';', StringComparison.Ordinal);
        return contentType.AsSpan(0, semicolon < 0 ? contentType.Length : semicolon).Trim().Equals("text/event-stream", StringComparison.OrdinalIgnoreCase);
    }

    bool Passes(SseEvent sse)
    {
        if (_include is null && _exclude is null)
        {
            return true;
        }
        var name = sse.Name.IsEmpty ? "message" : Encoding.UTF8.GetString(sse.Name);
        return _include?.Contains(name) != false && _exclude?.Contains(name) != true;
    }

    /// <summary>What lies between events besides comments: blank lines, the LF of a CRLF that came late, a byte order mark.</summary>
    static readonly SearchValues<byte> LineEndsAndMark = SearchValues.Create([(byte)'\r', (byte)'\n', 0xEF, 0xBB, 0xBF]);

    sealed class Step(Sse plugin) : IEventStep
    {
        int _passed;

        public bool Ended => _passed == plugin.Settings.MaxEvents;

        public IEventFramer CreateFramer() => new SseFramer(plugin.Settings.MaxEventBytes);

        public void Filter(in Frame frame, IBufferWriter<byte> output)
        {
            switch (frame.Kind)
            {
                case FrameKind.Event:
                    var sse = new SseEvent(frame.Raw.Span);
                    if (plugin.Passes(sse))
                    {
                        _passed++;
                        Write(sse, output);
                    }
                    break;
                case FrameKind.Passage when plugin.Settings.StripComments && frame.Raw.Span.ContainsAnyExcept(LineEndsAndMark):
                    break;
                case FrameKind.Incomplete when plugin._include is not null || plugin._exclude is not null:
                    // a receiver forgets it, but it may be the beginning of an event that must not pass
                    break;
                default:
                    output.Write(frame.Raw.Span);
                    break;
            }
        }

        void Write(SseEvent sse, IBufferWriter<byte> output)
        {
            if (plugin.Settings.StripComments && HasComment(sse))
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
