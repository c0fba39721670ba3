using System.Text.Json.Nodes;

namespace Sluice.Scripting;

/// <summary>
/// The consumers of the configuration that a request runs with, each as APISIX's scripts know it: its document with <c>auth_conf</c> and
/// the like added.
/// </summary>
internal interface IScriptConsumers
{
    /// <summary>Another number when the consumers are others.</summary>
    long Version { get; }

    /// <summary>Everybody with a part in an auth plugin, once for each credential.</summary>
    IEnumerable<JsonObject> With(string plugin);

    /// <summary>All of them, without credentials.</summary>
    IEnumerable<JsonObject> All { get; }

    /// <summary>Who has this value in the plugin's part; null: nobody.</summary>
    JsonObject? Find(string plugin, string property, string value);

    JsonObject? Named(string username);

    /// <summary>Who asks, as far as a plugin has found out.</summary>
    JsonObject? Attached { get; }

    /// <summary>Who asks. False: nobody goes by this name.</summary>
    bool Attach(string username, string? credential);
}
