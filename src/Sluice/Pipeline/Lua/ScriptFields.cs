using System.Text.Json.Nodes;
using Sluice.Model.Json;
using Sluice.Scripting;

namespace Sluice.Pipeline;

/// <summary>Fields of <c>ctx</c>, by which plugins and scripts tell each other something about a request.</summary>
static class ScriptFields
{
    /// <summary>A variable that carries a value between the two; empty before and after.</summary>
    const string Carrier = "sluice_script_field";

    /// <summary>Scripts find a value in <c>ctx</c>.</summary>
    public static async ValueTask SetAsync(Exchange exchange, string field, JsonNode value)
    {
        exchange.Set(Carrier, value.ToJsonString());
        await RunAsync(exchange, $"set {field}", $"ctx[{LuaText.Quote(field)}] = require('apisix.core').json.decode(ngx.var.{Carrier})");
        exchange.Set(Carrier, null);
    }

    /// <summary>What a script has put into <c>ctx</c>; null: nothing, or no script has run.</summary>
    public static async ValueTask<JsonNode?> GetAsync(Exchange exchange, string field)
    {
        if (exchange.Script is null)
        {
            return null;
        }
        exchange.Set(Carrier, null);
        await RunAsync(
            exchange, $"get {field}",
            $"if ctx[{LuaText.Quote(field)}] ~= nil then ngx.var.{Carrier} = require('apisix.core').json.encode(ctx[{LuaText.Quote(field)}]) end");
        var text = exchange.Get(Carrier);
        exchange.Set(Carrier, null);
        return text is null ? null : CjsonReader.Parse(System.Text.Encoding.UTF8.GetBytes(text));
    }

    static async ValueTask RunAsync(Exchange exchange, string name, string statement)
    {
        var engine = exchange.Services.Lua;
        var units = s_units.GetOrCreateValue(engine);
        var unit = units.GetOrAdd(statement, static (text, made) =>
            LuaUnit.OfPreFunction(made.engine, "ctx", made.name, null, $"return function(conf, ctx) {text} end"), (engine, name));
        await ScriptPhases.RunBeforeAsync(exchange, unit, LuaPhase.Access, "access");
    }

    /// <summary>As many as there are fields that plugins know.</summary>
    static readonly System.Runtime.CompilerServices.ConditionalWeakTable<LuaEngine,
        System.Collections.Concurrent.ConcurrentDictionary<string, LuaUnit>> s_units = [];
}
