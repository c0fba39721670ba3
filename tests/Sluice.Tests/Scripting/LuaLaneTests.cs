using System.Buffers;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging.Abstractions;
using Sluice.Net.Epoll;
using Sluice.Scripting;

namespace Sluice.Tests.Scripting;

public class LuaLaneTests
{
    static async Task<long> MemoryAfterAsync(LuaEngine engine, LuaUnit unit, int requests)
    {
        for (var i = 0; i < requests; i++)
        {
            using var context = LuaContext.For(engine, new NoRequest());
            Assert.Equal(LuaEnd.Continue, (await context.RunAsync(unit, LuaPhase.Access, "access")).End);
        }
        var lane = engine.At(0);
        using (lane.Enter())
        {
            lane.Collect();
            return lane.MemoryUsed;
        }
    }

    [Fact]
    public async Task Memory_of_a_state_stays_flat_over_many_requests()
    {
        using var engine = new LuaEngine(new LuaOptions(Path.GetTempPath()) { Lanes = 1 }, TimeProvider.System);
        var unit = LuaUnit.OfFunctions(engine, "test", "test", null,
            ["return function(conf, ctx) ngx.ctx.x = { ctx.var.uri, string.rep('x', 100) } end"]);
        var before = await MemoryAfterAsync(engine, unit, 1000);
        var after = await MemoryAfterAsync(engine, unit, 1_000_000);
        Assert.True(after < before + 20_000, $"{before} bytes, then {after}");
    }

    static async Task<int> StatusAsync(LuaContext context, LuaUnit unit) =>
        (await context.RunAsync(unit, LuaPhase.Access, "access")).Status;

    [Theory]
    [InlineData("ctx.n = (ctx.n or 0) + 1 return 200 + ctx.n", 201, 202)]
    [InlineData("rawset(ctx, 'n', (rawget(ctx, 'n') or 0) + 1) return 200 + ctx.n", 201, 202)]
    [InlineData("local n = (ctx.n or 0) + 1 setmetatable(ctx, { __index = { n = n } }) return 200 + n", 201, 202)]
    [InlineData("ngx.ctx.n = (ngx.ctx.n or 0) + 1 return ngx.ctx.api_ctx == ctx and 200 + ngx.ctx.n or 500", 201, 202)]
    [InlineData("local before = ctx.other and 1 or 0 ngx.ctx.api_ctx = { other = true } return 200 + before", 200, 201)]
    [InlineData("return ctx.conf_version > 0 and ctx._plugin_name == nil and ctx.conf_type == 'route' and 200", 200, 200)]
    public async Task What_a_function_puts_into_ctx_is_there_for_the_whole_request_and_not_for_the_next(string code, int first, int second)
    {
        using var engine = new LuaEngine(new LuaOptions(Path.GetTempPath()) { Lanes = 1 }, TimeProvider.System);
        var unit = LuaUnit.OfFunctions(engine, "test", "test", null, [$"return function(conf, ctx) {code} end"]);
        for (var i = 0; i < 3; i++)
        {
            using var context = LuaContext.For(engine, new NoRequest());
            Assert.Equal(first, await StatusAsync(context, unit));
            Assert.Equal(second, await StatusAsync(context, unit));
        }
    }

    [Fact]
    public async Task A_ctx_that_a_timer_may_hold_is_not_given_to_another_request()
    {
        using var engine = new LuaEngine(new LuaOptions(Path.GetTempPath()) { Lanes = 1 }, TimeProvider.System);
        var unit = LuaUnit.OfFunctions(engine, "test", "test", null,
            ["local last return function(conf, ctx) ngx.timer.at(3600, function() return ctx end) local same = last == ctx last = ctx return same and 500 or 200 end"]);
        for (var i = 0; i < 3; i++)
        {
            using var context = LuaContext.For(engine, new NoRequest());
            Assert.Equal(200, await StatusAsync(context, unit));
        }
    }

    [Fact]
    public void A_function_that_keeps_nothing_costs_the_state_no_memory_and_the_host_little()
    {
        using var engine = new LuaEngine(new LuaOptions(Path.GetTempPath()) { Lanes = 1 }, TimeProvider.System);
        var unit = LuaUnit.OfFunctions(engine, "test", "test", null,
            ["return function(conf, ctx) if ctx.conf_type ~= 'route' then return 500 end end"]);
        var request = new NoRequest();
        Run(100);
        var lane = engine.At(0);
        // the state's collector may have been under way before the first of these
        Assert.Equal(0, Allocation.Least(() => lane.MemoryUsed, () => Run(1000)));
        Assert.InRange(Allocation.Of(() => Run(1000)) / 1000, 0, 200);

        void Run(int requests)
        {
            for (var i = 0; i < requests; i++)
            {
                using var context = LuaContext.For(engine, request);
                var running = context.RunAsync(unit, LuaPhase.Access, "access");
                Assert.True(running.IsCompletedSuccessfully && running.Result.End == LuaEnd.Continue);
            }
        }
    }

    [Fact]
    public void A_piece_through_a_body_filter_costs_the_host_no_memory()
    {
        using var engine = new LuaEngine(new LuaOptions(Path.GetTempPath()) { Lanes = 1 }, TimeProvider.System);
        var unit = LuaUnit.OfFunctions(engine, "test", "test", null, ["return function(conf, ctx) ngx.arg[1] = ngx.arg[1] end"]);
        using var context = LuaContext.For(engine, new NoRequest());
        var output = new ArrayBufferWriter<byte>();
        Run(100);
        Assert.Equal(0, Allocation.Of(() => Run(1000)));

        void Run(int pieces)
        {
            for (var i = 0; i < pieces; i++)
            {
                var last = false;
                output.ResetWrittenCount();
                Assert.True(context.Filter(unit, "a piece"u8, ref last, output));
                Assert.True(output.WrittenSpan.SequenceEqual("a piece"u8));
            }
        }
    }

