using System.Collections.Concurrent;
using System.Text;
using Grpc.Core;

namespace Sluice.FunctionalTests.Origins;

/// <summary>A gRPC service whose messages are texts, so that no code has to be generated.</summary>
[BindServiceMethod(typeof(GrpcEcho), nameof(Bind))]
public class GrpcEcho
{
    const string Service = "test.Echo";

    static readonly Marshaller<string> Text = Marshallers.Create(static text => Encoding.UTF8.GetBytes(text),
        static bytes => Encoding.UTF8.GetString(bytes));

    static Method<string, string> Of(MethodType type, string name) => new(type, Service, name, Text, Text);

    public static readonly Method<string, string> UnaryMethod = Of(MethodType.Unary, nameof(Unary));
    public static readonly Method<string, string> CountMethod = Of(MethodType.ServerStreaming, nameof(Count));
    public static readonly Method<string, string> JoinMethod = Of(MethodType.ClientStreaming, nameof(Join));
    public static readonly Method<string, string> ChatMethod = Of(MethodType.DuplexStreaming, nameof(Chat));

    /// <summary>What the calls saw, in the order in which they saw it.</summary>
    public ConcurrentQueue<string> Seen { get; } = [];

    /// <summary>Released once for each message that <see cref="Count"/> may send.</summary>
    public SemaphoreSlim Turns { get; } = new(0);

    /// <summary>Called by the library when the service is mapped.</summary>
    public static void Bind(ServiceBinderBase binder, GrpcEcho? service)
    {
        binder.AddMethod(UnaryMethod, service is null ? null : new UnaryServerMethod<string, string>(service.Unary));
        binder.AddMethod(CountMethod, service is null ? null : new ServerStreamingServerMethod<string, string>(service.Count));
        binder.AddMethod(JoinMethod, service is null ? null : new ClientStreamingServerMethod<string, string>(service.Join));
        binder.AddMethod(ChatMethod, service is null ? null : new DuplexStreamingServerMethod<string, string>(service.Chat));
    }

    public virtual async Task<string> Unary(string request, ServerCallContext context)
    {
        Seen.Enqueue(
            $"{context.Method} host={context.Host} x={context.RequestHeaders.GetValue("x-test")} deadline={context.Deadline != DateTime.MaxValue}");
        context.ResponseTrailers.Add("x-trailer", "after");
        await context.WriteResponseHeadersAsync(new Metadata { { "x-header", "before" } });
        switch (request)
        {
            case "fail":
                throw new RpcException(new Status(StatusCode.NotFound, "gibt es nicht: ä %"));
            case "hang":
                Seen.Enqueue("hanging");
                try
                {
                    await Task.Delay(Timeout.Infinite, context.CancellationToken);
                }
                finally
                {
                    Seen.Enqueue("cancelled");
                }
                break;
        }
        return $"echo {request}";
    }

    public virtual async Task Count(string request, IServerStreamWriter<string> responses, ServerCallContext context)
    {
        for (var number = 0; ; number++)
        {
            await Turns.WaitAsync(context.CancellationToken);
            if (number == int.Parse(request))
            {
                context.ResponseTrailers.Add("x-count", request);
                return;
            }
            await responses.WriteAsync($"{number}");
        }
    }

    public virtual async Task<string> Join(IAsyncStreamReader<string> requests, ServerCallContext context)
    {
        var all = new StringBuilder();
        await foreach (var request in requests.ReadAllAsync(context.CancellationToken))
        {
            Seen.Enqueue(request);
            all.Append(request);
        }
        return all.ToString();
    }

    public virtual async Task Chat(IAsyncStreamReader<string> requests, IServerStreamWriter<string> responses, ServerCallContext context)
    {
        await foreach (var request in requests.ReadAllAsync(context.CancellationToken))
        {
            await responses.WriteAsync($"re: {request}");
        }
    }
}
