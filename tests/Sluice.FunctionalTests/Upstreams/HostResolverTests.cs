using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using System.Text;
using Sluice.Net;

namespace Sluice.FunctionalTests.Upstreams;

public sealed class HostResolverTests : IDisposable
{
    readonly ManualClock clock = new();
    readonly ScriptedDns dns = new();
    readonly string directory = Directory.CreateTempSubdirectory("sluice-dns").FullName;

    static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    string HostsFile => Path.Combine(directory, "hosts");

    public void Dispose()
    {
        dns.Dispose();
        Directory.Delete(directory, recursive: true);
    }

    [Fact]
    public async Task An_answer_holds_as_long_as_its_TTL()
    {
        dns.Answers["a.test"] = new(30, ["10.0.0.1", "10.0.0.2"]);
        var resolver = Resolver();
        Assert.Equal("10.0.0.1 10.0.0.2", await ResolveAsync(resolver, "a.test"));
        dns.Answers["a.test"] = new(30, ["10.0.0.3"]);
        clock.Advance(TimeSpan.FromSeconds(29));
        Assert.Equal("10.0.0.1 10.0.0.2", await ResolveAsync(resolver, "A.test"));
        Assert.Equal(1, dns.Queries);
        clock.Advance(TimeSpan.FromSeconds(1));
        Assert.Equal("10.0.0.3", await ResolveAsync(resolver, "a.test"));
    }

    [Fact]
    public async Task A_configured_time_replaces_the_TTL()
    {
        dns.Answers["a.test"] = new(3600, ["10.0.0.1"]);
        var resolver = Resolver(options => options with { Valid = TimeSpan.FromSeconds(5) });
        await ResolveAsync(resolver, "a.test");
        clock.Advance(TimeSpan.FromSeconds(5));
        await ResolveAsync(resolver, "a.test");
        Assert.Equal(2, dns.Queries);
    }

    [Fact]
    public async Task IPv6_is_used_when_there_is_no_IPv4()
    {
        dns.Answers["six.test"] = new(30, ["2001:db8::1"]);
        Assert.Equal("2001:db8::1", await ResolveAsync(Resolver(), "six.test"));
        await FailsAsync(Resolver(options => options with { Ipv6 = false }), "six.test");
    }

    [Fact]
    public async Task The_same_name_is_asked_for_once_at_a_time()
    {
        dns.Answers["a.test"] = new(30, ["10.0.0.1"]);
        dns.Hold();
        var resolver = Resolver();
        var all = Enumerable.Range(0, 20).Select(_ => ResolveAsync(resolver, "a.test")).ToArray();
        dns.Release();
        await Task.WhenAll(all);
        Assert.Equal(1, dns.Queries);
    }

    [Fact]
    public async Task Old_addresses_serve_on_while_the_server_fails_but_not_forever()
    {
        dns.Answers["a.test"] = new(30, ["10.0.0.1"]);
        var resolver = Resolver();
        await ResolveAsync(resolver, "a.test");
        dns.ServerFails = true;
        clock.Advance(TimeSpan.FromSeconds(40));
        Assert.Equal("10.0.0.1", await ResolveAsync(resolver, "a.test"));
        clock.Advance(TimeSpan.FromMinutes(6));
        await FailsAsync(resolver, "a.test");
    }

    [Fact]
    public async Task A_name_that_is_gone_is_not_served_on()
    {
        dns.Answers["a.test"] = new(30, ["10.0.0.1"]);
        var resolver = Resolver();
        await ResolveAsync(resolver, "a.test");
        dns.Answers.Clear();
        clock.Advance(TimeSpan.FromSeconds(30));
        await FailsAsync(resolver, "a.test");
    }

    [Fact]
    public async Task A_missing_name_is_remembered_for_a_second()
    {
        var resolver = Resolver();
        var failure = await FailsAsync(resolver, "missing.test");
        Assert.Equal("host not resolved: missing.test: no such name, or one without addresses", failure.Message);
        await FailsAsync(resolver, "missing.test");
        Assert.Equal(1, dns.Queries);
        dns.Answers["missing.test"] = new(30, ["10.0.0.9"]);
        clock.Advance(TimeSpan.FromSeconds(1));
        Assert.Equal("10.0.0.9", await ResolveAsync(resolver, "missing.test"));
    }

    [Fact]
    public async Task A_server_that_does_not_answer_is_given_up()
    {
        dns.Hold();
        await FailsAsync(Resolver(options => options with { Timeout = TimeSpan.FromMilliseconds(50) }), "a.test");
    }

