namespace Sluice.Relay;

/// <summary>Counts the units that go to the client; called by whoever cuts a body into them.</summary>
interface IUnitCounter
{
    /// <summary>Bytes of a unit that is about to be counted.</summary>
    /// <param name="isFirst">A unit begins.</param>
    void Show(ReadOnlySpan<byte> bytes, bool isFirst);

    /// <summary>Units that came together go on.</summary>
    /// <param name="lastBytes">How long the last of them is.</param>
    void Add(int units, int lastBytes);
}
