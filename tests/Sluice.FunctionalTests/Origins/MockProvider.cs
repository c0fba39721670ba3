using System.Collections.Concurrent;
using System.Globalization;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;

namespace Sluice.FunctionalTests.Origins;

/// <summary>
/// A provider of language models that does what a model's name says, in the dialect that is asked for (chat completions, responses,
/// messages, embeddings):
/// <c>mock/tokens=3,gated</c>. What a request without such a name gets, the test says.
/// <list type="bullet">
/// <item><c>tokens=n</c>: so many words (3)</item>
/// <item><c>gated</c>: each event of a stream waits for <see cref="Next"/></item>
/// <item><c>status=n</c>: an error, with <c>Retry-After: 7</c></item>
/// <item><c>nousage</c>: no tokens are told</item>
/// <item><c>tool</c>: a tool is called</item>
/// <item><c>cut=n</c>: the connection is reset after so many events</item>
/// <item><c>bytes</c>: each byte is written by itself</item>
/// </list>
/// </summary>
sealed class MockProvider : IAsyncDisposable
{
    readonly WebOrigin _origin;
    readonly SemaphoreSlim _gate = new(0);
    readonly TaskCompletionSource _gone = new(TaskCreationOptions.RunContinuationsAsynchronously);

    MockProvider(WebOrigin origin) => _origin = origin;

    /// <summary>A request as it came.</summary>
    public sealed record Seen(string Method, string Target, IReadOnlyDictionary<string, string> Headers, string Text)
    {
        public JsonNode Body => JsonNode.Parse(Text)!;
    }

    public ConcurrentQueue<Seen> Requests { get; } = [];

    public int Port => _origin.Port;

    public string Endpoint => $"http://127.0.0.1:{Port}";

    /// <summary>The gateway has let a request go before it was answered.</summary>
    public Task Gone => _gone.Task;

    /// <summary>Lets the next event of a gated stream go.</summary>
    public void Next() => _gate.Release();

    /// <summary>The last request.</summary>
    public Seen Last => Requests.Last();

    /// <param name="script">What models without a script of their own do.</param>
    public static async Task<MockProvider> StartAsync(string script = "")
    {
        MockProvider? provider = null;
        var origin = await WebOrigin.StartAsync(context => provider!.ServeAsync(context, script));
        return provider = new(origin);
    }

    async Task ServeAsync(HttpContext context, string otherwise)
    {
        using var reader = new StreamReader(context.Request.Body);
        var text = await reader.ReadToEndAsync();
        Requests.Enqueue(new(
            context.Request.Method, context.Request.Path + context.Request.QueryString,
            context.Request.Headers.ToDictionary(header => header.Key, header => header.Value.ToString(), StringComparer.OrdinalIgnoreCase),
            text));
        var body = text.Length == 0 ? [] : JsonNode.Parse(text)!.AsObject();
        var name = (string?)body["model"] ?? "";
        var script = Script.Of(name.StartsWith("mock/", StringComparison.Ordinal) ? name["mock/".Length..] : otherwise);
        var path = context.Request.Path.Value!;
        MockDialect dialect = path.EndsWith("/messages", StringComparison.Ordinal) ? new MessagesDialect(script, name)
            : path.EndsWith("/responses", StringComparison.Ordinal) ? new ResponsesDialect(script, name)
            : path.EndsWith("/embeddings", StringComparison.Ordinal) ? new EmbeddingsDialect(script, name)
            : new ChatDialect(script, name);
        context.Response.Headers["X-Request-Id"] = "req-1";
        context.Response.Headers["X-Internal"] = "secret";
        if (script.Status != 200)
        {
            context.Response.StatusCode = script.Status;
            context.Response.Headers.RetryAfter = "7";
            context.Response.ContentType = "application/json";
            await context.Response.WriteAsync(dialect.Error());
        }
        else if ((bool?)body["stream"] == true)
        {
            await StreamAsync(context, script, dialect.Events());
        }
        else
        {
            context.Response.ContentType = "application/json";
            await context.Response.WriteAsync(dialect.Whole());
        }
    }

    async Task StreamAsync(HttpContext context, Script script, IEnumerable<string> events)
    {
        context.Response.ContentType = "text/event-stream";
        using var gone = context.RequestAborted.Register(() => _gone.TrySetResult());
        var sent = 0;
        foreach (var one in events)
        {
            if (script.Gated)
            {
                await _gate.WaitAsync(context.RequestAborted);
            }
            if (sent++ == script.Cut)
            {
                context.Abort();
                return;
            }
            if (script.Bytes)
            {
                foreach (var letter in System.Text.Encoding.UTF8.GetBytes(one))
                {
                    await context.Response.Body.WriteAsync(new[] { letter });
                    await context.Response.Body.FlushAsync();
                }
                continue;
            }
            await context.Response.WriteAsync(one);
            await context.Response.Body.FlushAsync();
        }
    }

