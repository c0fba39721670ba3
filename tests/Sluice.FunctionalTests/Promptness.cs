namespace Sluice.FunctionalTests;

/// <summary>Each event of a stream is at the client within 100 ms of its sending.</summary>
static class Promptness
{
    const int Limit = 100, Rounds = 8;

    /// <summary>
    /// A machine with other things to do is late with any event; a gateway that holds events back is late with the same one in every round.
    /// So each event, by its place in the stream, must be prompt in one of some rounds, mostly in the first.
    /// </summary>
    /// <param name="round">A whole stream, in which the next event is sent when the one before is there; how long each took.</param>
    public static async Task OfEachAsync(int events, Func<Task<List<TimeSpan>>> round)
    {
        var best = Enumerable.Repeat(TimeSpan.MaxValue, events).ToArray();
        for (var rounds = 0; rounds < Rounds && best.Any(IsLate); rounds++)
        {
            var waits = await round();
            Assert.Equal(events, waits.Count);
            best = [.. best.Zip(waits, (one, other) => one < other ? one : other)];
        }
        Assert.False(best.Any(IsLate),
            $"slow events: {string.Join(", ", best.Select((wait, id) => (wait, id)).Where(one => IsLate(one.wait)))}");
    }

    static bool IsLate(TimeSpan wait) => wait.TotalMilliseconds >= Limit;
}
