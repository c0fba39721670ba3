using System.Security.Cryptography;
using Sluice.Model.Settings;

namespace Sluice.Hosting;

/// <summary>
/// No key is shipped: the first start of a gateway with an Admin API makes one, prints it once and keeps it in conf/config.yaml (mode
/// 0600).
/// </summary>
static class AdminKey
{
    const string Missing = "deployment.admin.admin_key is missing and could not be added";

    const string Yourself = "write  deployment: {admin: {admin_key: [{name: admin, key: YOUR_KEY, role: admin}]}}  yourself";

    /// <summary>Makes a key and writes it into the file, leaving the rest of the file as it is.</summary>
    /// <exception cref="InvalidOperationException">The file is written in a way that leaves no safe place for it, or cannot be
    /// written.</exception>
    public static string Create(string configFile, Func<string, bool> isRead) =>
        Create(configFile, isRead, static (from, to) => File.Move(from, to, overwrite: true));

    /// <param name="replace">Puts the first file in the place of the second.</param>
    internal static string Create(string configFile, Func<string, bool> isRead, Action<string, string> replace)
    {
        var key = Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(16));
        if (!TryAdd(configFile, key, isRead, out var changed))
        {
            throw new InvalidOperationException($"{Missing}: {Yourself}");
        }
        Directory.CreateDirectory(Path.GetDirectoryName(configFile)!);
        var temporary = configFile + ".new";
        try
        {
            Write(temporary, FileMode.Create, changed);
            replace(temporary, configFile);
            return key;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            if (!File.Exists(configFile))
            {
                throw NotWritten(e);
            }
            // a file that is mounted by itself keeps its place, and a directory may take no other
        }
        finally
        {
            Remove(temporary);
        }
        try
        {
            Write(configFile, FileMode.Truncate, changed);
            HideFromOthers(configFile);
            return key;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw NotWritten(e);
        }
    }

    static InvalidOperationException NotWritten(Exception e) => new($"{Missing} ({e.Message.ReplaceLineEndings(" ")}): {Yourself}", e);

    /// <summary>Why <see cref="Create(string, Func{string, bool})"/> could not; null when it could. Writes nothing.</summary>
    public static string? WhyNot(string configFile, Func<string, bool> isRead)
    {
        if (!TryAdd(configFile, "00000000000000000000000000000key", isRead, out _))
        {
            return $"{Missing}: {Yourself}";
        }
        try
        {
            if (File.Exists(configFile))
            {
                using var file = new FileStream(configFile, FileMode.Open, FileAccess.Write, FileShare.ReadWrite);
            }
            return null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return $"{Missing} ({e.Message.ReplaceLineEndings(" ")}): {Yourself}";
        }
    }

    static bool TryAdd(string configFile, string key, Func<string, bool> isRead, out string changed)
    {
        changed = Insert(File.Exists(configFile) ? File.ReadAllText(configFile) : SettingsReference.DefaultConfigYaml(), key);
        return isRead(changed);
    }

    static void Write(string path, FileMode mode, string text)
    {
        var options = new FileStreamOptions { Mode = mode, Access = FileAccess.Write };
        if (!OperatingSystem.IsWindows() && mode == FileMode.Create)
        {
            options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        }
        using var file = new FileStream(path, options);
        file.Write(System.Text.Encoding.UTF8.GetBytes(text));
        file.Flush(flushToDisk: true);
    }

    static void HideFromOthers(string path)
    {
        try
        {
            if (!OperatingSystem.IsWindows())
            {
                File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // it is somebody else's file
        }
    }

    static void Remove(string path)
    {
        try
        {
            File.Delete(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // what could not be written is not there
        }
    }

    /// <summary>Below an existing <c>admin:</c> or <c>deployment:</c> line, otherwise as a block at the end.</summary>
    internal static string Insert(string text, string key)
    {
        var lines = text.TrimEnd('\n').Split('\n').ToList();
        string[] entry = ["admin_key:", "  - name: admin", $"    key: {key}", "    role: admin"];
        var empty = lines.FindIndex(line => line.Trim() == "admin_key: []");
        if (empty >= 0)
        {
            var depth = new string(' ', Indent(lines[empty]));
            lines.RemoveAt(empty);
            lines.InsertRange(empty, entry.Select(line => depth + line));
            return string.Join('\n', [.. lines, ""]);
        }
        var deployment = lines.FindIndex(line => line.StartsWith("deployment:", StringComparison.Ordinal));
        if (deployment < 0)
        {
            return string.Join('\n',
                [.. lines.SkipWhile(string.IsNullOrWhiteSpace), "deployment:", "  admin:", .. entry.Select(line => "    " + line), ""]);
        }
        var end = lines.FindIndex(deployment + 1, line => line.Length > 0 && line[0] is not (' ' or '#'));
        end = end < 0 ? lines.Count : end;
        var admin = lines.FindIndex(deployment + 1, end - deployment - 1,
            line => line.TrimStart() is "admin:" || line.TrimStart().StartsWith("admin: #", StringComparison.Ordinal));
        if (admin >= 0)
        {
            var indent = lines.Skip(admin + 1).Take(end - admin - 1)
                .Where(line => line.Trim().Length > 0 && !line.TrimStart().StartsWith('#')).Select(Indent)
                .FirstOrDefault(depth => depth > Indent(lines[admin]), Indent(lines[admin]) + 2);
            lines.InsertRange(admin + 1, entry.Select(line => new string(' ', indent) + line));
        }
        else
        {
            var indent = lines.Skip(deployment + 1).Take(end - deployment - 1)
                .Where(line => line.Trim().Length > 0 && !line.TrimStart().StartsWith('#')).Select(Indent).FirstOrDefault(2);
            lines.InsertRange(deployment + 1,
                [new string(' ', indent) + "admin:", .. entry.Select(line => new string(' ', indent + 2) + line)]);
        }
        return string.Join('\n', [.. lines, ""]);
    }

    static int Indent(string line) => line.Length - line.TrimStart().Length;
}
