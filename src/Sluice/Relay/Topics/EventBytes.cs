using System.Text;

namespace Sluice.Relay.Topics;

/// <summary>Blocks of an event stream that the gateway writes itself.</summary>
internal static class EventBytes
{
    /// <summary>Tells that units are missing. It has no id line, which would move the client's position.</summary>
    public static byte[] Gap(string reason) => Encoding.UTF8.GetBytes($"event: gap\ndata: {{\"reason\":\"{reason}\"}}\n\n");

    /// <summary>The same, with the numbers of the first and the last unit that is missing.</summary>
    public static byte[] Gap(string reason, long from, long to) =>
        Encoding.UTF8.GetBytes(
            FormattableString.Invariant($"event: gap\ndata: {{\"reason\":\"{reason}\",\"from\":\"{from}\",\"to\":\"{to}\"}}\n\n"));

    /// <summary>An id alone: an EventSource keeps it and fires nothing. With an empty message it fires one.</summary>
    public static byte[] Prime(string stream, bool withMessage) =>
        Encoding.UTF8.GetBytes($"id: {stream}.0\n{(withMessage ? "data:\n" : "")}\n");

    /// <summary>A block without its id lines.</summary>
    internal static byte[] WithoutIds(ReadOnlySpan<byte> block)
    {
        var rest = new byte[block.Length];
        var length = 0;
        while (!block.IsEmpty)
        {
            var end = block.IndexOfAny((byte)'\r', (byte)'\n');
            var next = end < 0 ? block.Length : end + 1;
            if (end >= 0 && block[end] == '\r' && next < block.Length && block[next] == '\n')
            {
                next++;
            }
            var line = end < 0 ? block : block[..end];
            if (!line.StartsWith("id"u8) || (line.Length > 2 && line[2] != ':'))
            {
                block[..next].CopyTo(rest.AsSpan(length));
                length += next;
            }
            block = block[next..];
        }
        return rest[..length];
    }
}
