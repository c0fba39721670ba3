using System.Runtime.CompilerServices;
using System.Security.Cryptography;
using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging;
using Sluice.Model;
using Sluice.Pipeline;

namespace Sluice.Hosting;

/// <summary>
/// Ends streams whose right to be there is gone: the consumer, its credential or group was deleted, its key is another, or the route would
/// not let them in any more (<c>streaming.lease</c>). It looks after each change of the configuration that touches routes or consumers, on
/// a thread of its own; streams that it does not end notice nothing.
/// </summary>
sealed partial class LeaseWatch : IAsyncDisposable
{
    /// <summary>A tool that deletes a route and creates it anew ends nothing.</summary>
    static readonly TimeSpan s_patience = TimeSpan.FromSeconds(10);

    static readonly TimeSpan s_spread = TimeSpan.FromSeconds(5);

    static readonly StreamPolicy.LeasePolicy s_default = new();

    readonly LiveConfiguration _live;
    readonly LiveStreams _streams;
    readonly TimeProvider _time;
    readonly ILogger _logger;
    readonly CancellationTokenSource _stopping = new();
    readonly CancellationToken _stop;
    readonly Lock _gate = new();
    Task _looking = Task.CompletedTask;
    bool _again;
    (SharedMap<Route> Routes, long Consumers)? _seen;

    /// <summary>As what a stream was last let in again: it is not looked at anew for changes that do not touch it.</summary>
    readonly ConditionalWeakTable<LiveStream, Admission> _admitted = [];

    sealed record Admission(Route Route, Consumer? Consumer);

    public LeaseWatch(LiveConfiguration live, LiveStreams streams, TimeProvider time, ILogger<LeaseWatch> logger)
    {
        (_live, _streams, _time, _logger, _stop) = (live, streams, time, logger, _stopping.Token);
        live.Changed += Follow;
    }

    void Follow(Snapshot next)
    {
        lock (_gate)
        {
            var before = _seen;
            _seen = (next.Routes, next.Consumers.Version);
            if (before is null || before == _seen || _stop.IsCancellationRequested)
            {
                return;
            }
            if (!_looking.IsCompleted)
            {
                _again = true;
                return;
            }
            using (ExecutionContext.SuppressFlow())
            {
                _looking = Task.Run(LookAsync);
            }
        }
    }

    async Task LookAsync()
    {
        do
        {
            lock (_gate)
            {
                _again = false;
            }
            var snapshot = _live.Enter(out var seat);
            try
            {
                await LookAsync(snapshot);
            }
            catch (Exception e)
            {
                LogFailed(e);
            }
            finally
            {
                LiveConfiguration.Leave(snapshot, seat);
            }
        }
        while (MustAgain());

        bool MustAgain()
        {
            lock (_gate)
            {
                return _again && !_stop.IsCancellationRequested;
            }
        }
    }

    enum Verdict
    {
        Stays,
        IsRevoked,
        IsRefused,

        /// <summary>Its route is gone: it may come back.</summary>
        Waits,

        /// <summary>What only looks at requests has to look at this one.</summary>
        IsLookedAt,
    }

    /// <param name="Probe">The request as it was, when it is looked at.</param>
    sealed record Case(Verdict Verdict, TimeSpan Spread, Admission? Now = null, Exchange? Probe = null);

    async Task LookAsync(Snapshot snapshot)
    {
        List<(LiveStream Stream, TimeSpan Spread)> revoked = [], refused = [], waiting = [];
        Dictionary<(PluginChain, bool), PluginChain> checks = [];
        foreach (var stream in _streams.List())
        {
            var known = _admitted.TryGetValue(stream, out var admission) ? admission : null;
            var (verdict, spread, now, probe) = stream.Kind == StreamKind.Body ? new(Verdict.Stays, default)
                : stream.Ask(exchange => Judge(exchange, snapshot, known)) ?? new(Verdict.Stays, default);
            if (verdict == Verdict.IsLookedAt)
            {
                if (await AdmitsAsync(snapshot, probe!, now!, checks))
                {
                    _admitted.AddOrUpdate(stream, now!);
                    continue;
                }
                verdict = Verdict.IsRefused;
            }
            (verdict switch { Verdict.IsRevoked => revoked, Verdict.IsRefused => refused, Verdict.Waits => waiting, _ => null })?.Add(
                (stream, spread));
        }
        End(revoked, "revoked", "its consumer, credential or group is gone, or the key is another");
        End(refused, "not_admitted", "its route does not let it in any more");
        if (waiting.Count > 0)
        {
            _ = EndWaitingAsync(waiting);
        }
    }

    static Case Judge(Exchange exchange, Snapshot snapshot, Admission? known)
    {
        if (exchange is not { Streams: { } policy, Route: { } route })
        {
            return new(Verdict.Stays, default);
        }
        var lease = policy.Lease ?? s_default;
        var spread = lease.Spread?.Time ?? s_spread;
        var consumer = exchange.Consumer;
        var consumerNow = consumer is null ? null : Now(consumer, snapshot);
        if (consumer is not null && lease.OnRevoke == "end" && IsRevoked(consumer, consumerNow, exchange.Chain, snapshot))
        {
            return new(Verdict.IsRevoked, spread);
        }
        var routeNow = snapshot.Routes.GetValueOrDefault(route.Id);
        // a revocation that is ignored changes nothing either
        consumerNow ??= consumer;
        if (lease.OnChange == "keep" || (routeNow == route && consumerNow == consumer)
            || (routeNow == known?.Route && consumerNow == known?.Consumer && known is not null))
        {
            return new(Verdict.Stays, spread);
        }
        return lease.OnChange == "end" ? new(Verdict.IsRefused, spread)
            : routeNow is null ? new(Verdict.Waits, spread)
            : new(Verdict.IsLookedAt, spread, new(routeNow, consumerNow), exchange.Again(snapshot));
    }

