using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using Microsoft.Extensions.Logging.Abstractions;
using Sluice.Model.Settings;
using Sluice.Net;
using Sluice.Upstreams.Discovery;

namespace Sluice.Tests.Upstreams.Discovery;

public sealed class ConsulDiscoveryTests
{
    /// <summary>Time does not pass, waits are over at once; how long they would have been is kept.</summary>
    sealed class Waits : TimeProvider
    {
        public BlockingCollection<TimeSpan> Asked { get; } = [];

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
        {
            Asked.Add(dueTime);
            return System.CreateTimer(callback, state, TimeSpan.Zero, period);
        }
    }

    [Fact]
    public async Task A_consul_that_is_away_is_asked_again_after_one_two_and_four_seconds_and_then_each_five()
    {
        // bound, and nobody listens
        using var nobody = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        nobody.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        var settings = new ConsulSettings(
            [new Uri($"http://{nobody.LocalEndPoint}")], "", LongPolls: true, TimeSpan.FromSeconds(3), 1, [], TimeSpan.FromSeconds(2),
            TimeSpan.FromSeconds(2), TimeSpan.FromSeconds(60), null);
        var waits = new Waits();
        using var http = new OutgoingHttp(TimeProvider.System);
        await using var discovery = new ConsulDiscovery(settings, waits, http, NullLogger<ConsulDiscovery>.Instance);

        discovery.Follow(["api"]);

        var cancel = TestContext.Current.CancellationToken;
        Assert.Equal([1, 2, 4, 5, 5, 5, 5], Enumerable.Range(0, 7).Select(_ => waits.Asked.Take(cancel).TotalSeconds));
        await Assert.ThrowsAsync<DiscoveryException>(async () => await discovery.NodesAsync("api", cancel));
    }
}
