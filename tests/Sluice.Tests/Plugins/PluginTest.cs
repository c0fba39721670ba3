using System.Buffers;
using System.Net;
using System.Text;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Logging.Abstractions;
using Sluice.Model;
using Sluice.Model.Json;
using Sluice.Observability;
using Sluice.Pipeline;
using Sluice.Plugins;
using Sluice.Tests.Pipeline;

namespace Sluice.Tests.Plugins;

/// <summary>A route <c>r1</c> with plugins, whose requests go through the phases without sockets; the test says what the upstream answers.</summary>
sealed class PluginTest
{
    public PluginTest(string plugins, params Document[] others)
    {
        Services = new(Time, NullLoggerFactory.Instance, Metrics);
        Snapshot = null!;
        Configure(plugins, others);
    }

    public FakeTime Time { get; } = new();

    public GatewayMetrics Metrics { get; } = new(NullLogger.Instance);

    public PluginServices Services { get; }

    public Snapshot Snapshot { get; private set; }

    /// <summary>Another configuration, as after a PUT.</summary>
    public PluginTest Configure(string plugins, params Document[] others)
    {
        var route = TestExchange.Document(ResourceKind.Routes, "r1", $$"""{"uri":"/*","upstream":{"nodes":{"127.0.0.1:1":1} },"plugins":{{plugins}} }""");
        var documents = others.Append(route).ToArray();
        var registry = new PluginRegistry(Builtin.All);
        foreach (var document in documents)
        {
            Assert.Null(ResourceChecker.Check(document.Kind, document.Id, document.Value, DocumentSet.Of(documents), registry));
        }
        var (snapshot, problems) = new SnapshotCompiler(Services, Builtin.All).Compile(TestExchange.DefaultSettings, DocumentSet.Of(documents), null);
        Snapshot = snapshot ?? throw new InvalidOperationException(string.Join('\n', problems));
        return this;
    }

    /// <summary>What the plugin says to a configuration; null = nothing.</summary>
    public static string? Check(string plugin, string config) => Of(plugin).Check(Parse(config));

    public static string? CheckConsumer(string plugin, string config) => Of(plugin).CheckForConsumer(Parse(config));

    public static PluginDescriptor Of(string plugin) => Builtin.All.Single(descriptor => descriptor.Name == plugin);

    public static Document Consumer(string name, string plugins, string more = "") =>
        TestExchange.Document(ResourceKind.Consumers, name, $$"""{"plugins": {{plugins}} {{more}} }""");

    static JsonObject Parse(string config) => CjsonReader.Parse(Encoding.UTF8.GetBytes(config))!.AsObject();

    public Task<Result> GetAsync(string target, params (string Name, string Value)[] headers) => SendAsync("GET", target, null, headers);

    /// <summary>Runs a request through all phases.</summary>
    /// <param name="upstream">Null: 200 without a body.</param>
    public async Task<Result> SendAsync(string method, string target, Upstream? upstream = null, params (string Name, string Value)[] headers)
    {
        var exchange = Exchange(method, target, headers);
        var body = new MemoryStream();
        exchange.Http.Response.Body = body;
        var answer = await AnswerAsync(exchange);
        if (answer is not null)
        {
            await AnswerWriter.WriteAsync(exchange, answer);
        }
        else
        {
            Relay(exchange, upstream ?? new Upstream(), body);
        }
        foreach (var (phase, _) in exchange.Snapshot.GlobalRules.Log.Concat(exchange.Chain.Log))
        {
            phase.Log(exchange);
        }
        return new Result(exchange, answer is null, Encoding.UTF8.GetString(body.ToArray()));
    }

    Exchange Exchange(string method, string target, (string Name, string Value)[] headers)
    {
        var http = new DefaultHttpContext();
        http.Request.Method = method;
        http.Request.Scheme = "http";
        http.Request.Headers.Host = "gateway.test:9080";
        http.Request.Protocol = "HTTP/1.1";
        http.Features.Get<IHttpRequestFeature>()!.RawTarget = target;
        http.Connection.RemoteIpAddress = IPAddress.Parse("192.0.2.1");
        foreach (var (name, value) in headers)
        {
            if (name == ":peer")
            {
                http.Connection.RemoteIpAddress = IPAddress.Parse(value);
            }
            else
            {
                http.Request.Headers.Append(name, value);
            }
        }
        var exchange = new Exchange(http, Snapshot, Services, Time.GetTimestamp());
        Assert.Null(RequestCheck.Refuse(exchange));
        exchange.Route = Snapshot.Routes["r1"];
        exchange.Chain = exchange.Route.Chain;
        exchange.MatchedUri = "/*";
        return exchange;
    }

    static async Task<Answer?> AnswerAsync(Exchange exchange)
    {
        foreach (var (phase, use) in exchange.Chain.Rewrite)
        {
            if (await phase.RewriteAsync(exchange) is { } answer)
            {
                return use.Dress(answer);
            }
        }
        if (exchange.Consumer is { } consumer)
        {
            exchange.Chain = exchange.Route!.ChainFor(consumer);
        }
        foreach (var (phase, use) in exchange.Chain.Access)
        {
            if (await phase.AccessAsync(exchange) is { } answer)
            {
                return use.Dress(answer);
            }
        }
        foreach (var (phase, use) in exchange.Chain.BeforeProxy)
        {
            if (await phase.BeforeProxyAsync(exchange) is { } answer)
            {
                return use.Dress(answer);
            }
        }
        return null;
    }

    static void Relay(Exchange exchange, Upstream upstream, MemoryStream body)
    {
        exchange.Upstream.AddAttempt("127.0.0.1:1", upstream.Status);
        exchange.Response.StatusCode = upstream.Status;
        foreach (var (name, value) in upstream.Headers)
        {
            exchange.Response.Headers.Append(name, value);
        }
        HeaderPhase.Run(exchange);
        if (exchange.ReplacedBody is { } replaced)
        {
            body.Write(replaced.Span);
            return;
        }
        var filters = BodyFilters.Open(exchange);
        var output = new ArrayBufferWriter<byte>();
        foreach (var piece in upstream.Pieces)
        {
            if (filters is null)
            {
                output.Write(piece);
                continue;
            }
            filters.Filter(piece, false, output);
            if (filters.Ended)
            {
                break;
            }
        }
        filters?.Filter(default, true, output);
        body.Write(output.WrittenSpan);
    }

    /// <summary>What the upstream answers.</summary>
    public sealed record Upstream(int Status = 200, params (string Name, string Value)[] Headers)
    {
        public byte[][] Pieces { get; init; } = [];

        public static Upstream Text(params string[] pieces) => new(200, ("Content-Type", "text/plain")) { Pieces = [.. pieces.Select(Encoding.UTF8.GetBytes)] };

        public static Upstream Events(params string[] pieces) => Text(pieces) with { Headers = [("Content-Type", "text/event-stream; charset=utf-8")] };
    }

    /// <param name="Proxied">False: the gateway answered itself.</param>
    /// <param name="Body">As the client gets it.</param>
    public sealed record Result(Exchange Exchange, bool Proxied, string Body)
    {
        public int Status => Exchange.Response.StatusCode;

        /// <summary>What the upstream is asked.</summary>
        public string Target => Exchange.UpstreamUri ?? Exchange.Target;

        public string? Sent(string header) => Text(Exchange.Request.Headers, header);

        public string? Answered(string header) => Text(Exchange.Response.Headers, header);

        static string? Text(IHeaderDictionary headers, string name) => headers.TryGetValue(name, out var values) ? string.Join(" | ", values.ToArray()) : null;
    }
}