    /// <summary>The events that a model with this name sends: what a client must get, byte for byte.</summary>
    public static IReadOnlyList<string> EventsOf(string path, string model)
    {
        var script = Script.Of(model["mock/".Length..]);
        MockDialect dialect = path.EndsWith("/messages", StringComparison.Ordinal) ? new MessagesDialect(script, model)
            : path.EndsWith("/responses", StringComparison.Ordinal) ? new ResponsesDialect(script, model) : new ChatDialect(script, model);
        return [.. dialect.Events()];
    }

    public async ValueTask DisposeAsync()
    {
        await _origin.DisposeAsync();
        _gate.Dispose();
    }

    internal sealed record Script(int Tokens, bool Gated, int Status, bool HasUsage, bool Tool, int Cut, bool Bytes)
    {
        public static Script Of(string text)
        {
            var words = text.Split(',', StringSplitOptions.RemoveEmptyEntries).Select(word => word.Split('=', 2))
                .ToDictionary(word => word[0], word => word.ElementAtOrDefault(1) ?? "");
            return new(
                Number("tokens", 3), words.ContainsKey("gated"), Number("status", 200), !words.ContainsKey("nousage"),
                words.ContainsKey("tool"), Number("cut", -1), words.ContainsKey("bytes"));

            int Number(string name, int otherwise) =>
                words.TryGetValue(name, out var value) ? int.Parse(value, CultureInfo.InvariantCulture) : otherwise;
        }

        public IEnumerable<string> Words =>
            Enumerable.Range(1, Tokens).Select(number => string.Create(CultureInfo.InvariantCulture, $"wörd{number} "));
    }
}

/// <summary>What a provider says, in one protocol.</summary>
abstract class MockDialect(MockProvider.Script script, string model)
{
    protected MockProvider.Script Script { get; } = script;

    protected string Model { get; } = model;

    protected string Text => string.Concat(Script.Words);

    public abstract IEnumerable<string> Events();

    public abstract string Whole();

    public virtual string Error() => """{"error":{"message":"the mock refuses","type":"mock_error","param":null,"code":"mock"}}""";

    protected static string Event(string? name, JsonNode data) =>
        $"{(name is null ? "" : $"event: {name}\n")}data: {data.ToJsonString()}\n\n";
}

sealed class ChatDialect(MockProvider.Script script, string model) : MockDialect(script, model)
{
    JsonObject Usage => new()
    {
        ["prompt_tokens"] = 10, ["completion_tokens"] = Script.Tokens, ["total_tokens"] = 10 + Script.Tokens,
        ["prompt_tokens_details"] = new JsonObject { ["cached_tokens"] = 4 },
            ["completion_tokens_details"] = new JsonObject { ["reasoning_tokens"] = 1 },
    };

    JsonObject Chunk(JsonArray choices) =>
        new() { ["id"] = "c1", ["object"] = "chat.completion.chunk", ["created"] = 1, ["model"] = Model, ["choices"] = choices,
            ["usage"] = null };

    static JsonObject Choice(JsonObject delta, string? finish = null) =>
        new() { ["index"] = 0, ["delta"] = delta, ["finish_reason"] = finish };

    static JsonArray Calls =>
        [new JsonObject { ["index"] = 0, ["id"] = "call_1", ["type"] = "function",
            ["function"] = new JsonObject { ["name"] = "weather", ["arguments"] = """{"city":"Bern"}""" } }];

    public override IEnumerable<string> Events()
    {
        foreach (var word in Script.Words)
        {
            yield return Event(null, Chunk([Choice(new() { ["role"] = "assistant", ["content"] = word })]));
        }
        if (Script.Tool)
        {
            yield return Event(null, Chunk([Choice(new() { ["tool_calls"] = Calls })]));
        }
        yield return Event(null, Chunk([Choice([], Script.Tool ? "tool_calls" : "stop")]));
        if (Script.HasUsage)
        {
            var last = Chunk([]);
            last["usage"] = Usage;
            yield return Event(null, last);
        }
        yield return "data: [DONE]\n\n";
    }

    public override string Whole()
    {
        var message = new JsonObject { ["role"] = "assistant", ["content"] = Text };
        if (Script.Tool)
        {
            message["tool_calls"] = Calls;
        }
        return new JsonObject
        {
            ["id"] = "c1", ["object"] = "chat.completion", ["created"] = 1, ["model"] = Model,
            ["choices"] = new JsonArray(new JsonObject { ["index"] = 0, ["message"] = message,
                ["finish_reason"] = Script.Tool ? "tool_calls" : "stop" }),
            ["usage"] = Script.HasUsage ? Usage : null,
        }.ToJsonString();
    }
}

