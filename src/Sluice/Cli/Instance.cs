using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using Sluice.Model;

namespace Sluice.Cli;

/// <summary>A gateway as its directory shows it to other processes: configuration, pid file, state file.</summary>
sealed class Instance(string prefix)
{
    public string Prefix { get; } = Path.GetFullPath(prefix);

    public string ConfigFile => Path.Combine(Prefix, "conf", "config.yaml");

    public string ResourceFile => Path.Combine(Prefix, "conf", "apisix.yaml");

    public string PidFile => Path.Combine(Prefix, "logs", "sluice.pid");

    /// <summary>What a daemon and its runtime print: the stack trace of a crash, for instance.</summary>
    public string ConsoleFile => Path.Combine(Prefix, "logs", "console.log");

    string StateFile => Path.Combine(Prefix, "logs", "sluice.state");

    /// <summary>Whether anything says that this directory is meant to be an instance.</summary>
    public bool IsConfigured =>
        File.Exists(ConfigFile) || File.Exists(ResourceFile) || File.Exists(Path.Combine(Prefix, "conf", "nginx.conf"));

    public string NotConfigured => $"no conf/config.yaml in {Prefix}; `sluice init -p {Prefix}` writes one";

    /// <summary>
    /// The pid of the gateway that runs here. A pid file alone proves nothing (the process may be gone, its number given to another
    /// program): the gateway holds a lock on the file, which the kernel takes away with the process.
    /// </summary>
    public int? RunningPid()
    {
        using var file = Native.OpenForReading(PidFile);
        if (file.IsInvalid || !Native.IsLocked(file))
        {
            return null;
        }
        Span<byte> text = stackalloc byte[16];
        var length = RandomAccess.Read(file, text, 0);
        return int.TryParse(text[..length].TrimEnd((byte)'\n'), CultureInfo.InvariantCulture, out var pid) && pid > 1 ? pid : null;
    }

    /// <summary>Writes the pid file and holds it until disposed. Null: another process holds it.</summary>
    /// <exception cref="IOException">It cannot be written.</exception>
    public async Task<IDisposable?> ClaimAsync(TimeProvider time)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(PidFile)!);
        // Somebody who only looks (RunningPid) holds the lock for an instant.
        for (var attempt = 0; attempt < 20; attempt++)
        {
            try
            {
                var file = new FileStream(PidFile, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
                file.SetLength(0);
                file.Write(Encoding.ASCII.GetBytes(Environment.ProcessId.ToString(CultureInfo.InvariantCulture) + "\n"));
                file.Flush();
                // Not so when the former holder removed the file between our opening and our locking it.
                if (RunningPid() == Environment.ProcessId)
                {
                    return new Claim(file);
                }
                await file.DisposeAsync();
            }
            catch (IOException e) when (e.GetType() == typeof(IOException) && File.Exists(PidFile))
            {
                await Task.Delay(TimeSpan.FromMilliseconds(10), time);
            }
        }
        return null;
    }

    public InstanceState? ReadState()
    {
        try
        {
            return JsonSerializer.Deserialize(File.ReadAllBytes(StateFile), InstanceStateJson.Default.InstanceState);
        }
        catch (Exception e) when (e is IOException or JsonException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    /// <summary>Why the state could not be written; null when it was. A gateway goes on without: only the command line sees less of
    /// it.</summary>
    public string? WriteState(InstanceState state)
    {
        var next = StateFile + ".new";
        return Attempt(() =>
        {
            // somebody may have moved logs/ away
            Directory.CreateDirectory(Path.GetDirectoryName(next)!);
            File.WriteAllBytes(next, JsonSerializer.SerializeToUtf8Bytes(state, InstanceStateJson.Default.InstanceState));
            File.Move(next, StateFile, overwrite: true);
        });
    }

    public void RemoveState() => Attempt(() => File.Delete(StateFile));

    static string? Attempt(Action action)
    {
        try
        {
            action();
            return null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return e.Message;
        }
    }

    /// <summary>Why there can be no logs/ in this instance, where its pid is; null when there is one now.</summary>
    public string? PrepareLogs()
    {
        var logs = Path.GetDirectoryName(PidFile)!;
        return File.Exists(logs) ? $"{logs} is a file: the pid, the state and the logs need a directory there"
            : Attempt(() => Directory.CreateDirectory(logs));
    }

    sealed class Claim(FileStream file) : IDisposable
    {
        public void Dispose()
        {
            Attempt(() => File.Delete(file.Name));
            file.Dispose();
        }
    }
}

/// <summary>What a running gateway tells the command line (<c>logs/sluice.state</c>).</summary>
/// <param name="Reloads">How often it was asked to reload: <c>sluice reload</c> waits for the next number.</param>
/// <param name="ReloadProblems">What the last reload found.</param>
sealed record InstanceState(
    int Pid, string[] Proxy, string? Admin, string? Control, string? Status, string? Metrics, int Reloads, Problem[] ReloadProblems);

[JsonSerializable(typeof(InstanceState))]
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, WriteIndented = true, UseStringEnumConverter = true)]
sealed partial class InstanceStateJson : JsonSerializerContext;
