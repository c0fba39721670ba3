using System.Buffers;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Sluice.Model;
using Sluice.Model.Json;
using Sluice.Model.Schema;
using Sluice.Pipeline;
using Sluice.Sources;

namespace Sluice.Admin;

/// <summary>
/// APISIX's Admin API v3 below <c>/apisix/admin</c>. A request goes top to bottom: address → preflight → key → path → body → resource.
/// Reads come from the running configuration; writes go through <see cref="ResourceStore"/>.
/// </summary>
/// <param name="store">Null: resources cannot be written one by one.</param>
/// <param name="pushed">The whole configuration comes through <c>/configs</c>; null: it does not.</param>
public sealed partial class AdminApi(LiveConfiguration live, ResourceStore? store, ILogger<AdminApi> logger, PushedConfiguration? pushed = null)
{
    const int MaxBody = 1024 * 1024 * 3 / 2;
    const int MaxShownBody = 1024;
    const int MaxWarnings = 10;

    volatile AdminAccess _access = AdminAccess.Closed;

    /// <summary>Who may come in. Nobody until it is set.</summary>
    public AdminAccess Access
    {
        get => _access;
        set => _access = value;
    }

    public async Task HandleAsync(HttpContext http)
    {
        JsonAnswer answer;
        try
        {
            answer = await AnswerAsync(http, Access);
        }
        catch (BadHttpRequestException e)
        {
            answer = JsonAnswer.Error(e.StatusCode, $"invalid request body: {e.Message}");
        }
        catch (OperationCanceledException) when (http.RequestAborted.IsCancellationRequested)
        {
            return;
        }
        catch (Exception e)
        {
            LogBug(e, http.Request.Method, http.Request.Path);
            answer = JsonAnswer.Error(500, "internal error, see the error log");
        }
        if (!HttpMethods.IsGet(http.Request.Method))
        {
            // never the answer's text: it may quote a key
            LogAnswered(http.Request.Method, http.Request.Path, answer.Status, http.Connection.RemoteIpAddress);
        }
        await answer.SendAsync(http);
    }

    async Task<JsonAnswer> AnswerAsync(HttpContext http, AdminAccess access)
    {
        var (request, response) = (http.Request, http.Response);
        if (!access.Allows(http.Connection.RemoteIpAddress))
        {
            LogNotAllowed(http.Connection.RemoteIpAddress);
            return Forbidden;
        }
        if (access.Cors)
        {
            AllowOrigins(request, response);
        }
        if (HttpMethods.IsOptions(request.Method))
        {
            return JsonAnswer.Text(200, "", "text/plain");
        }
        if (access.Refuse(request) is { } refusal)
        {
            LogBadKey(refusal, http.Connection.RemoteIpAddress);
            return JsonAnswer.Object(401, ("error_msg", "failed to check token"), ("description", refusal));
        }
        response.Headers["X-API-VERSION"] = "v3";
        if (!AdminPath.TryParse(http.Features.Get<IHttpRequestFeature>()?.RawTarget ?? request.Path, out var path, out var wrong))
        {
            return JsonAnswer.Error(400, wrong);
        }
        return path is ["apisix", "admin", .. var rest]
            ? await RouteAsync(http, rest)
            : JsonAnswer.Error(404, "404 Route Not Found");
    }

    static void AllowOrigins(HttpRequest request, HttpResponse response)
    {
        var headers = response.Headers;
        headers.AccessControlAllowOrigin = "*";
        headers.AccessControlAllowCredentials = "true";
        headers.AccessControlMaxAge = "3600";
        if (HttpMethods.IsOptions(request.Method))
        {
            headers.AccessControlAllowMethods = "POST, GET, PUT, OPTIONS, DELETE, PATCH";
            headers.AccessControlAllowHeaders = "*";
        }
        else
        {
            headers.AccessControlExposeHeaders = "*";
        }
    }

    JsonAnswer ReloadPlugins() => live.ReloadPlugins().FirstOrDefault(problem => problem.Severity == Severity.Error) is { } problem
        ? JsonAnswer.Error(500, problem.ToString())
        : JsonAnswer.Text(200, "done");

