using System.Globalization;
using System.Net;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Sluice.Admin.Doctor;
using Sluice.Model.Json;

namespace Sluice.Cli.Doctor;

/// <summary>What <c>sluice doctor</c> was asked.</summary>
/// <param name="Targets">Routes by id or name, paths, URLs; none: the configuration of all routes.</param>
/// <param name="Direct">What the node is asked; null: what clients ask the gateway.</param>
/// <param name="Through">Where clients come in, with everything that stands in front; null: that leg is not looked at.</param>
sealed record DoctorOptions(
    string[] Targets, string? Direct, string? Through, string[] Headers, string? Method, string? Body, string Probe, int Events,
    TimeSpan Silence, bool ConfigOnly, bool Json, bool Strict);

/// <summary><c>sluice doctor</c>: which hop buffers, compresses, downgrades or cuts streams, and what in the configuration will
/// hurt.</summary>
/// <param name="control">Where the Control API is.</param>
/// <param name="proxy">Where the gateway takes requests.</param>
sealed class DoctorRun(string control, string proxy, DoctorOptions options, Terminal terminal)
{
    const int CannotRun = 1, Warnings = 2, Errors = 3;

    /// <summary>How often something that one measurement shows must be seen: a machine that was busy for a moment is no buffer.</summary>
    const int Measurements = 2;

    /// <summary>What was seen of one target.</summary>
    sealed record Diagnosis(string? Route, string? Uri, List<Leg> Legs, List<Finding> Findings);

    sealed class CannotRunException(string message) : Exception(message);

    public static async Task<int> RunAsync(Instance instance, DoctorOptions options, Terminal terminal, CancellationToken cancellation)
    {
        if (instance.RunningPid() is null || instance.ReadState() is not { } state)
        {
            return terminal.Fail($"not running on {instance.Prefix}: the doctor asks the gateway what it runs");
        }
        return state.Control is not { } control
            ? terminal.Fail("the Control API is off (apisix.enable_control): the doctor asks it what the gateway runs")
            : state.Proxy is not [var proxy, ..] ? terminal.Fail("the gateway listens nowhere")
            : await new DoctorRun(control, proxy, options, terminal).RunAsync(cancellation);
    }

    public async Task<int> RunAsync(CancellationToken cancellation)
    {
        var diagnoses = new List<Diagnosis>();
        try
        {
            if (options.Targets.Length == 0)
            {
                if (options.Through is not null || options.Direct is not null)
                {
                    throw new CannotRunException("name the route or the URL that is to be measured");
                }
                var all = await AskAsync("", cancellation);
                diagnoses.AddRange(all["targets"]!.AsArray()
                    .Select(target => new Diagnosis(target!["route"]!.GetValue<string>(), target["uri"]?.GetValue<string>(), [],
                        FindingsOf(target))));
                diagnoses.Add(new(null, null, [], FindingsOf(all)));
            }
            foreach (var target in options.Targets)
            {
                diagnoses.Add(await LookAsync(target, cancellation));
            }
        }
        catch (CannotRunException e)
        {
            terminal.Fail(e.Message);
            return CannotRun;
        }
        if (options.Json)
        {
            terminal.Say(Encoding.UTF8.GetString(JsonBytes.Write(writer => Write(writer, diagnoses)).Span));
        }
        else
        {
            Say(diagnoses);
        }
        var worst = diagnoses.SelectMany(static one => one.Findings).Select(static finding => finding.Severity).ToHashSet();
        return worst.Contains("error") ? Errors : worst.Contains("warn") ? options.Strict ? Errors : Warnings : 0;
    }

    // -- Asking the gateway

