using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Pipeline;

namespace Sluice.Plugins.Core;

/// <summary>Pages of one's own instead of the gateway's errors.</summary>
internal sealed class ErrorPage(PluginContext context) : IPlugin<ErrorPage, ErrorPage.Config>, IHeaderFilter
{
    public static PluginInfo Info { get; } = new(
        Name: "error-page",
        Priority: 450,
        Schema: """{ "type": "object", "properties": {} }""",
        Summary: """
            Replaces the bodies of errors that the gateway or a plugin answers, not the upstream's. The pages are in the plugin's
            metadata, by status: `error_404`, `error_502`, and any other status from 400 on alike. A 502 because no upstream could be reached counts as the gateway's.
            """)
    {
        MetadataSchema = $$"""
            {
              "type": "object",
              "properties": {
                "enable": { "type": "boolean", "default": false, "description": "pages are replaced" },
                {{string.Join(",\n    ", ((int[])[404, 500, 502, 503]).Select(PageSchema))}}
              },
              "patternProperties": { "^error_[45][0-9][0-9]$": { "type": "object", "properties": { "body": { "type": "string" }, "content_type": { "type": "string", "default": "text/html" } } } }
            }
            """,
        Example = """
            `PUT /apisix/admin/plugin_metadata/error-page`:

            ```json
            {"enable": true, "error_404": {"body": "<h1>Nothing here</h1>", "content_type": "text/html"}}
            ```

            and a global rule `{"id": "1", "plugins": {"error-page": {}}}`: a request without a route is answered 404 with this page.
            """,
    };

    static string PageSchema(int status) =>
        $$"""
        "error_{{status}}": { "type": "object", "properties": {
              "body": { "type": "string", "default": {{JsonValue.Create(Encoding.UTF8.GetString(Answer.Bare(status).Body.Span)).ToJsonString()}}, "description": "the page" },
              "content_type": { "type": "string", "default": "text/html", "description": "its Content-Type" } } }
        """;

    public sealed record Config;

    public static JsonTypeInfo<Config> ConfigType => ErrorPageJson.Default.Config;

    public static ErrorPage Create(Config config, PluginContext context) => new(context);

    readonly bool _enabled = context.Metadata?["enable"] is JsonValue on && on.GetValue<bool>();

    public void FilterHeaders(Exchange exchange)
    {
        var status = exchange.Response.StatusCode;
        if (!_enabled || !exchange.AnsweredByGateway || status < 400
            || context.Metadata![string.Create(CultureInfo.InvariantCulture, $"error_{status}")] is not JsonObject page
            || (string?)page["body"] is not { Length: > 0 } body)
        {
            return;
        }
        exchange.ReplacedBody = Encoding.UTF8.GetBytes(body);
        exchange.Response.ContentType = (string?)page["content_type"] ?? "text/html";
        exchange.Response.Headers.ContentEncoding = default;
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(ErrorPage.Config))]
sealed partial class ErrorPageJson : JsonSerializerContext;
