using System.Collections.Concurrent;
using System.Globalization;
using System.Text.Json;
using Sluice.Model;
using Sluice.Model.Json;
using Sluice.Model.Settings;
using Sluice.Net;

namespace Sluice.Upstreams.Discovery;

/// <summary>
/// Nodes from Consul: for every service that an upstream names a blocking query for its passing instances at each server, so that a change
/// is known at once and costs nothing while there is none. While Consul is away the old nodes serve on; with a dump file also after a
/// restart.
/// </summary>
internal sealed partial class ConsulDiscovery : IDiscovery
{
    const int MaxResponse = 16 << 20;
    static readonly TimeSpan LongestPause = TimeSpan.FromSeconds(5);

    readonly ConsulSettings _settings;
    readonly TimeProvider _time;
    readonly ILogger _logger;
    readonly OutgoingHttp _http;
    readonly CancellationTokenSource _stopping = new();
    readonly ConcurrentDictionary<string, Watch> _watches = new(StringComparer.Ordinal);
    readonly Dictionary<string, NodeConfig[]> _dumped;
    readonly Lock _dumping = new();

    public ConsulDiscovery(ConsulSettings settings, TimeProvider time, OutgoingHttp http, ILogger<ConsulDiscovery> logger)
    {
        _settings = settings;
        _time = time;
        _logger = logger;
        _dumped = settings is { DumpFile: not null, LoadDump: true } ? ReadDump() : [];
        _http = http;
    }

    /// <summary>One service: what each server says of it.</summary>
    sealed class Watch(string service, int servers, CancellationTokenSource stop)
    {
        readonly NodeConfig[]?[] _answers = new NodeConfig[]?[servers];
        readonly string?[] _failures = new string?[servers];
        readonly TaskCompletionSource _asked = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public string Service => service;

        public CancellationTokenSource Stop => stop;

        public Task[] Polls { get; set; } = [];

        /// <summary>Null: not known yet.</summary>
        public volatile NodeConfig[]? Nodes;

        /// <summary>Every server has answered or failed, or one has answered with nodes.</summary>
        public Task Asked => _asked.Task;

        public string? Failure { get { lock (_answers) { return Array.Find(_failures, failure => failure is not null); } } }

        /// <returns>Whether the nodes are others now.</returns>
        public bool Answered(int server, NodeConfig[] nodes)
        {
            lock (_answers)
            {
                _answers[server] = nodes;
                _failures[server] = null;
                NodeConfig[] all = [.. _answers.OfType<NodeConfig[]>().SelectMany(answer => answer).Distinct()];
                var changed = Nodes?.SequenceEqual(all) != true;
                if (changed)
                {
                    Nodes = all;
                }
                if (all.Length > 0 || !Waiting())
                {
                    _asked.TrySetResult();
                }
                return changed;
            }
        }

        /// <returns>Whether it is the first failure after an answer.</returns>
        public bool Failed(int server, string failure)
        {
            lock (_answers)
            {
                var first = _failures[server] is null;
                _failures[server] = failure;
                if (!Waiting())
                {
                    _asked.TrySetResult();
                }
                return first;
            }
        }

        bool Waiting() => Enumerable.Range(0, servers).Any(server => _answers[server] is null && _failures[server] is null);
    }

    // -- Nodes

    public async ValueTask<NodeConfig[]> NodesAsync(string service, CancellationToken cancellation)
    {
        Watch? watch = null;
        if (!_settings.SkipServices.Contains(service))
        {
            watch = _watches.GetValueOrDefault(service) ?? StartWatch(service);
            if (watch.Nodes is null)
            {
                await watch.Asked.WaitAsync(cancellation);
            }
        }
        return watch?.Nodes is { Length: > 0 } nodes ? nodes
            : DefaultNodes is { } other ? other
            : throw new DiscoveryException($"consul: {service}: {watch?.Failure ?? "there is no passing instance"}");
    }

    NodeConfig[]? DefaultNodes => field ??= _settings.DefaultNode is { } node ? [node] : null;

    public void Follow(IReadOnlyCollection<string> services)
    {
        foreach (var gone in _watches.Keys.Except(services))
        {
            if (_watches.TryRemove(gone, out var watch))
            {
                watch.Stop.Cancel();
            }
        }
        foreach (var service in services.Except(_settings.SkipServices))
        {
            StartWatch(service);
        }
    }

