using System.Globalization;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Text;
using Sluice.Model;
using Sluice.Net;

namespace Sluice.Upstreams;

/// <summary>What came of one probe.</summary>
/// <param name="Status">Of an HTTP answer; null when there was none or none was asked for.</param>
/// <param name="IsTimeout">Failed by the clock and not by the network.</param>
readonly record struct ProbeResult(bool Succeeded, int? Status = null, bool IsTimeout = false);

/// <summary>One active check of one node on a connection of its own: connect, for https shake hands, for http(s) ask and read the status
/// line.</summary>
sealed class HealthProbe(ActiveCheckConfig config, Upstream upstream, HostResolver resolver, TimeProvider time)
{
    const int MaxStatusLine = 256;

    public async Task<ProbeResult> RunAsync(Node node, CancellationToken stopping)
    {
        using var timeout = new CancellationTokenSource(TimeSpan.FromSeconds(Math.Clamp(config.Timeout, 0.001, 3600)), time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(timeout.Token, stopping);
        try
        {
            var addresses = await resolver.ResolveAsync(node.Config.Host, either.Token);
            var address = addresses.Next();
            using var socket = new Socket(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
            await socket.ConnectAsync(address, config.Port ?? node.Port, either.Token);
            if (config.Type == "tcp")
            {
                return new(true);
            }
            await using Stream plain = new NetworkStream(socket);
            await using var stream = config.Type == "https" ? await SecureAsync(plain, node, either.Token) : plain;
            await stream.WriteAsync(Request(node), either.Token);
            return await ReadStatusAsync(stream, either.Token) is { } status ? new(true, status) : new(false);
        }
        catch (OperationCanceledException) when (!stopping.IsCancellationRequested)
        {
            return new(false, IsTimeout: true);
        }
        catch (Exception e) when (e is SocketException or IOException or AuthenticationException or UpstreamException)
        {
            return new(false);
        }
    }

    /// <summary>Host header: the check's, else what requests of clients have there as far as it is known without one, else the
    /// node.</summary>
    string HostOf(Node node) => config.Host
        ?? (upstream.Config.PassHost == "rewrite" ? upstream.Config.UpstreamHost : null)
        ?? node.HostName;

    async Task<Stream> SecureAsync(Stream plain, Node node, CancellationToken cancellation)
    {
        var stream = new SslStream(plain);
        var options = new SslClientAuthenticationOptions
        {
            TargetHost = HostOf(node),
            ClientCertificateContext = upstream.ClientCertificate?.Context,
            CertificateChainPolicy = upstream.Roots?.Policy(),
        };
        if (!config.VerifyCertificate)
        {
#pragma warning disable CA5359 // https_verify_certificate: false
            options.RemoteCertificateValidationCallback = static (_, _, _, _) => true;
#pragma warning restore CA5359
        }
        await stream.AuthenticateAsClientAsync(options, cancellation);
        return stream;
    }

    byte[] Request(Node node)
    {
        var request = new StringBuilder($"{config.HttpMethod} {config.HttpPath} HTTP/1.0\r\n");
        foreach (var header in config.RequestHeaders)
        {
            request.Append(header).Append("\r\n");
        }
        return Encoding.Latin1.GetBytes(request.Append(CultureInfo.InvariantCulture, $"Host: {HostOf(node)}\r\n\r\n").ToString());
    }

    /// <summary>The status of <c>HTTP/1.1 200 OK</c>; null when that is not what came.</summary>
    static async Task<int?> ReadStatusAsync(Stream stream, CancellationToken cancellation)
    {
        var buffer = new byte[MaxStatusLine];
        var length = 0;
        while (length < buffer.Length && buffer.AsSpan(0, length).IndexOf((byte)'\n') < 0)
        {
            var read = await stream.ReadAsync(buffer.AsMemory(length), cancellation);
            if (read == 0)
            {
                break;
            }
            length += read;
        }
        var line = Encoding.Latin1.GetString(buffer, 0, length);
        return line.StartsWith("HTTP/1.", StringComparison.Ordinal) && line.Length >= 12 && line[8] == ' '
            && int.TryParse(line.AsSpan(9, 3), NumberStyles.None, CultureInfo.InvariantCulture, out var status)
                ? status
                : null;
    }
}
