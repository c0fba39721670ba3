using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Sluice.FunctionalTests;

/// <summary>Speaks HTTP/2 frame by frame and octet by octet, so that a request can be what no client library would send.</summary>
static class RawHttp2
{
    public const byte EndStream = 1, EndHeaders = 4;

    public static byte[] Preface { get; } = [.. "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"u8, .. Frame(4, 0, 0)];

    public static byte[] Frame(byte type, byte flags, int stream, params byte[] payload)
    {
        var frame = new byte[9 + payload.Length];
        BinaryPrimitives.WriteUInt16BigEndian(frame.AsSpan(1), (ushort)payload.Length);
        (frame[3], frame[4]) = (type, flags);
        BinaryPrimitives.WriteInt32BigEndian(frame.AsSpan(5), stream);
        payload.CopyTo(frame, 9);
        return frame;
    }

    public static async Task<Socket> ConnectAsync(IPEndPoint gateway)
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        await socket.ConnectAsync(gateway);
        await socket.SendAsync(Preface);
        return socket;
    }

    /// <summary>The status and the body of the answer to one request without a body, on a connection of its own; 0 when the stream or the
    /// connection was ended instead.</summary>
    /// <param name="fields">Names and values, a character an octet.</param>
    public static async Task<(int Status, string Body)> AskAsync(IPEndPoint gateway, params (string Name, string Value)[] fields)
    {
        using var socket = await ConnectAsync(gateway);
        await socket.SendAsync(Frame(1, EndStream | EndHeaders, 1, [.. fields.SelectMany(field => Literal(field.Name, field.Value))]));
        await using var stream = new NetworkStream(socket);
        var head = new byte[9];
        var (status, body) = (0, "");
        try
        {
            while (true)
            {
                await stream.ReadExactlyAsync(head);
                var payload = new byte[(head[0] << 16) | (head[1] << 8) | head[2]];
                await stream.ReadExactlyAsync(payload);
                switch (head[3])
                {
                    case 0:
                        body += Encoding.Latin1.GetString(payload);
                        break;
                    case 1 when status == 0:
                        status = Status(payload);
                        break;
                    case 3 or 7:
                        return (0, body);
                }
                if (head[3] is 0 or 1 && (head[4] & EndStream) != 0)
                {
                    return (status, body);
                }
            }
        }
        catch (IOException)
        {
            return (0, body);
        }
    }

    /// <summary>A head without its stream's end.</summary>
    public static byte[] Head(int stream, params (string Name, string Value)[] fields) =>
        Frame(1, EndHeaders, stream, [.. fields.SelectMany(field => Literal(field.Name, field.Value))]);

    /// <summary>The next frame: type, flags, stream and what is in it.</summary>
    public static async Task<(byte Type, byte Flags, int Stream, byte[] Payload)> ReadAsync(Stream connection)
    {
        var head = new byte[9];
        await connection.ReadExactlyAsync(head);
        var payload = new byte[(head[0] << 16) | (head[1] << 8) | head[2]];
        await connection.ReadExactlyAsync(payload);
        return (head[3], head[4], BinaryPrimitives.ReadInt32BigEndian(head.AsSpan(5)), payload);
    }

    /// <summary>A field that is not to be indexed, with a name of its own.</summary>
    static byte[] Literal(string name, string value) =>
        [0, (byte)name.Length, .. Encoding.Latin1.GetBytes(name), (byte)value.Length, .. Encoding.Latin1.GetBytes(value)];

    /// <summary>The first field of a response: of HPACK's table, or three digits.</summary>
    static int Status(byte[] block) => block[0] switch
    {
        0x88 => 200,
        0x89 => 204,
        0x8a => 206,
        0x8b => 304,
        0x8c => 400,
        0x8d => 404,
        0x8e => 500,
        _ => int.Parse(block.AsSpan(2, 3), System.Globalization.CultureInfo.InvariantCulture),
    };
}
