using System.Buffers;
using System.Text;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Net.Http;
using Sluice.Pipeline;
using Sluice.Relay;

namespace Sluice.Plugins.Transform;

/// <summary>Puts texts before and behind a body, or in its place.</summary>
internal sealed class Echo(Echo.Config config, HeaderChanges headers) : IPlugin<Echo, Echo.Config>, IHeaderFilter, IBodyFilter
{
    public static PluginInfo Info { get; } = new(
        Name: "echo",
        Priority: 412,
        Schema: """
            {
              "type": "object",
              "properties": {
                "before_body": { "description": "stands before the body", "type": "string" },
                "body": { "description": "stands in the place of the body", "type": "string" },
                "after_body": { "description": "stands behind the body", "type": "string" },
                "headers": {
                  "description": "headers of the response; values are strings or numbers, variables in them are not expanded",
                  "type": "object",
                  "minProperties": 1
                }
              },
              "anyOf": [
                { "required": ["before_body"] },
                { "required": ["body"] },
                { "required": ["after_body"] }
              ],
              "minProperties": 1
            }
            """,
        Summary: """
            Puts texts before and behind a body, or one in its place, and sets headers: for tests and for debugging. A stream stays a stream: the first text leaves with its first piece,
            the last one with its end. The headers that describe the body as it came (`Content-Length`, `Content-Encoding`, `ETag`, `Last-Modified`) are dropped.
            """)
    {
        Example = """
            ```json
            {"echo": {"before_body": "before ", "body": "hello", "after_body": " after", "headers": {"X-Echo": "1"}}}
            ```

            Every answer is `before hello after`.
            """,
    };

    public sealed record Config(string? BeforeBody = null, string? Body = null, string? AfterBody = null, JsonObject? Headers = null);

    readonly byte[] _before = Encoding.UTF8.GetBytes(config.BeforeBody ?? "");
    readonly byte[] _after = Encoding.UTF8.GetBytes(config.AfterBody ?? "");
    readonly byte[]? _whole = config.Body is null ? null : Encoding.UTF8.GetBytes(config.BeforeBody + config.Body + config.AfterBody);

    public static JsonTypeInfo<Config> ConfigType => EchoJson.Default.Config;

    public static Echo Create(Config config, PluginContext context)
    {
        if (config.Headers is not { } given)
        {
            return new(config, HeaderChanges.None);
        }
        if (given.FirstOrDefault(static header => header.Value is not JsonValue).Key is not null)
        {
            throw new ConfigException("invalid type as header value");
        }
        try
        {
            // a header may have the name "set", too
            var changes = HeaderChanges.Parse(new() { ["set"] = given.DeepClone() });
            return changes.Written.FirstOrDefault(HopByHop.IsFraming) is { } framing
                ? throw new ConfigException($"header {framing} can not be set: the gateway frames answers itself")
                : new(config, changes);
        }
        catch (FormatException e) when (e is not ConfigException)
        {
            throw new ConfigException(e.Message);
        }
    }

    public void FilterHeaders(Exchange exchange)
    {
        var response = exchange.Response.Headers;
        response.Remove("Content-Encoding");
        response.Remove("ETag");
        response.Remove("Last-Modified");
        if (_whole is not null)
        {
            exchange.ReplacedBody = _whole;
        }
        headers.Apply(response, static value => value);
    }

    public IPieceFilter? OpenBody(Exchange exchange) => _whole is null ? new Pieces(this) : null;

    sealed class Pieces(Echo echo) : IPieceFilter
    {
        bool _begun;

        public void Filter(ReadOnlyMemory<byte> piece, bool last, IBufferWriter<byte> output)
        {
            if (!_begun)
            {
                _begun = true;
                output.Write(echo._before);
            }
            output.Write(piece.Span);
            if (last)
            {
                output.Write(echo._after);
            }
        }
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(Echo.Config))]
sealed partial class EchoJson : JsonSerializerContext;
