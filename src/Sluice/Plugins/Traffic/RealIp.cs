using System.Net;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Microsoft.Extensions.Logging;
using Sluice.Model;
using Sluice.Pipeline;

namespace Sluice.Plugins.Traffic;

/// <summary>Takes the client's address from a variable.</summary>
internal sealed partial class RealIp : IPlugin<RealIp, RealIp.Config>, IRewrite
{
    const string ForwardedFor = "http_x_forwarded_for";

    public static PluginInfo Info { get; } = new(
        Name: "real-ip",
        Priority: 23000,
        Schema: """
            {
              "type": "object",
              "properties": {
                "source": { "type": "string", "minLength": 1, "description": "the variable that holds the address, with or without a port: http_x_forwarded_for, arg_realip" },
                "trusted_addresses": {
                  "type": "array",
                  "minItems": 1,
                  "description": "peers that may name another address than their own; absent: all",
                  "items": {
                    "anyOf": [
                      { "title": "IPv4", "type": "string", "format": "ipv4" },
                      { "title": "IPv4/CIDR", "type": "string", "pattern": "^([0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])\\.([0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])\\.([0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])\\.([0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])/([12]?[0-9]|3[0-2])$" },
                      { "title": "IPv6", "type": "string", "format": "ipv6" },
                      { "title": "IPv6/CIDR", "type": "string", "pattern": "^([a-fA-F0-9]{0,4}:){1,8}(:[a-fA-F0-9]{0,4}){0,8}([a-fA-F0-9]{0,4})?/[0-9]{1,3}$" }
                    ]
                  }
                },
                "recursive": { "type": "boolean", "default": false, "description": "of X-Forwarded-For: the last address that is not trusted, instead of the last" }
              },
              "required": ["source"]
            }
            """,
        Summary: """
            Takes the client's address, and its port if there is one, from a variable: for all that comes after it (`$remote_addr`, other plugins, logs) that is who asks.
            Of an `X-Forwarded-For` with several addresses it is the last one. What is no address changes nothing and is logged as a warning.
            """)
    {
        Example = """
            ```json
            {"real-ip": {"source": "http_x_forwarded_for", "trusted_addresses": ["10.0.0.0/8"], "recursive": true}}
            ```
            """,
    };

    public sealed record Config(string Source, CidrSet? TrustedAddresses = null, bool Recursive = false);

    readonly Config _config;
    readonly CidrSet? _trusted;
    readonly ILogger _logger;

    RealIp(Config config, PluginContext context)
    {
        _config = config;
        _trusted = config.TrustedAddresses;
        _logger = context.Services.Loggers.CreateLogger<RealIp>();
    }

    public static JsonTypeInfo<Config> ConfigType => RealIpJson.Default.Config;

    public static RealIp Create(Config config, PluginContext context) => new(config, context);

    public ValueTask<Answer?> RewriteAsync(Exchange exchange)
    {
        if (_trusted?.Contains(exchange.RemoteAddress) == false)
        {
            return default;
        }
        if (Named(exchange) is not { } text)
        {
            LogMissing();
            return default;
        }
        if (!ClientAddress.TryParse(text, out var named))
        {
            LogBad(text);
            return default;
        }
        exchange.RemoteAddress = named.Address;
        if (named.Port != 0)
        {
            exchange.RemotePort = named.Port;
        }
        return default;
    }

    string? Named(Exchange exchange)
    {
        if (_config.Source != ForwardedFor)
        {
            return exchange.Get(_config.Source);
        }
        if (exchange.Request.Headers["X-Forwarded-For"] is not { Count: > 0 } chain || chain[^1] is not { } last)
        {
            return null;
        }
        var addresses = last.Split(',', StringSplitOptions.TrimEntries);
        var at = addresses.Length - 1;
        if (_config.Recursive && _trusted is not null)
        {
            while (at > 0 && ClientAddress.TryParse(addresses[at], out var address) && _trusted.Contains(address.Address))
            {
                at--;
            }
        }
        return addresses[at];
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "missing real address")]
    partial void LogMissing();

    [LoggerMessage(Level = LogLevel.Warning, Message = "bad address: {Text}")]
    partial void LogBad(string text);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(RealIp.Config))]
sealed partial class RealIpJson : JsonSerializerContext;
