using System.Collections.Concurrent;
using Google.Protobuf;
using Grpc.Core;
using Sluice.FunctionalTests.Origins.Greet;

namespace Sluice.FunctionalTests.Origins;

/// <summary>A gRPC service of real messages, with all four kinds of calls.</summary>
public sealed class GreeterService : Greeter.GreeterBase
{
    /// <summary>What the calls saw, in the order in which they saw it.</summary>
    public ConcurrentQueue<string> Seen { get; } = [];

    /// <summary>Released once for each message that <see cref="Count"/> may send.</summary>
    public SemaphoreSlim Turns { get; } = new(0);

    public override async Task<Reply> Say(Request request, ServerCallContext context)
    {
        Seen.Enqueue($"{context.Method} {request} deadline={context.Deadline != DateTime.MaxValue}");
        switch (request.Name)
        {
            case "late":
                // the status comes in the trailers
                await context.WriteResponseHeadersAsync([]);
                await Turns.WaitAsync(context.CancellationToken);
                throw new RpcException(new Status(StatusCode.NotFound, "nobody: ä"));
            case "fail":
                throw new RpcException(new Status(StatusCode.Unavailable, "out of service"),
                    new Metadata { { "grpc-status-details-bin", Details() } });
            case "hang":
                await Task.Delay(Timeout.Infinite, context.CancellationToken);
                break;
        }
        return new Reply { Message = $"Hello {request.Name}{(request.Person is { } person ? $", {person.Name} is {person.Age}" : "")}",
            Number = request.Number };
    }

    static byte[] Details()
    {
        using var bytes = new MemoryStream();
        using var output = new CodedOutputStream(bytes);
        output.WriteTag(1, WireFormat.WireType.Varint);
        output.WriteInt32(14);
        output.WriteTag(2, WireFormat.WireType.LengthDelimited);
        output.WriteString("out of service");
        output.WriteTag(3, WireFormat.WireType.LengthDelimited);
        output.WriteMessage(Google.Protobuf.WellKnownTypes.Any.Pack(new Detail { Code = 1, Reason = "night" }));
        output.Flush();
        return bytes.ToArray();
    }

    public override async Task Count(Request request, IServerStreamWriter<Reply> responseStream, ServerCallContext context)
    {
        for (var number = 0; number < request.Number; number++)
        {
            await Turns.WaitAsync(context.CancellationToken);
            await responseStream.WriteAsync(new Reply { Number = number });
        }
        if (request.Name.Length > 0)
        {
            await Turns.WaitAsync(context.CancellationToken);
            throw new RpcException(new Status(StatusCode.Aborted, request.Name));
        }
    }

    public override async Task<Reply> Join(IAsyncStreamReader<Request> requestStream, ServerCallContext context)
    {
        var names = new List<string>();
        await foreach (var request in requestStream.ReadAllAsync(context.CancellationToken))
        {
            Seen.Enqueue(request.Name);
            names.Add(request.Name);
        }
        return new Reply { Message = string.Join(' ', names) };
    }

    public override async Task Chat(IAsyncStreamReader<Request> requestStream, IServerStreamWriter<Reply> responseStream,
        ServerCallContext context)
    {
        await foreach (var request in requestStream.ReadAllAsync(context.CancellationToken))
        {
            await responseStream.WriteAsync(new Reply { Message = $"re: {request.Name}" });
        }
    }
}
