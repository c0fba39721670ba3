namespace Sluice.Relay.Queues;

/// <summary>So much a second, and so much at once.</summary>
sealed class TokenBucket(double perSecond, double burst, TimeProvider time)
{
    double _tokens = double.MaxValue;     // as many as fit, at first
    long _at = time.GetTimestamp();

    public double Burst => burst;

    public double PerSecond => perSecond;

    /// <summary>What may be taken now.</summary>
    public double Tokens
    {
        get
        {
            var now = time.GetTimestamp();
            _tokens = Math.Min(burst, _tokens + (time.GetElapsedTime(_at, now).TotalSeconds * perSecond));
            _at = now;
            return _tokens;
        }
    }

    public void Take(double tokens) => _tokens -= tokens;

    /// <summary>How long until there are so many; never longer than a timer can be.</summary>
    public TimeSpan Until(double tokens) => TimeSpan.FromSeconds(Math.Clamp((tokens - Tokens) / perSecond, 0, 86_400));
}
