using System.Reflection;

namespace Sluice.Cli.Demo;

/// <summary>The page of the demo: three files inside the assembly.</summary>
static class DemoPage
{
    public const string Headers =
        "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nContent-Security-Policy: default-src 'self'; img-src 'self' "
            + "data:; frame-ancestors 'none'\r\n";

    static readonly Dictionary<string, (string Type, byte[] Content)> Files = new()
    {
        ["/demo/"] = ("text/html; charset=utf-8", Read("index.html")),
        ["/demo/demo.css"] = ("text/css; charset=utf-8", Read("demo.css")),
        ["/demo/demo.js"] = ("text/javascript; charset=utf-8", Read("demo.js")),
    };

    public static (string Type, byte[] Content)? Find(string path) => Files.TryGetValue(path, out var file) ? file : null;

    static byte[] Read(string name)
    {
        using var stream = Assembly.GetExecutingAssembly().GetManifestResourceStream($"demo/{name}")!;
        var content = new byte[stream.Length];
        stream.ReadExactly(content);
        return content;
    }
}
