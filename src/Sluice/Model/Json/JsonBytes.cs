using System.Buffers;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Sluice.Model.Json;

/// <summary>JSON as it is stored and answered: compact, nothing escaped that JSON does not ask for.</summary>
internal static class JsonBytes
{
    static readonly JsonWriterOptions Options = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <param name="ending">Follows the JSON: APISIX ends its answers with a line break.</param>
    public static ReadOnlyMemory<byte> Write(Action<Utf8JsonWriter> write, ReadOnlySpan<byte> ending = default)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using (var writer = new Utf8JsonWriter(buffer, Options))
        {
            write(writer);
        }
        buffer.Write(ending);
        return buffer.WrittenMemory;
    }

    public static string Text(JsonNode value) => Encoding.UTF8.GetString(Write(writer => value.WriteTo(writer)).Span);
}
