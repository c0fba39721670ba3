using Sluice.Pipeline.TcpUdp;
using Sluice.Scripting;

namespace Sluice.Pipeline;

/// <summary>
/// One of the phases in which plugins take part, declared once. Another one needs its contract in <c>Phases.cs</c>, its line here and the
/// place where
/// <see cref="PhaseRunner"/> is told to run it.
/// </summary>
public abstract class Phase
{
    static readonly List<Phase> Declared = [];

    public static readonly Phase<IRewrite> Rewrite = Asked<IRewrite>("rewrite", LuaPhase.Rewrite,
        static (plugin, exchange) => plugin.RewriteAsync(exchange));

    public static readonly Phase<IAccess> Access = Asked<IAccess>("access", LuaPhase.Access,
        static (plugin, exchange) => plugin.AccessAsync(exchange));

    public static readonly Phase<IBeforeProxy> BeforeProxy =
        Asked<IBeforeProxy>("before_proxy", LuaPhase.BeforeProxy, static (plugin, exchange) => plugin.BeforeProxyAsync(exchange));

    public static readonly Phase<IHeaderFilter> HeaderFilter =
        Told<IHeaderFilter>("header_filter", LuaPhase.HeaderFilter, static (plugin, exchange) => plugin.FilterHeaders(exchange),
            except: typeof(ICompressor));

    public static readonly Phase<ICompressor> Compression =
        Told<ICompressor>("compression", LuaPhase.HeaderFilter, static (plugin, exchange) => plugin.FilterHeaders(exchange));

    public static readonly Phase<IRequestBodyFilter> RequestBodyFilter = Declare(new Phase<IRequestBodyFilter>("request body"));

    public static readonly Phase<IBodyFilter> BodyFilter =
        Declare(new Phase<IBodyFilter>("body_filter") { Lua = LuaPhase.BodyFilter, IsOfBody = true });

    public static readonly Phase<IWholeBodyFilter> WholeBody =
        Declare(new Phase<IWholeBodyFilter>("body_filter (whole body)") { IsOfBody = true });

    public static readonly Phase<IEventFilter> Events =
        Declare(new Phase<IEventFilter>("event_filter") { Lua = LuaPhase.EventFilter, IsOfBody = true });

    public static readonly Phase<IAsyncEventFilter> WaitingEvents =
        Declare(new Phase<IAsyncEventFilter>("event_filter (may wait)") { IsOfBody = true });

    public static readonly Phase<ILog> Log = Told<ILog>("log", LuaPhase.Log, static (plugin, exchange) => plugin.Log(exchange));

    public static readonly Phase<IBufferingRule> BufferingRule = Declare(new Phase<IBufferingRule>("buffering rule") { IsRule = true });

    internal static readonly Phase<IStreamRule> StreamRule = Declare(new Phase<IStreamRule>("stream rule") { IsRule = true });

    public static readonly Phase<IPluginApi> Api = Declare(new Phase<IPluginApi>("API"));

    internal static readonly Phase<IStreamAccess> Preread = Declare(new Phase<IStreamAccess>("preread (stream)"));

    private protected Phase(string name) => Name = name;

    /// <summary>In the order in which a request meets them.</summary>
    public static IReadOnlyList<Phase> All => Declared;

    /// <summary>APISIX's name.</summary>
    public string Name { get; }

    /// <summary>The interface of plugins that take part.</summary>
    public abstract Type Contract { get; }

    /// <summary>The phase that scripts see; null when they take no part.</summary>
    internal LuaPhase? Lua { get; init; }

    /// <summary>Known when the configuration is compiled: no code runs for it.</summary>
    public bool IsRule { get; init; }

    /// <summary>A step of it looks into the response's body: whoever takes part is among <see cref="PluginChain.BodyFilters"/>.</summary>
    public bool IsOfBody { get; init; }

    /// <summary>A contract whose plugins have a phase of their own instead; null: there is none.</summary>
    public Type? Except { get; init; }

    /// <summary>Whether plugins may answer the request here.</summary>
    public abstract bool MayAnswer { get; }

