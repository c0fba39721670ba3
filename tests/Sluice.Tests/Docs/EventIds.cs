using System.Buffers;
using System.Text;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Pipeline;
using Sluice.Relay;

namespace Sluice.Tests.Docs;

/// <summary>Gives events without an id one.</summary>
sealed class EventIds(EventIds.Config config) : IPlugin<EventIds, EventIds.Config>, IEventFilter
{
    public static PluginInfo Info { get; } = new(
        Name: "event-ids",
        Priority: 996,
        Schema: """
            {
              "type": "object",
              "properties": {
                "prefix": { "type": "string", "maxLength": 64, "default": "", "description": "stands before the number" }
              }
            }
            """,
        Summary: "Gives every event of a stream that has no id one: a number, counted from 1.")
    {
        Example = """
            ```json
            {"event-ids": {"prefix": "e"}}
            ```

            The client sees `id: e1`, `id: e2`, …
            """,
    };

    public sealed record Config(string Prefix = "");

    public static JsonTypeInfo<Config> ConfigType => EventIdsJson.Default.Config;

    public static EventIds Create(Config config, PluginContext context) => config.Prefix.AsSpan().ContainsAny('\r', '\n', '\0')
        ? throw new ConfigException("property \"prefix\" must be one line")
        : new(config);

    public IEventStep? OpenEvents(Exchange exchange) =>
        exchange.Response.ContentType?.StartsWith("text/event-stream", StringComparison.OrdinalIgnoreCase) == true ? new Step(config.Prefix)
        : null;

    sealed class Step(string prefix) : IEventStep
    {
        long _number;

        public void Filter(in Frame frame, IBufferWriter<byte> output)
        {
            if (frame.Kind == FrameKind.Event)
            {
                _number++;
                if (!new SseEvent(frame.Raw.Span).HasId)
                {
                    output.Write(Encoding.UTF8.GetBytes($"id: {prefix}{_number}\n"));
                }
            }
            output.Write(frame.Raw.Span);
        }
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(EventIds.Config))]
sealed partial class EventIdsJson : JsonSerializerContext;
