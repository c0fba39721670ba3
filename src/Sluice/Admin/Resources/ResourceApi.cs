using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;
using Sluice.Api;
using Sluice.Model;
using Sluice.Model.Json;
using Sluice.Model.Schema;
using Sluice.Pipeline;
using Sluice.Sources;

namespace Sluice.Admin.Resources;

/// <summary>
/// The resources of the Admin API, one by one. Reads come from the running configuration; writes go through <see cref="ResourceStore"/>.
/// </summary>
/// <param name="store">Null: resources cannot be written one by one.</param>
/// <param name="pushed">The whole configuration comes through <c>/configs</c>; null: it does not.</param>
sealed class ResourceApi(LiveConfiguration live, ResourceStore? store, PushedConfiguration? pushed) : IApiRoutes
{
    const int MaxBody = 1024 * 1024 * 3 / 2;
    const int MaxShownBody = 1024;
    const int MaxWarnings = 10;

    const string All = AdminApi.Prefix + "/{path...}";

    /// <summary>A write whose body was not yet read.</summary>
    sealed record Writing(ApiCall Call, ResourcePath Path, ResourceStore Store, TimeSpan? Ttl)
    {
        public ResourceKind Kind => Path.Kind;

        public CancellationToken Cancel => Call.Cancel;
    }

    public IEnumerable<ApiRoute> Routes =>
    [
        new("GET", All, ApiAccess.Read, call => Find(call, out var path) ?? Read(call.Query, path)),
        new("PUT", All, ApiAccess.Write, call => WriteAsync(call, PutAsync)),
        new("POST", All, ApiAccess.Write, call => WriteAsync(call, PostAsync)),
        new("PATCH", All, ApiAccess.Write, call => WriteAsync(call, PatchAsync)),
        new("DELETE", All, ApiAccess.Write, call => WriteAsync(call, DeleteAsync)),
        new("*", All, ApiAccess.Write, call => WriteAsync(call, static _ => Task.FromResult(NotFound))),
    ];

    /// <summary>The answer where no resource can be; null when the path names one.</summary>
    JsonAnswer? Find(ApiCall call, out ResourcePath path)
    {
        path = null!;
        if (call.Rest is ["plugins" or "schema", ..] && !HttpMethods.IsGet(call.Request.Method) && !HttpMethods.IsHead(call.Request.Method))
        {
            return NotFound;
        }
        if (ResourcePath.Of(call.Rest) is not { } found)
        {
            return Unsupported(call.Rest is [var unknown, ..] ? unknown : "");
        }
        path = found;
        return found.Kind == ResourceKind.StreamRoutes && !live.Current.Settings.StreamMode
            ? JsonAnswer.Error(400, "stream mode is disabled, can not add stream routes")
            : null;
    }

    JsonAnswer Read(IQueryCollection query, ResourcePath path)
    {
        var documents = live.Current.Documents;
        if (path.Id is { } id)
        {
            return (store?.FindLeftOut(path.Kind, path.DocumentId(id))?.Document
                ?? documents.Find(path.Kind, path.DocumentId(id))) is { } document
                ? JsonAnswer.Write(200, writer => WriteDocument(writer, document, withIndexes: true))
                : KeyNotFound;
        }
        var list = ResourceList.Select(WithLeftOut(path.Kind).Where(path.Holds),
            name => query.TryGetValue(name, out var value) ? value[0] : null);
        if (list.Error is { } error)
        {
            return error == ResourceList.BadPageSize ? JsonAnswer.Text(400, error) : JsonAnswer.Error(400, error);
        }
        if (path.Kind == ResourceKind.GraphqlCostDecorations && list.Total == 0)
        {
            return KeyNotFound;
        }
        return JsonAnswer.Write(200, writer =>
        {
            writer.WriteStartObject();
            writer.WriteNumber("total", list.Total);
            writer.WriteStartArray("list");
            foreach (var document in list.Items)
            {
                WriteDocument(writer, document, withIndexes: true);
            }
            writer.WriteEndArray();
            writer.WriteEndObject();
        });
    }

    /// <summary>Those in force, and in their places those of the store that are wrong.</summary>
    IEnumerable<Document> WithLeftOut(ResourceKind kind)
    {
        var running = live.Current.Documents[kind].Values;
        if (store?.LeftOut.Where(one => one.Document.Kind == kind)
            .ToDictionary(one => one.Document.Id, one => one.Document) is not { Count: > 0 } left)
        {
            return running;
        }
        return running.Where(document => !left.ContainsKey(document.Id)).Concat(left.Values)
            .OrderBy(document => document.Id, StringComparer.Ordinal);
    }

