using System.Net;

namespace Sluice.Net;

/// <summary>A file that is read again when its time or its length changed. Missing or unreadable counts as empty.</summary>
sealed class RereadFile<T>(string path, Func<string[], T> parse)
{
    readonly Lock gate = new();
    (DateTime Written, long Length) seen = (DateTime.MinValue, -2);
    T? content;

    public T Content
    {
        get
        {
            lock (gate)
            {
                var file = new FileInfo(path);
                var now = file.Exists ? (file.LastWriteTimeUtc, file.Length) : (DateTime.MinValue, -1);
                if (now != seen)
                {
                    content = parse(Read());
                    seen = now;
                }
                return content!;
            }
        }
    }

    string[] Read()
    {
        try
        {
            return File.ReadAllLines(path);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return [];
        }
    }
}

/// <summary>hosts(5): names and their addresses, those of IPv4 first.</summary>
static class HostsFile
{
    public static Dictionary<string, IPAddress[]> Parse(string[] lines)
    {
        var found = new Dictionary<string, List<IPAddress>>(StringComparer.OrdinalIgnoreCase);
        foreach (var line in lines)
        {
            var words = line.Split('#')[0].Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
            if (words.Length < 2 || !IPAddress.TryParse(words[0], out var address))
            {
                continue;
            }
            foreach (var name in words[1..])
            {
                if (!found.TryGetValue(name, out var addresses))
                {
                    found.Add(name, addresses = []);
                }
                addresses.Add(address);
            }
        }
        return found.ToDictionary(pair => pair.Key, pair => HostResolver.Preferred(pair.Value), StringComparer.OrdinalIgnoreCase);
    }
}

/// <summary>The part of resolv.conf(5) that matters here.</summary>
sealed record ResolvConf(IPEndPoint[] Servers, string[] Search, int Dots)
{
    public static ResolvConf Parse(string[] lines)
    {
        var servers = new List<IPEndPoint>();
        string[] search = [];
        var dots = 1;
        foreach (var line in lines)
        {
            switch (line.Split(['#', ';'])[0].Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries))
            {
                case ["nameserver", var server, ..] when IPAddress.TryParse(server, out var address):
                    servers.Add(new IPEndPoint(address, 53));
                    break;
                case ["search" or "domain", .. var domains]:
                    search = domains;
                    break;
                case ["options", .. var options]:
                    foreach (var option in options)
                    {
                        if (option.StartsWith("ndots:", StringComparison.Ordinal) && int.TryParse(option.AsSpan(6), out var count))
                        {
                            dots = Math.Clamp(count, 0, 15);
                        }
                    }
                    break;
            }
        }
        return new([.. servers], search, dots);
    }

    /// <summary>The full names to ask for, in this order.</summary>
    public IEnumerable<string> Candidates(string host, bool useSearch)
    {
        if (host.EndsWith('.'))
        {
            return [host.TrimEnd('.')];
        }
        if (!useSearch || Search.Length == 0)
        {
            return [host];
        }
        var extended = Search.Where(domain => domain.Trim('.').Length > 0).Select(domain => $"{host}.{domain.Trim('.')}");
        return host.Count(letter => letter == '.') >= Dots ? [host, .. extended] : [.. extended, host];
    }
}
