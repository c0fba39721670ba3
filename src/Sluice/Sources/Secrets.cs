using System.Text.Json;
using System.Text.Json.Nodes;
using Sluice.Model;
using Sluice.Pipeline;

namespace Sluice.Sources;

/// <summary>
/// Which values of a resource are secrets: what the plugins' schemas name in <c>encrypt_fields</c> (<c>key</c>, <c>auth.token</c>), private keys of
/// certificates. A store has them encrypted, memory has them in clear.
/// </summary>
static class Secrets
{
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
            ChangeFields(kind, id, copy, plugins, encryption.Encrypt);
        }
        return copy;
    }

    static string EncryptKey(string key, DataEncryption encryption) => key.StartsWith("---", StringComparison.Ordinal) ? encryption.Encrypt(key) : key;

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
    public static void DecryptClientKey(ResourceKind kind, JsonObject value, DataEncryption encryption) => Change(value, ClientKey(kind), encryption.Decrypt);

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
            ChangeFields(kind, id, value, plugins, encryption.Decrypt);
        }
    }

    /// <summary>A copy to show to people.</summary>
    public static JsonObject Masked(ResourceKind kind, string id, JsonObject value, PluginRegistry plugins)
    {
        var copy = value.DeepClone().AsObject();
        foreach (var name in kind switch { ResourceKind.Ssls => (string[])["key", "keys"], ResourceKind.Secrets => ["token", "secret_access_key", "session_token", "auth_config.private_key"], _ => [] })
        {
            Change(copy, name, _ => Mask);
        }
        Change(copy, "tls.client_key", _ => Mask);
        Change(copy, "upstream.tls.client_key", _ => Mask);
        ChangeFields(kind, id, copy, plugins, _ => Mask);
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
            if (config is JsonObject part && plugins.Find(name) is { } plugin)
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

    /// <param name="field">A property, or the way to one: <c>auth.token</c>.</param>
    static void Change(JsonObject target, string field, Func<string, string> change)
    {
        var dot = field.IndexOf('.', StringComparison.Ordinal);
        if (dot > 0)
        {
            if (target[field[..dot]] is JsonObject inner)
            {
                Change(inner, field[(dot + 1)..], change);
            }
            return;
        }
        switch (target[field])
        {
            case JsonValue text when text.GetValueKind() == JsonValueKind.String:
                target[field] = change(text.GetValue<string>());
                break;
            case JsonArray list:
                for (var i = 0; i < list.Count; i++)
                {
                    if (list[i] is JsonValue item && item.GetValueKind() == JsonValueKind.String)
                    {
                        list[i] = change(item.GetValue<string>());
                    }
                }
                break;
        }
    }
}