    void WriteDocument(Utf8JsonWriter writer, Document document, bool withIndexes)
    {
        writer.WriteStartObject();
        writer.WriteString("key", ResourceStore.Key(document.Kind, document.Id, live.Current.Settings.KeyPrefix));
        if (withIndexes)
        {
            writer.WriteNumber("createdIndex", document.CreatedRevision);
            writer.WriteNumber("modifiedIndex", document.ModifiedRevision);
        }
        writer.WritePropertyName("value");
        if (withIndexes && document.Kind == ResourceKind.Ssls)
        {
            WriteWithoutKeys(writer, document.Sent);
        }
        else
        {
            Secrets.Shown(document.Kind, document.Sent, live.Current.Settings.Encryption).WriteTo(writer);
        }
        if (withIndexes && store?.FindLeftOut(document.Kind, document.Id) is { } left)
        {
            writer.WriteString("left_out", left.Problem);
        }
        writer.WriteEndObject();
    }

    /// <summary>Nobody needs to read a private key back.</summary>
    static void WriteWithoutKeys(Utf8JsonWriter writer, JsonObject ssl)
    {
        writer.WriteStartObject();
        foreach (var (name, value) in ssl.Where(property => property.Key is not ("key" or "keys")))
        {
            writer.WritePropertyName(name);
            if (value is null)
            {
                writer.WriteNullValue();
            }
            else
            {
                value.WriteTo(writer);
            }
        }
        writer.WriteEndObject();
    }

    // -- PUT, POST, PATCH, DELETE

    async ValueTask<IApiAnswer> WriteAsync(ApiCall call, Func<Writing, Task<JsonAnswer>> write)
    {
        if (Find(call, out var path) is { } none)
        {
            return none;
        }
        if (store is null)
        {
            return JsonAnswer.Error(405, pushed is null
                ? $"the resources come from {YamlSource.Name}: change that file, it is applied within a second"
                : "the configuration is written as a whole: PUT /apisix/admin/configs");
        }
        if (Ttl(call.Query, out var ttl) is { } wrongTtl)
        {
            return JsonAnswer.Error(400, wrongTtl);
        }
        if (IsUnsupported(path.Kind, call.Request.Method))
        {
            return JsonAnswer.Error(405, $"not supported `{call.Request.Method}` method for {path.Kind.Singular()}");
        }
        return await write(new Writing(call, path, store, ttl));
    }

    /// <summary>How long the resource is to stay, in seconds; the error, or null.</summary>
    static string? Ttl(IQueryCollection query, out TimeSpan? ttl)
    {
        ttl = null;
        if (!query.TryGetValue("ttl", out var text))
        {
            return null;
        }
        if (!LuaText.TryToNumber(text.ToString(), out var seconds))
        {
            return "invalid argument ttl: should be a number";
        }
        if (seconds is not (> 0 and < 1e9))
        {
            return "invalid argument ttl: should be a number of seconds above 0";
        }
        ttl = TimeSpan.FromSeconds(seconds);
        return null;
    }

    static bool IsUnsupported(ResourceKind kind, string method) => kind switch
    {
        ResourceKind.Consumers or ResourceKind.Credentials => HttpMethods.IsPost(method) || HttpMethods.IsPatch(method),
        ResourceKind.Secrets or ResourceKind.GlobalRules or ResourceKind.PluginConfigs or ResourceKind.ConsumerGroups
            or ResourceKind.PluginMetadata => HttpMethods.IsPost(method),
        _ => false,
    };

    async Task<JsonAnswer> DeleteAsync(Writing writing)
    {
        var (kind, path) = (writing.Kind, writing.Path);
        return path.Id is not { } id
            ? JsonAnswer.Error(400, $"missing {kind.Singular()} id")
            : Answer(await writing.Store.DeleteAsync(kind, path.DocumentId(id), writing.Call.Query["force"] == "true", writing.Cancel));
    }

    async Task<JsonAnswer> PutAsync(Writing writing)
    {
        var (value, error) = await ReadResourceAsync(writing.Call.Http);
        if (error is not null)
        {
            return error;
        }
        var (path, store, ttl, cancel) = (writing.Path, writing.Store, writing.Ttl, writing.Cancel);
        var (kind, id) = (path.Kind, path.Id);
        if (ForbiddenProperty(value) is { } forbidden)
        {
            return JsonAnswer.Error(400, forbidden);
        }
        switch (kind)
        {
            case ResourceKind.Consumers:
                if (ResourceSchemas.Check(kind, value.DeepClone().AsObject()) is { } wrong)
                {
                    return Refused(kind, value, $"invalid configuration: {wrong}", live.Current.Plugins);
                }
                var username = value["username"]!.GetValue<string>();
                return id is null || id == username
                    ? Answer(await store.PutAsync(kind, username, value, ttl, cancel), value, kind)
                    : JsonAnswer.Error(400, "wrong username");
            case ResourceKind.PluginMetadata:
                return id is null
                    ? JsonAnswer.Error(400, "missing plugin name")
                    : Answer(await store.PutAsync(kind, id, value, ttl, cancel), value, kind);
            default:
                var own = IdOf(value);
                if ((id ?? own) is not { } effective)
                {
                    return JsonAnswer.Error(400, $"missing {kind.Singular()} id");
                }
                if (own is not null && own != effective)
                {
                    return JsonAnswer.Error(400, $"wrong {kind.Singular()} id");
                }
                if (Bind(path, value) is { } notOwners)
                {
                    return JsonAnswer.Error(400, notOwners);
                }
                // the id of the path is a text, whatever the body has
                if (id is not null)
                {
                    value["id"] = id;
                }
                return Answer(await store.PutAsync(kind, path.DocumentId(effective), value, ttl, cancel), value, kind);
        }
    }

