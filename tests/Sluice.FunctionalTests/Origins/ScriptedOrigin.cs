using System.Collections.Concurrent;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;

namespace Sluice.FunctionalTests.Origins;

/// <summary>
/// An upstream on 127.0.0.1, port 0, that does exactly what a script says, byte by byte: for everything that a proper server would never
/// do. The first connection runs the first script, the second the second …; the last script serves all further ones.
/// When a script returns, its connection is closed with FIN. A failed expectation of a script makes <see cref="DisposeAsync"/> throw.
/// <code>
/// await using var origin = ScriptedOrigin.Start(async connection =>
/// {
///     await connection.ReadHeadAsync();
///     await connection.SendAsync("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel");
///     connection.Reset();
/// });
/// </code>
/// </summary>
public sealed class ScriptedOrigin : IAsyncDisposable
{
    readonly Socket listener = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
    readonly Func<OriginConnection, Task>[] scripts;
    readonly X509Certificate2? certificate;
    readonly ConcurrentBag<OriginConnection> connections = [];
    readonly ConcurrentBag<Exception> failures = [];
    readonly ConcurrentBag<Task> running = [];
    readonly CancellationTokenSource stopping = new();
    readonly Task accepting;
    int accepted;

    ScriptedOrigin(X509Certificate2? certificate, Func<OriginConnection, Task>[] scripts)
    {
        this.certificate = certificate;
        this.scripts = scripts;
        listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        listener.Listen(512);
        accepting = AcceptAsync();
    }

    public static ScriptedOrigin Start(params Func<OriginConnection, Task>[] scripts) => new(null, scripts);

    /// <summary>The same over TLS; <see cref="SelfSigned"/> makes a certificate.</summary>
    public static ScriptedOrigin StartTls(X509Certificate2 certificate, params Func<OriginConnection, Task>[] scripts) =>
        new(certificate, scripts);

    public IPEndPoint EndPoint => (IPEndPoint)listener.LocalEndPoint!;

    public int Port => EndPoint.Port;

    /// <summary>How many connections were accepted so far.</summary>
    public int Accepted => Volatile.Read(ref accepted);

    public static X509Certificate2 SelfSigned(string name)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest($"CN={name}", key, HashAlgorithmName.SHA256);
        var names = new SubjectAlternativeNameBuilder();
        names.AddDnsName(name);
        request.CertificateExtensions.Add(names.Build());
        var now = TimeProvider.System.GetUtcNow();
        return request.CreateSelfSigned(now.AddDays(-1), now.AddDays(7));
    }

    async Task AcceptAsync()
    {
        while (!stopping.IsCancellationRequested)
        {
            Socket socket;
            try
            {
                socket = await listener.AcceptAsync(stopping.Token);
            }
            catch (Exception error) when (error is OperationCanceledException or SocketException or ObjectDisposedException)
            {
                return;
            }
            socket.NoDelay = true;
            var number = Interlocked.Increment(ref accepted);
            var connection = new OriginConnection(socket, number, stopping.Token);
            connections.Add(connection);
            running.Add(RunAsync(connection, scripts[Math.Min(number, scripts.Length) - 1]));
        }
    }

    async Task RunAsync(OriginConnection connection, Func<OriginConnection, Task> script)
    {
        try
        {
            if (certificate is not null)
            {
                await connection.SecureAsync(certificate);
            }
            await script(connection);
        }
        catch (Exception error) when (error is IOException or SocketException or ObjectDisposedException
            or OperationCanceledException or System.Security.Authentication.AuthenticationException)
        {
            // the other side left, or the origin is being stopped: scripts that care look for it themselves
        }
        catch (Exception error)
        {
            failures.Add(error);
        }
        finally
        {
            connection.Close();
        }
    }

    /// <summary>Stops, and throws what a script expected and did not get.</summary>
    public async ValueTask DisposeAsync()
    {
        await stopping.CancelAsync();
        listener.Dispose();
        await accepting;
        foreach (var connection in connections)
        {
            connection.Close();
        }
        await EndAsync();
        if (!failures.IsEmpty)
        {
            throw new AggregateException("a script of the origin failed", failures);
        }
    }

    /// <summary>A script that waits for the test, which has failed and never comes, is left where it is.</summary>
    async Task EndAsync()
    {
        try
        {
            await Task.WhenAll(running).WaitAsync(TimeSpan.FromSeconds(30));
        }
        catch (TimeoutException)
        {
            failures.Add(new TimeoutException("a script of the origin waits for something that does not come"));
        }
    }
}

