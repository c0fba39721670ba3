using System.Buffers;
using System.Collections.Concurrent;
using System.Text;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Pipeline;
using Sluice.Relay;

namespace Sluice.Tests.Plugins;

/// <summary>Asks somebody about each event, which takes as long as the test says, and lets pass what is allowed.</summary>
public sealed class Moderates(Moderates.Config config) : IPlugin<Moderates, Moderates.Config>, IAsyncEventFilter
{
    public static PluginInfo Info { get; } = new("moderates", 1000, """{"type": "object"}""", "Asks about events.");

    /// <param name="Desk">Where it asks; null: it knows at once.</param>
    public sealed record Config(string? Desk = null, string Bad = "bad", string? Last = null);

    public static JsonTypeInfo<Config> ConfigType => ModeratesJson.Default.Config;

    /// <summary>Questions that wait for their answers, by desk.</summary>
    public static ConcurrentDictionary<string, TaskCompletionSource<TaskCompletionSource<bool>>> Asked { get; } = [];

    public static Moderates Create(Config config, PluginContext context) => new(config);

    public IAsyncEventStep OpenEvents(Exchange exchange) => new Step(config);

    sealed class Step(Config config) : IAsyncEventStep
    {
        public bool Ended { get; private set; }

        public async ValueTask FilterAsync(Frame frame, IBufferWriter<byte> output, CancellationToken cancel)
        {
            var text = Encoding.UTF8.GetString(frame.Raw.Span);
            var passes = !text.Contains(config.Bad, StringComparison.Ordinal);
            if (config.Desk is { } desk && frame.Kind == FrameKind.Event)
            {
                var answer = new TaskCompletionSource<bool>(TaskCreationOptions.RunContinuationsAsynchronously);
                Asked[desk].SetResult(answer);
                passes = await answer.Task.WaitAsync(cancel);
            }
            if (passes)
            {
                output.Write(frame.Raw.Span);
            }
            Ended = config.Last is { } last && text.Contains(last, StringComparison.Ordinal);
        }

        public ValueTask EndAsync(IBufferWriter<byte> output, CancellationToken cancel)
        {
            output.Write(": moderated\n\n"u8);
            return default;
        }
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(Moderates.Config))]
sealed partial class ModeratesJson : JsonSerializerContext;

/// <summary>Writes each byte of a request's body twice.</summary>
public sealed class Doubles : IPlugin<Doubles, Doubles.Config>, IRequestBodyFilter
{
    public static PluginInfo Info { get; } = new("doubles", 1000, """{"type": "object"}""", "Doubles bodies.");

    public sealed record Config;

    public static JsonTypeInfo<Config> ConfigType => DoublesJson.Default.Config;

    public static Doubles Create(Config config, PluginContext context) => new();

    public IPieceFilter? OpenRequestBody(Exchange exchange) => exchange.Request.ContentType == "text/plain" ? new Filter() : null;

    sealed class Filter : IPieceFilter
    {
        void IPieceFilter.Filter(ReadOnlyMemory<byte> piece, bool last, IBufferWriter<byte> output)
        {
            foreach (var one in piece.Span)
            {
                output.Write([one, one]);
            }
            if (last)
            {
                output.Write("."u8);
            }
        }
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(Doubles.Config))]
sealed partial class DoublesJson : JsonSerializerContext;
