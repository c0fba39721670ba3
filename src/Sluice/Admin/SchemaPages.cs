using System.Globalization;
using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Sluice.Api;
using Sluice.Model;
using Sluice.Model.Schema;
using Sluice.Pipeline;

namespace Sluice.Admin;

/// <summary>Plugins and schemas, as the Admin API and the Control API show them.</summary>
static class SchemaPages
{
    /// <summary><c>route</c>, <c>plugin_config</c>, …: a resource kind's name in <c>/schema/NAME</c>.</summary>
    public static string Name(ResourceKind kind) => kind.Singular().Replace(' ', '_');

    /// <summary>Reads what plugins are files (Lua) again.</summary>
    public static JsonAnswer Reload(LiveConfiguration live) =>
        live.ReloadPlugins().FirstOrDefault(problem => problem.Severity == Severity.Error) is { } problem
        ? JsonAnswer.Error(500, problem.ToString())
        : JsonAnswer.Text(200, "done");

    /// <summary>Names of the enabled plugins, highest priority first.</summary>
    public static JsonAnswer Names(PluginRegistry plugins) => JsonAnswer.Write(200, writer =>
    {
        writer.WriteStartArray();
        foreach (var plugin in plugins.All)
        {
            writer.WriteStringValue(plugin.Name);
        }
        writer.WriteEndArray();
    });

    /// <summary>The schema of a resource kind or, failing that, of a plugin.</summary>
    public static JsonAnswer OfName(string name, PluginRegistry plugins, IQueryCollection query)
    {
        foreach (var kind in ResourceKinds.All)
        {
            if (kind != ResourceKind.PluginMetadata && Name(kind) == name)
            {
                return JsonAnswer.Write(200, writer => ResourceSchemas.Source(kind).WriteTo(writer));
            }
        }
        return plugins.Find(name) is null ? JsonAnswer.Error(400, $"not found schema: {name}") : OfPlugin(name, plugins, query);
    }

    /// <summary>A plugin's schema; <c>schema_type=consumer</c> or <c>metadata</c> for its other ones.</summary>
    public static JsonAnswer OfPlugin(string name, PluginRegistry plugins, IQueryCollection query)
    {
        if (BadSubsystem(query, out var subsystem) is { } bad)
        {
            return bad;
        }
        if ((subsystem == "stream" ? plugins.FindForStreams(name) : plugins.Find(name)) is not { } plugin)
        {
            return JsonAnswer.Error(404, $"plugin not found in subsystem {subsystem}");
        }
        var schema = query["schema_type"].ToString() switch
        {
            "consumer" => plugin.Info.ConsumerSchema,
            "metadata" => plugin.Info.MetadataSchema,
            _ => plugin.Schema.ToJsonString(),
        };
        return schema is null ? JsonAnswer.Error(400, "not found schema") : JsonAnswer.Write(200, writer => writer.WriteRawValue(schema));
    }

    /// <summary>Everything about all enabled plugins.</summary>
    public static JsonAnswer AllPlugins(PluginRegistry plugins, IQueryCollection query) =>
        BadSubsystem(query, out var subsystem)
        ?? JsonAnswer.Write(200, writer => WritePlugins(writer, subsystem == "stream" ? plugins.AllForStreams : plugins.All));

    /// <summary>All schemas there are: <c>/v1/schema</c>.</summary>
    public static JsonAnswer Everything(PluginRegistry plugins) => JsonAnswer.Write(200, writer =>
    {
        writer.WriteStartObject();
        writer.WriteStartObject("main");
        foreach (var kind in ResourceKinds.All.Where(kind => kind != ResourceKind.PluginMetadata))
        {
            writer.WritePropertyName(Name(kind));
            ResourceSchemas.Source(kind).WriteTo(writer);
        }
        writer.WriteEndObject();
        writer.WritePropertyName("plugins");
        WritePlugins(writer, plugins.All);
        writer.WritePropertyName("stream_plugins");
        WritePlugins(writer, plugins.AllForStreams);
        writer.WriteEndObject();
    });

    static JsonAnswer? BadSubsystem(IQueryCollection query, out string subsystem)
    {
        subsystem = query.TryGetValue("subsystem", out var given) ? given.ToString() : "http";
        return subsystem is "http" or "stream" ? null : JsonAnswer.Error(400, $"unsupported subsystem: {subsystem}");
    }

    static void WritePlugins(Utf8JsonWriter writer, IReadOnlyList<PluginDescriptor> plugins)
    {
        writer.WriteStartObject();
        foreach (var plugin in plugins)
        {
            var info = plugin.Info;
            writer.WriteStartObject(info.Name);
            writer.WriteNumber("priority", info.Priority);
            if (decimal.TryParse(info.Version, NumberStyles.Number, CultureInfo.InvariantCulture, out var version))
            {
                writer.WriteNumber("version", version);
            }
            if (info.IsAuth)
            {
                writer.WriteString("type", "auth");
            }
            if (info.Scope is { } scope)
            {
                writer.WriteString("scope", scope);
            }
            writer.WritePropertyName("schema");
            plugin.Schema.WriteTo(writer);
            WriteRaw(writer, "consumer_schema", info.ConsumerSchema);
            WriteRaw(writer, "metadata_schema", info.MetadataSchema);
            writer.WriteEndObject();
        }
        writer.WriteEndObject();
    }

    static void WriteRaw(Utf8JsonWriter writer, string name, string? json)
    {
        if (json is not null)
        {
            writer.WritePropertyName(name);
            writer.WriteRawValue(json);
        }
    }
}
