using System.Net;
using System.Net.Sockets;
using Microsoft.Extensions.Logging;
using Sluice.Model.Settings;
using Sluice.Pipeline;
using Sluice.Pipeline.TcpUdp;

namespace Sluice.Hosting.Streams;

/// <summary>An address for TCP or UDP.</summary>
internal sealed record StreamAddress(IPEndPoint EndPoint, bool IsUdp, bool Tls)
{
    public override string ToString() => EndPoint.ToString();
}

interface IStreamEndpoint : IAsyncDisposable
{
    StreamAddress Address { get; }

    IPEndPoint Bound { get; }

    /// <summary>Takes nothing new; sessions under way end until the token says that it takes too long, then they are aborted.</summary>
    Task StopAsync(CancellationToken tooLong);
}

/// <summary>The addresses of <c>apisix.stream_proxy</c>; a reload opens and closes them one by one.</summary>
sealed partial class StreamEndpoints(StreamPipeline pipeline, LiveConfiguration live, TlsTermination tls, ILoggerFactory loggers)
    : IAsyncDisposable
{
    readonly ILogger _log = loggers.CreateLogger<StreamEndpoints>();
    volatile IReadOnlyList<IStreamEndpoint> _open = [];

    public IReadOnlyList<IStreamEndpoint> Open => _open;

    /// <summary>Opens what is missing: all of it or nothing. What is too many is closed by <see cref="CloseOthers"/>, when everything else
    /// has been changed over.</summary>
    /// <exception cref="EndpointException">An address is in use or not there; nothing has changed.</exception>
    public IReadOnlyList<IStreamEndpoint> OpenMissing(StreamSettings settings)
    {
        List<IStreamEndpoint> opened = [];
        foreach (var address in Wanted(settings).Where(address => !_open.Any(one => one.Address == address)))
        {
            try
            {
                opened.Add(address.IsUdp
                    ? new UdpEndpoint(address, pipeline, live, loggers.CreateLogger<UdpEndpoint>())
                    : new TcpEndpoint(address, pipeline, live, tls, loggers.CreateLogger<TcpEndpoint>()));
            }
            catch (SocketException e)
            {
                opened.ForEach(one => _ = CloseAsync(one, new CancellationToken(canceled: true)));
                var holder = e.SocketErrorCode == SocketError.AddressAlreadyInUse && !address.IsUdp
                    ? PortHolder.Describe(address.EndPoint.Port) : "";
                var place = settings.Listens.First(listen => listen.EndPoint.Equals(address.EndPoint)
                    && listen.IsUdp == address.IsUdp).Place;
                throw new EndpointException(place, $"{address}{(address.IsUdp ? "/udp" : "")}: cannot listen: {e.Message}{holder}", e);
            }
        }
        return opened;
    }

    /// <summary>From now on these too, and no others than the settings want.</summary>
    public void CloseOthers(StreamSettings settings, IReadOnlyList<IStreamEndpoint> opened, CancellationToken stopping)
    {
        var wanted = Wanted(settings).ToHashSet();
        var going = _open.Where(one => !wanted.Contains(one.Address)).ToList();
        _open = [.. _open.Except(going), .. opened];
        going.ForEach(one => _ = CloseAsync(one, stopping));
    }

    async Task CloseAsync(IStreamEndpoint endpoint, CancellationToken stopping)
    {
        try
        {
            await endpoint.StopAsync(stopping);
            await endpoint.DisposeAsync();
        }
        catch (Exception e)
        {
            LogCloseFailed(e, endpoint.Address.ToString());
        }
    }

    static IEnumerable<StreamAddress> Wanted(StreamSettings settings) =>
        settings.Listens.Select(listen => new StreamAddress(listen.EndPoint, listen.IsUdp, listen.Tls));

    public Task StopAsync(CancellationToken tooLong) => Task.WhenAll(_open.Select(endpoint => endpoint.StopAsync(tooLong)));

    public async ValueTask DisposeAsync()
    {
        foreach (var endpoint in _open)
        {
            await endpoint.DisposeAsync();
        }
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "closing {Address} failed")]
    partial void LogCloseFailed(Exception exception, string address);
}
