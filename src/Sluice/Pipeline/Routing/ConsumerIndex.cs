using System.Collections.Concurrent;
using System.Collections.Frozen;
using System.Collections.Immutable;
using System.Text.Json.Nodes;
using Sluice.Pipeline.References;

namespace Sluice.Pipeline;

/// <summary>All that goes by one username.</summary>
/// <param name="Consumer">Null: there are only credentials, or there is nothing.</param>
/// <param name="CredentialIds">Ids of its credentials' documents.</param>
/// <param name="WithCredentials">The consumer as a request is that came with one of them.</param>
/// <param name="Secrets">What it refers to, with the values that it was compiled with; null: not known then.</param>
internal sealed record Account(
    string Username, Consumer? Consumer, IReadOnlyList<string> CredentialIds, IReadOnlyList<Consumer> WithCredentials,
    IReadOnlyDictionary<string, string?> Secrets)
{
    internal bool IsEmpty => Consumer is null && CredentialIds.Count == 0;

    internal bool HasCurrentSecrets(SecretStore secrets) => Secrets.All(pair => secrets.Known(pair.Key) == pair.Value);

    internal IEnumerable<Consumer> All => Consumer is null ? [] : [Consumer, .. WithCredentials];
}

/// <summary>
/// Finds consumers by what identifies them in an auth plugin (<see cref="PluginInfo.ConsumerKey"/>). Immutable; a change costs what the
/// accounts cost that it concerns.
/// </summary>
internal sealed class ConsumerIndex
{
    readonly SharedMap<Account> _accounts;
    readonly FrozenDictionary<string, Identities> _byPlugin;

    /// <summary>Who has which value in a property that a script asks for; made when it first asks.</summary>
    readonly ConcurrentDictionary<(string Plugin, string Property), FrozenDictionary<string, Consumer>> _byProperty = new();

    static long s_last;

    /// <summary>Who is in a group and who has a plugin.</summary>
    readonly SharedMap<Members> _members;

    /// <summary>References to secrets are few: they are looked through one by one.</summary>
    readonly ImmutableDictionary<string, Account> _withSecrets;

    /// <summary>The same of upstreams that plugins name.</summary>
    readonly ImmutableDictionary<string, string[]> _withUpstreams;

    sealed record Members(ImmutableHashSet<string> Usernames);

    /// <summary>Who has an identity: the first of them counts. Nearly always there is one.</summary>
    sealed record Identities(string Property, SharedMap<Consumer[]> Holders);

    ConsumerIndex(
        SharedMap<Account> accounts, SharedMap<Consumer> all, FrozenDictionary<string, Identities> byPlugin, SharedMap<Members> members,
        ImmutableDictionary<string, Account> withSecrets,
        ImmutableDictionary<string, string[]> withUpstreams) =>
        (_accounts, All, _byPlugin, _members, _withSecrets, _withUpstreams) = (accounts, all, byPlugin, members, withSecrets,
            withUpstreams);

    /// <param name="plugins">Those that may identify consumers.</param>
    public static ConsumerIndex Empty(IEnumerable<PluginDescriptor> plugins) => new(
        SharedMap<Account>.Empty,
        SharedMap<Consumer>.Empty,
        plugins.Where(plugin => plugin.Info.ConsumerKey is not null)
        .ToFrozenDictionary(plugin => plugin.Name, plugin => new Identities(plugin.Info.ConsumerKey!, SharedMap<Consumer[]>.Empty)),
        SharedMap<Members>.Empty,
        ImmutableDictionary<string, Account>.Empty,
        ImmutableDictionary<string, string[]>.Empty);

    /// <summary>Another number for every index.</summary>
    public long Version { get; } = Interlocked.Increment(ref s_last);

    /// <summary>By username.</summary>
    public SharedMap<Consumer> All { get; }

    /// <summary>The consumer whose credential of this plugin has this identity, or null.</summary>
    public Consumer? Find(string plugin, string identity) => _byPlugin.GetValueOrDefault(plugin)?.Holders.GetValueOrDefault(identity)?[0];

    /// <summary>Whether anybody has a part in a plugin.</summary>
    public bool HasAny(string plugin) => _byPlugin.GetValueOrDefault(plugin)?.Holders.Count > 0;

    /// <summary>The same by any property of a plugin's part: whose plugin is a script has not said which identifies.</summary>
    public Consumer? Find(string plugin, string property, string value) =>
        _byPlugin.GetValueOrDefault(plugin) is { } known && known.Property == property ? known.Holders.GetValueOrDefault(value)?[0]
        : _byProperty.GetOrAdd((plugin, property), static (key, index) => index.ByProperty(key.Plugin, key.Property), this)
        .GetValueOrDefault(value);

    FrozenDictionary<string, Consumer> ByProperty(string plugin, string property) => Holding(plugin)
        .Where(consumer => consumer.Credential(plugin)?[property] is JsonValue)
        .GroupBy(consumer => consumer.Credential(plugin)![property]!.ToString(), StringComparer.Ordinal)
        .ToFrozenDictionary(same => same.Key, same => same.First(), StringComparer.Ordinal);

    /// <summary>Everybody with a part in a plugin, once for each credential; in order of names.</summary>
    public IEnumerable<Consumer> Holding(string plugin) =>
        InOrder(_accounts.Values.SelectMany(account => account.All).Where(consumer => consumer.Credential(plugin) is not null)) ?? [];

