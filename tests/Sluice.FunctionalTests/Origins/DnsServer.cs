using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Sluice.FunctionalTests.Origins;

/// <summary>A name server on 127.0.0.1 that knows A, AAAA and SRV records, and can be made to fail.</summary>
sealed class DnsServer : IDisposable
{
    readonly Socket _socket = new(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
    readonly ConcurrentDictionary<(string Name, int Type), byte[][]> _records = [];
    int _queries;

    public DnsServer()
    {
        _socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        _ = ServeAsync();
    }

    public IPEndPoint EndPoint => (IPEndPoint)_socket.LocalEndPoint!;

    public bool Fails { get; set; }

    public int Ttl { get; set; } = 1;

    public int Queries => Volatile.Read(ref _queries);

    public void Addresses(string name, params string[] addresses)
    {
        var all = addresses.Select(IPAddress.Parse).ToLookup(address => address.AddressFamily);
        _records[(name, 1)] = [.. all[AddressFamily.InterNetwork].Select(address => address.GetAddressBytes())];
        _records[(name, 28)] = [.. all[AddressFamily.InterNetworkV6].Select(address => address.GetAddressBytes())];
    }

    public void Services(string name, params (int Priority, int Weight, int Port, string Target)[] services) =>
        _records[(name, 33)] =
        [.. services.Select(service =>
            (byte[])[.. Short(service.Priority), .. Short(service.Weight), .. Short(service.Port), .. Name(service.Target)])];

    static byte[] Short(int number) => [(byte)(number >> 8), (byte)number];

    static byte[] Name(string name) =>
        [.. name.Split('.').SelectMany(label => (byte[])[(byte)label.Length, .. Encoding.ASCII.GetBytes(label)]), 0];

    async Task ServeAsync()
    {
        var query = new byte[1024];
        try
        {
            while (true)
            {
                var received = await _socket.ReceiveFromAsync(query, new IPEndPoint(IPAddress.Any, 0));
                Interlocked.Increment(ref _queries);
                await _socket.SendToAsync(Answer(query.AsSpan(0, received.ReceivedBytes)), received.RemoteEndPoint);
            }
        }
        catch (Exception error) when (error is SocketException or ObjectDisposedException)
        {
            // the test ended
        }
    }

    byte[] Answer(ReadOnlySpan<byte> query)
    {
        List<string> labels = [];
        var at = 12;
        while (query[at] > 0)
        {
            labels.Add(Encoding.ASCII.GetString(query.Slice(at + 1, query[at])));
            at += query[at] + 1;
        }
        var type = BinaryPrimitives.ReadUInt16BigEndian(query[(at + 1)..]);
        var name = string.Join('.', labels);
        var known = _records.Keys.Any(key => key.Name == name);
        var records = Fails ? [] : _records.GetValueOrDefault((name, type)) ?? [];
        List<byte> answer = [.. query[..2], 0x81, (byte)(0x80 | (Fails ? 2 : known ? 0 : 3)), 0, 1, 0, (byte)records.Length, 0, 0, 0, 0,
            .. query[12..(at + 5)]];
        foreach (var record in records)
        {
            answer.AddRange([0xc0, 12, 0, (byte)type, 0, 1, 0, 0, .. Short(Ttl), .. Short(record.Length), .. record]);
        }
        return [.. answer];
    }

    public void Dispose() => _socket.Dispose();
}