    async Task<JsonAnswer> PostAsync(Writing writing)
    {
        var (value, error) = await ReadResourceAsync(writing.Call.Http);
        if (error is not null)
        {
            return error;
        }
        var kind = writing.Kind;
        if (writing.Path.Id is not null || value["id"] is not null)
        {
            return JsonAnswer.Error(400, $"wrong {kind.Singular()} id, do not need it");
        }
        return (ForbiddenProperty(value) ?? Bind(writing.Path, value)) is { } wrong
            ? JsonAnswer.Error(400, wrong)
            : Answer(await writing.Store.PostAsync(kind, value, writing.Ttl, writing.Path.Owner, writing.Cancel), value, kind);
    }

    /// <summary>A decoration says whose it is, as in APISIX: what the path says.</summary>
    static string? Bind(ResourcePath path, JsonObject value)
    {
        if (path.Kind != ResourceKind.GraphqlCostDecorations)
        {
            return null;
        }
        if (value["service_id"] is { } given && given.ToString() != path.Owner)
        {
            return "wrong service_id, it is taken from the path";
        }
        value["service_id"] = path.Owner;
        return null;
    }

    async Task<JsonAnswer> PatchAsync(Writing writing)
    {
        var (body, isThere, unreadable) = await ReadBodyAsync(writing.Call.Http);
        if (unreadable is not null)
        {
            return unreadable;
        }
        var (kind, id, subPath) = (writing.Kind, writing.Path.Id, writing.Path.SubPath);
        if (id is null)
        {
            return JsonAnswer.Error(400, kind == ResourceKind.Secrets ? "no secret id" : $"missing {kind.Singular()} id");
        }
        if (!isThere)
        {
            return JsonAnswer.Error(400, "missing new configuration");
        }
        var patch = AsObject(body);
        if (subPath.Length == 0 && patch is null)
        {
            return JsonAnswer.Error(400, "invalid configuration");
        }
        return Answer(await writing.Store.PatchAsync(
            kind,
            writing.Path.DocumentId(id),
            value =>
            {
                if (subPath.Length == 0)
                {
                    ResourcePatch.Merge(value, patch!);
                }
                else if (ResourcePatch.Replace(value, subPath, body) is { } error)
                {
                    return error;
                }
                if (Bind(writing.Path, value) is not null)
                {
                    return "service_id can not be patched";
                }
                if (kind != ResourceKind.PluginMetadata && (IdOf(value) ?? id) != id)
                {
                    return $"wrong {kind.Singular()} id";
                }
                if (kind != ResourceKind.PluginMetadata || value["id"] is null)
                {
                    value["id"] = id;
                }
                return null;
            },
            writing.Ttl,
            writing.Cancel), patch, kind);
    }

    static JsonObject? AsObject(JsonNode? body) => body switch
    {
        JsonObject value => value,
        JsonArray { Count: 0 } => [],
        _ => null,
    };

    /// <summary>As text, whatever it was written as; the schema refuses what is neither text nor number.</summary>
    static string? IdOf(JsonObject value) => value["id"] switch
    {
        null => null,
        var id when id.GetValueKind() == JsonValueKind.String => id.GetValue<string>(),
        var id when id.GetValueKind() == JsonValueKind.Number => LuaText.Number(LuaText.ToDouble(id)),
        var id => id.ToJsonString(),
    };

    static string? ForbiddenProperty(JsonObject value)
    {
        foreach (var name in (string[])["create_time", "update_time"])
        {
            if (value.ContainsKey(name))
            {
                return $"the property is forbidden:  {name}";
            }
            foreach (var part in (string[])["upstream", "plugins"])
            {
                if (value[part] is JsonObject inner && inner.ContainsKey(name))
                {
                    return $"the property is forbidden:  {part}.{name}";
                }
            }
        }
        return null;
    }

