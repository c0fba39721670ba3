using System.Buffers;
using System.IO.Compression;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Pipeline;
using Sluice.Relay;

namespace Sluice.Plugins.Transform;

/// <summary>Compresses responses with brotli.</summary>
internal sealed class Brotli : IPlugin<Brotli, Brotli.Config>, ICompressor
{
    public static PluginInfo Info { get; } = new(
        Name: "brotli",
        Priority: 996,
        Schema: $$"""
            {
              "type": "object",
              "properties": {
                {{Compression.Properties}},
                "mode": { "type": "integer", "minimum": 0, "maximum": 2, "default": 0, "description": "as in APISIX; without effect here" },
                "comp_level": { "type": "integer", "minimum": 0, "maximum": 11, "default": 6 },
                "lgwin": { "type": "integer", "default": 19, "enum": [0, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24], "description": "binary logarithm of the window's size; 0: brotli's own, 22" },
                "lgblock": { "type": "integer", "default": 0, "enum": [0, 16, 17, 18, 19, 20, 21, 22, 23, 24], "description": "as in APISIX; without effect here" },
                "vary": { "type": "boolean", "description": "adds Vary: Accept-Encoding to responses that are compressed" }
              }
            }
            """,
        Summary: """
            Compresses responses of the listed types with brotli, for clients that accept it. A stream stays one: each piece is compressed and leaves at once, so an event is never held back. It works
            on what all other plugins have left of the body; with `gzip` beside it, `gzip` gets what the client does not take from here.
            """)
    {
        Example = """
            ```json
            {"brotli": {"types": ["text/html", "application/json", "text/event-stream"], "vary": true}}
            ```
            """,
    };

    public sealed record Config(
        JsonNode? Types = null, int MinLength = 20, double HttpVersion = 1.1, int Mode = 0, int CompLevel = 6, int Lgwin = 19,
        int Lgblock = 0, bool Vary = false);

    readonly Compression _compression;
    readonly int _quality;
    readonly int _window;

    Brotli(Config config)
    {
        _compression = new(config.Types, config.MinLength, config.HttpVersion, config.Vary);
        _quality = config.CompLevel;
        _window = config.Lgwin == 0 ? 22 : config.Lgwin;
    }

    public static JsonTypeInfo<Config> ConfigType => BrotliJson.Default.Config;

    public static Brotli Create(Config config, PluginContext context) => new(config);

    public void FilterHeaders(Exchange exchange)
    {
        if (Compression.CanCompress(exchange) && _compression.IsFor(exchange)
            && (Compression.Weight(exchange, "br") ?? Compression.Weight(exchange, "*")) > 0)
        {
            _compression.Vary(exchange);
            Compression.Begin(exchange, "br");
            exchange.Items[this] = this;
        }
    }

    public IPieceFilter? OpenBody(Exchange exchange) => exchange.Find(this) is null ? null : new Compressor(_quality, _window);

    sealed class Compressor(int quality, int window) : IPieceFilter
    {
        BrotliEncoder _encoder = new(quality, window);

        public void Filter(ReadOnlyMemory<byte> piece, bool last, IBufferWriter<byte> output)
        {
            var rest = piece.Span;
            while (!rest.IsEmpty || last)
            {
                var status = _encoder.Compress(rest, output.GetSpan(4096), out var consumed, out var written, last);
                output.Advance(written);
                rest = rest[consumed..];
                if (status != OperationStatus.DestinationTooSmall && rest.IsEmpty)
                {
                    break;
                }
            }
            if (last)
            {
                _encoder.Dispose();
                return;
            }
            for (var status = OperationStatus.DestinationTooSmall; status == OperationStatus.DestinationTooSmall;)
            {
                status = _encoder.Flush(output.GetSpan(4096), out var written);
                output.Advance(written);
            }
        }
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(Brotli.Config))]
sealed partial class BrotliJson : JsonSerializerContext;
