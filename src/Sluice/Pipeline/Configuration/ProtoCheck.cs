using Sluice.Model.Protobuf;

namespace Sluice.Pipeline;

/// <summary>Whether the content of a proto is one: the text of a .proto file, or a set of file descriptors in Base64 (<c>protoc
/// --descriptor_set_out</c>).</summary>
static class ProtoCheck
{
    /// <summary>The first error with its place, or null.</summary>
    public static string? Check(string content)
    {
        try
        {
            _ = ProtoSchema.Parse(content);
            return null;
        }
        catch (ProtoException e)
        {
            return e.Message;
        }
    }
}
