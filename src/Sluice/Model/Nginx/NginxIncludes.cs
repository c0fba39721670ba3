using System.IO.Enumeration;

namespace Sluice.Model.Nginx;

/// <summary>The files that <c>include</c> names, by path or glob, with an end to circles.</summary>
sealed class NginxIncludes(string? directory)
{
    const int MaxFiles = 1000;
    const long MaxBytes = 16 << 20;

    readonly Stack<string> _open = new();
    int _files;

    /// <summary>A text that is being read: including it again is a circle.</summary>
    public IDisposable Inside(NginxText text)
    {
        _open.Push(text.Name);
        return new Closing(_open);
    }

    sealed class Closing(Stack<string> open) : IDisposable
    {
        public void Dispose() => open.Pop();
    }

    public IEnumerable<NginxText> Open(NginxDirective include, List<Problem> problems)
    {
        var written = include.Arguments[0];
        void Error(string message) => problems.Add(Problem.Error(include.Place, message));
        if (directory is null || written.Length == 0 || written.Contains('\0', StringComparison.Ordinal))
        {
            Error($"invalid value \"{written}\" in \"include\" directive");
            yield break;
        }
        var wild = written.AsSpan().IndexOfAny('*', '?', '[') >= 0;
        foreach (var path in Find(written))
        {
            var name = NameOf(path);
            if (_open.Contains(name) || name == "conf/nginx.conf" || _open.Count > 20)
            {
                Error($"\"include {written}\" goes round in a circle: {name} is being read already");
                continue;
            }
            if (++_files > MaxFiles)
            {
                Error($"more than {MaxFiles} files are included");
                yield break;
            }
            string text;
            try
            {
                if (new FileInfo(path).Length > MaxBytes)
                {
                    Error($"{name} is larger than {MaxBytes >> 20} MB");
                    continue;
                }
                text = File.ReadAllText(path);
            }
            catch (Exception e)
                when (e is FileNotFoundException or DirectoryNotFoundException && !wild && Path.GetFileName(written) == "mime.types")
            {
                problems.Add(Problem.Warning(include.Place, "\"include mime.types\" has no meaning here and is ignored"));
                continue;
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                var reason = e is FileNotFoundException or DirectoryNotFoundException ? "No such file or directory" : e.Message;
                Error($"open() \"{name}\" failed ({reason})");
                continue;
            }
            yield return new(name, text);
        }
    }

    /// <summary>Each part of the path may hold wildcards, as with glob(3); sorted, so that the order is the same everywhere.</summary>
    IEnumerable<string> Find(string written)
    {
        if (written.AsSpan().IndexOfAny('*', '?') < 0)
        {
            return [Path.GetFullPath(Path.Combine(directory!, written))];
        }
        IEnumerable<string> found = [Path.IsPathRooted(written) ? "/" : directory!];
        var parts = written.Split('/', StringSplitOptions.RemoveEmptyEntries);
        for (var i = 0; i < parts.Length; i++)
        {
            var (part, last) = (parts[i], i == parts.Length - 1);
            found = part.AsSpan().IndexOfAny('*', '?') < 0
                ? found.Select(parent => Path.Combine(parent, part))
                : found.SelectMany(parent => Entries(parent, last)
                    .Where(entry => FileSystemName.MatchesSimpleExpression(part, Path.GetFileName(entry), ignoreCase: false)
                        && (part.StartsWith('.') || !Path.GetFileName(entry).StartsWith('.'))));
        }
        return [.. found.Where(File.Exists).Select(Path.GetFullPath).Order(StringComparer.Ordinal).Take(MaxFiles + 1)];
    }

    static string[] Entries(string parent, bool files)
    {
        try
        {
            return files ? Directory.GetFiles(parent) : Directory.GetDirectories(parent);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return [];
        }
    }

    string NameOf(string path)
    {
        var relative = Path.GetRelativePath(directory!, path);
        return relative.StartsWith("..", StringComparison.Ordinal) ? path : "conf/" + relative;
    }
}
