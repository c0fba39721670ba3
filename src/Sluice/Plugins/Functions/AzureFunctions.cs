using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Pipeline;

namespace Sluice.Plugins.Functions;

/// <summary>Answers requests with a function of Azure.</summary>
internal sealed class AzureFunctions : IPlugin<AzureFunctions, AzureFunctions.Config>, IAccess, INeedsRequestBody, IHolds
{
    const string KeyHeader = "x-functions-key";
    const string ClientHeader = "x-functions-clientid";

    public static PluginInfo Info { get; } = new(
        Name: "azure-functions",
        Priority: -1900,
        Schema: $$"""
            {
              "type": "object",
              "properties": {
                "authorization": {
                  "type": "object",
                  "properties": {
                    "apikey": { "type": "string", "description": "sent as x-functions-key" },
                    "clientid": { "type": "string", "description": "sent as x-functions-clientid" }
                  }
                },
                {{FunctionCall.Schema}}
              },
              "required": ["function_uri"],
              "encrypt_fields": ["authorization.apikey"]
            }
            """,
        Summary: $"""
            Answers requests with a function of Azure. {FunctionCall.Summary}

            A client's own `x-functions-key` or `x-functions-clientid` is never overwritten. The metadata's master key stands where a route has no `authorization`.
            """)
    {
        MetadataSchema = """
            {
              "type": "object",
              "properties": {
                "master_apikey": { "type": "string", "default": "", "description": "x-functions-key of routes without authorization" },
                "master_clientid": { "type": "string", "default": "", "description": "x-functions-clientid of routes without authorization" }
              },
              "encrypt_fields": ["master_apikey"]
            }
            """,
        Example = """
            ```json
            {"azure-functions": {"function_uri": "https://app.azurewebsites.net/api/hello", "authorization": {"apikey": "$env://AZURE_KEY"}}}
            ```
            """,
    };

    public sealed record Credentials(string? Apikey = null, string? Clientid = null);

    public sealed record Config(
        string FunctionUri, Credentials? Authorization = null, long Timeout = 3000, bool SslVerify = true, bool Keepalive = true,
        long KeepaliveTimeout = 60000,
        int MaxReqBodySize = 64 << 20);

    readonly Credentials _credentials;
    readonly FunctionCall _call;

    AzureFunctions(Config config, PluginContext context)
    {
        _credentials = config.Authorization ?? new(Master("master_apikey"), Master("master_clientid"));
        _call = new(Info.Name, config.FunctionUri, config.SslVerify, config.Timeout, config.Keepalive, config.KeepaliveTimeout,
            config.MaxReqBodySize, context);

        string? Master(string name) => (string?)context.Metadata?[name];
    }

    public static JsonTypeInfo<Config> ConfigType => AzureFunctionsJson.Default.Config;

    public static AzureFunctions Create(Config config, PluginContext context) => new(config, context);

    public int MaxRequestBodyBytes => _call.MaxBody;

    public ValueTask<Answer?> AccessAsync(Exchange exchange) => _call.RunAsync(exchange, this, Authorize);

    void Authorize(FunctionRequest call)
    {
        if (call.Headers.ContainsKey(KeyHeader) || call.Headers.ContainsKey(ClientHeader))
        {
            return;
        }
        if (!string.IsNullOrEmpty(_credentials.Apikey))
        {
            call.Headers[KeyHeader] = _credentials.Apikey;
        }
        if (!string.IsNullOrEmpty(_credentials.Clientid))
        {
            call.Headers[ClientHeader] = _credentials.Clientid;
        }
    }

    public void Release(Exchange exchange) => FunctionCall.Release(exchange, this);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(AzureFunctions.Config))]
sealed partial class AzureFunctionsJson : JsonSerializerContext;
