using System.Globalization;
using System.Text;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Primitives;
using Sluice.Net.Http;
using static Sluice.Scripting.LuaNative;

namespace Sluice.Scripting.Api;

/// <summary>Headers on their way between Lua and the host, of requests and responses.</summary>
static class HeaderTables
{
    /// <summary>Pushes a table of headers: a text each, or an array when a name comes several times.</summary>
    /// <returns>Whether there are more than <paramref name="max"/>.</returns>
    public static bool Push(LuaStack stack, IHeaderDictionary headers, int max = 0, bool raw = false)
    {
        stack.NewTable(0, headers.Count);
        var count = 0;
        foreach (var (name, values) in headers)
        {
            if (name.StartsWith(':') || (max > 0 && ++count > max))
            {
                continue;
            }
            stack.Push(raw ? name : name.ToLowerInvariant());
            PushValues(stack, values);
            lua_rawset(stack.State, -3);
        }
        return max > 0 && count > max;
    }

    public static void PushValues(LuaStack stack, StringValues values)
    {
        if (values.Count <= 1)
        {
            stack.Push(values.Count == 0 ? "" : values[0]);
            return;
        }
        stack.NewTable(values.Count);
        for (var i = 0; i < values.Count; i++)
        {
            stack.Push(values[i]);
            stack.SetIndex(i + 1);
        }
    }

    /// <summary>Sets a header from the stack: name, value (nil: away), add.</summary>
    public static void Set(IHeaderDictionary headers, LuaStack stack)
    {
        var name = Header(stack.Text(1));
        if (name.Length == 0)
        {
            return;
        }
        var values = Values(stack, 2);
        if (stack.Flag(3))
        {
            headers[name] = StringValues.Concat(headers[name], values);
        }
        else if (values.Count == 0)
        {
            headers.Remove(name);
        }
        else
        {
            headers[name] = values;
        }
    }

    /// <summary>As nginx does, what cannot be in a name is escaped.</summary>
    static string Header(string name) => HeaderName.IsToken(name) ? name
        : string.Concat(name.Select(c => HeaderName.IsTokenCharacter(c) ? c.ToString() : $"%{(int)c:X2}"));

    static StringValues Values(LuaStack stack, int index)
    {
        switch (stack.TypeAt(index))
        {
            case LuaType.Nil or LuaType.None:
                return StringValues.Empty;
            case LuaType.Table:
                var values = new string[(int)lua_objlen(stack.State, index)];
                for (var i = 0; i < values.Length; i++)
                {
                    lua_rawgeti(stack.State, index, i + 1);
                    values[i] = Escaped(stack.Text(-1));
                    lua_settop(stack.State, -2);
                }
                return values;
            default:
                return Escaped(stack.Text(index));
        }
    }

    /// <summary>No value breaks out of its line.</summary>
    public static string Escaped(string value)
    {
        if (!value.Any(char.IsControl))
        {
            return value;
        }
        var escaped = new StringBuilder();
        foreach (var c in value)
        {
            _ = c is < ' ' and not '\t' or '\x7f'
                ? escaped.Append('%').Append(((int)c).ToString("X2", CultureInfo.InvariantCulture))
                : escaped.Append(c);
        }
        return escaped.ToString();
    }
}
