using System.Buffers;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using System.Text;

namespace Sluice.Scripting;

enum ReceiveMode
{
    Bytes = 1,
    Line,
    All,
    Any,
    Until,
}

/// <summary>
/// A cosocket: a TCP (or Unix) connection of a script, or a UDP one; or the body of its request as it comes in. The kept connections of
/// <c>setkeepalive</c> are shared by all lanes.
/// </summary>
sealed class LuaSocket(LuaEngine engine)
{
    const int MaxReceive = 16 * 1024 * 1024;

    Socket? _socket;
    Stream? _stream;
    Stream? _body;
    Action<int>? _sent;
    byte[] _buffer = [];
    int _start;
    int _end;
    string? _key;
    bool _busy;

    /// <summary>The other side has ended it, and all that it sent has been taken.</summary>
    bool _ended;

    /// <summary>The client's connection: it has sent its last, and may still be sent to.</summary>
    bool _inputEnded;

    public TimeSpan ConnectTimeout { get; set; } = TimeSpan.FromSeconds(60);

    public TimeSpan SendTimeout { get; set; } = TimeSpan.FromSeconds(60);

    public TimeSpan ReadTimeout { get; set; } = TimeSpan.FromSeconds(60);

    public int ReusedTimes { get; private set; }

    public bool Datagram { get; set; }

    /// <summary>There is nothing to receive, now or ever.</summary>
    public bool HasEnded => (!IsOpen || _inputEnded) && _start == _end;

    public bool IsOpen => _stream is not null || (Datagram && _socket is not null);

    // -- Connect

    /// <param name="port">0: the host is <c>unix:</c> and a path.</param>
    public async ValueTask<object?[]> ConnectAsync(byte[] host, int port, byte[]? poolName, CancellationToken cancellation)
    {
        if (IsOpen)
        {
            Close();
        }
        var name = Encoding.UTF8.GetString(host);
        _key = poolName is null ? $"{name}:{port}" : Encoding.UTF8.GetString(poolName);
        if (!Datagram && KeptConnections.Of(engine).Take(_key) is { } kept)
        {
            (_socket, _stream, ReusedTimes) = (kept.Socket, kept.Stream, kept.Uses);
            return [1];
        }
        ReusedTimes = 0;
        using var limit = Limit(ConnectTimeout, cancellation);
        Socket? socket = null;
        try
        {
            EndPoint endPoint;
            if (port == 0 && name.StartsWith("unix:", StringComparison.Ordinal))
            {
                endPoint = new UnixDomainSocketEndPoint(name[5..]);
                socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            }
            else
            {
                var address = IPAddress.TryParse(name.Trim('[', ']'), out var literal)
                    ? literal
                    : (await engine.Resolver.ResolveAsync(name, limit.Token)).Next();
                endPoint = new IPEndPoint(address, port);
                socket = new Socket(address.AddressFamily, Datagram ? SocketType.Dgram : SocketType.Stream, Datagram
                    ? ProtocolType.Udp : ProtocolType.Tcp);
                if (!Datagram)
                {
                    socket.NoDelay = true;
                }
            }
            await socket.ConnectAsync(endPoint, limit.Token);
            (_socket, _stream) = (socket, Datagram ? null : new NetworkStream(socket, ownsSocket: false));
            return [1];
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            socket?.Dispose();
            return [null, "timeout"];
        }
        catch (SocketException e)
        {
            socket?.Dispose();
            return [null, port == 0 && e.SocketErrorCode == SocketError.AddressNotAvailable
                ? "no such file or directory" : Word(e.SocketErrorCode)];
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            socket?.Dispose();
            return [null, $"{name} could not be resolved (3: Host not found)"];
        }
    }

    /// <summary>Errors by the names that OpenResty has for them.</summary>
    static string Word(SocketError error) => error switch
    {
        SocketError.ConnectionRefused => "connection refused",
        SocketError.ConnectionReset => "connection reset by peer",
        SocketError.HostUnreachable => "no route to host",
        SocketError.NetworkUnreachable => "network is unreachable",
        SocketError.TimedOut => "timeout",
        SocketError.Shutdown or SocketError.ConnectionAborted => "broken pipe",
        SocketError.AddressNotAvailable => "cannot assign requested address",
        SocketError.HostNotFound => "host not found",
        _ => error.ToString().ToLowerInvariant(),
    };

