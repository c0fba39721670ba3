using System.Security.Cryptography;
using Sluice.Model.Settings;

namespace Sluice.Hosting;

/// <summary>
/// No key is shipped: the first start of a gateway with an Admin API makes one, prints it once and keeps it in conf/config.yaml (mode 0600).
/// </summary>
static class AdminKey
{
    /// <summary>Makes a key and writes it into the file, leaving the rest of the file as it is.</summary>
    /// <exception cref="InvalidOperationException">The file is written in a way that leaves no safe place for it.</exception>
    public static string Create(string configFile, Func<string, bool> isRead)
    {
        var key = Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(16));
        var text = File.Exists(configFile) ? File.ReadAllText(configFile) : SettingsReference.DefaultConfigYaml();
        var changed = Insert(text, key);
        if (!isRead(changed))
        {
            throw new InvalidOperationException(
                "deployment.admin.admin_key is missing and could not be added: write  deployment: {admin: {admin_key: [{name: admin, key: YOUR_KEY, role: admin}]}}  yourself");
        }
        Directory.CreateDirectory(Path.GetDirectoryName(configFile)!);
        var temporary = configFile + ".new";
        var options = new FileStreamOptions { Mode = FileMode.Create, Access = FileAccess.Write };
        if (!OperatingSystem.IsWindows())
        {
            options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        }
        using (var file = new FileStream(temporary, options))
        {
            file.Write(System.Text.Encoding.UTF8.GetBytes(changed));
            file.Flush(flushToDisk: true);
        }
        File.Move(temporary, configFile, overwrite: true);
        return key;
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
            return string.Join('\n', [.. lines.SkipWhile(string.IsNullOrWhiteSpace), "deployment:", "  admin:", .. entry.Select(line => "    " + line), ""]);
        }
        var end = lines.FindIndex(deployment + 1, line => line.Length > 0 && line[0] is not (' ' or '#'));
        end = end < 0 ? lines.Count : end;
        var admin = lines.FindIndex(deployment + 1, end - deployment - 1, line => line.TrimStart() is "admin:" || line.TrimStart().StartsWith("admin: #", StringComparison.Ordinal));
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
            lines.InsertRange(deployment + 1, [new string(' ', indent) + "admin:", .. entry.Select(line => new string(' ', indent + 2) + line)]);
        }
        return string.Join('\n', [.. lines, ""]);
    }

    static int Indent(string line) => line.Length - line.TrimStart().Length;
}
