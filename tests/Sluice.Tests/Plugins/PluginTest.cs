using System.Net;
using System.Text;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Logging.Abstractions;
using Sluice.Model;
using Sluice.Model.Json;
using Sluice.Model.Settings;
using Sluice.Net;
using Sluice.Observability;
using Sluice.Pipeline;
using Sluice.Plugins;
using Sluice.Tests.Pipeline;

namespace Sluice.Tests.Plugins;

/// <summary>A route <c>r1</c> with plugins, whose requests go through the phases without sockets; the test says what the upstream
/// answers.</summary>
sealed class PluginTest
{
    public PluginTest(string plugins, params Document[] others)
    {
        Services = new(Time, NullLoggerFactory.Instance, Metrics);
        Snapshot = null!;
        Configure(plugins, others);
    }

    /// <summary>A peer whose <c>X-Forwarded-*</c> is believed.</summary>
    public const string TrustedProxy = "192.0.2.9";

    static readonly GatewaySettings Settings = SettingsReader.Parse("/", $"apisix: {{trusted_addresses: [{TrustedProxy}]}}", null,
        _ => null).Settings!;

    public FakeTime Time { get; } = new();

    public GatewayMetrics Metrics { get; } = new(NullLogger.Instance);

    public PluginServices Services { get; }

    public Snapshot Snapshot { get; private set; }

    /// <summary>Another configuration, as after a PUT.</summary>
    public PluginTest Configure(string plugins, params Document[] others)
    {
        var route = TestExchange.Document(ResourceKind.Routes, "r1",
            $$"""{"uri":"/*","upstream":{"nodes":{"127.0.0.1:1":1} },"plugins":{{plugins}} }""");
        var documents = others.Append(route).ToArray();
        var maker = TestExchange.Maker(All, DocumentSet.Of(documents));
        foreach (var document in documents)
        {
            Assert.Null(ResourceChecker.Check(document.Kind, document.Id, document.Value, DocumentSet.Of(documents), maker));
        }
        return Compile(DocumentSet.Of(documents), null);
    }

    static readonly PluginDescriptor[] All =
    [
        .. Builtin.All, PluginDescriptor.Of<StopsBeforeProxy, StopsBeforeProxy.Config>(),
        PluginDescriptor.Of<Moderates, Moderates.Config>(), PluginDescriptor.Of<Doubles, Doubles.Config>(),
    ];

    PluginTest Compile(DocumentSet documents, Snapshot? previous)
    {
        var (snapshot, problems) = new SnapshotCompiler(Services, All).Compile(Settings, documents, previous);
        Snapshot = snapshot ?? throw new InvalidOperationException(string.Join('\n', problems));
        return this;
    }

    /// <summary>One document is another one: only what it concerns is compiled.</summary>
    public PluginTest Change(Document document) => Compile(Snapshot.Documents.With(document), Snapshot);

    public PluginTest Remove(Document document) => Compile(Snapshot.Documents.Without(document.Kind, document.Id), Snapshot);

    /// <summary>Port of the node that would be asked. The route needs the plugin <c>stops-before-proxy</c>.</summary>
    public async Task<int> PortAsync(string target, params (string Name, string Value)[] headers)
    {
        var exchange = new Exchange(Request("GET", target, headers), Snapshot, Services, Time.GetTimestamp());
        await _pipeline.RunAsync(exchange);
        Assert.Equal(StopsBeforeProxy.Status, exchange.Response.StatusCode);
        return exchange.Upstream.NodePort;
    }

    /// <summary>What the plugin says to a configuration; null = nothing.</summary>
    public static string? Check(string plugin, string config) =>
        TestExchange.Maker(Builtin.All).Check(Of(plugin), Parse(config), "route r1");

    public static string? CheckConsumer(string plugin, string config) => Of(plugin).CheckCredential(Parse(config));

    public static PluginDescriptor Of(string plugin) => Builtin.All.Single(descriptor => descriptor.Name == plugin);

    public static Document Consumer(string name, string plugins, string more = "") =>
        TestExchange.Document(ResourceKind.Consumers, name, $$"""{"plugins": {{plugins}} {{more}} }""");

    static JsonObject Parse(string config) => CjsonReader.Parse(Encoding.UTF8.GetBytes(config))!.AsObject();

    public Task<Result> GetAsync(string target, params (string Name, string Value)[] headers) => SendAsync("GET", target, null, headers);

    /// <summary>Runs a request through the gateway's own pipeline.</summary>
    /// <param name="upstream">Null: 200 without a body.</param>
    /// <param name="headers">Also <c>:peer</c>, the client's address, and <c>:body</c>, the request's body.</param>
    public async Task<Result> SendAsync(string method, string target, Upstream? upstream = null,
        params (string Name, string Value)[] headers)
    {
        var http = Request(method, target, headers);
        var body = new MemoryStream();
        http.Response.Body = body;
        var exchange = new Exchange(http, Snapshot, Services, Time.GetTimestamp())
        {
            ForwardTo = new ForwardTo.From(async (exchange, cancel) =>
            {
                if (upstream?.Read is { } read)
                {
                    await read(exchange);
                }
                return new Source(upstream ?? new Upstream());
            }),
        };
        await _pipeline.RunAsync(exchange);
        await http.Response.BodyWriter.FlushAsync();
        return new Result(exchange, !exchange.AnsweredByGateway, Encoding.UTF8.GetString(body.ToArray())) { Bytes = body.ToArray() };
    }

