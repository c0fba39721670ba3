using System.Runtime.InteropServices;

namespace Sluice.Pipeline;

/// <summary>
/// Counts who uses a snapshot without a cache line that all processors write to, and tells once when it was retired and nobody uses it any
/// more.
/// </summary>
sealed class UseCount
{
    const int Live = 0, Retired = 1, Told = 2;

    static readonly int Stripes = (int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)Environment.ProcessorCount);

    readonly Stripe[] _stripes = new Stripe[Stripes];
    Action? _unused;
    int _state;

    [StructLayout(LayoutKind.Explicit, Size = 128)]
    struct Stripe
    {
        [FieldOffset(64)]
        public long Users;
    }

    /// <summary>False: it is retired. What comes out of <paramref name="seat"/> is given back to <see cref="Leave"/>.</summary>
    public bool TryEnter(out int seat)
    {
        seat = Thread.GetCurrentProcessorId() & (Stripes - 1);
        Interlocked.Increment(ref _stripes[seat].Users);
        // a stripe that was zero after the retirement stays so, but for those that see it here and leave again
        if (Volatile.Read(ref _state) == Live)
        {
            return true;
        }
        Leave(seat);
        return false;
    }

    /// <summary>Counts one more for somebody who has a seat and has not left: what is used cannot be retired to its end
    /// meanwhile.</summary>
    public int Again(int seat)
    {
        Interlocked.Increment(ref _stripes[seat].Users);
        return seat;
    }

    public void Leave(int seat)
    {
        Interlocked.Decrement(ref _stripes[seat].Users);
        if (Volatile.Read(ref _state) == Retired)
        {
            TellWhenUnused();
        }
    }

    /// <summary>Nobody enters any more.</summary>
    /// <param name="unused">Called once, when the last has left.</param>
    public void Retire(Action unused)
    {
        _unused = unused;
        Interlocked.Exchange(ref _state, Retired);
        TellWhenUnused();
    }

    void TellWhenUnused()
    {
        foreach (ref var stripe in _stripes.AsSpan())
        {
            if (Interlocked.Read(ref stripe.Users) != 0)
            {
                return;
            }
        }
        if (Interlocked.CompareExchange(ref _state, Told, Retired) == Retired)
        {
            _unused!();
        }
    }
}
