using System.Buffers;
using System.IO.Pipelines;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Logging;
using Sluice.Model.Nginx;
using Sluice.Net;
using Sluice.Net.Http;
using Sluice.Pipeline;

namespace Sluice.Plugins.Traffic;

/// <summary>Sends copies of requests to another server, whose answers are thrown away.</summary>
internal sealed partial class ProxyMirror : IPlugin<ProxyMirror, ProxyMirror.Config>, IRewrite, IBeforeProxy, IHolds
{
    public static PluginInfo Info { get; } = new(
        Name: "proxy-mirror",
        Priority: 1010,
        Schema: """
            {
              "type": "object",
              "properties": {
                "host": { "type": "string", "pattern": "^(http(s)?|grpc(s)?):\\/\\/([\\da-zA-Z.-]+|\\[[\\da-fA-F:]+\\])(:\\d+)?$", "description": "scheme, name and port of the other server; this version of Sluice mirrors to http and https" },
                "path": { "type": "string", "pattern": "^/[^?&]+$", "description": "another path for the copies" },
                "path_concat_mode": { "type": "string", "default": "replace", "enum": ["replace", "prefix"], "description": "whether path stands in the place of the request's or before it" },
                "sample_ratio": { "type": "number", "minimum": 0.00001, "maximum": 1, "default": 1, "description": "the share of requests that are copied" }
              },
              "required": ["host"]
            }
            """,
        Summary: """
            Sends a copy of each request, or of a share of them, to another server and throws its answers away. The path is the one before `proxy-rewrite`, the headers are those that the upstream gets. The request is never held up: its body is copied as
            it passes, and a copy that cannot keep up (more than 1 MiB behind), or that fails, is given up. At most 1,000 copies are under way at a time; requests beyond are not copied.
            """)
    {
        Example = """
            ```json
            {"proxy-mirror": {"host": "http://10.0.0.9:8080", "sample_ratio": 0.1}}
            ```
            """,
        Attributes = ["timeout.connect", "timeout.read", "timeout.send"],
    };

    public sealed record Config(string Host, string? Path = null, string PathConcatMode = "replace", double SampleRatio = 1);

    const int MostAtOnce = 1000;

    readonly Config _config;
    readonly OutgoingOptions _options;
    readonly ILogger _logger;
    readonly PluginServices _services;
    int _underWay;

    ProxyMirror(Config config, PluginContext context)
    {
        _config = config;
        _services = context.Services;
        _logger = context.Services.Loggers.CreateLogger<ProxyMirror>();
        _options = new()
        {
            ConnectTimeout = TimeOf(context.Attr, "connect"),
            Timeout = TimeOf(context.Attr, "read") + TimeOf(context.Attr, "send"),
            Tls = OutgoingTls.Unverified,
        };
    }

    static TimeSpan TimeOf(JsonObject? attributes, string name) =>
        attributes?["timeout"]?[name] is { } text && NginxUnits.TryParseTime(text.ToString(), out var time) ? time
        : TimeSpan.FromSeconds(60);

    public static JsonTypeInfo<Config> ConfigType => ProxyMirrorJson.Default.Config;

    public static ProxyMirror Create(Config config, PluginContext context) => config.Host.StartsWith("grpc", StringComparison.Ordinal)
        ? throw new ConfigException("host: mirroring over gRPC is not supported by this version of Sluice: use http or https")
        : new(config, context);

    /// <summary>One request's copy, until it is sent.</summary>
    /// <param name="Body">Null: the request has none.</param>
    sealed record Copy(string Uri, Tee? Body);

    public ValueTask<Answer?> RewriteAsync(Exchange exchange)
    {
        if ((_config.SampleRatio >= 1 || Random.Shared.NextDouble() < _config.SampleRatio) && Volatile.Read(ref _underWay) < MostAtOnce)
        {
            exchange.Items[this] = new Copy(_config.Host + TargetOf(exchange), exchange.CanHaveBody ? Tee.Of(exchange) : null);
        }
        return default;
    }

    string TargetOf(Exchange exchange)
    {
        var target = exchange.UpstreamUri ?? exchange.Target;
        if (_config.Path is not { } path)
        {
            return target;
        }
        var query = target.IndexOf('?', StringComparison.Ordinal);
        return _config.PathConcatMode == "prefix" ? path + target : query < 0 ? path : path + target[query..];
    }

    public ValueTask<Answer?> BeforeProxyAsync(Exchange exchange)
    {
        if (exchange.Find(this) is Copy copy)
        {
            var request = new HttpRequestMessage(new HttpMethod(exchange.UpstreamMethod), copy.Uri);
            if (copy.Body is { } body)
            {
                request.Content = new StreamContent(body.Stream);
                request.Content.Headers.ContentLength = body.Length;
            }
            foreach (var (name, values) in exchange.Request.Headers)
            {
                if (!HopByHop.ContainsOfRequest(name) && !HeaderName.Is(name, "Content-Length") && !name.StartsWith(':')
                    && HeaderName.IsToken(name)
                    && !request.Headers.TryAddWithoutValidation(name, values.ToArray()))
                {
                    request.Content?.Headers.TryAddWithoutValidation(name, values.ToArray());
                }
            }
            request.Headers.Host = exchange.UpstreamHost ?? exchange.Request.Headers.Host.ToString();
            Interlocked.Increment(ref _underWay);
            // on its own from here on: nothing waits for it
            _ = Task.Run(() => SendAsync(request));
        }
        return default;
    }