    [Fact]
    public async Task Compiled_code_runs_on_and_the_log_says_so()
    {
        var log = new LogLines();
        var options = new LuaOptions(Path.GetTempPath()) { Lanes = 1, Jit = true, TimeLimit = TimeSpan.FromMilliseconds(100) };
        using var engine = new LuaEngine(options, TimeProvider.System, log);
        var unit = LuaUnit.OfFunctions(engine, "test", "route r1", null,
            ["return function() local n = 0 for i = 1, 6e8 do n = n + i end return jit.status() and 201 end"]);
        // the watch has a thread of its own, which on a busy machine may come too late for one run, or so early that the loop is not
        // compiled yet
        var ranOn = false;
        for (var i = 0; i < 50 && !ranOn; i++)
        {
            using var context = LuaContext.For(engine, new NoRequest());
            var before = log.Lines.Length;
            ranOn = await StatusAsync(context, unit) == 201 && log.Lines.Length > before;
        }
        Assert.True(ranOn);
        Assert.Contains(log.Lines, line => line.StartsWith("Warning lua: a script has been running for ", StringComparison.Ordinal)
            && line.EndsWith(" in route r1", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_request_runs_in_the_lane_of_its_event_loop()
    {
        using var engine = new LuaEngine(new LuaOptions(Path.GetTempPath()) { Lanes = 3 }, TimeProvider.System);
        using var loops = new EventLoops(3, NullLogger.Instance);
        foreach (var loop in loops.All)
        {
            var lane = new TaskCompletionSource<int>(TaskCreationOptions.RunContinuationsAsynchronously);
            loop.Post(_ => lane.SetResult(engine.Pick().Index), null);
            Assert.Equal(loop.Index, await lane.Task);
        }
    }

    [Fact]
    public async Task Semaphores_that_a_script_drops_are_dropped()
    {
        using var engine = new LuaEngine(new LuaOptions(Path.GetTempPath()) { Lanes = 1 }, TimeProvider.System);
        var unit = LuaUnit.OfFunctions(engine, "test", "test", null, ["return function() require('ngx.semaphore').new(1) end"]);
        await MemoryAfterAsync(engine, unit, 1000);
        Assert.True(ScriptSemaphore.Live < 100, $"{ScriptSemaphore.Live} are left");
    }

    [Fact]
    public async Task Units_that_nobody_holds_leave_the_state()
    {
        using var engine = new LuaEngine(new LuaOptions(Path.GetTempPath()) { Lanes = 1 }, TimeProvider.System);
        var kept = LuaUnit.OfFunctions(engine, "test", "test", null, ["return function() end"]);
        var before = await MemoryAfterAsync(engine, kept, 100);
        await LoadManyAsync(engine);
        GC.Collect();
        GC.WaitForPendingFinalizers();
        var after = await MemoryAfterAsync(engine, kept, 100);
        Assert.True(after < before + 200_000, $"{before} bytes, then {after}");
    }

    static async Task LoadManyAsync(LuaEngine engine)
    {
        for (var i = 0; i < 200; i++)
        {
            var unit = LuaUnit.OfFunctions(engine, "test", "test", null,
                [$"local t = string.rep('{i}', 10000) return function() return nil, t and nil end"]);
            await MemoryAfterAsync(engine, unit, 1);
        }
    }

    sealed class NoRequest : IScriptExchange
    {
        public HttpContext Http { get; } = new DefaultHttpContext();

        public IScriptConsumers Consumers => throw new NotSupportedException();

        public string Uri { get; set; } = "/";

        public string Args { get; set; } = "";

        public string Method { get; set; } = "GET";

        public string RawTarget => Uri;

        public bool IsSubrequest => false;

        public System.Text.Json.Nodes.JsonObject? MatchedRoute => null;

        public bool IsAdded(string header) => false;

        public double StartTime => 0;

        public bool Answered => false;

        public (Stream? Connection, string? Error) TakeConnection(bool bodyBegun) => (null, "no connection");

        public void Sent(int bytes)
        {
        }

        public bool Finished => false;

        public string? Get(string name) => name == "uri" ? Uri : null;

        public void Set(string name, string? value)
        {
        }

        public void HeaderChanged(string name)
        {
        }

        public ValueTask<ScriptBody> ReadBodyAsync() => default;

        public void Dispose()
        {
        }

        public Stream? OpenBody() => null;

        public void ReplaceBody(ReadOnlyMemory<byte> body)
        {
        }

        public void ReplaceBody(Stream body)
        {
        }

        public ValueTask SendAsync(ReadOnlyMemory<byte> piece) => default;

        public ValueTask FinishAsync(ReadOnlyMemory<byte> piece) => default;

        public bool MayCapture => false;

        public Task<(int Status, IHeaderDictionary Headers, ReadOnlyMemory<byte> Body)?> CaptureAsync(
            string method, string target, IHeaderDictionary headers, ReadOnlyMemory<byte> body, SubrequestOptions options) =>
            Task.FromResult<(int, IHeaderDictionary, ReadOnlyMemory<byte>)?>(null);
    }
}