    /// <summary>Lets time pass until the answer is there.</summary>
    async Task<string> PassAsync(Task<string> resolving)
    {
        for (var i = 0; i < 1000 && !resolving.IsCompleted; i++)
        {
            clock.Advance(TimeSpan.FromMilliseconds(10));
            await Task.Delay(10, Cancellation);
        }
        return await resolving.WaitAsync(TimeSpan.FromSeconds(30), Cancellation);
    }

    static readonly TimeSpan Endless = TimeSpan.FromMinutes(1);

    [Fact]
    public async Task A_silent_server_holds_up_no_request_that_has_old_addresses()
    {
        dns.Answers["a.test"] = new(30, ["10.0.0.1"]);
        var resolver = Resolver(options => options with { Timeout = Endless });
        await ResolveAsync(resolver, "a.test");
        dns.Answers["a.test"] = new(30, ["10.0.0.9"]);
        dns.Hold();
        clock.Advance(TimeSpan.FromSeconds(30));

        Assert.Equal("10.0.0.1", await PassAsync(ResolveAsync(resolver, "a.test")));
        // from now on nobody waits at all
        Assert.Equal("10.0.0.1", await ResolveAsync(resolver, "a.test").WaitAsync(TimeSpan.FromSeconds(30), Cancellation));

        dns.Release();
        await Eventually.HoldsAsync(async () => await ResolveAsync(resolver, "a.test") == "10.0.0.9", "the new address was not taken");
    }

    [Fact]
    public async Task The_next_server_is_asked_soon_and_the_silent_one_is_remembered()
    {
        using var second = new ScriptedDns();
        second.Answers["a.test"] = new(10, ["10.0.0.2"]);
        dns.Hold();
        var resolver = Resolver(options => options with { Servers = [dns.EndPoint, second.EndPoint], Timeout = Endless });

        Assert.Equal("10.0.0.2", await PassAsync(ResolveAsync(resolver, "a.test")));
        Assert.Equal(1, dns.Queries);

        second.Answers["a.test"] = new(10, ["10.0.0.3"]);
        clock.Advance(TimeSpan.FromSeconds(10));
        Assert.Equal("10.0.0.3", await ResolveAsync(resolver, "a.test").WaitAsync(TimeSpan.FromSeconds(30), Cancellation));
        Assert.Equal(1, dns.Queries);
    }

    [Fact]
    public async Task The_hosts_file_comes_first_and_is_read_again_when_it_changes()
    {
        await File.WriteAllTextAsync(HostsFile, "10.1.1.1 box box.test # comment\n10.1.1.2 box\nnonsense\n", Cancellation);
        dns.Answers["box"] = new(30, ["10.0.0.1"]);
        var resolver = Resolver();
        Assert.Equal("10.1.1.1 10.1.1.2", await ResolveAsync(resolver, "BOX"));
        await File.WriteAllTextAsync(HostsFile, "10.1.1.3 box\n", Cancellation);
        clock.Advance(TimeSpan.FromSeconds(1));
        Assert.Equal("10.1.1.3", await ResolveAsync(resolver, "box"));
        Assert.Equal(0, dns.Queries);
    }

    [Theory]
    [InlineData("127.0.0.1", "127.0.0.1")]
    [InlineData("::1", "::1")]
    [InlineData("[2001:db8::1]", "2001:db8::1")]
    [InlineData("localhost", "127.0.0.1")]
    public async Task Literals_and_localhost_need_no_server(string host, string address)
    {
        Assert.Equal(address, await ResolveAsync(Resolver(), host));
        Assert.Equal(0, dns.Queries);
    }

    [Fact]
    public async Task A_known_answer_is_given_without_waiting_and_without_allocating()
    {
        var resolver = Resolver();
        await ResolveAsync(resolver, "127.0.0.1");
        ValueTask<ResolvedHost> known = default;
        // the runtime allocates on this thread now and then, but not each time
        Assert.Contains(0, Enumerable.Range(0, 10).Select(_ =>
        {
            var before = GC.GetAllocatedBytesForCurrentThread();
            known = resolver.ResolveAsync("127.0.0.1", Cancellation);
            return GC.GetAllocatedBytesForCurrentThread() - before;
        }));
        Assert.True(known.IsCompletedSuccessfully);
        Assert.Equal(IPAddress.Loopback, (await known).Next());
    }

    [Fact]
    public async Task Search_domains_complete_short_names()
    {
        var resolvConf = Path.Combine(directory, "resolv.conf");
        await File.WriteAllTextAsync(resolvConf, "nameserver 192.0.2.1\nsearch ns.svc.test svc.test\noptions ndots:2\n", Cancellation);
        dns.Answers["web.svc.test"] = new(30, ["10.0.0.7"]);
        Assert.Equal("10.0.0.7", await ResolveAsync(Resolver(options => options with { ResolvConf = resolvConf }), "web"));
        Assert.Equal(2, dns.Queries);
        await FailsAsync(Resolver(options => options with { ResolvConf = resolvConf, UseSearch = false }), "web");
    }

