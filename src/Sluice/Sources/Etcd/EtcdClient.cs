using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using Grpc.Core;
using Grpc.Net.Client;
using Sluice.Model.Settings;
using Sluice.Net;
using Sluice.Sources.Etcd.Wire;

namespace Sluice.Sources.Etcd;

/// <summary>No endpoint of etcd answers. The message names each with its reason.</summary>
internal sealed class EtcdUnavailableException(string message) : StoreException(message);

/// <summary>
/// Calls to etcd's v3 interface: to the endpoint that answered last, and when it does not, to the others in turn. Logs in where a user is
/// configured.
/// </summary>
sealed class EtcdClient : IDisposable
{
    /// <summary>One answer; ResourceStore lists in pages far below it.</summary>
    const int LargestAnswer = 256 << 20;

    static readonly TimeSpan LongestConnect = TimeSpan.FromSeconds(5);

    readonly EtcdSettings _settings;
    readonly TimeProvider _time;
    readonly Endpoint[] _endpoints;
    readonly SemaphoreSlim _loggingIn = new(1, 1);
    volatile int _preferred;
    volatile string? _token;

    public EtcdClient(EtcdSettings settings, TimeProvider time)
    {
        (_settings, _time) = (settings, time);
        _endpoints = [.. settings.Hosts.Select(host => new Endpoint(host, Channel(host, settings)))];
    }

    public sealed class Endpoint(Uri address, GrpcChannel channel)
    {
        public Uri Address { get; } = address;

        public GrpcChannel Channel { get; } = channel;

        public KV.KVClient Keys { get; } = new(channel);

        public Wire.Watch.WatchClient Watches { get; } = new(channel);

        public Lease.LeaseClient Leases { get; } = new(channel);

        public Auth.AuthClient Auth { get; } = new(channel);
    }

    /// <summary>A call at the first endpoint that answers.</summary>
    /// <exception cref="EtcdUnavailableException">None does.</exception>
    /// <exception cref="StoreException">etcd answered that it will not.</exception>
    public Task<T> CallAsync<T>(Func<Endpoint, CallOptions, AsyncUnaryCall<T>> call, CancellationToken cancel) =>
        AtSomeEndpointAsync(async (endpoint, headers) =>
            await call(endpoint, new CallOptions(headers, Deadline(), cancel)).ResponseAsync, cancel);

    /// <summary>Does something at the first endpoint that lets it; one that cannot be reached is asked again only after the
    /// others.</summary>
    public async Task<T> AtSomeEndpointAsync<T>(Func<Endpoint, Metadata, Task<T>> act, CancellationToken cancel)
    {
        var first = _preferred;
        var reasons = new List<string>();
        for (var i = 0; i < _endpoints.Length; i++)
        {
            var index = (first + i) % _endpoints.Length;
            var endpoint = _endpoints[index];
            try
            {
                var result = await WithLoginAsync(endpoint, act, cancel);
                _preferred = index;
                return result;
            }
            catch (RpcException e) when (IsAway(e))
            {
                cancel.ThrowIfCancellationRequested();
                reasons.Add($"{endpoint.Address.GetLeftPart(UriPartial.Authority)}: {Reason(e)}");
            }
            catch (RpcException e)
            {
                cancel.ThrowIfCancellationRequested();
                throw new StoreException($"etcd at {endpoint.Address.GetLeftPart(UriPartial.Authority)} refused: {e.Status.Detail}", e);
            }
        }
        throw new EtcdUnavailableException($"etcd is not reachable ({string.Join("; ", reasons)})");
    }

    async Task<T> WithLoginAsync<T>(Endpoint endpoint, Func<Endpoint, Metadata, Task<T>> act, CancellationToken cancel)
    {
        var token = _token ?? await LogInAsync(endpoint, null, cancel);
        try
        {
            return await act(endpoint, Headers(token));
        }
        catch (RpcException e) when (_settings.User is not null && IsTokenGone(e))
        {
            return await act(endpoint, Headers(await LogInAsync(endpoint, token, cancel)));
        }
    }

    /// <summary>Null where no user is configured.</summary>
    /// <param name="old">The token that no longer does.</param>
    async Task<string?> LogInAsync(Endpoint endpoint, string? old, CancellationToken cancel)
    {
        if (_settings.User is not { } user)
        {
            return null;
        }
        await _loggingIn.WaitAsync(cancel);
        try
        {
            if (_token == old || _token is null)
            {
                var answer = await endpoint.Auth.AuthenticateAsync(
                    new AuthenticateRequest { Name = user, Password = _settings.Password ?? "" }, deadline: Deadline(),
                    cancellationToken: cancel);
                _token = answer.Token;
            }
            return _token;
        }
        finally
        {
            _loggingIn.Release();
        }
    }

