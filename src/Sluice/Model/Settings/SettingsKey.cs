using System.Globalization;
using System.Net;
using System.Text.Json;
using System.Text.Json.Nodes;
using Sluice.Model.Nginx;

namespace Sluice.Model.Settings;

/// <summary>A type of value in <c>conf/config.yaml</c>: how the reference calls it, and what a value of it is.</summary>
/// <param name="Name">As in the reference: <c>port</c>, <c>time</c>, <c>list of CIDR</c>.</param>
/// <param name="Expected">As in an error: <c>a port from 0 to 65535</c>.</param>
sealed record SettingType(string Name, string Expected, Func<JsonNode, bool> Accepts)
{
    public static SettingType TrueOrFalse { get; } = new("boolean", "true or false",
        node => Kind(node) is JsonValueKind.True or JsonValueKind.False);

    public static SettingType Port { get; } = new("port", "a port from 0 to 65535", node => Whole(node) is >= 0 and <= 65535);

    public static SettingType Count { get; } = new("integer", "a whole number from 0", node => Whole(node) is >= 0 and <= int.MaxValue);

    public static SettingType Workers { get; } = new("auto or integer", "auto or a whole number from 1 to 1024",
        node => Scalar(node) == "auto" || Whole(node) is >= 1 and <= 1024);

    public static SettingType Seconds { get; } = new("seconds", "a number of seconds",
        node => Kind(node) == JsonValueKind.Number && node.GetValue<double>() is >= 0 and < 1e9);

    public static SettingType Text { get; } = new("string", "a string",
        node => Kind(node) == JsonValueKind.String && !Scalar(node).Contains('\0', StringComparison.Ordinal));

    public static SettingType EncryptionKey { get; } = new("key", $"a string of {DataEncryption.KeyLength} characters",
        node => Text.Accepts(node) && System.Text.Encoding.UTF8.GetByteCount(Scalar(node)) == DataEncryption.KeyLength) { IsSecret = true };

    public static SettingType FilePath { get; } = new("path", "a path", node => Text.Accepts(node) && Scalar(node).Length > 0);

    /// <summary>nginx's directives as one text.</summary>
    public static SettingType Snippet { get; } = Text with { Name = "nginx directives" };

    public static SettingType Time { get; } = new("time", "a time like 60s, 5m, 1h30m or 500ms",
        node => NginxUnits.TryParseTime(Scalar(node), out _));

    public static SettingType Size { get; } = new("size", "a size like 16384, 16k or 1m",
        node => NginxUnits.TryParseSize(Scalar(node), out _));

    public static SettingType OnOff { get; } = new("on/off", "\"on\" or \"off\"",
        node => Kind(node) is JsonValueKind.True or JsonValueKind.False || Scalar(node) is "on" or "off");

    public static SettingType Address { get; } = new("IP address", "an IP address", node => ParseAddress(Scalar(node)) is not null);

    public static SettingType Resolver { get; } = new("address", "an IP address, with a port if not 53",
        node => Kind(node) == JsonValueKind.String
        && (ParseAddress(Scalar(node)) is not null || (IPEndPoint.TryParse(Scalar(node), out var end) && end.Port > 0)));

    public static SettingType HttpServer { get; } = new("URL", "a URL like http://127.0.0.1:8500",
        node => Kind(node) == JsonValueKind.String && Uri.TryCreate(Scalar(node), UriKind.Absolute, out var url)
        && (url.Scheme is "http" or "https")
            && url.PathAndQuery == "/" && !Scalar(node).EndsWith('/') && url.UserInfo.Length == 0);

    public static SettingType AddressRange { get; } = new("CIDR", "an IP address or range like 10.0.0.0/8",
        node => Kind(node) == JsonValueKind.String && Cidr.TryParse(Scalar(node), out _));

    /// <summary>As in nginx: <c>unix:</c> stands for local sockets.</summary>
    public static SettingType RealIpSource { get; } = AddressRange with { Accepts = node => Scalar(node) == "unix:"
        || AddressRange.Accepts(node) };

    public static SettingType Listen { get; } = new("port or list", "a port, or a list of ports and {ip, port, enable_http2}",
        node => node is JsonArray || Port.Accepts(node));

    /// <summary>Where a stream proxy listens.</summary>
    public static SettingType StreamAddress { get; } = new("port, address or {addr, tls}",
        "a port, an address like \"127.0.0.1:9100\" or {addr, tls}",
        node => node is JsonObject item
        ? item["addr"] is { } addr && IsStreamAddress(addr) && item.All(pair => pair.Key is "addr" or "tls")
        && (item["tls"] is null || TrueOrFalse.Accepts(item["tls"]!)) : IsStreamAddress(node));

    static bool IsStreamAddress(JsonNode node) => ParseStreamAddress(node) is not null;

