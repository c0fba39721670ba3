using System.Net.Security;
using System.Net.Sockets;
using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging;
using Sluice.Net;
using Sluice.Pipeline;

namespace Sluice.Plugins.Logging;

/// <summary>A host and a port that batches are sent to, each over a connection of its own or as a datagram.</summary>
sealed class SocketTarget(PluginContext context, TimeSpan timeout, bool isUdp)
{
    readonly TimeProvider _time = context.Services.Time;
    readonly ILogger _logger = context.Services.Loggers.CreateLogger<SocketTarget>();
    readonly string _host = (string)context.Config["host"]!;
    readonly int _port = Number(context.Config, "port", 0);
    readonly bool _tls = context.Config["tls"]?.GetValue<bool>() == true;
    readonly string? _serverName = (string?)context.Config["tls_options"];

    public static int Number(JsonObject config, string name, int otherwise) =>
        config[name] is { } value ? (int)value.AsValue().GetValue<double>() : otherwise;

    public async Task SendAsync(byte[] data, CancellationToken cancellation)
    {
        LogWarnings.Sending(_logger, $"{_host}:{_port}");
        using var patience = new CancellationTokenSource(timeout, _time);
        using var end = CancellationTokenSource.CreateLinkedTokenSource(patience.Token, cancellation);
        var (what, kind) = ("failed to connect to", isUdp ? "UDP" : "TCP");
        try
        {
            using var socket = isUdp ? new Socket(SocketType.Dgram, ProtocolType.Udp) : new Socket(SocketType.Stream, ProtocolType.Tcp);
            await socket.ConnectAsync(_host, _port, end.Token);
            if (isUdp)
            {
                what = "failed to send data to";
                await socket.SendAsync(data, end.Token);
                return;
            }
            await using Stream plain = new NetworkStream(socket, ownsSocket: false);
            await using var stream = _tls ? new SslStream(plain) : plain;
            if (stream is SslStream tls)
            {
                what = "failed to perform TLS handshake to";
                var options = new SslClientAuthenticationOptions { TargetHost = _serverName ?? _host };
                OutgoingTls.Unverified.Apply(options);
                await tls.AuthenticateAsClientAsync(options, end.Token);
            }
            what = "failed to send data to";
            await stream.WriteAsync(data, end.Token);
            await stream.FlushAsync(end.Token);
            socket.Shutdown(SocketShutdown.Send);
        }
        catch (Exception e)
            when (e is SocketException or IOException or OperationCanceledException
                or System.Security.Authentication.AuthenticationException)
        {
            var why = e is OperationCanceledException ? "timeout" : e is SocketException { SocketErrorCode: SocketError.ConnectionRefused }
                ? "connection refused" : e.Message;
            throw new IOException($"{what} {kind} server: host[{_host}] port[{_port}] err: {why}", e);
        }
    }
}