    readonly GatewayPipeline _pipeline = new(
        new Forwarder(null!, null!, null!, null!, "", NullLogger<Forwarder>.Instance), NullLogger<GatewayPipeline>.Instance);

    static DefaultHttpContext Request(string method, string target, (string Name, string Value)[] headers)
    {
        var http = new DefaultHttpContext();
        http.Request.Method = method;
        http.Request.Scheme = "http";
        http.Request.Headers.Host = "gateway.test:9080";
        http.Request.Protocol = "HTTP/1.1";
        http.Features.Get<IHttpRequestFeature>()!.RawTarget = target;
        http.Connection.RemoteIpAddress = IPAddress.Parse("192.0.2.1");
        http.Connection.LocalIpAddress = IPAddress.Parse("192.0.2.254");
        http.Connection.LocalPort = 9080;
        foreach (var (name, value) in headers)
        {
            if (name == ":peer")
            {
                http.Connection.RemoteIpAddress = IPAddress.Parse(value);
            }
            else if (name == ":body")
            {
                var bytes = Encoding.UTF8.GetBytes(value);
                http.Request.Body = new MemoryStream(bytes);
                http.Request.ContentLength = bytes.Length;
                http.Features.Set<IHttpRequestBodyDetectionFeature>(new HasBody());
            }
            else
            {
                http.Request.Headers.Append(name, value);
            }
        }
        return http;
    }

    sealed record HasBody : IHttpRequestBodyDetectionFeature
    {
        public bool CanHaveBody => true;
    }

    /// <summary>An upstream whose pieces are there as soon as somebody reads.</summary>
    sealed class Source(Upstream upstream) : IResponseSource, IBodySource
    {
        int _next;

        public bool IsStream =>
            Sluice.Net.Http.MediaType.IsStream(upstream.Headers.FirstOrDefault(header => header.Name == "Content-Type").Value);

        public bool NeverBuffered => true;

        public long? Length => upstream.Headers.FirstOrDefault(header => header.Name == "Content-Length").Value is { } length
            ? long.Parse(length, null) : null;

        public BodyFraming Framing => new(BodyKind.CloseDelimited);

        public bool Ended => !upstream.BreaksOff && AllRead;

        bool AllRead => _next == upstream.Pieces.Length;

        public void WriteHead(Exchange exchange)
        {
            exchange.Upstream.AddAttempt("127.0.0.1:1", upstream.Status);
            exchange.Response.StatusCode = upstream.Status;
            foreach (var (name, value) in upstream.Headers.Where(header => header.Name != "Content-Length"))
            {
                exchange.Response.Headers.Append(name, value);
            }
        }

        public IBodySource TakeBody() => this;

        public ValueTask WaitReadableAsync() => default;

        public ValueTask<int> ReadAsync(Memory<byte> destination)
        {
            if (AllRead && upstream.BreaksOff)
            {
                throw new UpstreamException(UpstreamFailureKind.EarlyClose, "broken off");
            }
            if (Ended)
            {
                return new(0);
            }
            var piece = upstream.Pieces[_next++];
            piece.CopyTo(destination);
            return new(piece.Length);
        }

        public IEnumerable<KeyValuePair<string, string>> Trailers =>
            upstream.Trailers.Select(static trailer => KeyValuePair.Create(trailer.Name, trailer.Value));

        public void Abort(UpstreamFailureKind reason)
        {
        }

        public ValueTask DisposeAsync() => default;
    }

    /// <summary>What the upstream answers.</summary>
    public sealed record Upstream(int Status = 200, params (string Name, string Value)[] Headers)
    {
        public byte[][] Pieces { get; init; } = [];

        /// <summary>Reads the request before it answers; null: it does not.</summary>
        public Func<Exchange, Task>? Read { get; init; }

        public (string Name, string Value)[] Trailers { get; init; } = [];

        /// <summary>After the last piece the connection breaks.</summary>
        public bool BreaksOff { get; init; }

        public static Upstream Text(params string[] pieces) =>
            new(200, ("Content-Type", "text/plain")) { Pieces = [.. pieces.Select(Encoding.UTF8.GetBytes)] };

        public static Upstream Events(params string[] pieces) =>
            Text(pieces) with { Headers = [("Content-Type", "text/event-stream; charset=utf-8")] };
    }

    /// <param name="Proxied">False: the gateway answered itself.</param>
    /// <param name="Body">As the client gets it.</param>
    public sealed record Result(Exchange Exchange, bool Proxied, string Body)
    {
        public byte[] Bytes { get; init; } = [];

        public int Status => Exchange.Response.StatusCode;

        /// <summary>What the upstream is asked.</summary>
        public string Target => Exchange.UpstreamUri ?? Exchange.Target;

        public string? Sent(string header) => Text(Exchange.Request.Headers, header);

        public string? Answered(string header) => Text(Exchange.Response.Headers, header);

        static string? Text(IHeaderDictionary headers, string name) =>
            headers.TryGetValue(name, out var values) ? string.Join(" | ", values.ToArray()) : null;
    }
}
