using System.Buffers;
using System.Formats.Asn1;
using System.Net.Security;
using System.Net.Sockets;
using System.Text;

namespace Sluice.Net;

/// <summary>Asks a directory whether a password is an entry's: LDAP's simple bind (RFC 4511, section 4.2), on a connection of its
/// own.</summary>
/// <param name="useTls">TLS from the first byte (LDAPS).</param>
/// <param name="verify">The directory's certificate must be valid for its name.</param>
sealed class LdapBind(string host, int port, bool useTls, bool verify, TimeProvider time)
{
    /// <summary>A bind's answer is a few dozen bytes.</summary>
    const int MaxAnswer = 64 * 1024;

    static readonly TimeSpan s_limit = TimeSpan.FromSeconds(10);

    static readonly Asn1Tag s_bindRequest = new(TagClass.Application, 0, isConstructed: true);
    static readonly Asn1Tag s_bindResponse = new(TagClass.Application, 1, isConstructed: true);
    static readonly Asn1Tag s_unbindRequest = new(TagClass.Application, 2);
    static readonly Asn1Tag s_simple = new(TagClass.ContextSpecific, 0);

    /// <returns>Null: it is; otherwise what the directory says.</returns>
    /// <exception cref="IOException">The directory cannot be asked.</exception>
    public async Task<string?> TryAsync(string name, string password, CancellationToken cancellation)
    {
        // a bind without a password is anonymous, and succeeds (RFC 4513, section 5.1.2)
        if (password.Length == 0)
        {
            return "the password is empty";
        }
        using var end = new CancellationTokenSource(s_limit, time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(end.Token, cancellation);
        try
        {
            using var client = new TcpClient();
            await client.ConnectAsync(host, port, either.Token);
            await using var stream = useTls ? await SecureAsync(client.GetStream(), either.Token) : client.GetStream();
            await stream.WriteAsync(Message(1, writer => WriteBind(writer, name, password)), either.Token);
            var error = ReadAnswer(await ReadMessageAsync(stream, either.Token));
            await stream.WriteAsync(Message(2, static writer => writer.WriteNull(s_unbindRequest)), either.Token);
            return error;
        }
        catch (OperationCanceledException) when (end.IsCancellationRequested)
        {
            throw new IOException("timeout");
        }
        catch (Exception e) when (e is SocketException or AsnContentException or System.Security.Authentication.AuthenticationException)
        {
            throw new IOException(e.Message, e);
        }
    }

    async Task<Stream> SecureAsync(Stream stream, CancellationToken cancellation)
    {
        var secure = new SslStream(stream);
        var options = new SslClientAuthenticationOptions { TargetHost = host };
        if (!verify)
        {
            // the configuration says so
#pragma warning disable CA5359
            options.RemoteCertificateValidationCallback = static (_, _, _, _) => true;
#pragma warning restore CA5359
        }
        await secure.AuthenticateAsClientAsync(options, cancellation);
        return secure;
    }

    static byte[] Message(int id, Action<AsnWriter> write)
    {
        var writer = new AsnWriter(AsnEncodingRules.BER);
        using (writer.PushSequence())
        {
            writer.WriteInteger(id);
            write(writer);
        }
        return writer.Encode();
    }

    static void WriteBind(AsnWriter writer, string name, string password)
    {
        using (writer.PushSequence(s_bindRequest))
        {
            writer.WriteInteger(3);
            writer.WriteOctetString(Encoding.UTF8.GetBytes(name));
            writer.WriteOctetString(Encoding.UTF8.GetBytes(password), s_simple);
        }
    }

    static async Task<ReadOnlyMemory<byte>> ReadMessageAsync(Stream stream, CancellationToken cancellation)
    {
        var buffer = new ArrayBufferWriter<byte>();
        while (buffer.WrittenCount <= MaxAnswer)
        {
            var read = await stream.ReadAsync(buffer.GetMemory(512), cancellation);
            if (read == 0)
            {
                throw new IOException("the directory closed the connection");
            }
            buffer.Advance(read);
            if (AsnDecoder.TryReadEncodedValue(buffer.WrittenSpan, AsnEncodingRules.BER, out _, out _, out _, out var length)
                && length <= buffer.WrittenCount)
            {
                return buffer.WrittenMemory;
            }
        }
        throw new IOException("the directory's answer is too long");
    }

    static string? ReadAnswer(ReadOnlyMemory<byte> message)
    {
        var content = new AsnReader(message, AsnEncodingRules.BER).ReadSequence();
        _ = content.ReadIntegerBytes();
        var answer = content.ReadSequence(s_bindResponse);
        var code = answer.ReadEnumeratedBytes().Span;
        _ = answer.ReadOctetString();
        var text = Encoding.UTF8.GetString(answer.ReadOctetString());
        return code is [0] ? null : $"result {Convert.ToHexString(code)} {text}";
    }
}