sealed class ResponsesDialect(MockProvider.Script script, string model) : MockDialect(script, model)
{
    JsonObject Response(string status) => new()
    {
        ["id"] = "r1", ["object"] = "response", ["created_at"] = 1, ["status"] = status, ["model"] = Model,
        ["output"] = status == "in_progress" ? [] : new JsonArray(new JsonObject
        {
            ["id"] = "m1", ["type"] = "message", ["role"] = "assistant", ["status"] = "completed",
            ["content"] = new JsonArray(new JsonObject { ["type"] = "output_text", ["text"] = Text, ["annotations"] = new JsonArray() }),
        }),
        ["usage"] = status == "in_progress" || !Script.HasUsage ? null : new JsonObject
        {
            ["input_tokens"] = 10, ["output_tokens"] = Script.Tokens, ["total_tokens"] = 10 + Script.Tokens,
            ["input_tokens_details"] = new JsonObject { ["cached_tokens"] = 4 },
                ["output_tokens_details"] = new JsonObject { ["reasoning_tokens"] = 1 },
        },
    };

    public override IEnumerable<string> Events()
    {
        var number = 0;
        yield return Of("response.created", new() { ["response"] = Response("in_progress") });
        yield return Of("response.output_item.added", new()
        {
            ["output_index"] = 0,
            ["item"] = new JsonObject { ["id"] = "m1", ["type"] = "message", ["role"] = "assistant", ["status"] = "in_progress",
                ["content"] = new JsonArray() },
        });
        yield return Of("response.content_part.added", new()
        {
            ["item_id"] = "m1", ["output_index"] = 0, ["content_index"] = 0,
                ["part"] = new JsonObject { ["type"] = "output_text", ["text"] = "", ["annotations"] = new JsonArray() },
        });
        foreach (var word in Script.Words)
        {
            yield return Of("response.output_text.delta",
                new() { ["item_id"] = "m1", ["output_index"] = 0, ["content_index"] = 0, ["delta"] = word });
        }
        yield return Of("response.completed", new() { ["response"] = Response("completed") });

        string Of(string type, JsonObject data)
        {
            data.Insert(0, "type", type);
            data["sequence_number"] = number++;
            return Event(type, data);
        }
    }

    public override string Whole() => Response("completed").ToJsonString();
}

sealed class MessagesDialect(MockProvider.Script script, string model) : MockDialect(script, model)
{
    JsonObject Usage(int output) =>
        new() { ["input_tokens"] = 10, ["output_tokens"] = output, ["cache_read_input_tokens"] = 4, ["cache_creation_input_tokens"] = 2 };

    JsonObject Message(JsonArray content, string? stop, int output) => new()
    {
        ["id"] = "msg_1", ["type"] = "message", ["role"] = "assistant", ["model"] = Model, ["content"] = content, ["stop_reason"] = stop,
            ["stop_sequence"] = null, ["usage"] = Usage(output),
    };

    public override IEnumerable<string> Events()
    {
        yield return Of("message_start", new() { ["message"] = Message([], null, 1) });
        yield return Of("content_block_start",
            new() { ["index"] = 0, ["content_block"] = new JsonObject { ["type"] = "text", ["text"] = "" } });
        yield return Of("ping", []);
        foreach (var word in Script.Words)
        {
            yield return Of("content_block_delta",
                new() { ["index"] = 0, ["delta"] = new JsonObject { ["type"] = "text_delta", ["text"] = word } });
        }
        yield return Of("content_block_stop", new() { ["index"] = 0 });
        if (Script.Tool)
        {
            yield return Of("content_block_start",
                new() { ["index"] = 1,
                    ["content_block"] = new JsonObject { ["type"] = "tool_use", ["id"] = "t1", ["name"] = "weather",
                        ["input"] = new JsonObject() } });
            yield return Of("content_block_delta",
                new() { ["index"] = 1,
                    ["delta"] = new JsonObject { ["type"] = "input_json_delta", ["partial_json"] = """{"city":"Bern"}""" } });
            yield return Of("content_block_stop", new() { ["index"] = 1 });
        }
        yield return Of("message_delta", new()
        {
            ["delta"] = new JsonObject { ["stop_reason"] = Script.Tool ? "tool_use" : "end_turn", ["stop_sequence"] = null },
                ["usage"] = new JsonObject { ["output_tokens"] = Script.Tokens },
        });
        yield return Of("message_stop", []);

        static string Of(string type, JsonObject data)
        {
            data.Insert(0, "type", type);
            return Event(type, data);
        }
    }

    public override string Whole() =>
        Message([new JsonObject { ["type"] = "text", ["text"] = Text }], "end_turn", Script.Tokens).ToJsonString();

    public override string Error() => """{"type":"error","error":{"type":"mock_error","message":"the mock refuses"}}""";
}

sealed class EmbeddingsDialect(MockProvider.Script script, string model) : MockDialect(script, model)
{
    public override IEnumerable<string> Events() => [];

    public override string Whole() => new JsonObject
    {
        ["object"] = "list", ["model"] = Model,
        ["data"] = new JsonArray(new JsonObject { ["object"] = "embedding", ["index"] = 0, ["embedding"] = new JsonArray(0.5, 0.25) }),
        ["usage"] = new JsonObject { ["prompt_tokens"] = 10, ["total_tokens"] = 10 },
    }.ToJsonString();
}
