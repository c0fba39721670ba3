namespace Sluice.Scripting;

/// <summary>Looks at Lua texts before they run anywhere: in a state of its own that knows no request and no instance.</summary>
internal static class LuaCheck
{
    static readonly Lazy<LuaEngine> Engine = new(() => new LuaEngine(
        new LuaOptions(Path.Combine(Path.GetTempPath(), "sluice-no-instance"), MemoryLimit: 64 << 20) { Lanes = 1 }, TimeProvider.System));

    /// <summary>What is wrong with a text that should return a function; null when nothing is.</summary>
    public static string? Function(string text) => Check(text, onlySyntax: false);

    /// <summary>What is wrong with a text's syntax.</summary>
    public static string? Syntax(string text) => Check(text, onlySyntax: true);

    static string? Check(string text, bool onlySyntax)
    {
        if (LuaEngine.Missing is { } missing)
        {
            return missing;
        }
        using var context = LuaContext.In(Engine.Value, 0);
        using (context.Lane.Enter())
        {
            return context.Lane.Call("check", context, (stack, _) =>
            {
                stack.PushUtf8(text);
                stack.Push(onlySyntax);
                return 2;
            }, static stack => stack.IsNil(1) ? null : stack.Utf8(1));
        }
    }
}
