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
        var unit = LuaUnit.OfFunctions(engine, "test", "test", null, ["return function(conf, ctx) ngx.ctx.x = { ctx.var.uri, string.rep('x', 100) } end"]);
        var before = await MemoryAfterAsync(engine, unit, 1000);
        var after = await MemoryAfterAsync(engine, unit, 1_000_000);
        Assert.True(after < before + 20_000, $"{before} bytes, then {after}");
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
        Assert.True(LuaHost.Semaphores.Count < 100, $"{LuaHost.Semaphores.Count} are left");
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
            var unit = LuaUnit.OfFunctions(engine, "test", "test", null, [$"local t = string.rep('{i}', 10000) return function() return nil, t and nil end"]);
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

        public double StartTime => 0;

        public bool Answered => false;

        public string? Get(string name) => name == "uri" ? Uri : null;

        public void Set(string name, string value)
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

        public Task<(int Status, IHeaderDictionary Headers, ReadOnlyMemory<byte> Body)?> CaptureAsync(
            string method, string target, IHeaderDictionary headers, ReadOnlyMemory<byte> body, SubrequestVariables variables) =>
            Task.FromResult<(int, IHeaderDictionary, ReadOnlyMemory<byte>)?>(null);
    }
}