    static string Word(IOException e) => e.InnerException is SocketException socket ? Word(socket.SocketErrorCode) : "closed";

    public async ValueTask<object?[]> HandshakeAsync(byte[]? serverName, bool verify, CancellationToken cancellation)
    {
        if (_stream is null)
        {
            return [null, "closed"];
        }
        if (_stream is SslStream)
        {
            return [true];
        }
        var tls = new SslStream(_stream, leaveInnerStreamOpen: false);
        using var limit = Limit(ConnectTimeout, cancellation);
        string? wrong = null;
        try
        {
            await tls.AuthenticateAsClientAsync(new SslClientAuthenticationOptions
            {
                TargetHost = serverName is null ? "" : Encoding.UTF8.GetString(serverName),
                RemoteCertificateValidationCallback = (_, _, chain, found) =>
                {
                    wrong = verify ? Word(found, chain) : null;
                    return wrong is null;
                },
            }, limit.Token);
            _stream = tls;
            return [true];
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            Close();
            return [null, "timeout"];
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            Close();
            return [null, wrong ?? "handshake failed"];
        }
    }

    /// <summary>What is wrong with a certificate, as OpenSSL numbers and names it; null: nothing.</summary>
    static string? Word(SslPolicyErrors found, X509Chain? chain)
    {
        if (found.HasFlag(SslPolicyErrors.RemoteCertificateChainErrors))
        {
            var status = chain?.ChainStatus.Aggregate(X509ChainStatusFlags.NoError, static (all, one) => all | one.Status) ?? default;
            return status.HasFlag(X509ChainStatusFlags.NotTimeValid) ? "10: certificate has expired"
                : chain?.ChainElements is [{ Certificate: var own }] && own.Subject == own.Issuer ? "18: self-signed certificate"
                : status.HasFlag(X509ChainStatusFlags.PartialChain) ? "20: unable to get local issuer certificate"
                : status.HasFlag(X509ChainStatusFlags.UntrustedRoot) ? "19: self-signed certificate in certificate chain"
                : "1: certificate verify failed";
        }
        return found.HasFlag(SslPolicyErrors.RemoteCertificateNotAvailable) ? "no certificate"
            : found.HasFlag(SslPolicyErrors.RemoteCertificateNameMismatch) ? "certificate host mismatch" : null;
    }

    // -- Options

    /// <param name="value">Null: it is only asked for.</param>
    /// <returns>The value it has; or why not.</returns>
    public (int Value, string? Error) Option(string name, int? value)
    {
        if (_socket is not { } socket)
        {
            return (0, "closed");
        }
        var (level, option) = name switch
        {
            "keepalive" => (SocketOptionLevel.Socket, SocketOptionName.KeepAlive),
            "reuseaddr" => (SocketOptionLevel.Socket, SocketOptionName.ReuseAddress),
            "tcp-nodelay" => (SocketOptionLevel.Tcp, SocketOptionName.NoDelay),
            "sndbuf" => (SocketOptionLevel.Socket, SocketOptionName.SendBuffer),
            _ => (SocketOptionLevel.Socket, SocketOptionName.ReceiveBuffer),
        };
        try
        {
            if (value is { } wanted)
            {
                socket.SetSocketOption(level, option, wanted);
            }
            return ((int)socket.GetSocketOption(level, option)!, null);
        }
        catch (SocketException e)
        {
            return (0, Word(e.SocketErrorCode));
        }
    }

    // -- Send

    public async ValueTask<object?[]> SendAsync(byte[] bytes, CancellationToken cancellation)
    {
        if (!IsOpen)
        {
            return [null, "closed"];
        }
        using var limit = Limit(SendTimeout, cancellation);
        try
        {
            if (Datagram)
            {
                await _socket!.SendAsync(bytes, limit.Token);
            }
            else
            {
                await _stream!.WriteAsync(bytes, limit.Token);
                _sent?.Invoke(bytes.Length);
            }
            return [bytes.Length];
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            Close();
            return [null, "timeout"];
        }
        catch (Exception e) when (e is IOException or SocketException or ObjectDisposedException)
        {
            Close();
            return [null, e is IOException io ? Word(io) : e is SocketException socket ? Word(socket.SocketErrorCode) : "closed"];
        }
    }

