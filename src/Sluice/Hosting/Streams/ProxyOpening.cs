using System.Buffers;
using System.IO.Pipelines;
using System.Net;
using Microsoft.AspNetCore.Connections;
using Microsoft.Extensions.Logging;
using Sluice.Net;
using Sluice.Pipeline;
using Sluice.Pipeline.TcpUdp;

namespace Sluice.Hosting.Streams;

/// <summary>What stands in front of a connection's own bytes: the PROXY header, and looking ahead without taking.</summary>
static partial class ProxyOpening
{
    const int MaxHeader = 8 * 1024;

    static readonly TimeSpan Patience = TimeSpan.FromSeconds(10);

    /// <summary>Takes the header; null when there is none.</summary>
    public static async ValueTask<(ProxyHeader Header, Stream After)?> ReadAsync(Stream stream, CancellationToken cancellation)
    {
        var input = PipeReader.Create(stream, new StreamPipeReaderOptions(leaveOpen: true));
        return await TakeAsync(input, cancellation) is { } header ? (header, Rest(input, stream)) : null;
    }

    static async ValueTask<ProxyHeader?> TakeAsync(PipeReader input, CancellationToken cancellation)
    {
        while (true)
        {
            var read = await input.ReadAsync(cancellation);
            var known = ProxyHeader.TryParse(read.Buffer, out var header, out var end);
            if (known == true)
            {
                // the rest is examined by whoever comes next
                input.AdvanceTo(end);
                return header;
            }
            if (known == false || read.IsCompleted || read.Buffer.Length > MaxHeader)
            {
                input.AdvanceTo(read.Buffer.Start);
                return null;
            }
            input.AdvanceTo(read.Buffer.Start, read.Buffer.End);
        }
    }

    /// <summary>So many bytes, or what there is when no more come, left where they are.</summary>
    public static async ValueTask<ReadOnlyMemory<byte>> PeekAsync(PipeReader input, int count, CancellationToken cancellation)
    {
        while (true)
        {
            var read = await input.ReadAsync(cancellation);
            if (read.Buffer.Length >= count || read.IsCompleted)
            {
                var bytes = read.Buffer.Slice(0, Math.Min(count, read.Buffer.Length)).ToArray();
                input.AdvanceTo(read.Buffer.Start);
                return bytes;
            }
            input.AdvanceTo(read.Buffer.Start, read.Buffer.End);
        }
    }

    /// <summary>The stream with what was read ahead of it in front again.</summary>
    public static Stream Rest(PipeReader input, Stream stream)
    {
        if (!input.TryRead(out var read))
        {
            return stream;
        }
        var ahead = read.Buffer.ToArray();
        input.AdvanceTo(read.Buffer.End);
        input.Complete();
        return ahead.Length == 0 ? stream : new PrefixedStream(ahead, stream);
    }

    /// <summary>Connection middleware for HTTP on the ports of <c>apisix.proxy_protocol</c>.</summary>
    public static ConnectionDelegate Use(ConnectionDelegate next, ILogger log) => async connection =>
    {
        using var patience = CancellationTokenSource.CreateLinkedTokenSource(connection.ConnectionClosed);
        patience.CancelAfter(Patience);
        ProxyHeader? header;
        try
        {
            header = await TakeAsync(connection.Transport.Input, patience.Token);
        }
        catch (Exception e) when (e is OperationCanceledException or IOException or ConnectionAbortedException)
        {
            return;
        }
        if (header is null)
        {
            LogNoHeader(log, $"{connection.LocalEndPoint}", $"{connection.RemoteEndPoint}");
            return;
        }
        connection.Features.Set<IProxiedConnection>(new Proxied(header.Source, header.Destination));
        await next(connection);
    };

    sealed record Proxied(IPEndPoint? Source, IPEndPoint? Destination) : IProxiedConnection;

    [LoggerMessage(Level = LogLevel.Error,
        Message = "{Address}: {Client} sent no PROXY header, which this port (apisix.proxy_protocol) asks for")]
    static partial void LogNoHeader(ILogger log, string address, string client);
}
