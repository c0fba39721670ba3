using Microsoft.Extensions.Logging;
using Sluice.Pipeline;
using Sluice.Pipeline.References;

namespace Sluice.Hosting;

/// <summary>
/// Keeps the secrets known that consumers and the certificates for upstreams refer to: a consumer is found by its key, so the key has to be
/// there before a request comes. When one is fetched or has changed, what it concerns is compiled anew.
/// </summary>
sealed partial class SecretWatch(LiveConfiguration live, SecretStore secrets, TimeProvider time, ILogger<SecretWatch> logger) : IDisposable
{
    static readonly TimeSpan AtStart = TimeSpan.FromSeconds(6), LookEvery = TimeSpan.FromSeconds(1);

    readonly SemaphoreSlim _looking = new(1);
    ITimer? _timer;
    volatile bool _stopped;

    /// <summary>Waits for the first values, but not for a manager that does not answer.</summary>
    public async Task StartAsync()
    {
        Follow(live.Current);
        if (live.Current.HasSecrets)
        {
            await Task.WhenAny(LookAsync(), Task.Delay(AtStart, time));
        }
        live.Changed += Follow;
        _timer = time.CreateTimer(_ => Look(), null, LookEvery, LookEvery);
    }

    void Follow(Snapshot snapshot)
    {
        secrets.Times = new(snapshot.Settings.SecretTimes.Found, snapshot.Settings.SecretTimes.NotFound);
        Look();
    }

    void Look()
    {
        if (live.Current.HasSecrets)
        {
            _ = Task.Run(LookAsync);
        }
    }

    async Task LookAsync()
    {
        if (_stopped || !await _looking.WaitAsync(0))
        {
            return;
        }
        try
        {
            foreach (var reference in live.Current.SecretReferences)
            {
                try
                {
                    await secrets.ResolveAsync(reference);
                }
                catch (SecretException)
                {
                    // said by the store
                }
            }
            if (!_stopped && !live.Current.HasCurrentSecrets(secrets))
            {
                live.Apply();
            }
        }
        catch (Exception e)
        {
            LogFailed(e);
        }
        finally
        {
            _looking.Release();
        }
    }

    public void Dispose()
    {
        _stopped = true;
        live.Changed -= Follow;
        _timer?.Dispose();
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "looking after secrets failed")]
    partial void LogFailed(Exception exception);
}