    Watch StartWatch(string service)
    {
        lock (_watches)
        {
            if (_watches.TryGetValue(service, out var running))
            {
                return running;
            }
            var watch = new Watch(service, _settings.Servers.Count, CancellationTokenSource.CreateLinkedTokenSource(_stopping.Token))
            {
                Nodes = _dumped.GetValueOrDefault(service),
            };
            _watches[service] = watch;
            var stop = watch.Stop.Token;
            watch.Polls =
                [.. _settings.Servers.Select((server, index) =>
                    Task.Run(() => PollAsync(watch, index, server, stop), CancellationToken.None))];
            return watch;
        }
    }

    // -- Asking

    async Task PollAsync(Watch watch, int server, Uri address, CancellationToken stop)
    {
        long index = 0;
        var failures = 0;
        while (!stop.IsCancellationRequested)
        {
            var started = _time.GetTimestamp();
            TimeSpan pause;
            try
            {
                var (nodes, next) = await AskAsync(watch.Service, address, index, stop);
                if (failures > 0)
                {
                    LogBack(watch.Service, address);
                }
                failures = 0;
                if (watch.Answered(server, nodes))
                {
                    LogNodes(watch.Service, address, nodes.Length);
                    WriteDump();
                }
                // a server that does not block, or answers without news, is not asked in a circle
                var blocks = _settings.LongPolls && next > 0 && (next != index || _time.GetElapsedTime(started) > TimeSpan.FromSeconds(1));
                // an index that goes back begins anew, as Consul asks for
                index = next < index ? 0 : next;
                pause = blocks ? TimeSpan.Zero : _settings.FetchInterval;
            }
            catch (Exception e) when (!stop.IsCancellationRequested)
            {
                if (watch.Failed(server, $"{address}: {e.Message}"))
                {
                    LogFailed(watch.Service, address, e.Message);
                }
                index = 0;
                pause = TimeSpan.FromSeconds(Math.Min(Math.Pow(2, failures++), LongestPause.TotalSeconds));
            }
            catch (Exception)
            {
                return;
            }
            if (pause > TimeSpan.Zero)
            {
                await Task.Delay(pause, _time, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
        }
    }

    async Task<(NodeConfig[] Nodes, long Index)> AskAsync(string service, Uri server, long index, CancellationToken stop)
    {
        var url = $"/v1/health/service/{Uri.EscapeDataString(service)}?passing=true";
        var limit = _settings.ReadTimeout + _settings.ConnectTimeout;
        if (_settings.LongPolls && index > 0)
        {
            url += string.Create(CultureInfo.InvariantCulture, $"&index={index}&wait={(long)_settings.Wait.TotalSeconds}s");
            // Consul adds up to a sixteenth
            limit += _settings.Wait + (_settings.Wait / 16);
        }
        using var request = new HttpRequestMessage(HttpMethod.Get, new Uri(server, url));
        if (_settings.Token.Length > 0)
        {
            request.Headers.TryAddWithoutValidation("X-Consul-Token", _settings.Token);
        }
        try
        {
            var options = new OutgoingOptions { ConnectTimeout = _settings.ConnectTimeout, Timeout = limit,
                MaxResponseBytes = MaxResponse };
            var response = await _http.SendAsync(request, options, stop);
            if (!response.IsSuccess)
            {
                throw new HttpRequestException($"it answers {response.Status}");
            }
            using var answer = JsonDocument.Parse(response.Body);
            var next = long.TryParse(response.Header("X-Consul-Index"), out var value) ? Math.Max(0, value) : 0;
            return (Nodes(answer.RootElement), next);
        }
        catch (OutgoingException e) when (e.Kind == OutgoingFailure.Timeout)
        {
            throw new TimeoutException("it does not answer in time", e);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or KeyNotFoundException or FormatException)
        {
            throw new FormatException($"its answer is not what Consul says: {e.Message}", e);
        }
    }

    NodeConfig[] Nodes(JsonElement instances) => [.. instances.EnumerateArray().Select(instance =>
        {
            var service = instance.GetProperty("Service");
            var host = service.TryGetProperty("Address", out var own) && own.GetString() is { Length: > 0 } address
                ? address
                : instance.GetProperty("Node").GetProperty("Address").GetString()!;
            var port = service.TryGetProperty("Port", out var number) ? number.GetInt32() : 0;
            return new NodeConfig(host.Trim('[', ']'), port is > 0 and <= 65535 ? port : null, _settings.Weight);
        })
        .OrderBy(node => node.Host, StringComparer.Ordinal).ThenBy(node => node.Port)];

    // -- The dump

    /// <summary>What APISIX writes: <c>{"services":{…},"last_update":1615877468,"expire":0}</c>.</summary>
    void WriteDump()
    {
        if (_settings.DumpFile is not { } file)
        {
            return;
        }
        lock (_dumping)
        {
            try
            {
                var text = JsonBytes.Write(writer =>
                {
                    writer.WriteStartObject();
                    DiscoveredNodes.Write(writer, KnownServices());
                    writer.WriteNumber("last_update", _time.GetUtcNow().ToUnixTimeSeconds());
                    writer.WriteNumber("expire", (long)_settings.DumpExpiry.TotalSeconds);
                    writer.WriteEndObject();
                }, "\n"u8);
                File.WriteAllBytes(file + ".new", text.ToArray());
                File.Move(file + ".new", file, overwrite: true);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                LogDumpFailed(file, e.Message);
            }
        }
    }

    Dictionary<string, NodeConfig[]> ReadDump()
    {
        var file = _settings.DumpFile!;
        try
        {
            if (!File.Exists(file) || new FileInfo(file).Length > MaxResponse)
            {
                return [];
            }
            using var dump = JsonDocument.Parse(File.ReadAllBytes(file));
            var age = _time.GetUtcNow().ToUnixTimeSeconds() - dump.RootElement.GetProperty("last_update").GetInt64();
            if (_settings.DumpExpiry > TimeSpan.Zero && age > _settings.DumpExpiry.TotalSeconds)
            {
                LogDumpExpired(file);
                return [];
            }
            return dump.RootElement.GetProperty("services").EnumerateObject()
                .ToDictionary(service => service.Name, service => (NodeConfig[])
            [
                .. service.Value.EnumerateArray().Select(node => new NodeConfig(
                    node.GetProperty("host").GetString()!, node.TryGetProperty("port", out var port) ? port.GetInt32() : null,
                    node.GetProperty("weight").GetInt32())),
            ]);
        }
        catch (Exception e)
            when (e is IOException or UnauthorizedAccessException or JsonException or InvalidOperationException or KeyNotFoundException
                or FormatException)
        {
            LogDumpFailed(file, e.Message);
            return [];
        }
    }

    /// <summary>The dump file as it is; null when there is none.</summary>
    public string? DumpText()
    {
        try
        {
            return _settings.DumpFile is { } file && File.Exists(file) ? File.ReadAllText(file) : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            LogDumpFailed(_settings.DumpFile!, e.Message);
            return null;
        }
    }

    IEnumerable<KeyValuePair<string, NodeConfig[]>> KnownServices() =>
        _watches.Where(pair => pair.Value.Nodes is not null).Select(pair => KeyValuePair.Create(pair.Key, pair.Value.Nodes!));

    public void WriteDump(Utf8JsonWriter writer)
    {
        writer.WriteStartObject();
        writer.WriteStartObject("config");
        writer.WriteStartArray("servers");
        foreach (var server in _settings.Servers)
        {
            writer.WriteStringValue(server.GetLeftPart(UriPartial.Authority));
        }
        writer.WriteEndArray();
        writer.WriteBoolean("keepalive", _settings.LongPolls);
        writer.WriteNumber("fetch_interval", _settings.FetchInterval.TotalSeconds);
        writer.WriteNumber("weight", _settings.Weight);
        writer.WriteStartObject("timeout");
        writer.WriteNumber("connect", (long)_settings.ConnectTimeout.TotalMilliseconds);
        writer.WriteNumber("read", (long)_settings.ReadTimeout.TotalMilliseconds);
        writer.WriteNumber("wait", (long)_settings.Wait.TotalSeconds);
        writer.WriteEndObject();
        writer.WriteEndObject();
        DiscoveredNodes.Write(writer, KnownServices());
        writer.WriteEndObject();
    }

    public async ValueTask DisposeAsync()
    {
        await _stopping.CancelAsync();
        await Task.WhenAll(_watches.Values.SelectMany(watch => watch.Polls));
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "discovery consul: {Service} has {Count} nodes at {Server}")]
    partial void LogNodes(string service, Uri server, int count);

    [LoggerMessage(Level = LogLevel.Error,
        Message = "discovery consul: {Service} cannot be asked for at {Server}, what is known of it serves on: {Failure}")]
    partial void LogFailed(string service, Uri server, string failure);

    [LoggerMessage(Level = LogLevel.Warning, Message = "discovery consul: {Service} can be asked for again at {Server}")]
    partial void LogBack(string service, Uri server);

    [LoggerMessage(Level = LogLevel.Error, Message = "discovery consul: dump file {File}: {Failure}")]
    partial void LogDumpFailed(string file, string failure);

    [LoggerMessage(Level = LogLevel.Warning, Message = "discovery consul: dump file {File} is too old and not used")]
    partial void LogDumpExpired(string file);
}
