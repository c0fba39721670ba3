using System.Buffers;
using System.IO.Compression;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Pipeline;
using Sluice.Relay;

namespace Sluice.Plugins.Transform;

/// <summary>Compresses responses with gzip.</summary>
internal sealed class Gzip : IPlugin<Gzip, Gzip.Config>, ICompressor
{
    public static PluginInfo Info { get; } = new(
        Name: "gzip",
        Priority: 995,
        Schema: $$"""
            {
              "type": "object",
              "properties": {
                {{Compression.Properties}},
                "comp_level": { "type": "integer", "minimum": 1, "maximum": 9, "default": 1 },
                "buffers": {
                  "type": "object",
                  "description": "as in APISIX; without effect here: nothing is gathered",
                  "properties": { "number": { "type": "integer", "minimum": 1, "default": 32 }, "size": { "type": "integer", "minimum": 1, "default": 4096 } },
                  "default": { "number": 32, "size": 4096 }
                },
                "vary": { "type": "boolean", "description": "adds Vary: Accept-Encoding to all responses that could have been compressed" }
              }
            }
            """,
        Summary: """
            Compresses responses of the listed types with gzip, for clients that accept it. A stream stays one: each piece is compressed and leaves at once, so an event is never held back. Of
            the statuses 200, 403 and 404, and no response that is compressed already. It works on what all other plugins have left of the body.
            """)
    {
        Example = """
            ```json
            {"gzip": {"types": ["text/html", "application/json", "text/event-stream"], "vary": true}}
            ```
            """,
    };

    public sealed record Config(JsonNode? Types = null, int MinLength = 20, double HttpVersion = 1.1, int CompLevel = 1,
        JsonObject? Buffers = null, bool Vary = false);

    readonly Compression _compression;
    readonly ZLibCompressionOptions _options;

    Gzip(Config config)
    {
        _compression = new(config.Types, config.MinLength, config.HttpVersion, config.Vary);
        _options = new() { CompressionLevel = config.CompLevel };
    }

    public static JsonTypeInfo<Config> ConfigType => GzipJson.Default.Config;

    public static Gzip Create(Config config, PluginContext context) => new(config);

    public void FilterHeaders(Exchange exchange)
    {
        if (!_compression.IsFor(exchange))
        {
            return;
        }
        _compression.Vary(exchange);
        if (Compression.CanCompress(exchange) && exchange.Response.StatusCode is 200 or 403 or 404
            && (Compression.Weight(exchange, "gzip") ?? Compression.Weight(exchange, "*")) > 0)
        {
            Compression.Begin(exchange, "gzip");
            exchange.Items[this] = this;
        }
    }

    public IPieceFilter? OpenBody(Exchange exchange) => exchange.Find(this) is null ? null : new Compressor(_options);

#pragma warning disable CA1001 // ends with the last piece; of a response that broke off zlib's own handle ends
    sealed class Compressor : IPieceFilter
#pragma warning restore CA1001
    {
        readonly Output _output = new();
        readonly GZipStream _gzip;

        public Compressor(ZLibCompressionOptions options) => _gzip = new(_output, options, leaveOpen: true);

        public void Filter(ReadOnlyMemory<byte> piece, bool last, IBufferWriter<byte> output)
        {
            _output.Writer = output;
            if (!piece.IsEmpty)
            {
                _gzip.Write(piece.Span);
            }
            if (last)
            {
                _gzip.Dispose();
            }
            else
            {
                _gzip.Flush();
            }
        }
    }

    /// <summary>Writes into the output of the piece that is under way.</summary>
    sealed class Output : Stream
    {
        public IBufferWriter<byte>? Writer { get; set; }

        public override bool CanRead => false;

        public override bool CanSeek => false;

        public override bool CanWrite => true;

        public override long Length => throw new NotSupportedException();

        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        public override void Flush()
        {
        }

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => Writer!.Write(buffer.AsSpan(offset, count));

        public override void Write(ReadOnlySpan<byte> buffer) => Writer!.Write(buffer);
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(Gzip.Config))]
sealed partial class GzipJson : JsonSerializerContext;
