using System.Net;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.Logging;
using Sluice.Hosting.Streams;
using Sluice.Model;
using Sluice.Model.Settings;
using Sluice.Net.Epoll;

namespace Sluice.Hosting;

/// <summary>Addresses that a change opened and that the change will keep, or give up when something else of it fails.</summary>
sealed record OpenedAddresses(IReadOnlyList<HttpEndpoint> Http, IReadOnlyList<IStreamEndpoint> Streams)
{
    public async ValueTask GiveUpAsync()
    {
        foreach (var endpoint in Http.Concat<IAsyncDisposable>(Streams))
        {
            await endpoint.DisposeAsync();
        }
    }
}

/// <summary>
/// The addresses of a gateway: opens those that are missing, all of them or none, and closes the others when everything else has been
/// changed over; what is closed ends when its last request has.
/// </summary>
sealed partial class Addresses(GatewayParts parts, EventLoops? loops, CancellationToken stopping) : IAsyncDisposable
{
    readonly ILogger _log = parts.Loggers.CreateLogger<Addresses>();
    readonly StreamEndpoints _streams = new(parts.TcpUdp, parts.Live, parts.Tls, parts.Loggers);
    readonly Dictionary<string, HttpEndpoint> _own = [];
    volatile IReadOnlyList<HttpEndpoint> _proxies = [];

    /// <summary>Those that take requests.</summary>
    public IReadOnlyList<HttpEndpoint> Proxies => _proxies;

    /// <summary>Those of TCP and UDP, in the order of the configuration.</summary>
    public IReadOnlyList<IStreamEndpoint> TcpUdp => _streams.Open;

    /// <summary>Where one of the gateway's own interfaces listens, as bound; null: there is none of the name.</summary>
    public IPEndPoint? Own(string name) => _own.GetValueOrDefault(name)?.Bound;

    /// <summary>Whether there are certificates and an address for them that is not open yet.</summary>
    public bool LacksTls =>
        !parts.Live.Current.Tls.IsEmpty && parts.Live.Current.Settings.Listens.Any(listen => listen.Tls)
        && !_proxies.Any(endpoint => endpoint.Address.Tls);

    /// <exception cref="EndpointException">An address is in use or not there.</exception>
    public async Task OpenOwnAsync(OwnInterfaces own, GatewaySettings settings, CancellationToken cancellation)
    {
        foreach (var (name, address, handler) in own.All(settings))
        {
            _own[name] = await HttpEndpoint.StartAsync(
                address, new HandlerApplication(handler), loops: null, parts.Loggers,
                static limits => limits.MaxRequestBodySize = 2 * 1024 * 1024, cancellation);
        }
    }

    /// <exception cref="EndpointException">An address is in use or not there; nothing is open that was not before.</exception>
    public async Task<OpenedAddresses> OpenMissingAsync(GatewaySettings settings, CancellationToken cancellation)
    {
        var http = await OpenAsync(Wanted(settings).Where(address => !_proxies.Any(running => running.Address == address)), settings,
            cancellation);
        try
        {
            return new(http, _streams.OpenMissing(settings.Streams));
        }
        catch
        {
            await new OpenedAddresses(http, []).GiveUpAsync();
            throw;
        }
    }

    /// <summary>From now on these too, and no others than the settings want.</summary>
    public void CloseOthers(GatewaySettings settings, OpenedAddresses opened)
    {
        _streams.CloseOthers(settings.Streams, opened.Streams, stopping);
        var wanted = Wanted(settings);
        var (staying, going) = (_proxies.Where(running => wanted.Contains(running.Address)).ToList(),
            _proxies.Where(running => !wanted.Contains(running.Address)).ToList());
        staying.ForEach(running =>
        {
            Limit(running.Limits, settings, running.Address.EndPoint);
            running.KeepAlive(settings.KeepAlive);
        });
        _proxies = [.. staying, .. opened.Http];
        going.ForEach(gone => _ = DrainAsync(gone));
    }

    /// <summary>Opens the addresses of <c>ssl.listen</c>.</summary>
    public async Task OpenTlsAsync(GatewaySettings settings)
    {
        try
        {
            var missing = Wanted(settings).Where(address => address.Tls && !_proxies.Any(running => running.Address == address)).ToList();
            _proxies = [.. _proxies, .. await OpenAsync(missing, settings, stopping)];
        }
        catch (EndpointException e)
        {
            LogNotOpened(e.Place, e.Message);
        }
        catch (OperationCanceledException)
        {
            // stopped
        }
    }