    async Task<JsonAnswer> RouteAsync(HttpContext http, string[] path)
    {
        var (request, plugins) = (http.Request, live.Current.Plugins);
        var isGet = HttpMethods.IsGet(request.Method) || HttpMethods.IsHead(request.Method);
        switch (path)
        {
            case [] when HttpMethods.IsHead(request.Method):
                return new JsonAnswer(200);
            case ["plugins", "reload"]:
                return HttpMethods.IsPut(request.Method)
                    ? ReloadPlugins()
                    : JsonAnswer.Error(405, $"please use PUT method to reload the plugins, {request.Method} method is not allowed.");
            case ["schema", "validate", var segment] when HttpMethods.IsPost(request.Method):
                return ResourceKinds.TryParse(segment, out var validated) ? await ValidateAsync(http, validated) : Unsupported(segment);
            case ["configs"] when pushed is not null && isGet:
                return ConfigsApi.Get(pushed, request, http.Response);
            case ["configs"] when pushed is not null && HttpMethods.IsPut(request.Method):
                var (whole, tooLarge) = await ReadBytesAsync(http, ConfigsApi.MaxBody);
                return tooLarge ?? ConfigsApi.Put(pushed, request, http.Response, whole);
            case ["configs", "validate"] when HttpMethods.IsPost(request.Method):
                (whole, tooLarge) = await ReadBytesAsync(http, ConfigsApi.MaxBody);
                return tooLarge ?? ConfigsApi.Validate(plugins, request, whole);
            case ["plugins" or "schema", ..] when !isGet:
                return NotFound;
            case ["plugins", "list"]:
                return SchemaPages.Names(plugins);
            case ["plugins"]:
                return SchemaPages.AllPlugins(plugins, request.Query);
            case ["plugins", _] when request.Query["all"] == "true":
                return SchemaPages.AllPlugins(plugins, request.Query);
            case ["plugins", _] or ["schema", "plugins", _]:
                return SchemaPages.OfPlugin(path[^1], plugins, request.Query);
            case ["schema", var name]:
                return SchemaPages.OfName(name, plugins, request.Query);
            default:
                return ResourcePath.Of(path) is { } resource ? await ResourceAsync(http, resource) : Unsupported(path is [var unknown, ..] ? unknown : "");
        }
    }

    async Task<JsonAnswer> ResourceAsync(HttpContext http, ResourcePath path)
    {
        var (kind, id) = (path.Kind, path.Id);
        var method = http.Request.Method;
        if (HttpMethods.IsGet(method) || HttpMethods.IsHead(method))
        {
            return Read(http.Request.Query, path);
        }
        if (store is null)
        {
            return JsonAnswer.Error(405, pushed is null
                ? $"the resources come from {YamlSource.Name}: change that file, it is applied within a second"
                : "the configuration is written as a whole: PUT /apisix/admin/configs");
        }
        if (Ttl(http.Request.Query, out var ttl) is { } wrongTtl)
        {
            return JsonAnswer.Error(400, wrongTtl);
        }
        if (IsUnsupported(kind, method))
        {
            return JsonAnswer.Error(405, $"not supported `{method}` method for {kind.Singular()}");
        }
        if (HttpMethods.IsDelete(method))
        {
            return id is null
                ? JsonAnswer.Error(400, $"missing {kind.Singular()} id")
                : Answer(await store.DeleteAsync(kind, path.DocumentId(id), http.Request.Query["force"] == "true", http.RequestAborted));
        }
        if (!HttpMethods.IsPut(method) && !HttpMethods.IsPost(method) && !HttpMethods.IsPatch(method))
        {
            return NotFound;
        }
        var (body, isThere, error) = await ReadBodyAsync(http);
        if (error is not null)
        {
            return error;
        }
        if (HttpMethods.IsPatch(method))
        {
            return await PatchAsync(store, path, body, isThere, ttl, http.RequestAborted);
        }
        if (!isThere)
        {
            return JsonAnswer.Error(400, "missing configurations");
        }
        if (AsObject(body) is not { } value)
        {
            return JsonAnswer.Error(400, $"invalid configuration: wrong type: expected object, got {LuaText.Type(body)}");
        }
        return HttpMethods.IsPut(method)
            ? await PutAsync(store, path, value, ttl, http.RequestAborted)
            : await PostAsync(store, kind, id, value, ttl, http.RequestAborted);
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
        ResourceKind.Secrets or ResourceKind.GlobalRules or ResourceKind.PluginConfigs or ResourceKind.ConsumerGroups or ResourceKind.PluginMetadata => HttpMethods.IsPost(method),
        _ => false,
    };

