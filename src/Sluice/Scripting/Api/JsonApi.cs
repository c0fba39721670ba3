using System.Collections.Concurrent;
using System.Text;
using Sluice.Model.Json;
using Sluice.Model.Schema;
using static Sluice.Scripting.LuaNative;

namespace Sluice.Scripting.Api;

/// <summary>JSON, and JSON schemas.</summary>
static class JsonApi
{
    public static readonly (string Name, LuaHost.HostFunction Function)[] Functions =
    [
        ("json_encode", JsonEncode), ("json_decode", JsonDecode), ("check_schema", CheckSchema),
    ];

    const int MaxDepth = 1000;

    /// <summary>value, then what <see cref="LuaJsonWriter.OptionsAt"/> says: its text, or nil and an error.</summary>
    static int JsonEncode(LuaLane lane, LuaStack stack)
    {
        var writer = new LuaJsonWriter(stack, lane.ArrayMetatable, LuaJsonWriter.OptionsAt(stack, 2));
        if (writer.Write(1) is { } error)
        {
            lua_settop(stack.State, 0);
            stack.PushNil();
            stack.Push(error);
            return 2;
        }
        stack.Push(writer.Text);
        return 1;
    }

    /// <summary>
    /// text, whether arrays get the metatable, how deep it may be, whether only JSON's own numbers are taken: the value, or nil and cjson's
    /// words.
    /// </summary>
    static int JsonDecode(LuaLane lane, LuaStack stack)
    {
        var top = stack.Top;
        try
        {
            var strict = stack.Flag(4);
            var depth = Math.Min(stack.OptionalInteger(3) ?? LuaJson.DefaultDepth, LuaJson.MaxDepth);
            new LuaJsonReader(stack, stack.Bytes(1), stack.Flag(2) ? lane.ArrayMetatable : 0, depth, strict).Read();
            return 1;
        }
        catch (JsonTextException e)
        {
            lua_settop(stack.State, top);
            stack.PushNil();
            stack.Push(e.Message);
            return 2;
        }
    }

    const int MaxSchemas = 4096;

    static readonly ConcurrentDictionary<string, JsonSchema> Schemas = new();

    /// <summary>
    /// The schema's and the value's JSON: the value with the defaults filled in, or nil and the error.
    /// </summary>
    static int CheckSchema(LuaLane lane, LuaStack stack)
    {
        var text = stack.Utf8(1);
        var json = stack.Bytes(2);
        if (Schemas.Count > MaxSchemas)
        {
            Schemas.Clear();
        }
        var schema = Schemas.GetOrAdd(text, static text => JsonSchema.Compile(CjsonReader.Parse(Encoding.UTF8.GetBytes(text), MaxDepth)!));
        var value = CjsonReader.Parse(json, MaxDepth);
        if (schema.Validate(value) is { } error)
        {
            stack.PushNil();
            stack.PushUtf8(error);
            return 2;
        }
        stack.Push(value, lane.ArrayMetatable);
        return 1;
    }
}
