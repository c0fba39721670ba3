using System.Security.Cryptography;
using System.Text;
using Microsoft.Extensions.Logging;
using Sluice.Pipeline;
using StackExchange.Redis;

namespace Sluice.Plugins.Traffic;

/// <summary>A script that runs in Redis on one key: whatever it reads and writes, it is one round trip and nobody comes in
/// between.</summary>
sealed class RedisScript(string text)
{
    public string Text => text;

    /// <summary>The name that Redis gives it.</summary>
    [System.Diagnostics.CodeAnalysis.SuppressMessage("Security", "CA5350", Justification = "Redis's name for a script")]
    public byte[] Sha { get; } = SHA1.HashData(Encoding.UTF8.GetBytes(text));
}

/// <summary>A connection to Redis, to a cluster or to the master that sentinels name; made when the first request needs it, and made again
/// when it breaks.</summary>
sealed partial class RedisLink(RedisSettings settings, string name, PluginServices services) : IAsyncDisposable
{
    static readonly TimeSpan BetweenAttempts = TimeSpan.FromSeconds(1);

    readonly ILogger _logger = services.Loggers.CreateLogger<RedisLink>();
    readonly Lock _lock = new();
    Task<IConnectionMultiplexer>? _connection;
    ConnectionMultiplexer? _sentinels;
    long _failed;
    bool _disposed;

    /// <summary>The same for the same settings: for the names of what is shared with it.</summary>
    public string Name => name;

    /// <exception cref="IOException">Redis cannot be asked, does not answer in time or refuses; the message says why.</exception>
    public async ValueTask<RedisResult> RunAsync(RedisScript script, string key, RedisValue[] arguments)
    {
        try
        {
            var database = (await ConnectAsync()).GetDatabase();
            var flags = settings.RedisRole == "slave" ? CommandFlags.DemandReplica : CommandFlags.None;
            try
            {
                return await database.ScriptEvaluateAsync(script.Sha, [key], arguments, flags);
            }
            catch (RedisServerException e) when (e.Message.StartsWith("NOSCRIPT", StringComparison.Ordinal))
            {
                LogNoScript(e.Message);
                return await database.ScriptEvaluateAsync(script.Text, [key], arguments, flags | CommandFlags.NoScriptCache);
            }
        }
        catch (Exception e) when (e is RedisException or TimeoutException or ObjectDisposedException)
        {
            throw new IOException(Reason(e), e);
        }
    }

    Task<IConnectionMultiplexer> ConnectAsync()
    {
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            // an attempt that failed is good for a second: nobody waits for the next one behind a Redis that is not there
            if (_connection is null || (_connection.IsFaulted && services.Time.GetElapsedTime(_failed) > BetweenAttempts))
            {
                _connection = OpenAsync();
            }
            return _connection;
        }
    }

    async Task<IConnectionMultiplexer> OpenAsync()
    {
        // not under the lock
        await Task.Yield();
        try
        {
            var options = settings.Options();
            return await VerifyAsync(settings.Policy == "redis-sentinel" ? await OfSentinelsAsync(options)
                : await ConnectionMultiplexer.ConnectAsync(options));
        }
        catch
        {
            _failed = services.Time.GetTimestamp();
            throw;
        }
    }

    /// <summary>The library goes on as Redis's default user when Redis does not believe the password; a limit must not.</summary>
    async Task<IConnectionMultiplexer> VerifyAsync(IConnectionMultiplexer connection)
    {
        if (string.IsNullOrEmpty(settings.RedisPassword))
        {
            return connection;
        }
        try
        {
            object[] who = settings.RedisUsername is { } user ? [user, settings.RedisPassword] : [settings.RedisPassword];
            await connection.GetDatabase().ExecuteAsync("AUTH", who);
            return connection;
        }
        catch
        {
            await connection.DisposeAsync();
            throw;
        }
    }

    async Task<IConnectionMultiplexer> OfSentinelsAsync(ConfigurationOptions options)
    {
        var ask = options.Clone();
        ask.CommandMap = CommandMap.Sentinel;
        ask.TieBreaker = "";
        ask.DefaultDatabase = null;
        (ask.User, ask.Password) = (settings.SentinelUsername,
            string.IsNullOrEmpty(settings.SentinelPassword) ? null : settings.SentinelPassword);
        var sentinels = await ConnectionMultiplexer.SentinelConnectAsync(ask);
        try
        {
            options.ServiceName = settings.RedisMasterName;
            var master = sentinels.GetSentinelMasterConnection(options);
            // they say when there is another master
            _sentinels = sentinels;
            return master;
        }
        catch
        {
            await sentinels.DisposeAsync();
            throw;
        }
    }

    /// <summary>What the library says, without its statistics; the innermost reason is the one that helps (<c>WRONGPASS …</c>,
    /// <c>connection refused</c>).</summary>
    static string Reason(Exception e)
    {
        var text = Short(e.Message);
        for (var inner = e.InnerException; inner is not null; inner = inner.InnerException)
        {
            var more = Short(inner.Message);
            if (!text.Contains(more, StringComparison.Ordinal))
            {
                text += ": " + more;
            }
        }
        return text;

        static string Short(string message) =>
            message.Split([", mc: ", ", v: ", ", command="], 2, StringSplitOptions.None)[0].ReplaceLineEndings(" ");
    }

    public async ValueTask DisposeAsync()
    {
        Task<IConnectionMultiplexer>? connection;
        lock (_lock)
        {
            _disposed = true;
            connection = _connection;
        }
        if (connection is not null)
        {
            try
            {
                await (await connection).DisposeAsync();
            }
            catch (Exception e) when (e is RedisException or TimeoutException)
            {
                // there was none
            }
        }
        if (_sentinels is { } sentinels)
        {
            await sentinels.DisposeAsync();
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "redis evalsha failed: {Error}. Falling back to eval")]
    partial void LogNoScript(string error);
}
