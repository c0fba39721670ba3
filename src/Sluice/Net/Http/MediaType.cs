namespace Sluice.Net.Http;

/// <summary>Media types as Content-Type headers tell them (RFC 9110, section 8.3.1).</summary>
static class MediaType
{
    const string EventStream = "text/event-stream";

    /// <summary>Type and subtype, without parameters.</summary>
    public static ReadOnlySpan<char> Of(ReadOnlySpan<char> contentType)
    {
        var semicolon = contentType.IndexOf(';');
        return (semicolon < 0 ? contentType : contentType[..semicolon]).Trim();
    }

    public static bool Is(ReadOnlySpan<char> contentType, string type) => Of(contentType).Equals(type, StringComparison.OrdinalIgnoreCase);

    public static bool IsEventStream(ReadOnlySpan<char> contentType) => Is(contentType, EventStream);

    /// <summary>Whether bodies of this type are streams: unbuffered unless a rule says otherwise.</summary>
    public static bool IsStream(ReadOnlySpan<char> contentType)
    {
        var type = Of(contentType);
        return type.Equals(EventStream, StringComparison.OrdinalIgnoreCase)
            || type.Equals("application/x-ndjson", StringComparison.OrdinalIgnoreCase)
            || type.Equals("multipart/x-mixed-replace", StringComparison.OrdinalIgnoreCase)
            // application/grpc+proto and the like
            || type.StartsWith("application/grpc", StringComparison.OrdinalIgnoreCase);
    }
}
