using Sluice.Scripting.Api;

namespace Sluice.Scripting;

/// <summary>
/// What Lua can ask of the host: small functions, by topic in <c>Api/</c>, where a Lua file of the same name makes <c>ngx</c> of them. Each
/// takes its arguments from the stack and returns how many results it pushed; what it throws becomes a Lua error.
/// </summary>
static class LuaHost
{
    public delegate int HostFunction(LuaLane lane, LuaStack stack);

    /// <summary>First result: the second is an error to raise.</summary>
    public const nint Fail = 1;

    /// <summary>First value of a yield: a wait for the host, not the script's own.</summary>
    public const nint Wait = 2;

    public static readonly (string Name, HostFunction Function)[] Functions =
    [
        .. LoaderApi.Functions, .. LogApi.Functions, .. RequestApi.Functions, .. ResponseApi.Functions, .. VariablesApi.Functions,
        .. SubrequestsApi.Functions,
        .. TextApi.Functions, .. CryptoApi.Functions, .. TimeApi.Functions, .. JsonApi.Functions, .. RegexApi.Functions,
        .. AddressesApi.Functions,
        .. SocketsApi.Functions, .. SharedDictApi.Functions, .. TimersApi.Functions, .. ThreadsApi.Functions, .. SemaphoresApi.Functions,
        .. ConsumersApi.Functions, .. WorkerApi.Functions,
    ];

    /// <summary>Numbers that Lua code and the host share: tables of <c>host</c>, by the names that they have here.</summary>
    public static readonly (string Name, (string Name, int Number)[] Members)[] Numbers =
    [
        ("phases", NumbersOf<LuaPhase>()), ("waits", NumbersOf<LuaWait>()), ("receive_modes", NumbersOf<ReceiveMode>()),
        ("store_modes", NumbersOf<SharedDictionary.Mode>()), ("sharing", NumbersOf<VariableSharing>()),
    ];

    static (string Name, int Number)[] NumbersOf<T>() where T : struct, Enum =>
        [.. Enum.GetValues<T>().Select(static value => (value.ToString(), Convert.ToInt32(value, null)))];

    /// <summary>The request that Lua runs for.</summary>
    /// <exception cref="LuaException">There is none.</exception>
    public static IScriptExchange Exchange(LuaLane lane) =>
        lane.Running?.Exchange ?? throw new LuaException("API disabled in the current context");

    /// <summary>Pushes the number; or nil and what went wrong.</summary>
    public static int NumberOr(LuaStack stack, int number, string? error)
    {
        if (error is null)
        {
            stack.Push(number);
            return 1;
        }
        stack.PushNil();
        stack.Push(error);
        return 2;
    }
}