    /// <summary>Everybody with this identity: the second and further ones are out of luck.</summary>
    public IReadOnlyList<Consumer> Holders(string plugin, string identity) =>
        _byPlugin.GetValueOrDefault(plugin)?.Holders.GetValueOrDefault(identity) ?? [];

    /// <summary>Usernames of those who are in a group.</summary>
    public IReadOnlyCollection<string> MembersOf(string group) => _members.GetValueOrDefault(GroupKey(group))?.Usernames ?? [];

    /// <summary>Null: nothing goes by this name.</summary>
    public Account? AccountOf(string username) => _accounts.GetValueOrDefault(username);

    /// <summary>Ids of the credentials' documents.</summary>
    public IReadOnlyList<string> CredentialsOf(string username) => _accounts.GetValueOrDefault(username)?.CredentialIds ?? [];

    /// <summary>Usernames of those with this plugin.</summary>
    public IReadOnlyCollection<string> WithPlugin(string plugin) => _members.GetValueOrDefault(PluginKey(plugin))?.Usernames ?? [];

    static string GroupKey(string group) => "group/" + group;

    static string PluginKey(string plugin) => "plugin/" + plugin;

    public bool HasSecrets => !_withSecrets.IsEmpty;

    /// <summary>Ids of the upstreams that consumers' plugins name.</summary>
    internal IEnumerable<string> UpstreamIds => _withUpstreams.Values.SelectMany(ids => ids);

    /// <summary>The secrets that consumers refer to.</summary>
    public IEnumerable<string> References => _withSecrets.Values.SelectMany(account => account.Secrets.Keys).Distinct();

    /// <summary>Usernames of those whose secrets are not what they were compiled with.</summary>
    public IEnumerable<string> WithOtherSecrets(SecretStore secrets) => _withSecrets.Values
        .Where(account => !account.HasCurrentSecrets(secrets)).Select(account => account.Username);

    /// <summary>The index with these accounts in the place of those of the same names.</summary>
    public ConsumerIndex With(IEnumerable<Account> accounts)
    {
        var come = accounts.Where(account => !ReferenceEquals(account, _accounts.GetValueOrDefault(account.Username))).ToArray();
        if (come.Length == 0)
        {
            return this;
        }
        var gone = come.Select(account => _accounts.GetValueOrDefault(account.Username)).OfType<Account>().ToArray();
        return new(
            _accounts.With(come.Select(account => KeyValuePair.Create(account.Username, account.IsEmpty ? null : account))),
            All.With(come.Select(account => KeyValuePair.Create(account.Username, account.Consumer))),
            _byPlugin.ToFrozenDictionary(pair => pair.Key, pair => With(pair.Key, pair.Value, gone, come)),
            WithMembers(gone, come),
            come.Aggregate(_withSecrets, (all, account) => account.Secrets.Count > 0 ? all.SetItem(account.Username, account)
                : all.Remove(account.Username)),
            come.Aggregate(_withUpstreams,
                (all, account) => PluginUpstreams.NamedIn(account.Consumer?.Plugins).ToArray() is { Length: > 0 } ids
                ? all.SetItem(account.Username, ids) : all.Remove(account.Username)));
    }

    static Identities With(string plugin, Identities identities, Account[] gone, Account[] come)
    {
        var lost = gone.SelectMany(account => account.All).ToHashSet();
        var changed = Identified(lost).Concat(Identified(come.SelectMany(account => account.All)))
            .ToLookup(pair => pair.Key, pair => pair.Value);
        return identities with
        {
            Holders = identities.Holders.With(changed.Select(change => KeyValuePair.Create(change.Key, InOrder(
                (identities.Holders.GetValueOrDefault(change.Key) ?? []).Concat(change).Where(consumer => !lost.Contains(consumer)))))),
        };

        IEnumerable<KeyValuePair<string, Consumer>> Identified(IEnumerable<Consumer> consumers) => consumers
            .Where(consumer => consumer.Credential(plugin)?[identities.Property] is JsonValue value && value.TryGetValue(out string? _))
            .Select(consumer => KeyValuePair.Create(consumer.Credential(plugin)![identities.Property]!.GetValue<string>(), consumer));
    }

    /// <summary>By name, and of one name the consumer itself before its credentials.</summary>
    static Consumer[]? InOrder(IEnumerable<Consumer> consumers) =>
        consumers.OrderBy(consumer => consumer.Username, StringComparer.Ordinal)
        .ThenBy(consumer => consumer.CredentialId, StringComparer.Ordinal).ToArray() is { Length: > 0 } all ? all : null;

    SharedMap<Members> WithMembers(Account[] gone, Account[] come)
    {
        Dictionary<string, Members?> changed = [];
        foreach (var (account, isThere) in gone.Select(account => (account, false)).Concat(come.Select(account => (account, true))))
        {
            foreach (var key in KeysOf(account.Consumer))
            {
                var members = (changed.TryGetValue(key, out var now) ? now : _members.GetValueOrDefault(key))?.Usernames ?? [];
                members = isThere ? members.Add(account.Username) : members.Remove(account.Username);
                changed[key] = members.IsEmpty ? null : new Members(members);
            }
        }
        return _members.With(changed);
    }

    static IEnumerable<string> KeysOf(Consumer? consumer) => consumer is null ? []
        : consumer.Plugins.Select(plugin => PluginKey(plugin.Key)).Concat(consumer.GroupId is { } group ? [GroupKey(group)] : []);
}