    async Task<JsonNode> AskAsync(string query, CancellationToken cancellation, string path = "/v1/doctor")
    {
        using var client = new HttpClient(new SocketsHttpHandler { UseProxy = false });
        try
        {
            using var response = await client.GetAsync(new Uri($"http://{Reachable(control)}{path}{query}"), cancellation);
            var text = await response.Content.ReadAsStringAsync(cancellation);
            return response.IsSuccessStatusCode ? JsonNode.Parse(text)!
                : throw new CannotRunException(ErrorOf(text) ?? $"the Control API answers {(int)response.StatusCode}");
        }
        catch (Exception e) when (e is HttpRequestException or JsonException)
        {
            throw new CannotRunException($"the Control API at {control} does not answer: {e.Message}");
        }
    }

    static string? ErrorOf(string text)
    {
        try
        {
            return JsonNode.Parse(text)?["error_msg"]?.GetValue<string>();
        }
        catch (JsonException)
        {
            return null;
        }
    }

    /// <summary>An address that is all addresses is reached on this machine's own.</summary>
    static string Reachable(string endpoint) => IPEndPoint.TryParse(endpoint, out var address)
        ? new IPEndPoint(address.Address.Equals(IPAddress.Any) ? IPAddress.Loopback : address.Address.Equals(IPAddress.IPv6Any)
            ? IPAddress.IPv6Loopback : address.Address, address.Port).ToString()
        : endpoint;

    static List<Finding> FindingsOf(JsonNode node) => [.. node["findings"]!.AsArray().Select(static one => new Finding(
        Text(one!, "code"), Text(one!, "severity"), Text(one!, "hop"), Text(one!, "text"), Text(one!, "evidence"), Text(one!, "fix")))];

    static string Text(JsonNode node, string name) => node[name]!.GetValue<string>();

    // -- Measuring

    async Task<Diagnosis> LookAsync(string target, CancellationToken cancellation)
    {
        var isPath = target.StartsWith('/');
        var url = !isPath && Uri.TryCreate(target, UriKind.Absolute, out var given) && given.Scheme is "http" or "https" ? new Uri(target)
            : null;
        var method = options.Method ?? (options.Probe == "post" ? "POST" : "GET");
        var path = isPath ? target : url?.PathAndQuery;
        var query = path is null ? $"?route={Uri.EscapeDataString(target)}"
            : $"?uri={Uri.EscapeDataString(path)}&method={method}{(url is null ? "" : $"&host={Uri.EscapeDataString(url.Authority)}")}";
        var about = (await AskAsync(query, cancellation))["targets"]![0]!;
        var route = Text(about, "route");
        if (path is null)
        {
            path = Text(about, "uri");
            if (path.AsSpan().ContainsAny('*', ':', '{') && !options.ConfigOnly)
            {
                throw new CannotRunException($"route {route} takes {path}: name a path or a URL of it, or say --config-only");
            }
        }
        var diagnosis = new Diagnosis(route, path, [], []);
        if (!options.ConfigOnly)
        {
            await MeasureAsync(diagnosis, about, path, url?.Authority ?? about["host"]?.GetValue<string>(), method, cancellation);
        }
        var measured = diagnosis.Legs.Find(static leg => leg.Status == 200);
        about = measured is null ? about : (await AskAsync(string.Create(CultureInfo.InvariantCulture,
            $"{query}&content_type={Uri.EscapeDataString(measured.ContentType)}&silence_ms={(long)measured.LongestSilence.TotalMilliseconds}"), cancellation))["targets"]![0]!;
        diagnosis.Findings.AddRange(FindingsOf(about));
        return diagnosis;
    }

