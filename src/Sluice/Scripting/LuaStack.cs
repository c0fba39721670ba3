using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Sluice.Net.Http;
using static Sluice.Scripting.LuaNative;

namespace Sluice.Scripting;

/// <summary>A Lua error that a host function wants raised; the Lua code around it does so.</summary>
sealed class LuaException(string message) : Exception(message);

/// <summary>
/// The stack of one coroutine, as host functions see it. Lua's strings are bytes: a text is Latin-1 unless said otherwise.
/// </summary>
readonly unsafe struct LuaStack(nint state)
{
    public nint State { get; } = state;

    public int Top => lua_gettop(State);

    public LuaType TypeAt(int index) => lua_type(State, index);

    public bool IsNil(int index) => lua_type(State, index) <= LuaType.Nil;

    public bool Flag(int index) => lua_toboolean(State, index) != 0;

    public double Number(int index) => lua_tonumber(State, index);

    public int Integer(int index) => (int)Math.Clamp(lua_tonumber(State, index), int.MinValue, int.MaxValue);

    public int? OptionalInteger(int index) => IsNil(index) ? null : Integer(index);

    /// <summary>The bytes of a string where they are: only until Lua runs again.</summary>
    public ReadOnlySpan<byte> Bytes(int index)
    {
        nuint length;
        if (lua_type(State, index) == LuaType.String)
        {
            var text = StringAt(State, index, &length);
            return new(text, (int)length);
        }
        return lua_type(State, index) switch
        {
            LuaType.Number => Encoding.Latin1.GetBytes(Format(lua_tonumber(State, index))),
            LuaType.Boolean => Flag(index) ? "true"u8 : "false"u8,
            LuaType.Nil or LuaType.None => "nil"u8,
            LuaType.LightUserData => "null"u8,
            var type => throw new LuaException($"bad argument (string expected, got {Name(type)})"),
        };
    }

    public byte[] ByteArray(int index) => Bytes(index).ToArray();

    public string Text(int index) => Encoding.Latin1.GetString(Bytes(index));

    public string? OptionalText(int index) => IsNil(index) ? null : Text(index);

    public string Utf8(int index) => ByteText.Of(Bytes(index));

    /// <summary>A number as Lua prints it.</summary>
    public static string Format(double number)
    {
        if (number == Math.Floor(number) && Math.Abs(number) < 1e14 && (number != 0 || !double.IsNegative(number)))
        {
            return ((long)number).ToString(CultureInfo.InvariantCulture);
        }
        return Model.Json.LuaText.Number(number);
    }

    public static string Name(LuaType type) => type switch
    {
        LuaType.None => "no value",
        LuaType.LightUserData => "userdata",
        _ => type.ToString().ToLowerInvariant(),
    };

    // -- Push

    public void PushNil() => lua_pushnil(State);

    public void Push(bool value) => lua_pushboolean(State, value ? 1 : 0);

    public void Push(double value) => lua_pushnumber(State, value);

    public void Push(ReadOnlySpan<byte> bytes)
    {
        fixed (byte* text = bytes)
        {
            lua_pushlstring(State, text, (nuint)bytes.Length);
        }
    }

    /// <summary>Each char is one byte.</summary>
    public void Push(string? text)
    {
        if (text is null)
        {
            lua_pushnil(State);
            return;
        }
        PushEncoded(text, Encoding.Latin1);
    }

    public void PushUtf8(string? text)
    {
        if (text is null)
        {
            lua_pushnil(State);
            return;
        }
        if (text.Length <= 256)
        {
            Span<byte> small = stackalloc byte[ByteText.MaxBytes(text.Length)];
            Push(small[..ByteText.GetBytes(text, small)]);
            return;
        }
        Push(ByteText.GetBytes(text));
    }

    [SkipLocalsInit]
    void PushEncoded(string text, Encoding encoding)
    {
        if (text.Length <= 256)
        {
            Span<byte> small = stackalloc byte[768];
            Push(small[..encoding.GetBytes(text, small)]);
            return;
        }
        Push(encoding.GetBytes(text));
    }

    public void PushNull() => lua_pushlightuserdata(State, 0);

    public void NewTable(int array = 0, int hash = 0) => lua_createtable(State, array, hash);

    /// <summary>Sets the value on top in the table below it.</summary>
    public void SetIndex(int n) => lua_rawseti(State, -2, n);

    public void Set(string key, string? value)
    {
        Push(key);
        Push(value);
        lua_rawset(State, -3);
    }

    public void Set(string key, double value)
    {
        Push(key);
        Push(value);
        lua_rawset(State, -3);
    }

    /// <summary>A JSON tree as tables; JSON's null is <c>ngx.null</c>. Arrays get the metatable that marks them, if there is one.</summary>
    public void Push(JsonNode? node, int arrayMetatable)
    {
        lua_checkstack(State, 8);
        switch (node)
        {
            case null:
                PushNull();
                break;
            case JsonObject members:
                NewTable(0, members.Count);
                foreach (var (name, value) in members)
                {
                    PushUtf8(name);
                    Push(value, arrayMetatable);
                    lua_rawset(State, -3);
                }
                break;
            case JsonArray items:
                NewTable(items.Count);
                for (var i = 0; i < items.Count; i++)
                {
                    Push(items[i], arrayMetatable);
                    SetIndex(i + 1);
                }
                if (arrayMetatable != 0)
                {
                    lua_rawgeti(State, Registry, arrayMetatable);
                    lua_setmetatable(State, -2);
                }
                break;
            case JsonValue value when value.GetValueKind() == JsonValueKind.String:
                PushUtf8(value.GetValue<string>());
                break;
            case JsonValue value when value.GetValueKind() is JsonValueKind.True or JsonValueKind.False:
                Push(value.GetValueKind() == JsonValueKind.True);
                break;
            default:
                Push(Model.Json.LuaText.ToDouble(node));
                break;
        }
    }
}
