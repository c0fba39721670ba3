using System.Runtime.CompilerServices;
using System.Text.Json.Nodes;
using Sluice.Pipeline.References;
using Sluice.Pipeline.TcpUdp;
using Sluice.Scripting;

namespace Sluice.Pipeline;

/// <summary>A plugin at one place where it is configured.</summary>
/// <param name="Plugin">The running plugin.</param>
/// <param name="Scope">Where: <c>route r1</c>, <c>service s1</c>, <c>consumer jack</c>, <c>global_rule 1</c>.</param>
public sealed record PluginUse(PluginDescriptor Descriptor, object Plugin, PluginMeta Meta, JsonObject Config, string Scope)
{
    public int Priority => Meta.Priority ?? Descriptor.Info.Priority;

    /// <summary>Configured at the consumer or its group: wins over what the route says.</summary>
    public bool IsConsumers { get; } = Scope.StartsWith("consumer ", StringComparison.Ordinal);

    /// <summary>Whether <c>_meta.filter</c> lets the plugin run for this request.</summary>
    public bool Applies(Exchange exchange) => !exchange.Skips(Descriptor.Name) && (Meta.Filter is null || Meta.Filter.Matches(exchange));

    /// <summary>Whether the plugin does something in a phase.</summary>
    public bool Has(Phase phase) => phase.Index < 0 ? Descriptor.TakesPart(phase, Config) : (_phases & (1u << phase.Index)) != 0;

    readonly uint _phases = Descriptor.PhasesOf(Config);

    /// <summary>Whether the plugin, what runs before it, or its making has something to do in a phase.</summary>
    internal bool TakesPart(Phase phase) =>
        Has(phase) || HasBefore(phase) || (Deferred is not null && (phase == Phase.Rewrite || phase == Phase.Access));

    /// <summary>The plugin, as one that takes part in a phase; null when it does not, or when it is not made before a request needs
    /// it.</summary>
    internal T? KnownAs<T>(Phase<T> phase)
        where T : class => !Has(phase) ? null
        : Plugin as T ?? (phase.IsRule ? Deferred?.Rules as T : null);

    /// <summary>The plugin as it is for this request, if it takes part in a phase.</summary>
    public T? In<T>(Phase<T> phase, Exchange exchange)
        where T : class => !Has(phase) ? null : Plugin as T ?? Deferred?.Of(exchange) as T;

    /// <summary>Set when the plugin is made only when a request needs it.</summary>
    internal DeferredPlugin? Deferred => Plugin as DeferredPlugin;

    internal bool AppliesTo(StreamSession session) => Meta.Filter is null || Meta.Filter.Matches(session);

    /// <summary>What the plugin owns; null: nothing.</summary>
    internal PluginLife? Life { get; init; }

    /// <summary>Runs before each phase of the plugin; null: nothing does.</summary>
    internal LuaUnit? PreFunction { get; init; }

    bool HasBefore(Phase phase) => PreFunction is not null && phase.Lua is not null && Descriptor.Knows(phase);

    /// <summary>The answer of <see cref="PreFunction"/>, if it gives one.</summary>
    public ValueTask<Answer?> BeforeAsync(Exchange exchange, Phase phase) =>
        HasBefore(phase) ? ScriptPhases.RunBeforeAsync(exchange, PreFunction!, phase.Lua!.Value, phase.Name) : default;

    /// <summary>The same in a phase in which there is nothing to answer.</summary>
    public void Before(Exchange exchange, Phase phase)
    {
        if (HasBefore(phase))
        {
            exchange.OpenScript().Run(PreFunction!, phase.Lua!.Value, phase.Name);
        }
    }

    /// <summary>The plugin's answer with <c>_meta.error_response</c> applied.</summary>
    internal Answer WithErrorResponse(Answer answer) => Meta.ErrorResponse switch
    {
        null => answer,
        _ when ReferenceEquals(answer, Answer.Sent) || ReferenceEquals(answer, Answer.Again) => answer,
        JsonValue text when text.TryGetValue(out string? body) =>
            answer with { IsPlainError = false, Body = System.Text.Encoding.UTF8.GetBytes(body) },
        var body => answer with { IsPlainError = false, Body = System.Text.Encoding.UTF8.GetBytes(body.ToJsonString() + "\n") },
    };
}

/// <summary>The plugins of a route (or of the global rules), sorted once per phase by priority. Immutable.</summary>
internal sealed class PluginChain
{
    public static PluginChain Empty { get; } = new([]);

    public PluginChain(IEnumerable<PluginUse> uses)
    {
        Uses = [.. uses.Where(use => !use.Meta.Disable)
            .OrderByDescending(use => use.Priority).ThenBy(use => use.Descriptor.Name, StringComparer.Ordinal)];
        _steps = [.. Phase.All.Select(phase => phase.Select(Uses))];
        BodyFilters = [.. Uses.Where(static use => !use.Has(Phase.Compression)
            && Phase.All.Any(phase => phase.IsOfBody && use.Has(phase)))];
        CutsEvents = Array.Exists(Uses, static use => use.Has(Phase.Events) || use.Has(Phase.WaitingEvents));
        LimitsBody = Array.Exists(Uses, static use => use.Descriptor.Is<ILimitsBody>());
    }

    readonly Array[] _steps;

    /// <summary>Who takes part in a phase, in order.</summary>
    public Step<T>[] Steps<T>(Phase<T> phase)
        where T : class => Unsafe.As<Step<T>[]>(phase.Index < 0 ? phase.Select(Uses) : _steps[phase.Index]);

    /// <summary>What its plugins own.</summary>
    internal IEnumerable<PluginLife> Owners => Uses.Select(use => use.Life).OfType<PluginLife>();

    /// <summary>The upstreams that its plugins name.</summary>
    internal string[] UpstreamIds => field ??= [.. Uses.SelectMany(use => PluginUpstreams.NamedIn(use.Config)).Distinct()];

    /// <summary>In order of priority, disabled ones left out.</summary>
    public PluginUse[] Uses { get; }

    /// <summary>Plugins that look into the response's body, whichever way: by piece, by event or whole. Those that compress come after
    /// them.</summary>
    public PluginUse[] BodyFilters { get; }

    /// <summary>One of them looks at events, which can be found in what is not compressed.</summary>
    public bool CutsEvents { get; }

    /// <summary>One of them may give a request another limit for its body.</summary>
    public bool LimitsBody { get; }
}