    [Xunit.Theory]
    [InlineData("127.0.0.1", "127.0.0.1:53")]
    [InlineData("127.0.0.1:5353", "127.0.0.1:5353")]
    [InlineData("[::1]:5353", "[::1]:5353")]
    [InlineData("::1", "[::1]:53")]
    [InlineData("dns.test", null)]
    public void Servers_are_written_with_or_without_a_port(string text, string? server) =>
        Assert.Equal(server, HostResolverOptions.ParseServer(text)?.ToString());

    HostResolver Resolver(Func<HostResolverOptions, HostResolverOptions>? change = null)
    {
        var options = new HostResolverOptions([dns.EndPoint], HostsFile: HostsFile, ResolvConf: Path.Combine(directory, "none"));
        return new HostResolver(change is null ? options : change(options), clock);
    }

    static async Task<string> ResolveAsync(HostResolver resolver, string host) =>
        string.Join(' ', (await resolver.ResolveAsync(host, Cancellation)).Addresses.Select(address => address.ToString()));

    static async Task<UpstreamException> FailsAsync(HostResolver resolver, string host)
    {
        var failure = await Assert.ThrowsAsync<UpstreamException>(async () => await resolver.ResolveAsync(host, Cancellation));
        Assert.Equal(UpstreamFailureKind.ResolveFailed, failure.Kind);
        Assert.Contains(host, failure.Message);
        return failure;
    }

    /// <summary>A name server over UDP that knows what a test tells it. Unknown names do not exist.</summary>
    sealed class ScriptedDns : IDisposable
    {
        readonly Socket socket = new(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
        TaskCompletionSource hold = Released();
        int queries;

        public ScriptedDns()
        {
            socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
            _ = ServeAsync();
        }

        public sealed record Records(int Ttl, string[] Addresses);

        public System.Collections.Concurrent.ConcurrentDictionary<string, Records> Answers { get; } = new(StringComparer.OrdinalIgnoreCase);

        public IPEndPoint EndPoint => (IPEndPoint)socket.LocalEndPoint!;

        public bool ServerFails { get; set; }

        public int Queries => Volatile.Read(ref queries);

        public void Hold() => hold = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public void Release() => hold.SetResult();

        static TaskCompletionSource Released()
        {
            var source = new TaskCompletionSource();
            source.SetResult();
            return source;
        }

        async Task ServeAsync()
        {
            var query = new byte[1024];
            try
            {
                while (true)
                {
                    var received = await socket.ReceiveFromAsync(query, new IPEndPoint(IPAddress.Any, 0));
                    Interlocked.Increment(ref queries);
                    await hold.Task;
                    await socket.SendToAsync(Answer(query.AsSpan(0, received.ReceivedBytes)), received.RemoteEndPoint);
                }
            }
            catch (Exception error) when (error is SocketException or ObjectDisposedException)
            {
                // the test ended
            }
        }

        byte[] Answer(ReadOnlySpan<byte> query)
        {
            var labels = new List<string>();
            var at = 12;
            while (query[at] > 0)
            {
                labels.Add(Encoding.ASCII.GetString(query.Slice(at + 1, query[at])));
                at += query[at] + 1;
            }
            var type = BinaryPrimitives.ReadUInt16BigEndian(query[(at + 1)..]);
            var question = query[12..(at + 5)];
            var known = Answers.TryGetValue(string.Join('.', labels), out var records);
            var addresses = known ? records!.Addresses.Select(IPAddress.Parse)
                .Where(address => address.AddressFamily == (type == 1 ? AddressFamily.InterNetwork : AddressFamily.InterNetworkV6))
                .ToArray() : [];
            var answer = new List<byte>();
            answer.AddRange(query[..2]);
            answer.AddRange([0x81, (byte)(0x80 | (ServerFails ? 2 : known ? 0 : 3)), 0, 1, 0, (byte)(ServerFails ? 0 : addresses.Length), 0,
                0, 0, 0]);
            answer.AddRange(question);
            foreach (var address in ServerFails ? [] : addresses)
            {
                var bytes = address.GetAddressBytes();
                answer.AddRange([0xc0, 12, 0, (byte)type, 0, 1, 0, 0, (byte)(records!.Ttl >> 8), (byte)records.Ttl, 0, (byte)bytes.Length]);
                answer.AddRange(bytes);
            }
            return [.. answer];
        }

        public void Dispose() => socket.Dispose();
    }
}