    static Consumer? Now(Consumer consumer, Snapshot snapshot)
    {
        var account = snapshot.Consumers.AccountOf(consumer.Username);
        return consumer.CredentialId is { } id ? account?.WithCredentials.FirstOrDefault(one => one.CredentialId == id) : account?.Consumer;
    }

    static bool IsRevoked(Consumer consumer, Consumer? now, PluginChain chain, Snapshot snapshot)
    {
        if (now is null || (consumer.GroupId is { } group && snapshot.Documents.Find(ResourceKind.ConsumerGroups, group) is null))
        {
            return true;
        }
        if (now == consumer)
        {
            return false;
        }
        // the route's auth plugins count; where they are within another plugin, all that the consumer has
        var known = chain.Uses.Where(static use => use.Descriptor.Info.IsAuth).Select(static use => use.Descriptor.Name)
            .Where(name => consumer.Credential(name) is not null).ToArray();
        var names = known.Length > 0 ? known
            : [.. snapshot.Plugins.All.Where(static plugin => plugin.IsCredential).Select(static plugin => plugin.Name)
                .Where(name => consumer.Credential(name) is not null)];
        return Array.Exists(names, name => !JsonNode.DeepEquals(consumer.Credential(name), now.Credential(name)));
    }

    /// <summary>Whether the request would be let in now, as far as that can be told by looking at it.</summary>
    static async ValueTask<bool> AdmitsAsync(Snapshot snapshot, Exchange probe, Admission now,
        Dictionary<(PluginChain, bool), PluginChain> known)
    {
        var matched = snapshot.Router.Match(probe, probe.Host);
        if (matched?.Id != now.Route.Id && !probe.WantsBody)
        {
            return false;
        }
        (probe.Route, probe.Consumer) = (now.Route, now.Consumer);
        var chain = now.Consumer is { } consumer ? now.Route.ChainFor(consumer) : now.Route.Chain;
        if (!known.TryGetValue((chain, now.Consumer is null), out var checks))
        {
            known[(chain, now.Consumer is null)] = checks =
                new PluginChain(chain.Uses.Where(use => use is { Plugin: IReadmit plugin, PreFunction: null } && plugin.CanReadmit(probe)));
        }
        probe.Chain = checks;
        return await PhaseRunner.AskAsync(probe, Phase.Rewrite, checks) is null
            && await PhaseRunner.AskAsync(probe, Phase.Access, checks) is null;
    }

    /// <summary>Those whose route does not come back end; one that does come back is a change that is looked at by itself.</summary>
    async Task EndWaitingAsync(List<(LiveStream Stream, TimeSpan Spread)> waiting)
    {
        try
        {
            await Task.Delay(s_patience, _time, _stop);
        }
        catch (OperationCanceledException)
        {
            return;
        }
        var routes = _live.Current.Routes;
        End(
            [.. waiting.Where(one => one.Stream.Ask(exchange => exchange.Route) is { } route
                && routes.GetValueOrDefault(route.Id) is null)],
            "not_admitted", "its route is gone");
    }

    void End(List<(LiveStream Stream, TimeSpan Spread)> streams, string reason, string message)
    {
        if (streams.Count > 0)
        {
            LogEnding(streams.Count, reason, message);
            _ = EndOverAsync(streams, reason, message);
        }
    }

    /// <summary>One after the other, in an order that chance gives, so that those that come back do not come together.</summary>
    async Task EndOverAsync(List<(LiveStream Stream, TimeSpan Spread)> streams, string reason, string message)
    {
        // clients first, so that they get their own words
        var order = streams.OrderBy(static one => one.Stream.IsOfClients).ThenBy(static _ => RandomNumberGenerator.GetInt32(int.MaxValue))
            .ToArray();
        var began = _time.GetTimestamp();
        for (var i = 0; i < order.Length; i++)
        {
            var (stream, spread) = order[i];
            var wait = (spread * ((double)i / order.Length)) - _time.GetElapsedTime(began);
            try
            {
                if (wait > TimeSpan.FromMilliseconds(1))
                {
                    await Task.Delay(wait, _time, _stop);
                }
            }
            catch (OperationCanceledException)
            {
                return;
            }
            stream.Kill(message, reason);
        }
    }

    public async ValueTask DisposeAsync()
    {
        _live.Changed -= Follow;
        await _stopping.CancelAsync();
        await _looking;
        _stopping.Dispose();
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Count} streams are ended as {Reason}: {Message}")]
    partial void LogEnding(int count, string reason, string message);

    [LoggerMessage(Level = LogLevel.Error, Message = "streams could not be looked at after a change of the configuration")]
    partial void LogFailed(Exception exception);
}
