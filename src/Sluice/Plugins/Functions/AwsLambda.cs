using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Pipeline;

namespace Sluice.Plugins.Functions;

/// <summary>Answers requests with a function of AWS.</summary>
internal sealed class AwsLambda : IPlugin<AwsLambda, AwsLambda.Config>, IAccess, INeedsRequestBody, IHolds
{
    public static PluginInfo Info { get; } = new(
        Name: "aws-lambda",
        Priority: -1899,
        Schema: $$"""
            {
              "type": "object",
              "properties": {
                "authorization": {
                  "type": "object",
                  "properties": {
                    "apikey": { "type": "string", "description": "sent as x-api-key, unless the client has sent one" },
                    "iam": {
                      "description": "signs requests (AWS's signature, version 4)",
                      "type": "object",
                      "properties": {
                        "accesskey": { "type": "string", "description": "id of the access key" },
                        "secretkey": { "type": "string", "description": "the key itself" },
                        "aws_region": { "type": "string", "default": "us-east-1", "description": "region that gets the request" },
                        "service": { "type": "string", "default": "execute-api", "description": "service that gets the request" }
                      },
                      "required": ["accesskey", "secretkey"]
                    }
                  }
                },
                {{FunctionCall.Schema}}
              },
              "required": ["function_uri"],
              "encrypt_fields": ["authorization.apikey", "authorization.iam.accesskey", "authorization.iam.secretkey"]
            }
            """,
        Summary: $"""
            Answers requests with a function of AWS: behind an API Gateway (an API key, or IAM with `service: execute-api`), or at its own address (`service: lambda`). {FunctionCall.Summary}

            With `iam` every header but `Connection` is signed, and the query goes out as it was signed: sorted and encoded. A client's own `x-api-key` or `Authorization` is never overwritten.
            """)
    {
        Example = """
            ```json
            {"aws-lambda": {"function_uri": "https://abc.execute-api.eu-central-1.amazonaws.com/prod/hello",
              "authorization": {"iam": {"accesskey": "AKID", "secretkey": "$env://AWS_SECRET", "aws_region": "eu-central-1"}}}}
            ```
            """,
    };

    public sealed record Iam(string Accesskey, string Secretkey, string AwsRegion = "us-east-1", string Service = "execute-api");

    public sealed record Credentials(string? Apikey = null, Iam? Iam = null);

    public sealed record Config(
        string FunctionUri, Credentials? Authorization = null, long Timeout = 3000, bool SslVerify = true, bool Keepalive = true,
        long KeepaliveTimeout = 60000,
        int MaxReqBodySize = 64 << 20);

    readonly Credentials _credentials;
    readonly FunctionCall _call;
    readonly TimeProvider _time;

    AwsLambda(Config config, PluginContext context)
    {
        (_credentials, _time) = (config.Authorization ?? new(), context.Services.Time);
        _call = new(Info.Name, config.FunctionUri, config.SslVerify, config.Timeout, config.Keepalive, config.KeepaliveTimeout,
            config.MaxReqBodySize, context);
    }

    public static JsonTypeInfo<Config> ConfigType => AwsLambdaJson.Default.Config;

    public static AwsLambda Create(Config config, PluginContext context) => new(config, context);

    public int MaxRequestBodyBytes => _call.MaxBody;

    public ValueTask<Answer?> AccessAsync(Exchange exchange) => _call.RunAsync(exchange, this, Authorize);

    void Authorize(FunctionRequest call)
    {
        if (_credentials.Apikey is { } key && call.Headers.TryAdd("x-api-key", key))
        {
            return;
        }
        if (_credentials.Iam is { } iam && !call.Headers.ContainsKey("Authorization"))
        {
            AwsSignature.Sign(call, iam.Accesskey, iam.Secretkey, iam.AwsRegion, iam.Service, _time.GetUtcNow());
        }
    }

    public void Release(Exchange exchange) => FunctionCall.Release(exchange, this);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(AwsLambda.Config))]
sealed partial class AwsLambdaJson : JsonSerializerContext;
