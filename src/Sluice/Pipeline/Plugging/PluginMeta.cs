using System.Text.Json.Nodes;
using Sluice.Model.Expressions;
using Sluice.Scripting;

namespace Sluice.Pipeline;

/// <summary>The <c>_meta</c> part that every plugin's configuration may have (APISIX: terminology/plugin, "Plugin common
/// configuration").</summary>
/// <param name="Disable">The plugin is as if it were not there.</param>
/// <param name="Priority">Instead of the plugin's own.</param>
/// <param name="Filter">Runs only for requests that match.</param>
/// <param name="PreFunction">Lua text that returns a function, run before each phase of the plugin.</param>
/// <param name="ErrorResponse">Body of the plugin's answers instead of its own: a text or a JSON object.</param>
public sealed record PluginMeta(bool Disable, int? Priority, Expression? Filter, JsonNode? ErrorResponse, string? PreFunction = null)
{
    public static PluginMeta None { get; } = new(false, null, null, null);

    public static JsonObject Schema { get; } = JsonNode.Parse(
        """
        {
          "type": "object",
          "properties": {
            "disable": { "type": "boolean" },
            "error_response": { "oneOf": [ { "type": "string" }, { "type": "object" } ] },
            "priority": { "type": "integer", "description": "priority of plugins by customized order" },
            "filter": { "type": "array", "description": "filter determines whether the plugin needs to be executed at runtime" },
            "pre_function": {
              "type": "string",
              "description": "function to be executed in each phase before execution of plugins. The pre_function will have access to two arguments: `conf` and `ctx`."
            }
          },
          "additionalProperties": false
        }
        """)!.AsObject();

    /// <summary>The part of a configuration that passed <see cref="Check"/>.</summary>
    public static PluginMeta Of(JsonObject config) => config["_meta"] is not JsonObject meta
        ? None
        : new(
            meta["disable"]?.GetValue<bool>() ?? false,
            meta["priority"] is { } priority ? (int)priority.AsValue().GetValue<double>() : null,
            meta["filter"] is JsonArray { Count: > 0 } filter ? Expression.Of(filter) : null,
            meta["error_response"],
            (string?)meta["pre_function"]);

    /// <summary>What begins the error of a <c>_meta.pre_function</c>; the plugin's name is to stand behind it.</summary>
    public const string BadPreFunction = "failed to load _meta.pre_function in plugin ";

    /// <summary>What the schema cannot say: the error text, or null.</summary>
    public static string? Check(JsonObject config)
    {
        if (config["_meta"] is not JsonObject meta)
        {
            return null;
        }
        if (meta["pre_function"] is { } before && LuaCheck.Function(before.GetValue<string>()) is { } notLua)
        {
            // as APISIX names the piece of code
            var at = notLua.IndexOf("\"]:", StringComparison.Ordinal);
            return $"{BadPreFunction}: {(at < 0 ? notLua : "[string \"meta pre_function" + notLua[at..])}";
        }
        try
        {
            _ = meta["filter"] is JsonArray { Count: > 0 } filter ? Expression.Of(filter) : null;
            return null;
        }
        catch (FormatException e)
        {
            return $"failed to validate the 'vars' expression: {e.Message}";
        }
    }
}