    /// <summary>All of them or none.</summary>
    async Task<List<HttpEndpoint>> OpenAsync(IEnumerable<EndpointAddress> addresses, GatewaySettings settings,
        CancellationToken cancellation)
    {
        List<HttpEndpoint> opened = [];
        try
        {
            foreach (var address in addresses)
            {
                try
                {
                    opened.Add(await HttpEndpoint.StartAsync(
                        address, parts.Proxy, loops, parts.Loggers, limits => Limit(limits, settings, address.EndPoint), cancellation,
                        new(parts.Time, parts.Metrics.Connections, parts.Tls, settings.KeepAlive)));
                }
                catch (EndpointException) when (address.Optional)
                {
                    LogNotListening(address.ToString());
                }
            }
            return opened;
        }
        catch
        {
            await new OpenedAddresses(opened, []).GiveUpAsync();
            throw;
        }
    }

    /// <summary>What holds before a request is there: as in nginx, what the default server of the address says.</summary>
    internal static void Limit(KestrelServerLimits limits, GatewaySettings settings, IPEndPoint address)
    {
        var scope = settings.Nginx.Default(address);
        limits.KeepAliveTimeout = scope.KeepaliveTimeout > TimeSpan.Zero ? scope.KeepaliveTimeout : TimeSpan.FromTicks(1);
        limits.RequestHeadersTimeout = scope.ClientHeaderTimeout > TimeSpan.Zero ? scope.ClientHeaderTimeout : Timeout.InfiniteTimeSpan;
        var heads = scope.Heads;
        limits.MaxRequestLineSize = heads.MaxRequestLine;
        limits.MaxRequestHeadersTotalSize = heads.MaxTotal;
        limits.MaxRequestHeaderCount = heads.MaxHeaders;
        limits.MaxRequestBufferSize = Math.Max(DefaultRequestBuffer, (long)heads.MaxTotal + heads.MaxRequestLine);
        limits.Http2.MaxRequestHeaderFieldSize = limits.Http3.MaxRequestHeaderFieldSize = heads.MaxHeaderLine;
    }

    /// <summary>Kestrel's own.</summary>
    const long DefaultRequestBuffer = 1024 * 1024;

    List<EndpointAddress> Wanted(GatewaySettings settings)
    {
        var hasCertificate = settings.Tls?.CertificateFile is not null || !parts.Live.Current.Tls.IsEmpty;
        return [.. settings.Listens.Where(listen => !listen.Tls || hasCertificate)
            .Select(listen => EndpointAddress.Of(listen) with { Http3 = listen.Http3 && CanSpeakHttp3(listen.Place) })];
    }

    bool CanSpeakHttp3(string place)
    {
        if (System.Net.Quic.QuicListener.IsSupported)
        {
            return true;
        }
        LogNotOpened(place,
            "HTTP/3 cannot be spoken here: this machine has no libmsquic (version 2) or an OpenSSL without QUIC's TLS 1.3; HTTP/1.1 and "
                + "HTTP/2 are served");
        return false;
    }

    async Task DrainAsync(HttpEndpoint endpoint)
    {
        try
        {
            await endpoint.StopAsync(stopping);
            await endpoint.DisposeAsync();
        }
        catch (Exception e)
        {
            LogDrainFailed(e, endpoint.Address.ToString());
        }
    }

    /// <summary>Accepts nothing new; requests and sessions under way end until the token says that it takes too long.</summary>
    public Task StopAsync(CancellationToken tooLong) =>
        Task.WhenAll(_proxies.Select(endpoint => endpoint.StopAsync(tooLong)).Append(_streams.StopAsync(tooLong)));

    public async ValueTask DisposeAsync()
    {
        foreach (var endpoint in _proxies.Concat(_own.Values))
        {
            await endpoint.DisposeAsync();
        }
        await _streams.DisposeAsync();
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "not listening on {Address}: this machine does not have it")]
    partial void LogNotListening(string address);

    [LoggerMessage(Level = LogLevel.Error, Message = "{Place}: {What}")]
    partial void LogNotOpened(string place, string what);

    [LoggerMessage(Level = LogLevel.Error, Message = "closing {Address} failed")]
    partial void LogDrainFailed(Exception exception, string address);
}