    static Metadata Headers(string? token)
    {
        // without it a member that lost the others would go on watching in silence
        var headers = new Metadata { { "hasleader", "true" } };
        if (token is not null)
        {
            headers.Add("token", token);
        }
        return headers;
    }

    DateTime Deadline() => _time.GetUtcNow().UtcDateTime + _settings.Timeout;

    static bool IsAway(RpcException e) => e.StatusCode is StatusCode.Unavailable or StatusCode.DeadlineExceeded or StatusCode.Internal
        or StatusCode.Cancelled or StatusCode.Unknown or StatusCode.Aborted;

    static bool IsTokenGone(RpcException e) =>
        e.StatusCode == StatusCode.Unauthenticated || e.Status.Detail.Contains("invalid auth token", StringComparison.Ordinal)
        || e.Status.Detail.Contains("revision of auth store is old", StringComparison.Ordinal);

    static string Reason(RpcException e)
    {
        Exception innermost = e;
        while ((innermost.InnerException ?? (innermost as RpcException)?.Status.DebugException) is { } inner)
        {
            innermost = inner;
        }
        return (e.StatusCode, innermost) switch
        {
            (StatusCode.DeadlineExceeded, _) or (_, OperationCanceledException or TimeoutException) => "no answer in time",
            (_, SocketException { SocketErrorCode: SocketError.ConnectionRefused }) => "connection refused",
            (_, SocketException { SocketErrorCode: SocketError.HostNotFound or SocketError.NoData or SocketError.TryAgain }) =>
                "no such host",
            (_, SocketException { SocketErrorCode: SocketError.TimedOut }) => "no answer in time",
            (_, SocketException { SocketErrorCode: var code }) => $"no connection ({code})",
            (_, System.Security.Authentication.AuthenticationException) => "no TLS with it: its certificate is not accepted, or ours",
            (_, HttpProtocolException or HttpRequestException or IOException) => "it closed the connection, or speaks no HTTP/2",
            (_, RpcException rpc) when !rpc.Status.Detail.StartsWith("Error starting gRPC call", StringComparison.Ordinal) =>
                rpc.Status.Detail,
            _ => "the call failed",
        };
    }

    static GrpcChannel Channel(Uri host, EtcdSettings settings)
    {
        var ping = TimeSpan.FromSeconds(Math.Clamp(settings.Timeout.TotalSeconds, 1, 5));
        var handler = OutgoingHttp.Handler();
        handler.ConnectTimeout = settings.Timeout < LongestConnect ? settings.Timeout : LongestConnect;
        // a peer that vanished without a word is noticed
        handler.KeepAlivePingDelay = ping;
        handler.KeepAlivePingTimeout = ping;
        handler.KeepAlivePingPolicy = HttpKeepAlivePingPolicy.WithActiveRequests;
        handler.EnableMultipleHttp2Connections = true;
        if (host.Scheme == Uri.UriSchemeHttps)
        {
            handler.SslOptions = Ssl(settings);
        }
        var address = host;
        if (settings.ServerName is { } name && host.Scheme == Uri.UriSchemeHttps)
        {
            // the handler takes SNI from the address
            address = new UriBuilder(host) { Host = name }.Uri;
            handler.ConnectCallback = (_, cancel) => ConnectAsync(host, cancel);
        }
        return GrpcChannel.ForAddress(address, new GrpcChannelOptions
        {
            HttpHandler = handler,
            DisposeHttpClient = true,
            MaxReceiveMessageSize = LargestAnswer,
            MaxSendMessageSize = null,
            MaxRetryAttempts = 1,
        });
    }

    static async ValueTask<Stream> ConnectAsync(Uri host, CancellationToken cancel)
    {
        var socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        try
        {
            await socket.ConnectAsync(host.DnsSafeHost, host.Port, cancel);
            return new NetworkStream(socket, ownsSocket: true);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    static SslClientAuthenticationOptions Ssl(EtcdSettings settings)
    {
        var options = new SslClientAuthenticationOptions();
        if (settings.Certificate is var (certificate, key))
        {
            options.ClientCertificates = [X509Certificate2.CreateFromPemFile(certificate, key)];
        }
        if (!settings.Verify)
        {
#pragma warning disable CA5359 // tls.verify: false asks for it
            options.RemoteCertificateValidationCallback = static (_, _, _, _) => true;
#pragma warning restore CA5359
        }
        else if (settings.TrustedCaFile is { } file)
        {
            options.CertificateChainPolicy = new X509ChainPolicy { TrustMode = X509ChainTrustMode.CustomRootTrust,
                RevocationMode = X509RevocationMode.NoCheck };
            options.CertificateChainPolicy.CustomTrustStore.ImportFromPemFile(file);
        }
        return options;
    }

    public void Dispose()
    {
        foreach (var endpoint in _endpoints)
        {
            endpoint.Channel.Dispose();
        }
        _loggingIn.Dispose();
    }
}