    /// <summary>Its place in <see cref="All"/>; -1 when it is not there.</summary>
    internal int Index { get; private set; } = -1;

    /// <summary>The steps of this phase, in the order of the uses.</summary>
    internal abstract Array Select(PluginUse[] uses);

    static Phase<T> Asked<T>(string name, LuaPhase lua, Func<T, Exchange, ValueTask<Answer?>> ask)
        where T : class => Declare(new Phase<T>(name) { Lua = lua, Ask = ask });

    static Phase<T> Told<T>(string name, LuaPhase lua, Action<T, Exchange> tell, Type? except = null)
        where T : class => Declare(new Phase<T>(name) { Lua = lua, Tell = tell, Except = except });

    static Phase<T> Declare<T>(Phase<T> phase)
        where T : class
    {
        phase.Index = Declared.Count;
        Declared.Add(phase);
        return phase;
    }
}

/// <summary>A phase whose plugins have the contract <typeparamref name="T"/>.</summary>
public sealed class Phase<T> : Phase
    where T : class
{
    internal Phase(string name)
        : base(name)
    {
    }

    public override Type Contract => typeof(T);

    public override bool MayAnswer => Ask is not null;

    /// <summary>How a plugin is run that may answer; null: it may not.</summary>
    internal Func<T, Exchange, ValueTask<Answer?>>? Ask { get; init; }

    /// <summary>How a plugin is run that may not answer; null: the phase is more than a call.</summary>
    internal Action<T, Exchange>? Tell { get; init; }

    internal override Array Select(PluginUse[] uses) => uses
        .Where(use => use.TakesPart(this) && Except?.IsAssignableFrom(use.Descriptor.PluginType) != true)
        .Select(use => new Step<T>(use.KnownAs(this)!, use))
        .Where(step => !IsRule || step.Phase is not null).ToArray();
}

/// <summary>One plugin's part in one phase.</summary>
/// <param name="Phase">Null: the plugin is made when a request needs it, or only what runs before it has something to do. Never null in a
/// rule.</param>
public readonly record struct Step<T>(T Phase, PluginUse Use)
    where T : class;

/// <summary>Runs a phase of a chain.</summary>
static class PhaseRunner
{
    /// <summary>The first answer that a plugin gives, dressed as its configuration says; null: the request goes on.</summary>
    /// <param name="onlyConsumers">Only those that the consumer has brought with it.</param>
    /// <param name="refused">Told why a plugin answers, when the answer says so.</param>
    public static async ValueTask<Answer?> AskAsync<T>(Exchange exchange, Phase<T> phase, PluginChain chain, bool onlyConsumers = false,
        Action<PluginUse, string>? refused = null)
        where T : class
    {
        foreach (var (plugin, use) in chain.Steps(phase))
        {
            if ((onlyConsumers && !use.IsConsumers) || !use.Applies(exchange))
            {
                continue;
            }
            var answer = await use.BeforeAsync(exchange, phase);
            if (answer is null)
            {
                answer = plugin is not null ? await phase.Ask!(plugin, exchange)
                    : use.Deferred is { } deferred ? await deferred.AskAsync(exchange, phase, use) : null;
            }
            if (answer is not null)
            {
                if (answer.Reason is { } reason)
                {
                    refused?.Invoke(use, reason);
                }
                return use.WithErrorResponse(answer);
            }
        }
        return null;
    }

    /// <summary>Runs a phase in which there is nothing to answer.</summary>
    /// <param name="failed">What becomes of a plugin's failure; null: it ends the phase.</param>
    public static void Tell<T>(Exchange exchange, Phase<T> phase, PluginChain chain, Action<Exception, PluginUse>? failed = null)
        where T : class
    {
        foreach (var (known, use) in chain.Steps(phase))
        {
            try
            {
                if (use.Applies(exchange))
                {
                    use.Before(exchange, phase);
                    if ((known ?? use.In(phase, exchange)) is { } plugin)
                    {
                        phase.Tell!(plugin, exchange);
                    }
                }
            }
            catch (Exception e) when (failed is not null)
            {
                failed(e, use);
            }
        }
    }
}
