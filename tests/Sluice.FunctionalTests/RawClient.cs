using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.RegularExpressions;

namespace Sluice.FunctionalTests;

/// <summary>A connection to the gateway for bytes that no proper client would send. All of it ends after a minute.</summary>
sealed partial class RawClient : IDisposable
{
    readonly Socket _socket;
    readonly CancellationTokenSource _patience = new(TimeSpan.FromSeconds(60));
    string _received = "";

    RawClient(Socket socket) => _socket = socket;

    public static async Task<RawClient> ConnectAsync(IPEndPoint gateway)
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        await socket.ConnectAsync(gateway);
        return new(socket);
    }

    /// <summary>Sends on a connection of its own and gives the first answer.</summary>
    public static async Task<RawAnswer> AskAsync(IPEndPoint gateway, string latin1)
    {
        using var client = await ConnectAsync(gateway);
        await client.SendAsync(latin1);
        return await client.AnswerAsync();
    }

    /// <summary>Sends it all; <see cref="SocketException"/>: the other side takes no more.</summary>
    public async Task SendOrThrowAsync(string latin1)
    {
        ReadOnlyMemory<byte> bytes = Encoding.Latin1.GetBytes(latin1);
        while (!bytes.IsEmpty)
        {
            bytes = bytes[await _socket.SendAsync(bytes, _patience.Token)..];
        }
    }

    public async Task SendAsync(string latin1)
    {
        try
        {
            await SendOrThrowAsync(latin1);
        }
        catch (SocketException)
        {
            // it has answered already and does not want the rest
        }
    }

    /// <summary>The next answer, with its body when it has a length.</summary>
    public async Task<RawAnswer> AnswerAsync()
    {
        int end;
        while ((end = _received.IndexOf("\r\n\r\n", StringComparison.Ordinal)) < 0)
        {
            Assert.True(await ReceiveAsync(), $"the connection ended after \"{_received}\"");
        }
        var head = _received[..(end + 4)];
        var length = Length().Match(head) is { Success: true } match ? int.Parse(match.Groups[1].Value, CultureInfo.InvariantCulture) : 0;
        while (_received.Length < head.Length + length)
        {
            Assert.True(await ReceiveAsync(), "the connection ended in the body");
        }
        var body = _received.Substring(head.Length, length);
        _received = _received[(head.Length + length)..];
        return new(int.Parse(head.AsSpan(9, 3), CultureInfo.InvariantCulture), head, body);
    }

    /// <summary>Everything up to the end of the connection.</summary>
    public async Task<string> RestAsync()
    {
        while (await ReceiveAsync())
        {
        }
        return _received;
    }

    /// <summary>Up to and including these bytes, which have to come.</summary>
    public async Task<string> UntilAsync(string marker)
    {
        int at;
        while ((at = _received.IndexOf(marker, StringComparison.Ordinal)) < 0)
        {
            Assert.True(await ReceiveAsync(), $"the connection ended after \"{_received}\"");
        }
        var text = _received[..(at + marker.Length)];
        _received = _received[text.Length..];
        return text;
    }

    /// <summary>FIN; reading goes on.</summary>
    public void ShutdownSend() => _socket.Shutdown(SocketShutdown.Send);

    /// <summary>RST.</summary>
    public void Reset()
    {
        _socket.LingerState = new LingerOption(true, 0);
        _socket.Dispose();
    }

    async Task<bool> ReceiveAsync()
    {
        var buffer = new byte[16 * 1024];
        try
        {
            var count = await _socket.ReceiveAsync(buffer, _patience.Token);
            _received += Encoding.Latin1.GetString(buffer, 0, count);
            return count > 0;
        }
        catch (SocketException)
        {
            return false;
        }
    }

    public void Dispose()
    {
        _socket.Dispose();
        _patience.Dispose();
    }

    [GeneratedRegex(@"\r\ncontent-length: (\d+)\r\n", RegexOptions.IgnoreCase)]
    private static partial Regex Length();
}

sealed record RawAnswer(int Status, string Head, string Body);
