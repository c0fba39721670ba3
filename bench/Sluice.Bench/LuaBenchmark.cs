using System.Buffers;
using BenchmarkDotNet.Attributes;
using Microsoft.AspNetCore.Http;
using Sluice.Scripting;

namespace Sluice.Bench;

/// <summary>
/// What Lua costs a request: a function that does nothing, one that reads a variable and sets a header, one that computes; a piece through
/// a body filter; with LuaJIT's interpreter and with its compiler.
/// </summary>
[MemoryDiagnoser]
public class LuaBenchmark : IDisposable
{
    LuaEngine _engine = null!;
    readonly ArrayBufferWriter<byte> _output = new();
    readonly byte[] _piece = new byte[100];
    readonly Request _request = new();
    LuaUnit _nothing = null!;
    LuaUnit _header = null!;
    LuaUnit _filter = null!;
    LuaUnit _replace = null!;
    LuaUnit _sum = null!;
    LuaContext _open = null!;

    [Params(false, true)]
    public bool Jit { get; set; }

    [GlobalSetup]
    public void Load()
    {
        Array.Fill(_piece, (byte)'e');
        _engine = new(new LuaOptions(Path.GetTempPath()) { Lanes = 1, Jit = Jit }, TimeProvider.System);
        _nothing = LuaUnit.OfFunctions(_engine, "bench", "bench", null, ["return function(conf, ctx) end"]);
        _header = LuaUnit.OfFunctions(_engine, "bench", "bench", null,
            ["return function(conf, ctx) ngx.header['X-Uri'] = ngx.var.uri end"]);
        _filter = LuaUnit.OfFunctions(_engine, "bench", "bench", null, ["return function(conf, ctx) ngx.arg[1] = ngx.arg[1] end"]);
        _replace = LuaUnit.OfFunctions(_engine, "bench", "bench", null,
            ["return function(conf, ctx) ngx.arg[1] = ngx.arg[1]:gsub('ee', 'x') end"]);
        _sum = LuaUnit.OfFunctions(_engine, "bench", "bench", null,
            ["local text = string.rep('abcdefgh', 1024) return function() local n = 0 for i = 1, #text do n = (n * 31 + text:byte(i)) % 65521 end ngx.ctx.n = n end"]);
        _open = LuaContext.For(_engine, _request);
    }

    [Benchmark]
    public object Access() => Run(_nothing);

    [Benchmark]
    public object AccessThatSetsAHeader() => Run(_header);

    /// <summary>A sum over 8 KiB, byte by byte.</summary>
    [Benchmark]
    public object AccessThatComputes() => Run(_sum);

    LuaOutcome Run(LuaUnit unit)
    {
        using var context = LuaContext.For(_engine, _request);
        var running = context.RunAsync(unit, LuaPhase.Access, "access");
        return running.IsCompletedSuccessfully ? running.Result : throw new InvalidOperationException("it waits");
    }

    public void Dispose()
    {
        _open?.Dispose();
        _engine.Dispose();
        GC.SuppressFinalize(this);
    }

    [Benchmark]
    public int Piece() => Filter(_filter);

    [Benchmark]
    public int PieceReplaced() => Filter(_replace);

    int Filter(LuaUnit unit)
    {
        var last = false;
        _output.ResetWrittenCount();
        _open.Filter(unit, _piece, ref last, _output);
        return _output.WrittenCount;
    }

    sealed class Request : IScriptExchange
    {
        public HttpContext Http { get; } = new DefaultHttpContext();

        public IScriptConsumers Consumers => throw new NotSupportedException();

        public string Uri { get; set; } = "/bench";

        public string Args { get; set; } = "";

        public string Method { get; set; } = "GET";

        public string RawTarget => Uri;

        public bool IsSubrequest => false;

        public System.Text.Json.Nodes.JsonObject? MatchedRoute => null;

        public bool IsAdded(string header) => false;

        public double StartTime => 0;

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

        public bool Answered => false;

        public (Stream? Connection, string? Error) TakeConnection(bool bodyBegun) => (null, "no connection");

        public void Sent(int bytes)
        {
        }

        public bool Finished => false;

        public ValueTask SendAsync(ReadOnlyMemory<byte> piece) => default;

        public ValueTask FinishAsync(ReadOnlyMemory<byte> piece) => default;

        public bool MayCapture => false;

        public Task<(int Status, IHeaderDictionary Headers, ReadOnlyMemory<byte> Body)?> CaptureAsync(
            string method, string target, IHeaderDictionary headers, ReadOnlyMemory<byte> body, SubrequestOptions options) =>
            Task.FromResult<(int, IHeaderDictionary, ReadOnlyMemory<byte>)?>(null);
    }
}
