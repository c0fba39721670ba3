using Sluice.Model.Nginx;

namespace Sluice.Pipeline;

/// <summary>
/// Which rule decides about buffering. Precedence: a queue of <c>streaming.slow_consumer</c> > the upstream's <c>X-Accel-Buffering</c> >
/// the route's plugins (consumer's, then route's, plugin config's, service's, then global rules') > location > server > http > the built-in
/// default.
/// </summary>
internal static class BufferingRules
{
    static readonly BufferingReason AccelOn = new("upstream header", true, "X-Accel-Buffering: yes", "upstream's answer");
    static readonly BufferingReason AccelOff = new("upstream header", false, "X-Accel-Buffering: no", "upstream's answer");
    static readonly BufferingReason DefaultOn = new("default", true, "buffering is on", "built-in default");
    static readonly BufferingReason DefaultStream = new("default", false, "streams are not buffered", "built-in default");
    static readonly BufferingReason DefaultRequestOn = new("default", true, "request buffering is on", "built-in default");

    /// <summary>The rule that decides about an answer.</summary>
    /// <param name="accel">The upstream's X-Accel-Buffering (<c>yes</c>, <c>no</c>, anything else = not there); null when ignored or
    /// absent.</param>
    public static BufferingReason Response(Exchange exchange, string? accel, bool isStream)
    {
        if (accel is null && exchange.Streams?.SlowConsumer is null && exchange.Scope.ResponseBuffering.Count == 0
            && exchange.Chain.Steps(Phase.BufferingRule).Length == 0
            && exchange.Snapshot.GlobalRules.Steps(Phase.BufferingRule).Length == 0)
        {
            return isStream ? DefaultStream : DefaultOn;
        }
        return ResponseInOrder(exchange, accel, isStream).First();
    }

    /// <summary>The deciding rule and all that it overrode, for <c>/v1/buffering</c>.</summary>
    public static BufferingDecision ExplainResponse(Exchange exchange, string? accel, bool isStream) =>
        Explain(ResponseInOrder(exchange, accel, isStream));

    public static BufferingReason Request(Exchange exchange, bool isStream)
    {
        foreach (var reason in RequestInOrder(exchange, isStream))
        {
            return reason;
        }
        return DefaultRequestOn;
    }

    public static BufferingDecision ExplainRequest(Exchange exchange, bool isStream) => Explain(RequestInOrder(exchange, isStream));

    /// <summary>Two plugins of one route that say opposite things are an error that names both.</summary>
    public static string? Conflict(PluginChain chain)
    {
        var rules = chain.Steps(Phase.BufferingRule).Where(step => step.Use.Meta.Filter is null).ToArray();
        return Opposite(rules, rule => rule.ResponseBuffering) ?? Opposite(rules, rule => rule.RequestBuffering);
    }

    static string? Opposite(Step<IBufferingRule>[] rules, Func<IBufferingRule, bool?> read)
    {
        var on = Array.Find(rules, step => read(step.Phase) == true);
        var off = Array.Find(rules, step => read(step.Phase) == false);
        return on.Use is null || off.Use is null
            ? null
            : $"plugins {on.Use.Descriptor.Name} ({on.Use.Scope}, buffering on) and {off.Use.Descriptor.Name} ({off.Use.Scope}, buffering off) contradict each other: keep one of them";
    }

    static BufferingDecision Explain(IEnumerable<BufferingReason> reasons)
    {
        var all = reasons.ToArray();
        return new(all[0], all[1..]);
    }

    static IEnumerable<BufferingReason> ResponseInOrder(Exchange exchange, string? accel, bool isStream)
    {
        if (SlowConsumer.Applies(exchange, StreamPolicy.Of(exchange)))
        {
            yield return new("streaming", false, "queue of slow_consumer", ScopeOf(exchange));
        }
        if (accel is not null && !exchange.Scope.IgnoreAccelBuffering)
        {
            if (accel.Equals("no", StringComparison.OrdinalIgnoreCase))
            {
                yield return AccelOff;
            }
            else if (accel.Equals("yes", StringComparison.OrdinalIgnoreCase))
            {
                yield return AccelOn;
            }
        }
        foreach (var reason in OfPlugins(exchange, static rule => rule.ResponseBuffering))
        {
            yield return reason;
        }
        foreach (var rule in exchange.Scope.ResponseBuffering)
        {
            yield return OfNginx("proxy_buffering", rule);
        }
        yield return isStream ? DefaultStream : DefaultOn;
    }

    static string ScopeOf(Exchange exchange)
    {
        foreach (var (_, use) in (IEnumerable<Step<IStreamRule>>)[.. exchange.Chain.Steps(Phase.StreamRule),
            .. exchange.Snapshot.GlobalRules.Steps(Phase.StreamRule)])
        {
            if (use.Applies(exchange))
            {
                return use.Scope;
            }
        }
        return "conf/config.yaml";
    }

    static IEnumerable<BufferingReason> RequestInOrder(Exchange exchange, bool isStream)
    {
        foreach (var reason in OfPlugins(exchange, static rule => rule.RequestBuffering))
        {
            yield return reason;
        }
        foreach (var rule in exchange.Scope.RequestBuffering)
        {
            yield return OfNginx("proxy_request_buffering", rule);
        }
        yield return isStream ? DefaultStream : DefaultRequestOn;
    }

    static IEnumerable<BufferingReason> OfPlugins(Exchange exchange, Func<IBufferingRule, bool?> read)
    {
        var route = exchange.Chain.Steps(Phase.BufferingRule);
        var global = exchange.Snapshot.GlobalRules.Steps(Phase.BufferingRule);
        if (route.Length + global.Length == 0)
        {
            return [];
        }
        return route.Where(step => step.Use.IsConsumers)
            .Concat(route.Where(step => !step.Use.IsConsumers))
            .Concat(global)
            .Where(step => read(step.Phase) is not null && step.Use.Applies(exchange))
            .Select(step => new BufferingReason("plugin", read(step.Phase)!.Value, step.Use.Descriptor.Name, step.Use.Scope));
    }

    static BufferingReason OfNginx(string directive, BufferingRule rule) =>
        new(rule.Level, rule.On, $"{directive} {(rule.On ? "on" : "off")} in {rule.Block}", rule.Place);
}
