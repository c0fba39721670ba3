using System.Text;
using Sluice.Model.Json;

namespace Sluice.Scripting.Api;

/// <summary>Where Lua code comes from, and under which settings it runs: for boot.lua.</summary>
static class LoaderApi
{
    public static readonly (string Name, LuaHost.HostFunction Function)[] Functions =
    [
        ("source", Source), ("module", Module), ("local_conf", LocalConfiguration), ("sandbox", Sandbox), ("jit", Jit),
        ("is_stopped", IsStopped), ("without_empty_statements", WithoutEmptyStatements),
    ];

    /// <summary>A text that LuaJIT refuses for a semicolon: without its empty statements, or nil when it has none.</summary>
    static int WithoutEmptyStatements(LuaLane lane, LuaStack stack)
    {
        if (EmptyStatements.Remove(stack.Bytes(1)) is { } text)
        {
            stack.Push(text.AsSpan());
            return 1;
        }
        return 0;
    }

    static int LocalConfiguration(LuaLane lane, LuaStack stack)
    {
        stack.Push(CjsonReader.Parse(Encoding.UTF8.GetBytes(lane.Options.LocalConfiguration)), lane.ArrayMetatable);
        return 1;
    }

    /// <summary>A Lua file that comes with Sluice: its text, or nil.</summary>
    static int Source(LuaLane lane, LuaStack stack)
    {
        if (LuaLane.Shipped(stack.Text(1)) is { } text)
        {
            stack.Push(text.AsSpan());
            return 1;
        }
        return 0;
    }

    /// <summary>A module on the search path: its text and its file; or nil and the files that were tried.</summary>
    static int Module(LuaLane lane, LuaStack stack)
    {
        var name = stack.Utf8(1).Replace('.', '/');
        if (name.Contains("//", StringComparison.Ordinal) || name.StartsWith('/') || name.Contains('\0', StringComparison.Ordinal))
        {
            throw new LuaException($"bad module name '{name}'");
        }
        var tried = new StringBuilder();
        foreach (var file in FilesOf(lane.Options, stack.Utf8(1)))
        {
            if (File.Exists(file))
            {
                stack.Push(File.ReadAllBytes(file).AsSpan());
                stack.PushUtf8(file);
                return 2;
            }
            tried.Append("\n\tno file '").Append(file).Append('\'');
        }
        stack.PushNil();
        stack.PushUtf8(tried.ToString());
        return 2;
    }

    /// <summary>Where a module may be.</summary>
    public static IEnumerable<string> FilesOf(LuaOptions options, string module)
    {
        var name = module.Replace('.', '/');
        List<string> templates = [Path.Combine(options.Prefix, "lua", "?.lua"), Path.Combine(options.Prefix, "lua", "?", "init.lua")];
        templates.AddRange(options.ExtraPath.Split(';', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)
            .Select(template => Path.Combine(options.Prefix, template.Contains('?', StringComparison.Ordinal)
                ? template : Path.Combine(template, "?.lua"))));
        return templates.Select(template => template.Replace("?", name, StringComparison.Ordinal));
    }

    static int Sandbox(LuaLane lane, LuaStack stack)
    {
        stack.Push(lane.Options.Sandbox);
        return 1;
    }

    static int Jit(LuaLane lane, LuaStack stack)
    {
        stack.Push(lane.Options.Jit);
        return 1;
    }

    static int IsStopped(LuaLane lane, LuaStack stack)
    {
        stack.Push(lane.IsStopping);
        return 1;
    }
}