    async Task MeasureAsync(Diagnosis diagnosis, JsonNode about, string path, string? host, string method, CancellationToken cancellation)
    {
        List<(string Name, Uri Url, string? Host, bool AnyCertificate)> legs = [];
        var node = about["nodes"]!.AsArray().FirstOrDefault();
        if (options.Direct is { } direct)
        {
            legs.Add(("direct", Absolute(direct, "--direct"), node?["host"]?.GetValue<string>(), true));
        }
        else if (about["rewritten_by"]?.GetValue<string>() is { } plugin)
        {
            terminal.Error.WriteLine(
                $"route {diagnosis.Route}: {plugin} asks the node for something else than clients ask for; without --direct URL that leg is not looked at");
        }
        else if (node is not null)
        {
            legs.Add(("direct", new Uri(Text(node, "url") + path), node["host"]?.GetValue<string>() ?? host ?? Reachable(proxy), true));
        }
        legs.Add(("gateway", new Uri($"http://{Reachable(proxy)}{path}"), host, true));
        if (options.Through is { } through)
        {
            var front = Absolute(through, "--through");
            legs.Add(("public", front.PathAndQuery == "/" && path != "/" ? new Uri(front, path) : front, null, false));
        }
        var body = options.Body is { } file ? await ReadBodyAsync(file, cancellation) : method == "POST" ? [] : null;
        Leg? before = null;
        foreach (var (name, url, hostHeader, anyCertificate) in legs)
        {
            var request = new LegRequest(
                method, options.Probe, body, [.. options.Headers.Select(Header)],
                before?.Units.Count > 0 ? before.Units.Count : options.Events, options.Silence,
                // a leg gets the time that the one before it took, and some more
                before is null ? options.Silence * Math.Max(1, options.Events) : (before.Elapsed * 1.5) + TimeSpan.FromSeconds(5));
            Leg leg;
            List<Finding> findings;
            var left = Measurements;
            do
            {
                leg = await Leg.MeasureAsync(name, url, hostHeader, request, anyCertificate, terminal.Time, cancellation);
                findings = await JudgeAsync(leg, before, path, host, cancellation);
            }
            while (before is not null && --left > 0 && findings.Exists(static one => one.Code is "D01" or "D03" or "D14"));
            diagnosis.Legs.Add(leg);
            diagnosis.Findings.AddRange(findings);
            if (leg.Status != (options.Probe == "websocket" ? 101 : 200))
            {
                return;
            }
            before = leg;
        }
    }

    async Task<List<Finding>> JudgeAsync(Leg leg, Leg? before, string path, string? host, CancellationToken cancellation)
    {
        if (leg.Failure is { } failure && (leg.Elapsed < TimeSpan.FromSeconds(1) || before is null or { Units.Count: < 2 }))
        {
            throw new CannotRunException($"{leg.Name} leg: {leg.Url} cannot be asked: {failure}");
        }
        if (options.Probe == "websocket")
        {
            return leg.Status == 101 ? [] : before is null && leg.Name == "direct"
                ? throw new CannotRunException($"direct leg: {leg.Url} answers a WebSocket handshake with {leg.Status}")
                : [Verdict.Upgrade(leg, before)];
        }
        var rule = leg.Name == "gateway" && leg.Status == 200
            ? (await AskAsync(
                $"?uri={Uri.EscapeDataString(path)}&content_type={Uri.EscapeDataString(leg.ContentType)}{(host is null ? "" : $"&host={Uri.EscapeDataString(host)}")}", cancellation, "/v1/buffering"))["response"]!["rule"] : null;
        List<Finding> findings = [.. Verdict.Of(leg, before, rule is null ? null : $"{Text(rule, "text")} ({Text(rule, "place")})")];
        if (before is { Status: 200 } && options.Probe == "post" && (leg.Status != 200 || leg.ContentType != before.ContentType))
        {
            findings.Add(Verdict.Posted(leg, before));
        }
        else if (leg.Status != 200 && findings.Count == 0)
        {
            throw new CannotRunException(
                $"{leg.Name} leg: {leg.Url} answers {leg.Status}{(leg.Status is 401 or 403 ? "; --header 'K: V' gives what it asks for" : "")}");
        }
        if (leg is { Status: 200, IsEventStream: false, IsLines: false })
        {
            terminal.Error.WriteLine(
                $"{leg.Name} leg: {(leg.ContentType.Length == 0 ? "a response without a type" : leg.ContentType)} has no events to compare");
        }
        return findings;
    }

    static Uri Absolute(string text, string option) => Uri.TryCreate(text, UriKind.Absolute, out var url) && url.Scheme is "http" or "https"
        ? url : throw new CannotRunException($"{option} {text}: expected a URL, such as https://example.com/events");

