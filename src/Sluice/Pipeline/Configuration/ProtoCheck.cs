extern alias ProtobufNet;

using ProtobufNet::Google.Protobuf.Reflection;
using ProtobufNet::ProtoBuf.Reflection;
using WellKnown = Google.Protobuf.Reflection.FileDescriptorSet;

namespace Sluice.Pipeline;

/// <summary>Whether the content of a proto is one: the text of a .proto file, or a set of file descriptors in Base64 (<c>protoc --descriptor_set_out</c>).</summary>
static class ProtoCheck
{
    const int MaxDepth = 64;

    /// <summary>The first error with its place, or null.</summary>
    public static string? Check(string content) =>
        IsDescriptorSet(content) ? null
        : IsTooDeep(content) ? $"more than {MaxDepth} levels of blocks"
        : CheckText(content);

    /// <summary>The parser goes down a level with each; braces in comments and texts count, too.</summary>
    static bool IsTooDeep(string content)
    {
        var depth = 0;
        foreach (var c in content)
        {
            depth += c switch { '{' or '[' or '<' or '(' => 1, '}' or ']' or '>' or ')' => -1, _ => 0 };
            if (depth > MaxDepth)
            {
                return true;
            }
        }
        return false;
    }

    static string? CheckText(string content)
    {
        // nothing is read from the disk; what Google ships with protobuf is known
        var set = new FileDescriptorSet { ImportValidator = static path => path.StartsWith("google/", StringComparison.Ordinal) };
        using var text = new StringReader(content);
        try
        {
            set.Add("content", includeInOutput: true, source: text);
            set.Process();
        }
        catch (Exception e) when (e is ArgumentException or FormatException or InvalidOperationException or OverflowException or NotSupportedException or KeyNotFoundException)
        {
            return e.Message.ReplaceLineEndings(" ");
        }
        return Array.Find(set.GetErrors(), error => error.IsError) is { } wrong ? $"line {wrong.LineNumber}, column {wrong.ColumnNumber}: {wrong.Message}" : null;
    }

    static bool IsDescriptorSet(string content)
    {
        var bytes = new byte[content.Length];
        if (!Convert.TryFromBase64String(content, bytes, out var length) || length == 0)
        {
            return false;
        }
        try
        {
            return WellKnown.Parser.ParseFrom(bytes, 0, length).File.Count > 0;
        }
        catch (Google.Protobuf.InvalidProtocolBufferException)
        {
            return false;
        }
    }
}
