using System.Text;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Pipeline;

namespace Sluice.Plugins.Functions;

/// <summary>Answers requests with a function of OpenFunction.</summary>
internal sealed class OpenFunction : IPlugin<OpenFunction, OpenFunction.Config>, IAccess, INeedsRequestBody, IHolds
{
    public static PluginInfo Info { get; } = new(
        Name: "openfunction",
        Priority: -1902,
        Schema: $$"""
            {
              "type": "object",
              "properties": {
                "authorization": {
                  "type": "object",
                  "properties": {
                    "service_token": { "type": "string", "description": "user:password, sent as Authorization: Basic; without it the client's own Authorization goes on" }
                  }
                },
                {{FunctionCall.Schema}}
              },
              "required": ["function_uri"],
              "encrypt_fields": ["authorization.service_token"]
            }
            """,
        Summary: $"Answers requests with a function of OpenFunction. {FunctionCall.Summary}")
    {
        Example = """
            ```json
            {"openfunction": {"function_uri": "http://gateway.example/default/hello", "authorization": {"service_token": "user:password"}}}
            ```
            """,
    };

    public sealed record Credentials(string? ServiceToken = null);

    public sealed record Config(
        string FunctionUri, Credentials? Authorization = null, long Timeout = 3000, bool SslVerify = true, bool Keepalive = true,
        long KeepaliveTimeout = 60000,
        int MaxReqBodySize = 64 << 20);

    readonly string? _authorization;
    readonly FunctionCall _call;

    OpenFunction(Config config, PluginContext context)
    {
        _authorization = config.Authorization?.ServiceToken is { } token ? $"Basic {Convert.ToBase64String(Encoding.UTF8.GetBytes(token))}"
            : null;
        _call = new(Info.Name, config.FunctionUri, config.SslVerify, config.Timeout, config.Keepalive, config.KeepaliveTimeout,
            config.MaxReqBodySize, context);
    }

    public static JsonTypeInfo<Config> ConfigType => OpenFunctionJson.Default.Config;

    public static OpenFunction Create(Config config, PluginContext context) => new(config, context);

    public int MaxRequestBodyBytes => _call.MaxBody;

    public ValueTask<Answer?> AccessAsync(Exchange exchange) => _call.RunAsync(exchange, this, Authorize);

    void Authorize(FunctionRequest call)
    {
        if (_authorization is not null)
        {
            call.Headers["Authorization"] = _authorization;
        }
    }

    public void Release(Exchange exchange) => FunctionCall.Release(exchange, this);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(OpenFunction.Config))]
sealed partial class OpenFunctionJson : JsonSerializerContext;
