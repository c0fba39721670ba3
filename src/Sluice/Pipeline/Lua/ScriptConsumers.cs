using System.Text.Json.Nodes;
using Sluice.Model;
using Sluice.Scripting;

namespace Sluice.Pipeline;

/// <summary>An exchange's consumers as scripts see them.</summary>
sealed class ScriptConsumers(Exchange exchange) : IScriptConsumers
{
    ConsumerIndex Index => exchange.Snapshot.Consumers;

    public long Version => Index.Version;

    public IEnumerable<JsonObject> With(string plugin) => Index.Holding(plugin).Select(consumer => Describe(consumer, plugin));

    public IEnumerable<JsonObject> All =>
        Index.All.Values.OrderBy(consumer => consumer.Username, StringComparer.Ordinal).Select(consumer => Describe(consumer));

    public JsonObject? Find(string plugin, string property, string value) =>
        Index.Find(plugin, property, value) is { } found ? Describe(found, plugin) : null;

    public JsonObject? Named(string username) => Index.All.GetValueOrDefault(username) is { } found ? Describe(found) : null;

    public JsonObject? Attached => exchange.Consumer is { } consumer ? Describe(consumer) : null;

    public bool Attach(string username, string? credential)
    {
        if (Index.AccountOf(username)?.All.FirstOrDefault(one => one.CredentialId == credential) is not { } consumer)
        {
            return false;
        }
        exchange.Attach(consumer);
        return true;
    }

    JsonObject Describe(Consumer consumer, string? plugin = null)
    {
        var document = exchange.Snapshot.Documents.Find(ResourceKind.Consumers, consumer.Username);
        var told = document?.Value.DeepClone().AsObject() ?? [];
        foreach (var name in (string[])["username", "id", "consumer_name"])
        {
            told[name] = consumer.Username;
        }
        told["modifiedIndex"] = (double?)document?.ModifiedRevision;
        Tell("custom_id", consumer.Labels?["custom_id"]);
        Tell("group_id", consumer.GroupId);
        Tell("credential_id", consumer.CredentialId);
        Tell("auth_conf", plugin is null ? null : consumer.Credential(plugin));
        return told;

        void Tell(string name, JsonNode? value)
        {
            if (value is not null)
            {
                told[name] = value.DeepClone();
            }
        }
    }
}