    /// <param name="sent">Null: it was not a whole resource.</param>
    JsonAnswer Answer(WriteResult result, JsonObject? sent = null, ResourceKind kind = default) => result.Outcome switch
    {
        WriteOutcome.Created => Written(201, result),
        WriteOutcome.Updated => Written(200, result),
        WriteOutcome.Deleted => JsonAnswer.Object(200, ("key", result.Key), ("deleted", "1")),
        WriteOutcome.NotFound => result.Error is { } missing ? JsonAnswer.Error(404, missing) : KeyNotFound,
        WriteOutcome.Refused => Refused(kind, sent, result.Error!, live.Current.Plugins),
        _ => JsonAnswer.Error(503, result.Error!),
    };

    /// <summary>Secrets of plugins as they are stored; what a secret manager is asked with as it was sent, as in APISIX, though it is
    /// stored encrypted.</summary>
    static Document AsWritten(WriteResult result) =>
        result.Document!.Kind == ResourceKind.Secrets ? result.Document : result.Document with { Sent = result.Stored! };

    /// <summary>APISIX's words, and where they say too little a hint beside them.</summary>
    static JsonAnswer Refused(ResourceKind kind, JsonObject? sent, string error, PluginRegistry? plugins = null) =>
        sent is not null && Hints.For(kind, sent, error, plugins) is { } hint
        ? JsonAnswer.Object(400, ("error_msg", error), ("hint", hint))
        : JsonAnswer.Error(400, error);

    JsonAnswer Written(int status, WriteResult result) =>
        JsonAnswer.Write(status, writer => WriteDocument(writer, AsWritten(result), withIndexes: false)) with
        {
            Warnings = [.. (result.Warnings ?? []).Take(MaxWarnings).Select(warning => $"299 sluice \"{Quotable(warning)}\"")],
        };

    /// <summary>What may stand in a header: property names come from the client.</summary>
    static string Quotable(string text)
    {
        var quotable = new StringBuilder(text.Length);
        foreach (var c in text.AsSpan(0, Math.Min(text.Length, 300)))
        {
            quotable.Append(c is < ' ' or > '~' or '"' or '\\' ? '?' : c);
        }
        return quotable.ToString();
    }

    // -- POST /schema/validate/KIND

    public static async ValueTask<IApiAnswer> ValidateAsync(ApiCall call)
    {
        if (!ResourceKinds.TryParse(call["kind"], out var kind))
        {
            return Unsupported(call["kind"]);
        }
        var (body, isThere, error) = await ReadBodyAsync(call.Http);
        if (error is not null)
        {
            return error;
        }
        return !isThere ? JsonAnswer.Error(400, "missing configurations")
            : AsObject(body) is not { } value ? JsonAnswer.Error(400, $"wrong type: expected object, got {LuaText.Type(body)}")
            : ResourceSchemas.Check(kind, value.DeepClone().AsObject()) is { } wrong ? Refused(kind, value, wrong)
            : new JsonAnswer(200);
    }

    // -- The body

    static async ValueTask<(JsonNode? Body, bool IsThere, JsonAnswer? Error)> ReadBodyAsync(HttpContext http)
    {
        var (bytes, error) = await ApiBody.ReadAsync(http, MaxBody);
        return error is null ? Parse(bytes) : (null, false, error);
    }

    /// <summary>The body as the object that a whole resource is; or the error.</summary>
    static async ValueTask<(JsonObject Value, JsonAnswer? Error)> ReadResourceAsync(HttpContext http)
    {
        var (body, isThere, error) = await ReadBodyAsync(http);
        return error is not null ? ([], error)
            : !isThere ? ([], JsonAnswer.Error(400, "missing configurations"))
            : AsObject(body) is { } value ? (value, null)
            : ([], JsonAnswer.Error(400, $"invalid configuration: wrong type: expected object, got {LuaText.Type(body)}"));
    }

    static (JsonNode? Body, bool IsThere, JsonAnswer? Error) Parse(byte[] bytes)
    {
        if (bytes.Length == 0)
        {
            return (null, false, null);
        }
        try
        {
            return (CjsonReader.Parse(bytes), true, null);
        }
        catch (JsonTextException e)
        {
            // cut between two bytes of a character: a replacement character stands at the end
            var shown = Encoding.UTF8.GetString(bytes.AsSpan(0, Math.Min(bytes.Length, MaxShownBody)));
            return (null, false, JsonAnswer.Object(400, ("error_msg", $"invalid request body: {e.Message}"), ("req_body", shown)));
        }
    }

    static readonly JsonAnswer NotFound = JsonAnswer.Error(404, "not found");

    static readonly JsonAnswer KeyNotFound = JsonAnswer.Object(404, ("message", "Key not found"));

    static JsonAnswer Unsupported(string segment) => JsonAnswer.Error(404, $"Unsupported resource type: {segment}");
}
