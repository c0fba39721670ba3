using System.Net;
using Sluice.Model.Settings;

namespace Sluice.Hosting;

/// <summary>An address as the settings ask for it.</summary>
/// <param name="Http2">Plaintext: HTTP/2 with prior knowledge beside HTTP/1.1; TLS: by ALPN.</param>
sealed record EndpointAddress(IPEndPoint EndPoint, bool Http2 = false, bool Tls = false)
{
    public static EndpointAddress Of(ListenSettings listen) => new(listen.EndPoint, listen.Http2, listen.Tls)
    {
        Optional = listen.Optional,
        DualMode = !listen.Ipv6Only,
        ProxyProtocol = listen.ProxyProtocol,
        Http3 = listen.Http3,
        Place = listen.Place,
    };

    /// <summary>Where it was asked for. It makes no other address of it: a line may move.</summary>
    public AskedFor Place { get; init; }

    /// <summary>HTTP/3 on the UDP port of the same number.</summary>
    public bool Http3 { get; init; }

    /// <summary>Connections begin with a PROXY header.</summary>
    public bool ProxyProtocol { get; init; }

    /// <summary>No harm when the machine does not have it (the IPv6 half of an address without an IP).</summary>
    public bool Optional { get; init; }

    /// <summary>An IPv6 address takes IPv4 clients too.</summary>
    public bool DualMode { get; init; }

    public override string ToString() => EndPoint.ToString();
}

/// <summary>A place in the configuration that equals every other one.</summary>
readonly record struct AskedFor(string Text)
{
    public static implicit operator AskedFor(string place) => new(place);

    public bool Equals(AskedFor other) => true;

    public override int GetHashCode() => 0;
}

/// <summary>An address cannot be listened on.</summary>
/// <param name="place">Where it was asked for: <c>conf/nginx.conf:7</c>.</param>
sealed class EndpointException(string place, string message, Exception inner) : Exception(message, inner)
{
    public string Place { get; } = place;
}
