using System.Net;
using DnsClient;

namespace Sluice.Net;

/// <summary>
/// Several name servers as one. Who does not answer soon is not waited for: the next is asked as well and the first answer counts. Who was
/// silent is remembered for a while and asked last.
/// </summary>
sealed class NameServers
{
    static readonly TimeSpan Soon = TimeSpan.FromMilliseconds(500);
    static readonly TimeSpan SilenceTime = TimeSpan.FromSeconds(30);

    readonly Server[] _servers;
    readonly TimeProvider _time;

    /// <param name="timeout">For one try with one server; a server gets two.</param>
    public NameServers(IReadOnlyList<IPEndPoint> servers, TimeSpan timeout, TimeProvider time)
    {
        Addresses = servers;
        _time = time;
        _servers = [.. servers.Select(server => new Server(new LookupClient(new LookupClientOptions(server)
        {
            UseCache = false,
            Timeout = timeout,
            Retries = 1,
            ThrowDnsErrors = false,
            ContinueOnEmptyResponse = false,
        })))];
    }

    public IReadOnlyList<IPEndPoint> Addresses { get; }

    sealed class Server(LookupClient client)
    {
        long _silentUntil;

        public LookupClient Client => client;

        /// <summary>Until this timestamp it is asked last; 0 when it answers.</summary>
        public long SilentUntil { get => Volatile.Read(ref _silentUntil); set => Volatile.Write(ref _silentUntil, value); }
    }

    /// <summary>What became of a question to one server.</summary>
    readonly record struct Result(IDnsQueryResponse? Response, Exception? Error)
    {
        public bool IsAnswer => Response is { HasError: false } or { Header.ResponseCode: DnsHeaderResponseCode.NotExistentDomain };
    }

    /// <summary>The first answer, "no such name" included; when there is none, the error that a server gave, thrown when it gave no
    /// response.</summary>
    public async Task<IDnsQueryResponse> QueryAsync(string name, QueryType type)
    {
        var now = _time.GetTimestamp();
        Result last = default;
        List<Task<Result>> asked = [];
        Server[] order = _servers.Length == 1 ? _servers : [.. _servers.OrderBy(server => server.SilentUntil > now)];
        foreach (var server in order)
        {
            asked.Add(AskAsync(server, name, type));
            using var stop = new CancellationTokenSource();
            Task? soon = server == order[^1] ? null : Task.Delay(Soon, _time, stop.Token);
            while (asked.Count > 0)
            {
                var first = await Task.WhenAny(soon is null ? asked : [.. asked, soon]);
                if (first is not Task<Result> done)
                {
                    server.SilentUntil = After(SilenceTime);
                    break;
                }
                asked.Remove(done);
                var result = await done;
                if (result.IsAnswer)
                {
                    await stop.CancelAsync();
                    return result.Response!;
                }
                last = last.Response is null ? result : last;
            }
            await stop.CancelAsync();
        }
        return last.Response ?? throw (last.Error ?? new ArgumentException("there is no name server"));
    }

    async Task<Result> AskAsync(Server server, string name, QueryType type)
    {
        try
        {
            var response = await server.Client.QueryAsync(name, type, QueryClass.IN, CancellationToken.None);
            server.SilentUntil = 0;
            return new(response, null);
        }
        catch (Exception e)
        {
            server.SilentUntil = After(SilenceTime);
            return new(null, e);
        }
    }

    long After(TimeSpan time) => _time.GetTimestamp() + (long)(time.TotalSeconds * _time.TimestampFrequency);
}