    // -- Receive

    /// <summary>What is there already: pushes and returns true, or there is too little and the script must wait.</summary>
    public bool TryReceive(LuaStack stack, ReceiveMode mode, int size)
    {
        var available = _buffer.AsSpan(_start, _end - _start);
        if (mode == ReceiveMode.Bytes && available.Length >= size && size > 0)
        {
            stack.Push(available[..size]);
            _start += size;
            return true;
        }
        if (mode == ReceiveMode.Line && available.IndexOf((byte)'\n') is >= 0 and var end)
        {
            stack.Push(Line(available[..end]));
            _start += end + 1;
            return true;
        }
        if (mode == ReceiveMode.Any && available.Length > 0)
        {
            var length = Math.Min(size, available.Length);
            stack.Push(available[..length]);
            _start += length;
            return true;
        }
        return false;
    }

    static ReadOnlySpan<byte> Line(ReadOnlySpan<byte> line) =>
        line.Contains((byte)'\r') ? line.ToArray().Where(b => b != '\r').ToArray() : line;

    /// <param name="size">Bytes wanted, or the most that may come.</param>
    public async ValueTask<object?[]> ReceiveAsync(ReceiveMode mode, int size, byte[]? pattern, bool inclusive,
        CancellationToken cancellation)
    {
        if (HasEnded)
        {
            return _ended && mode == ReceiveMode.All ? [""] : [null, "closed"];
        }
        if (_busy)
        {
            return [null, "socket busy reading"];
        }
        _busy = true;
        try
        {
            return Datagram
                ? await ReceiveDatagramAsync(size, cancellation)
                : await ReceivePiecesAsync(mode, size, pattern, inclusive, cancellation);
        }
        finally
        {
            _busy = false;
        }
    }

    async ValueTask<object?[]> ReceivePiecesAsync(ReceiveMode mode, int size, byte[]? pattern, bool inclusive,
        CancellationToken cancellation)
    {
        while (true)
        {
            if (Find(mode, size, pattern, inclusive, out var ended) is { } found)
            {
                return ended ? [found, true] : [found];
            }
            if (_end - _start >= MaxReceive)
            {
                return [null, "too much data", Rest()];
            }
            switch (await FillAsync(cancellation))
            {
                case null:
                    continue;
                case "closed" when mode == ReceiveMode.All:
                    EndInput();
                    _ended = true;
                    return [Rest()];
                case "timeout":
                    return [null, "timeout", Rest()];
                case var error:
                    EndInput();
                    return [null, error, Rest()];
            }
        }
    }

    /// <param name="ended">It is what comes before the pattern.</param>
    byte[]? Find(ReceiveMode mode, int size, byte[]? pattern, bool inclusive, out bool ended)
    {
        ended = false;
        var available = _buffer.AsSpan(_start, _end - _start);
        switch (mode)
        {
            case ReceiveMode.Bytes when available.Length >= size:
                return Take(size);
            case ReceiveMode.Any when available.Length > 0:
                return Take(Math.Min(size, available.Length));
            case ReceiveMode.Line when available.IndexOf((byte)'\n') is >= 0 and var end:
                return [.. Line(Take(end + 1).AsSpan(0, end))];
            case ReceiveMode.Until when available.IndexOf(pattern) is >= 0 and var at && (size == 0 || at < size):
                ended = true;
                var taken = Take(at + pattern!.Length);
                return inclusive ? taken : taken[..at];
            // in parts: what cannot be the beginning of the pattern may go
            case ReceiveMode.Until when size > 0 && (available.Length >= size + pattern!.Length || available.IndexOf(pattern) >= size):
                return Take(size);
            default:
                return null;
        }
    }

    byte[] Take(int count)
    {
        var taken = _buffer.AsSpan(_start, count).ToArray();
        _start += count;
        return taken;
    }