    // -- GET

    JsonAnswer Read(IQueryCollection query, ResourcePath path)
    {
        var documents = live.Current.Documents;
        if (path.Id is { } id)
        {
            return documents.Find(path.Kind, path.DocumentId(id)) is { } document
                ? JsonAnswer.Write(200, writer => WriteDocument(writer, document, withIndexes: true))
                : KeyNotFound;
        }
        var list = ResourceList.Select(documents[path.Kind].Values.Where(path.Holds), name => query.TryGetValue(name, out var value) ? value[0] : null);
        if (list.Error is { } error)
        {
            return error == ResourceList.BadPageSize ? JsonAnswer.Text(400, error + "\n") : JsonAnswer.Error(400, error);
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
            WriteWithoutKeys(writer, document.Value);
        }
        else
        {
            Secrets.Shown(document.Kind, document.Value, live.Current.Settings.Encryption).WriteTo(writer);
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

    // -- PUT, POST, PATCH

    async Task<JsonAnswer> PutAsync(ResourceStore store, ResourcePath path, JsonObject value, TimeSpan? ttl, CancellationToken cancel)
    {
        var (kind, id) = (path.Kind, path.Id);
        if (ForbiddenProperty(value) is { } forbidden)
        {
            return JsonAnswer.Error(400, forbidden);
        }
        switch (kind)
        {
            case ResourceKind.Consumers:
                if (ResourceSchemas.Check(kind, value) is { } wrong)
                {
                    return JsonAnswer.Error(400, $"invalid configuration: {wrong}");
                }
                var username = value["username"]!.GetValue<string>();
                return id is null || id == username
                    ? Answer(await store.PutAsync(kind, username, value, ttl, cancel))
                    : JsonAnswer.Error(400, "wrong username");
            case ResourceKind.PluginMetadata:
                return id is null
                    ? JsonAnswer.Error(400, "missing plugin name")
                    : Answer(await store.PutAsync(kind, id, value, ttl, cancel));
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
                value["id"] ??= effective;
                return Answer(await store.PutAsync(kind, path.DocumentId(effective), value, ttl, cancel));
        }
    }

    async Task<JsonAnswer> PostAsync(
        ResourceStore store, ResourceKind kind, string? id, JsonObject value, TimeSpan? ttl, CancellationToken cancel)
    {
        if (id is not null || value["id"] is not null)
        {
            return JsonAnswer.Error(400, $"wrong {kind.Singular()} id, do not need it");
        }
        return ForbiddenProperty(value) is { } forbidden
            ? JsonAnswer.Error(400, forbidden)
            : Answer(await store.PostAsync(kind, value, ttl, cancel));
    }

    async Task<JsonAnswer> PatchAsync(
        ResourceStore store, ResourcePath path, JsonNode? body, bool isThere, TimeSpan? ttl, CancellationToken cancel)
    {
        var (kind, id, subPath) = (path.Kind, path.Id, path.SubPath);
        if (id is null)
        {
            return JsonAnswer.Error(400, $"missing {kind.Singular()} id");
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
        return Answer(await store.PatchAsync(
            kind,
            id,
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
                if (kind != ResourceKind.PluginMetadata && (IdOf(value) ?? id) != id)
                {
                    return $"wrong {kind.Singular()} id";
                }
                value["id"] ??= id;
                return null;
            },
            ttl,
            cancel));
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
            if (value["upstream"] is JsonObject upstream && upstream.ContainsKey(name))
            {
                return $"the property is forbidden:  upstream.{name}";
            }
        }
        return null;
    }

    JsonAnswer Answer(WriteResult result) => result.Outcome switch
    {
        WriteOutcome.Created => Written(201, result),
        WriteOutcome.Updated => Written(200, result),
        WriteOutcome.Deleted => JsonAnswer.Object(200, ("key", result.Key), ("deleted", "1")),
        WriteOutcome.NotFound => result.Error is { } missing ? JsonAnswer.Error(404, missing) : KeyNotFound,
        WriteOutcome.Refused => JsonAnswer.Error(400, result.Error!),
        _ => JsonAnswer.Error(503, result.Error!),
    };

    JsonAnswer Written(int status, WriteResult result) =>
        JsonAnswer.Write(status, writer => WriteDocument(writer, result.Document! with { Value = result.Stored! }, withIndexes: false)) with
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

    static async Task<JsonAnswer> ValidateAsync(HttpContext http, ResourceKind kind)
    {
        var (body, isThere, error) = await ReadBodyAsync(http);
        if (error is not null)
        {
            return error;
        }
        return !isThere ? JsonAnswer.Error(400, "missing configurations")
            : AsObject(body) is not { } value ? JsonAnswer.Error(400, $"wrong type: expected object, got {LuaText.Type(body)}")
            : ResourceSchemas.Check(kind, value) is { } wrong ? JsonAnswer.Error(400, wrong)
            : new JsonAnswer(200);
    }

    // -- The body

    static async ValueTask<(JsonNode? Body, bool IsThere, JsonAnswer? Error)> ReadBodyAsync(HttpContext http)
    {
        var (bytes, error) = await ReadBytesAsync(http, MaxBody);
        return error is null ? Parse(bytes) : (null, false, error);
    }

    static async ValueTask<(byte[] Body, JsonAnswer? Error)> ReadBytesAsync(HttpContext http, int limit)
    {
        if (http.Request.ContentLength > limit)
        {
            return ([], TooLarge(http.Request.ContentLength.Value, limit));
        }
        if (http.Features.Get<IHttpMaxRequestBodySizeFeature>() is { IsReadOnly: false } size)
        {
            size.MaxRequestBodySize = Math.Max(size.MaxRequestBodySize ?? 0, limit + 65536L);
        }
        var reader = http.Request.BodyReader;
        while (true)
        {
            var read = await reader.ReadAsync(http.RequestAborted);
            if (read.Buffer.Length > limit)
            {
                var length = read.Buffer.Length;
                reader.AdvanceTo(read.Buffer.End);
                return ([], TooLarge(length, limit));
            }
            if (read.IsCompleted)
            {
                var bytes = read.Buffer.ToArray();
                reader.AdvanceTo(read.Buffer.End);
                return (bytes, null);
            }
            reader.AdvanceTo(read.Buffer.Start, read.Buffer.End);
        }
    }

    static JsonAnswer TooLarge(long length, int limit) =>
        JsonAnswer.Error(413, $"invalid request body: request size {length} is greater than the maximum size {limit} allowed");

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

    // -- Fixed answers

    static readonly JsonAnswer NotFound = JsonAnswer.Error(404, "not found");

    static readonly JsonAnswer KeyNotFound = JsonAnswer.Object(404, ("message", "Key not found"));

    /// <summary>allow_admin is nginx's business in APISIX, so the answer is nginx's page.</summary>
    static readonly JsonAnswer Forbidden = JsonAnswer.Text(
        403,
        "<html>\r\n<head><title>403 Forbidden</title></head>\r\n<body>\r\n<center><h1>403 Forbidden</h1></center>\r\n<hr><center>sluice</center>\r\n</body>\r\n</html>\r\n",
        "text/html");

    static JsonAnswer Unsupported(string segment) => JsonAnswer.Error(404, $"Unsupported resource type: {segment}");

    [LoggerMessage(Level = LogLevel.Information, Message = "Admin API: {Method} {Path} from {Client}: {Status}")]
    partial void LogAnswered(string method, string path, int status, System.Net.IPAddress? client);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Admin API: failed to check token: {Reason}, client: {Client}")]
    partial void LogBadKey(string reason, System.Net.IPAddress? client);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Admin API: access forbidden by allow_admin, client: {Client}")]
    partial void LogNotAllowed(System.Net.IPAddress? client);

    [LoggerMessage(Level = LogLevel.Error, Message = "Admin API: unexpected failure in {Method} {Path}")]
    partial void LogBug(Exception exception, string method, string path);
}