    static KeyValuePair<string, string> Header(string text) => text.IndexOf(':', StringComparison.Ordinal) is > 0 and var colon
        ? new(text[..colon].Trim(), text[(colon + 1)..].Trim()) : throw new CannotRunException($"--header {text}: expected 'Name: value'");

    static async Task<byte[]> ReadBodyAsync(string file, CancellationToken cancellation)
    {
        try
        {
            return await File.ReadAllBytesAsync(file, cancellation);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new CannotRunException($"--body {file}: {e.Message}");
        }
    }

    // -- Saying it

    void Say(List<Diagnosis> diagnoses)
    {
        foreach (var one in diagnoses.Where(static one => one.Legs.Count > 0 || one.Findings.Count > 0))
        {
            terminal.Say(one.Route is { } route ? $"route {route}, {one.Uri}" : "the gateway");
            foreach (var leg in one.Legs)
            {
                var came = leg.Status == 0 ? leg.Failure
                    : $"{leg.Protocol} {leg.Status}, head after {Verdict.Seconds(leg.Head)}, "
                        + $"{leg.Units.Count} events in {Verdict.Seconds(leg.Elapsed)}";
                terminal.Say($"  {leg.Name,-8}{leg.Url}: {came}");
            }
            foreach (var finding in one.Findings)
            {
                terminal.Say(finding.ToString());
                terminal.Say($"  fix: {finding.Fix}");
            }
        }
        if (diagnoses.TrueForAll(static one => one.Findings.Count == 0))
        {
            terminal.Say("nothing found");
        }
    }

    static void Write(Utf8JsonWriter writer, List<Diagnosis> diagnoses)
    {
        writer.WriteStartObject();
        writer.WriteNumber("version", 1);
        writer.WriteStartArray("targets");
        foreach (var one in diagnoses)
        {
            writer.WriteStartObject();
            writer.WriteString("route", one.Route);
            writer.WriteStartArray("legs");
            foreach (var leg in one.Legs)
            {
                Write(writer, leg, one.Legs[0]);
            }
            writer.WriteEndArray();
            writer.WriteStartArray("findings");
            foreach (var finding in one.Findings)
            {
                DoctorApi.Write(writer, finding);
            }
            writer.WriteEndArray();
            writer.WriteEndObject();
        }
        writer.WriteEndArray();
        writer.WriteEndObject();
    }

    /// <param name="first">When its units came is when they were sent, as far as anybody knows.</param>
    static void Write(Utf8JsonWriter writer, Leg leg, Leg first)
    {
        writer.WriteStartObject();
        writer.WriteString("name", leg.Name);
        writer.WriteString("protocol", leg.Protocol);
        writer.WriteNumber("status", leg.Status);
        writer.WriteNumber("head_ms", (long)leg.Head.TotalMilliseconds);
        writer.WriteString("encoding", leg.Encoding);
        writer.WriteStartArray("events");
        for (var i = 0; i < leg.Units.Count; i++)
        {
            writer.WriteStartObject();
            writer.WriteNumber("n", i + 1);
            if (i < first.Units.Count)
            {
                writer.WriteNumber("sent_ms", (long)first.Units[i].Arrived.TotalMilliseconds);
            }
            else
            {
                writer.WriteNull("sent_ms");
            }
            writer.WriteNumber("arrived_ms", (long)leg.Units[i].Arrived.TotalMilliseconds);
            writer.WriteNumber("bytes", leg.Units[i].Bytes);
            writer.WriteEndObject();
        }
        writer.WriteEndArray();
        if (leg.Cut is { } how)
        {
            writer.WriteStartObject("cut");
            writer.WriteNumber("after_ms", (long)leg.LastSilence.TotalMilliseconds);
            writer.WriteString("how", how);
            writer.WriteEndObject();
        }
        else
        {
            writer.WriteNull("cut");
        }
        writer.WriteEndObject();
    }
}
