using System.Collections.Frozen;

namespace Sluice.Model;

/// <summary>The names of APISIX's plugins (3.18): what is one of them and not here is said to be so, instead of being called
/// unknown.</summary>
internal static class ApisixPlugins
{
    public static FrozenSet<string> Names { get; } = """
        acl ai-aliyun-content-moderation ai-aws-content-moderation ai-cache ai-lakera-guard ai-prompt-decorator ai-prompt-guard
        ai-prompt-template ai-proxy ai-proxy-multi ai-rag ai-rate-limiting ai-request-rewrite api-breaker attach-consumer-label
        authz-casbin authz-casdoor authz-keycloak aws-lambda azure-functions basic-auth batch-requests body-transformer brotli cas-auth
        chaitin-waf clickhouse-logger client-control consumer-restriction cors csrf data-mask datadog degraphql dingtalk-auth dubbo-proxy
        echo elasticsearch-logger error-log-logger error-page example-plugin exit-transformer ext-plugin-post-req ext-plugin-post-resp
        ext-plugin-pre-req fault-injection feishu-auth file-logger forward-auth gm google-cloud-logging graphql-limit-count
        graphql-proxy-cache grpc-transcode grpc-web gzip hmac-auth http-dubbo http-logger inspect ip-restriction jwe-decrypt jwt-auth
        kafka-logger kafka-proxy key-auth lago ldap-auth ldap-auth-advanced limit-conn limit-count limit-req log-rotate loggly loki-logger
        mcp-bridge mocking multi-auth node-status oas-validator ocsp-stapling opa openfunction openid-connect opentelemetry openwhisk
        prometheus proxy-buffering proxy-cache proxy-control proxy-mirror proxy-rewrite public-api real-ip redirect referer-restriction
        request-id request-validation response-rewrite rocketmq-logger saml-auth server-info serverless-post-function
        serverless-pre-function skywalking skywalking-logger sls-logger splunk-hec-logging syslog tcp-logger tencent-cloud-cls
        traffic-label traffic-split ua-restriction udp-logger uri-blocker wolf-rbac workflow zipkin
        """.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries).ToFrozenSet();

    static readonly string[] ForStreams = ["ip-restriction", "limit-conn", "mqtt-proxy", "prometheus", "syslog", "traffic-split"];

    /// <summary>What helps who wrote this name: that it comes later, or the name that was meant; empty when nothing does.</summary>
    /// <param name="here">The plugins that there are, enabled or not.</param>
    public static string Explain(string name, IReadOnlyCollection<string> here, bool forStreams = false)
    {
        IReadOnlyCollection<string> names = forStreams ? ForStreams : Names;
        return here.Contains(name) ? $": {(forStreams ? "stream_plugins" : "plugins")} in conf/config.yaml leaves it out"
            : names.Contains(name) ? ": APISIX has it, Sluice not yet: docs/plugins/README.md"
            : forStreams && Names.Contains(name) ? ": it is not for streams"
            : Suggestion.For(name, [.. here, .. names]);
    }
}