/// <summary>One accepted connection in the hands of a script. Every wait ends after half a minute with an exception.</summary>
public sealed class OriginConnection(Socket socket, int number, CancellationToken stopping) : IDisposable
{
    static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);
    readonly List<byte> received = [];
    Stream stream = new NetworkStream(socket, ownsSocket: false);

    /// <summary>1 for the first connection of the origin.</summary>
    public int Number => number;

    internal async Task SecureAsync(X509Certificate2 certificate)
    {
        var tls = new SslStream(stream);
        await tls.AuthenticateAsServerAsync(new SslServerAuthenticationOptions { ServerCertificate = certificate }, stopping);
        stream = tls;
    }

    /// <summary>Bytes up to and including <paramref name="marker"/>, as Latin-1. Throws <see cref="EndOfStreamException"/> when the end
    /// comes first.</summary>
    public async Task<string> ReadUntilAsync(string marker)
    {
        var wanted = Encoding.Latin1.GetBytes(marker);
        var searched = 0;
        while (true)
        {
            var at = System.Runtime.InteropServices.CollectionsMarshal.AsSpan(received)[searched..].IndexOf(wanted);
            if (at >= 0)
            {
                return Take(searched + at + wanted.Length);
            }
            searched = Math.Max(0, received.Count - wanted.Length + 1);
            if (!await ReceiveAsync())
            {
                throw new EndOfStreamException($"the end came before \"{marker}\"");
            }
        }
    }

    /// <summary>A request's head, including the empty line.</summary>
    public Task<string> ReadHeadAsync() => ReadUntilAsync("\r\n\r\n");

    /// <summary>Exactly <paramref name="count"/> bytes, as Latin-1.</summary>
    public async Task<string> ReadAsync(int count)
    {
        while (received.Count < count)
        {
            if (!await ReceiveAsync())
            {
                throw new EndOfStreamException($"the end came after {received.Count} of {count} bytes");
            }
        }
        return Take(count);
    }

    /// <summary>What has been received and not been taken yet.</summary>
    public string TakeAll(int most = int.MaxValue) => Take(Math.Min(received.Count, most));

    /// <summary>The next bytes must be exactly these.</summary>
    public async Task ExpectAsync(string bytes) => Assert.Equal(bytes, await ReadAsync(bytes.Length));

    /// <summary>Waits until the other side ends; false when it ended with RST. Bytes that come before it are thrown away.</summary>
    public async Task<bool> ReadEndAsync()
    {
        try
        {
            while (await ReceiveAsync())
            {
                received.Clear();
            }
            return true;
        }
        catch (IOException)
        {
            return false;
        }
    }

    public Task SendAsync(string latin1) => SendAsync(Encoding.Latin1.GetBytes(latin1));

    public async Task SendAsync(ReadOnlyMemory<byte> bytes, TimeSpan? patience = null)
    {
        using var wait = Wait(patience);
        await stream.WriteAsync(bytes, wait.Token);
    }

    /// <summary>One byte per segment.</summary>
    public async Task DripAsync(string latin1)
    {
        foreach (var letter in latin1)
        {
            await SendAsync(new[] { (byte)letter });
            await Task.Yield();
        }
    }

    /// <summary>Neither reads nor sends nor closes until the origin is disposed.</summary>
    public Task StallAsync() => Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, stopping);

    /// <summary>Half-close: FIN now, reading goes on.</summary>
    public void ShutdownSend() => socket.Shutdown(SocketShutdown.Send);

    /// <summary>TLS close_notify, as a proper server ends a stream.</summary>
    public Task SayGoodbyeAsync() => stream is SslStream tls ? tls.ShutdownAsync() : Task.CompletedTask;

    /// <summary>RST.</summary>
    public void Reset()
    {
        socket.LingerState = new LingerOption(true, 0);
        socket.Dispose();
    }

    /// <summary>FIN (the kernel makes it RST when received bytes were never read). No TLS close_notify.</summary>
    public void Close() => socket.Dispose();

    public void Dispose()
    {
        socket.Dispose();
        stream.Dispose();
    }

    async Task<bool> ReceiveAsync()
    {
        using var patience = Wait();
        var buffer = new byte[16 * 1024];
        var count = await stream.ReadAsync(buffer, patience.Token);
        received.AddRange(buffer.AsSpan(0, count));
        return count > 0;
    }

    string Take(int count)
    {
        var text = Encoding.Latin1.GetString(System.Runtime.InteropServices.CollectionsMarshal.AsSpan(received)[..count]);
        received.RemoveRange(0, count);
        return text;
    }

    CancellationTokenSource Wait(TimeSpan? patience = null)
    {
        var source = CancellationTokenSource.CreateLinkedTokenSource(stopping);
        source.CancelAfter(patience ?? Patience);
        return source;
    }
}
