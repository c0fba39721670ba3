using System.Text.Json.Nodes;
using Sluice.Pipeline.Streams;
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
    public bool Applies(Exchange exchange) => Meta.Filter is null || Meta.Filter.Matches(exchange);

    /// <summary>Whether the plugin, or what runs before it, has something to do in a phase.</summary>
    public bool TakesPart<TPhase>() => Plugin is TPhase && (PreFunction is not null || Plugin is not IChosenPhases chosen || chosen.TakesPart<TPhase>());

    public bool AppliesTo(StreamSession session) => Meta.Filter is null || Meta.Filter.Matches(session);

    /// <summary>Runs before each phase of the plugin; null: nothing does.</summary>
    public LuaUnit? PreFunction { get; init; }

    /// <summary>The answer of <see cref="PreFunction"/>, if it gives one.</summary>
    public ValueTask<Answer?> BeforeAsync(Exchange exchange, LuaPhase phase, string name) =>
        PreFunction is { } unit ? ScriptPhases.RunBeforeAsync(exchange, unit, phase, name) : default;

    /// <summary>The same in a phase in which there is nothing to answer.</summary>
    public void Before(Exchange exchange, LuaPhase phase, string name)
    {
        if (PreFunction is { } unit)
        {
            exchange.OpenScript().Run(unit, phase, name);
        }
    }

    /// <summary>The plugin's answer with <c>_meta.error_response</c> applied.</summary>
    public Answer Dress(Answer answer) => Meta.ErrorResponse switch
    {
        null => answer,
        _ when ReferenceEquals(answer, Answer.Sent) || ReferenceEquals(answer, Answer.Again) => answer,
        JsonValue text when text.TryGetValue(out string? body) => answer with { IsPlainError = false, Body = System.Text.Encoding.UTF8.GetBytes(body) },
        var body => answer with { IsPlainError = false, Body = System.Text.Encoding.UTF8.GetBytes(body.ToJsonString() + "\n") },
    };
}

/// <summary>One plugin's part in one phase.</summary>
public readonly record struct Step<TPhase>(TPhase Phase, PluginUse Use);

/// <summary>The plugins of a route (or of the global rules), sorted once per phase by priority. Immutable.</summary>
public sealed class PluginChain
{
    public static PluginChain Empty { get; } = new([]);

    public PluginChain(IEnumerable<PluginUse> uses)
    {
        Uses = [.. uses.Where(use => !use.Meta.Disable)
            .OrderByDescending(use => use.Priority).ThenBy(use => use.Descriptor.Name, StringComparer.Ordinal)];
        Rewrite = Select<IRewrite>();
        Access = Select<IAccess>();
        BeforeProxy = Select<IBeforeProxy>();
        HeaderFilters = Select<IHeaderFilter>();
        BodyFilters = [.. Uses.Where(static use => use.TakesPart<IBodyFilter>() || use.Plugin is IWholeBodyFilter or IEventFilter)];
        Log = Select<ILog>();
        BufferingRules = Select<IBufferingRule>();
        StreamAccess = Select<IStreamAccess>();
    }

    /// <summary>In order of priority, disabled ones left out.</summary>
    public PluginUse[] Uses { get; }

    public Step<IRewrite>[] Rewrite { get; }

    public Step<IAccess>[] Access { get; }

    public Step<IBeforeProxy>[] BeforeProxy { get; }

    public Step<IHeaderFilter>[] HeaderFilters { get; }

    /// <summary>Plugins that look into bodies, whichever way: by piece, by event or whole.</summary>
    public PluginUse[] BodyFilters { get; }

    public Step<ILog>[] Log { get; }

    public Step<IBufferingRule>[] BufferingRules { get; }

    public Step<IStreamAccess>[] StreamAccess { get; }

    Step<TPhase>[] Select<TPhase>() =>
        [.. Uses.Where(static use => use.TakesPart<TPhase>()).Select(static use => new Step<TPhase>((TPhase)use.Plugin, use))];
}
