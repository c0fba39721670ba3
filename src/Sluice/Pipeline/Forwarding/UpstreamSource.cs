using Microsoft.AspNetCore.Http;
using Sluice.Model;
using Sluice.Net;
using Sluice.Relay;
using Sluice.Upstreams;

namespace Sluice.Pipeline;

/// <summary>One attempt on one node: the request goes out, and what comes back is a response's source.</summary>
abstract class UpstreamSource(Forwarder forwarder, Exchange exchange, Upstream upstream, Node node, RequestBody body) : IResponseSource
{
    static readonly TimeSpan DefaultTimeout = TimeSpan.FromSeconds(60);

    protected Forwarder Forwarder { get; } = forwarder;

    protected Exchange Exchange { get; } = exchange;

    protected Upstream Upstream { get; } = upstream;

    protected Node Node { get; } = node;

    protected RequestBody RequestBody { get; } = body;

    protected long Started { get; set; } = forwarder.Time.GetTimestamp();

    /// <summary>The address tried, as in <c>$upstream_addr</c>.</summary>
    public string Address { get; protected set; } = node.Name;

    /// <summary>Part of the request may have reached the node.</summary>
    public bool RequestSent { get; protected set; }

    /// <summary>Status of the head.</summary>
    public abstract int Status { get; }

    /// <summary>The response's length says nothing of its node.</summary>
    public abstract bool IsStream { get; }

    public TimeSpan Elapsed => Forwarder.Time.GetElapsedTime(Started);

    /// <summary>When the client leaves; never when the upstream shall come to its end all the same
    /// (<c>proxy_ignore_client_abort</c>).</summary>
    protected CancellationToken ClientGone => Exchange.Scope.IgnoreClientAbort ? CancellationToken.None : Exchange.ClientGone;

    protected TimeSpan ConnectTimeout => Timeout(static timeout => timeout.Connect, Exchange.Scope.ProxyConnectTimeout);

    protected TimeSpan SendTimeout => Timeout(static timeout => timeout.Send, Exchange.Scope.ProxySendTimeout);

    /// <summary>Silence in the middle of the body.</summary>
    public TimeSpan ReadTimeout => Exchange.Streams?.IdleTimeout is { } idle ? idle.Time : OfRoute;

    TimeSpan OfRoute => Timeout(static timeout => timeout.Read, Exchange.Scope.ProxyReadTimeout);

    /// <summary>Until the final head is there: <c>first_byte_timeout</c>, or what <c>max_duration</c> leaves.</summary>
    protected TimeSpan HeadTimeout
    {
        get
        {
            var own = Exchange.Streams?.FirstByteTimeout;
            var limit = own is { } given ? given.Time : OfRoute;
            _waitsFor = own is null ? "read_timeout" : "first_byte_timeout";
            if (Exchange.StreamEndsAt != 0)
            {
                var left = Forwarder.Time.GetElapsedTime(Forwarder.Time.GetTimestamp(), Exchange.StreamEndsAt);
                if (limit <= TimeSpan.Zero || left < limit)
                {
                    _waitsFor = "max_duration";
                    return left > TimeSpan.Zero ? left : TimeSpan.FromMilliseconds(1);
                }
            }
            return limit;
        }
    }

    string? _waitsFor;

    /// <summary>The head is there.</summary>
    protected void HeadCame() => _waitsFor = Exchange.Streams?.IdleTimeout is null ? null : "idle_timeout";

    /// <summary>Interim responses are signs of life only where nobody has set a limit for the first byte.</summary>
    protected bool InterimCounts => Exchange.Streams?.FirstByteTimeout is null && Exchange.StreamEndsAt == 0;

    /// <summary>Why it failed, in the words of logs and of <see cref="StreamReason"/>.</summary>
    public string? Reason(UpstreamFailureKind kind) =>
        kind == UpstreamFailureKind.ReadTimeout ? Exchange.EndReason ?? _waitsFor : Exchange.EndReason;

    /// <summary>A plugin has said all of how it is asked.</summary>
    protected bool IsOfTries => Exchange.ForwardTo is ForwardTo.To { Tries: not null };

    TimeSpan Timeout(Func<TimeoutConfig, double?> configured, TimeSpan? ofBlock) =>
        (IsOfTries ? Upstream.Config.Timeout : Exchange.Route!.Config.Timeout ?? Upstream.Config.Timeout) is { } timeout
        && configured(timeout) is { } seconds ? TimeSpan.FromSeconds(seconds) : ofBlock ?? DefaultTimeout;

    /// <summary>Sends the request and waits for the response's head.</summary>
    /// <param name="fresh">Only on a new connection.</param>
    public abstract ValueTask AskAsync(bool fresh);

    /// <summary>Sends the response to the client.</summary>
    public virtual ValueTask RelayAsync() => ResponseSender.SendAsync(Exchange, this);

    /// <summary>How long a client may be silent (<c>client_idle_timeout</c>); null: as long as it likes.</summary>
    protected TimeSpan? ClientIdle => Exchange.Streams?.ClientIdleTimeout is { IsOff: false } limit ? limit.Time : null;

    /// <summary>Ends the exchange when its client was silent for too long; null: it may be.</summary>
    /// <param name="end">Lets the upstream go.</param>
    protected IdleDeadline? WatchClient(Action end) => ClientIdle is null ? null : new(Forwarder.Time, _ =>
    {
        Exchange.Failure ??= new(FailureSource.Client, "client_idle_timeout", "the client was silent for the whole client_idle_timeout",
            408);
        Exchange.EndReason ??= "client_idle_timeout";
        end();
    });

    /// <summary>Carries an upgraded connection's bytes both ways until either side ends.</summary>
    protected async ValueTask RunTunnelAsync(Stream client, ITunnelUpstream upstream)
    {
        using var silence = new IdleDeadline(Forwarder.Time,
            static upstream => ((ITunnelUpstream)upstream!).Abort(UpstreamFailureKind.ReadTimeout), upstream);
        silence.Start(ReadTimeout);
        using var clientSilence = WatchClient(() => upstream.Abort(UpstreamFailureKind.ReadTimeout));
        clientSilence?.Start(ClientIdle!.Value);
        var tunnel = new Tunnel(client, upstream, silence, clientSilence, Forwarder.Time);
        using var live = Exchange.Services.Live.Add(Exchange, this);
        live.Body = tunnel;
        try
        {
            await tunnel.RunAsync();
        }
        finally
        {
            Exchange.BodyBytesSent += tunnel.BytesToClient;
            Exchange.BodyBytesReceived += tunnel.BytesToUpstream;
            Exchange.Upstream.BytesReceived += tunnel.BytesToClient;
            Exchange.Upstream.ResponseSeconds ??= Elapsed.TotalSeconds;
        }
    }

    public abstract void WriteHead(Exchange exchange);

    public virtual bool NeverBuffered => false;

    public virtual string? BufferingWish => null;

    public virtual long? Length => null;

    public virtual bool HeadMayBeAll => false;

    public abstract IdleDeadline? Silence { get; }

    public abstract IBodySource? TakeBody();

    public virtual void Abandon()
    {
    }

    public abstract ValueTask EndedAsync();

    public void WriteTrailers(HttpResponse response)
    {
        foreach (var (name, value) in Trailers)
        {
            response.AppendTrailer(name, value);
        }
    }

    public abstract IEnumerable<KeyValuePair<string, string>> Trailers { get; }

    public abstract ValueTask DisposeAsync();
}
