using System.Text.Json;
using System.Text.Json.Nodes;
using Sluice.Model;
using Sluice.Pipeline;
using Sluice.Pipeline.References;

namespace Sluice.Sources;

/// <summary>
/// Which values of a resource are secrets: what the plugins' schemas name in <c>encrypt_fields</c> (<c>key</c>, <c>auth.token</c>), private
/// keys of certificates. A store has them encrypted, memory has them in clear.
/// </summary>
static class Secrets
{
    /// <summary>What a secret manager is asked with.</summary>
    static readonly string[] OfManagers = ["token", "secret_access_key", "session_token", "auth_config.private_key"];

    /// <summary>A copy as it is stored.</summary>
    public static JsonObject Encrypted(ResourceKind kind, string id, JsonObject value, PluginRegistry plugins, DataEncryption encryption)
    {
        var copy = value.DeepClone().AsObject();
        if (kind == ResourceKind.Ssls)
        {
            // a reference to a secret manager is none itself
            Change(copy, "key", key => EncryptKey(key, encryption));
            Change(copy, "keys", key => EncryptKey(key, encryption));
            return copy;
        }
        Change(copy, ClientKey(kind), key => EncryptKey(key, encryption));
        if (encryption.Fields)
        {
            if (kind == ResourceKind.Secrets)
            {
                Change(copy, OfManagers, secret => SecretReference.Is(secret) ? secret : encryption.Encrypt(secret));
            }
            ChangeFields(kind, id, copy, plugins, encryption.Encrypt);
        }
        return copy;
    }

    static string EncryptKey(string key, DataEncryption encryption) =>
        key.StartsWith("---", StringComparison.Ordinal) ? encryption.Encrypt(key) : key;

    /// <summary>The private key that an upstream is shown; of documents without an upstream there is none.</summary>
    static string ClientKey(ResourceKind kind) => kind == ResourceKind.Upstreams ? "tls.client_key" : "upstream.tls.client_key";

    /// <summary>What a GET answers: the key that upstreams are shown stays encrypted, as in the store.</summary>
    public static JsonObject Shown(ResourceKind kind, JsonObject value, DataEncryption encryption)
    {
        if ((kind == ResourceKind.Upstreams ? value : value["upstream"] as JsonObject)?["tls"]?["client_key"] is null)
        {
            return value;
        }
        var copy = value.DeepClone().AsObject();
        Change(copy, ClientKey(kind), key => EncryptKey(key, encryption));
        return copy;
    }

    /// <summary>A key that a client got from <see cref="Shown"/> and brings back.</summary>
    public static void DecryptClientKey(ResourceKind kind, JsonObject value, DataEncryption encryption) =>
        Change(value, ClientKey(kind), encryption.Decrypt);

    /// <summary>Puts the clear values into what was read from a store.</summary>
    public static void Decrypt(ResourceKind kind, string id, JsonObject value, PluginRegistry plugins, DataEncryption encryption)
    {
        if (kind == ResourceKind.Ssls)
        {
            Change(value, "key", encryption.Decrypt);
            Change(value, "keys", encryption.Decrypt);
            return;
        }
        DecryptClientKey(kind, value, encryption);
        if (encryption.Fields)
        {
            if (kind == ResourceKind.Secrets)
            {
                Change(value, OfManagers, secret => SecretReference.Is(secret) ? secret : encryption.Decrypt(secret));
            }
            ChangeFields(kind, id, value, plugins, encryption.Decrypt);
        }
    }

    /// <summary>A copy to show to people.</summary>
    public static JsonObject Masked(ResourceKind kind, string id, JsonObject value, PluginRegistry plugins)
    {
        var copy = value.DeepClone().AsObject();
        foreach (var name in kind switch { ResourceKind.Ssls => (string[])["key", "keys"], ResourceKind.Secrets => OfManagers, _ => [] })
        {
            Change(copy, name, _ => Mask);
        }
        Change(copy, "tls.client_key", _ => Mask);
        Change(copy, "upstream.tls.client_key", _ => Mask);
        ChangeFields(kind, id, copy, plugins, _ => Mask);
        if (copy["plugins"] is JsonObject all)
        {
            // nobody can say what of it is secret
            foreach (var unknown in all.Select(one => one.Key)
                .Where(name => plugins.Find(name) is null && plugins.FindForStreams(name) is null).ToArray())
            {
                all[unknown] = Mask;
            }
        }
        return copy;
    }

    const string Mask = "***";

    static void ChangeFields(ResourceKind kind, string id, JsonObject value, PluginRegistry plugins, Func<string, string> change)
    {
        if (kind == ResourceKind.PluginMetadata)
        {
            Change(value, plugins.Find(id)?.SecretsOfMetadata, change);
            return;
        }
        foreach (var (name, config) in value["plugins"] as JsonObject ?? [])
        {
            if (config is JsonObject part && (plugins.Find(name) ?? plugins.FindForStreams(name)) is { } plugin)
            {
                var isCredential = kind is ResourceKind.Consumers or ResourceKind.Credentials && plugin.IsCredential;
                Change(part, isCredential ? plugin.SecretsOfConsumer : plugin.SecretsOfConfig, change);
            }
        }
    }

    static void Change(JsonObject target, IReadOnlyList<string>? fields, Func<string, string> change)
    {
        foreach (var field in fields ?? [])
        {
            Change(target, field, change);
        }
    }

    /// <param name="field">A property, or the way to one, through lists as well: <c>auth.token</c>. A text, a list of texts, or a map to
    /// texts.</param>
    static void Change(JsonObject target, string field, Func<string, string> change)
    {
        var dot = field.IndexOf('.', StringComparison.Ordinal);
        if (dot > 0)
        {
            var inner = target[field[..dot]];
            foreach (var one in (inner as IEnumerable<JsonNode?> ?? Enumerable.Repeat(inner, 1)).OfType<JsonObject>())
            {
                Change(one, field[(dot + 1)..], change);
            }
            return;
        }
        switch (target[field])
        {
            case JsonValue text when text.GetValueKind() == JsonValueKind.String:
                target[field] = change(text.GetValue<string>());
                break;
            case JsonArray texts:
                for (var i = 0; i < texts.Count; i++)
                {
                    if (texts[i] is JsonValue item && item.GetValueKind() == JsonValueKind.String)
                    {
                        texts[i] = change(item.GetValue<string>());
                    }
                }
                break;
            case JsonObject map:
                foreach (var name in map.Where(item => item.Value?.GetValueKind() == JsonValueKind.String).Select(item => item.Key)
                    .ToArray())
                {
                    map[name] = change(map[name]!.GetValue<string>());
                }
                break;
        }
    }
}