    async Task SendAsync(HttpRequestMessage request)
    {
        try
        {
            using var response = await _services.Http.OpenAsync(request, _options, CancellationToken.None);
        }
        catch (Exception e)
            when (e is OutgoingException or IOException or HttpRequestException or InvalidOperationException or OperationCanceledException)
        {
            LogFailed(_config.Host, e.Message);
        }
        finally
        {
            request.Dispose();
            Interlocked.Decrement(ref _underWay);
        }
    }

    public void Release(Exchange exchange)
    {
        if (exchange.Items.Remove(this, out var copy))
        {
            // what has not come by now does not come
            ((Copy)copy).Body?.End();
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "failed to mirror a request to {Host}: {Error}")]
    partial void LogFailed(string host, string error);

    /// <summary>Copies a request's body while somebody else reads it.</summary>
#pragma warning disable CA1001 // the request that the copy goes into disposes of the stream
    sealed class Tee : PipeReader
#pragma warning restore CA1001
    {
        const int MostBehind = 1024 * 1024;

        readonly PipeReader _inner;
        readonly Pipe _copy = new(new PipeOptions(pauseWriterThreshold: 0, useSynchronizationContext: false));
        readonly Counted _stream;
        ReadResult _last;
        long _written;
        int _ended;

        Tee(PipeReader inner, long? length)
        {
            (_inner, Length) = (inner, length);
            _stream = new(_copy.Reader.AsStream());
        }

        /// <summary>Stands in the place of the request's body from here on.</summary>
        public static Tee Of(Exchange exchange)
        {
            var tee = new Tee(exchange.Request.BodyReader, exchange.Request.ContentLength);
            exchange.Http.Features.Set<IRequestBodyPipeFeature>(new Feature(tee));
            return tee;
        }

        sealed record Feature(PipeReader Reader) : IRequestBodyPipeFeature;

        public long? Length { get; }

        public Stream Stream => _stream;

        /// <summary>Nothing more comes: a copy that is not complete fails.</summary>
        public void End(bool complete = false)
        {
            if (Interlocked.Exchange(ref _ended, 1) == 0)
            {
                _copy.Writer.Complete(complete ? null : new IOException("the request's body did not come, or its copy is too far behind"));
            }
        }

        public override async ValueTask<ReadResult> ReadAsync(CancellationToken cancellationToken = default) =>
            Seen(await _inner.ReadAsync(cancellationToken));

        public override bool TryRead(out ReadResult result)
        {
            var has = _inner.TryRead(out result);
            if (has)
            {
                Seen(result);
            }
            return has;
        }

        ReadResult Seen(ReadResult result)
        {
            _last = result;
            if (result is { IsCompleted: true, Buffer.IsEmpty: true })
            {
                End(complete: true);
            }
            return result;
        }

        public override void AdvanceTo(SequencePosition consumed) => AdvanceTo(consumed, consumed);

        public override void AdvanceTo(SequencePosition consumed, SequencePosition examined)
        {
            if (Volatile.Read(ref _ended) == 0)
            {
                var passed = _last.Buffer.Slice(_last.Buffer.Start, consumed);
                if (_written + passed.Length - _stream.Taken > MostBehind)
                {
                    End();
                }
                else if (!passed.IsEmpty)
                {
                    foreach (var piece in passed)
                    {
                        _copy.Writer.Write(piece.Span);
                    }
                    _written += passed.Length;
                    _ = _copy.Writer.FlushAsync().AsTask();
                }
                if ((_last.IsCompleted && _last.Buffer.Slice(consumed).IsEmpty) || _written == Length)
                {
                    End(complete: true);
                }
            }
            _last = default;
            _inner.AdvanceTo(consumed, examined);
        }

        public override void CancelPendingRead() => _inner.CancelPendingRead();

        public override void Complete(Exception? exception = null) => _inner.Complete(exception);

        /// <summary>Knows how much of the copy has been taken.</summary>
        sealed class Counted(Stream inner) : Stream
        {
            long _taken;

            public long Taken => Volatile.Read(ref _taken);

            public override bool CanRead => true;

            public override bool CanSeek => false;

            public override bool CanWrite => false;

            public override long Length => throw new NotSupportedException();

            public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

            public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
            {
                var read = await inner.ReadAsync(buffer, cancellationToken);
                Interlocked.Add(ref _taken, read);
                return read;
            }

            public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
                ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

            public override int Read(byte[] buffer, int offset, int count)
            {
                var read = inner.Read(buffer, offset, count);
                Interlocked.Add(ref _taken, read);
                return read;
            }

            public override void Flush()
            {
            }

            public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

            public override void SetLength(long value) => throw new NotSupportedException();

            public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
        }
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(ProxyMirror.Config))]
sealed partial class ProxyMirrorJson : JsonSerializerContext;