    /// <summary>A port stands for that port on all addresses.</summary>
    public static IPEndPoint? ParseStreamAddress(JsonNode node)
    {
        if (Whole(node) is { } port)
        {
            return port is >= 0 and <= 65535 ? new(IPAddress.Any, (int)port) : null;
        }
        var text = Scalar(node);
        if (int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number))
        {
            return number <= 65535 ? new(IPAddress.Any, number) : null;
        }
        var colon = text.LastIndexOf(':');
        return colon > 0 && ParseAddress(text[..colon]) is { } address
            && int.TryParse(text[(colon + 1)..], NumberStyles.None, CultureInfo.InvariantCulture, out number) && number <= 65535
            ? new(address, number) : null;
    }

    public static SettingType Object { get; } = new("mapping", "a mapping", node => node is JsonObject);

    public static SettingType Sections { get; } = new("list of mappings", "a list of mappings", node => node is JsonArray);

    /// <summary>Keys without effect are not looked into.</summary>
    public static SettingType Any { get; } = new("", "", _ => true);

    public static SettingType Choice(params string[] values) =>
        new(string.Join(" | ", values), values.Length == 1 ? $"\"{values[0]}\"" : "one of " + string.Join(", ", values),
            node => Kind(node) == JsonValueKind.String && values.Contains(Scalar(node)));

    /// <param name="mayBeNull">See <see cref="MayBeNull"/>.</param>
    public static SettingType ListOf(SettingType item, bool mayBeNull = false) =>
        new($"list of {item.Name}", $"a list, each item {item.Expected}", node => node is JsonArray) { Item = item, MayBeNull = mayBeNull };

    /// <summary>A list that may be written as its only item, and as nothing when it is empty: <c>keyring: null</c>.</summary>
    public static SettingType OneOrListOf(SettingType item) =>
        new($"list of {item.Name}", $"a list, each item {item.Expected}, or one such item",
            node => node is JsonArray || item.Accepts(node)) { Item = item, IsSecret = item.IsSecret, MayBeNull = true };

    public SettingType? Item { get; init; }

    /// <summary>Written with nothing behind it, it is an empty list; all others are as if they were not there.</summary>
    public bool MayBeNull { get; init; }

    /// <summary>An error does not quote the value.</summary>
    public bool IsSecret { get; init; }

    static JsonValueKind Kind(JsonNode node) => node is JsonValue value ? value.GetValueKind() : JsonValueKind.Undefined;

    static long? Whole(JsonNode node) => node is JsonValue value && value.TryGetValue<long>(out var whole) ? whole : null;

    public static string Scalar(JsonNode node) => Kind(node) switch
    {
        JsonValueKind.String => node.GetValue<string>(),
        JsonValueKind.Number => node.ToJsonString(),
        _ => "",
    };

    public static IPAddress? ParseAddress(string text) =>
        Cidr.TryParseAddress(text is ['[', .. var inner, ']'] ? inner : text == "*" ? "0.0.0.0" : text, out var address) ? address : null;

    public static string Describe(JsonNode node)
    {
        var text = Kind(node) switch
        {
            JsonValueKind.String => $"string \"{node.GetValue<string>().ReplaceLineEndings(" ")}\"",
            JsonValueKind.Number => $"number {node.ToJsonString()}",
            JsonValueKind.True or JsonValueKind.False => node.ToJsonString(),
            _ => node is JsonArray ? "a list" : "a mapping",
        };
        return text.Length > 80 ? string.Create(CultureInfo.InvariantCulture, $"{text.AsSpan(0, 80)}…") : text;
    }
}

/// <summary>One key of <c>conf/config.yaml</c>. Everything is derived from these: checks, defaults, the reference, the commented default
/// file.</summary>
/// <param name="Path"><c>apisix.control.port</c>; <c>apisix.node_listen[].port</c> for a key of a list's items.</param>
/// <param name="Default">As YAML; empty = none.</param>
/// <param name="Effect">Null: it has its effect. Else why it has none here, as an end of the sentence "… has no effect here".</param>
/// <param name="Shipped">What the default file says although it is not the default.</param>
/// <param name="Example">What the commented default file shows when there is no default.</param>
sealed record SettingsKey(string Path, SettingType Type, string Default, string Doc, string? Effect = null, string? Example = null,
    string? Shipped = null)
{
    public bool HasEffect => Effect is null;

    /// <summary>Scripts do not see it.</summary>
    public bool IsSecret { get => field || Type.IsSecret || Type.Item?.IsSecret == true; init; }

    public string Name => Path[(Path.LastIndexOf('.') + 1)..];

    public string Parent => Path.LastIndexOf('.') is >= 0 and var dot ? Path[..dot] : "";
}