    byte[] Rest() => Take(_end - _start);

    /// <summary>Reads once; the error, or null.</summary>
    async ValueTask<string?> FillAsync(CancellationToken cancellation)
    {
        MakeRoom();
        if (_stream is null || _inputEnded)
        {
            return "closed";
        }
        try
        {
            using var limit = _socket?.Available > 0 ? null : Limit(ReadTimeout, cancellation);
            var count = await _stream.ReadAsync(_buffer.AsMemory(_end), limit?.Token ?? cancellation);
            _end += count;
            return count == 0 ? "closed" : null;
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            if (_stream is SslStream)
            {
                Close(); // its records cannot be read on from here
            }
            return "timeout";
        }
        catch (Exception e) when (e is IOException or SocketException or ObjectDisposedException)
        {
            return e is IOException io ? Word(io) : "closed";
        }
    }

    void MakeRoom()
    {
        if (_start == _end)
        {
            _start = _end = 0;
        }
        if (_buffer.Length - _end >= 1024)
        {
            return;
        }
        var kept = _end - _start;
        var target = kept + 1024 > _buffer.Length ? new byte[Math.Max(4096, _buffer.Length * 2)] : _buffer;
        _buffer.AsSpan(_start, kept).CopyTo(target);
        (_buffer, _start, _end) = (target, 0, kept);
    }

    async ValueTask<object?[]> ReceiveDatagramAsync(int size, CancellationToken cancellation)
    {
        using var limit = Limit(ReadTimeout, cancellation);
        var buffer = ArrayPool<byte>.Shared.Rent(65536);
        try
        {
            var count = await _socket!.ReceiveAsync(buffer.AsMemory(0, Math.Clamp(size, 1, 65536)), limit.Token);
            return [buffer.AsSpan(0, count).ToArray()];
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            return [null, "timeout"];
        }
        catch (SocketException e)
        {
            return [null, Word(e.SocketErrorCode)];
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    static CancellationTokenSource Limit(TimeSpan timeout, CancellationToken cancellation)
    {
        var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        if (timeout > TimeSpan.Zero)
        {
            limit.CancelAfter(timeout);
        }
        return limit;
    }

    // -- End

    /// <summary>Keeps the connection for the next one who connects to the same place; the error, or null.</summary>
    public string? Keep(TimeSpan idle, int poolSize)
    {
        if (_stream is null)
        {
            return "closed";
        }
        if (_start != _end)
        {
            return "unread data in buffer";
        }
        KeptConnections.Of(engine).Put(_key!, new(_socket!, _stream, ReusedTimes + 1), idle, poolSize);
        (_socket, _stream) = (null, null);
        return null;
    }

    /// <summary>The script wants nothing of it any more, what has come included.</summary>
    public void End()
    {
        Close();
        (_start, _end) = (0, 0);
    }

    public void Close()
    {
        var (socket, stream) = (_socket, _stream);
        (_socket, _stream, _ended) = (null, null, false);
        if (stream != _body)
        {
            stream?.Dispose();
        }
        socket?.Dispose();
    }

    void EndInput()
    {
        if (_sent is null)
        {
            Close();
        }
        _inputEnded = _sent is not null;
    }

    // -- The request's body, or its connection

    /// <param name="sent">Told how many bytes went out.</param>
    public void Take(Stream connection, Action<int> sent)
    {
        _stream = _body = connection;
        _sent = sent;
    }

    /// <summary>It is the request's body that is read from now on.</summary>
    /// <returns>What the script leaves of it, for whoever reads it next.</returns>
    public Stream Read(Stream body)
    {
        _stream = _body = body;
        return new LeftOver(this, body);
    }

    sealed class LeftOver(LuaSocket socket, Stream body) : Stream
    {
        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            var count = Math.Min(buffer.Length, socket._end - socket._start);
            if (count == 0)
            {
                return body.ReadAsync(buffer, cancellationToken);
            }
            socket._buffer.AsSpan(socket._start, count).CopyTo(buffer.Span);
            socket._start += count;
            return new(count);
        }

        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => false;

        public override long Length => throw new NotSupportedException();

        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        public override void Flush()
        {
        }

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
    }
}
