using System.Security.Cryptography;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Sluice.Model.Settings;
using Sluice.Pipeline;

namespace Sluice.Hosting;

/// <summary>
/// Ends streams when the gateway stops in good order (<c>sluice.streams.drain</c>): each with last words, between two events, at a moment
/// of its own, and told when to come back. A stream that nobody can be told about, and one that ends by itself, is left alone.
/// </summary>
sealed partial class StreamDrain(LiveStreams streams, TimeProvider time, ILogger<StreamDrain> logger)
{
    /// <summary>Who is not between two events at its moment has so long to get there.</summary>
    static readonly TimeSpan s_grace = TimeSpan.FromSeconds(5);

    static readonly TimeSpan s_look = TimeSpan.FromMilliseconds(100);

    /// <param name="limit">After so long everything is cut; shortly before it those get their words that were left alone.</param>
    /// <param name="over">The last stream has ended, or the limit is over.</param>
    public async Task RunAsync(DrainSettings settings, TimeSpan limit, CancellationToken over)
    {
        var began = time.GetTimestamp();
        try
        {
            if (settings.Over > TimeSpan.Zero)
            {
                await EndAsync(Told(static exchange => IsEndless(exchange)), settings, settings.Over, over);
            }
            if (limit - s_grace - time.GetElapsedTime(began) is { Ticks: > 0 } rest)
            {
                await Task.Delay(rest, time, over);
                await EndAsync(Told(static _ => true), settings, TimeSpan.Zero, over);
            }
        }
        catch (OperationCanceledException)
        {
            // all have ended, or are cut now
        }
    }

    LiveStream[] Told(Func<Exchange, bool> isMeant) =>
    [
        .. streams.List().Where(stream => stream.Kind != StreamKind.Body
            && stream.Ask(exchange => exchange.Streams is not null && StreamEnding.MayHaveWords(exchange) && isMeant(exchange) ? exchange
                : null) is not null)
            .OrderBy(static _ => RandomNumberGenerator.GetInt32(int.MaxValue)),
    ];

    /// <summary>What answers a GET goes on for ever; what was posted for has an end, and so has what clients can come back to.</summary>
    static bool IsEndless(Exchange exchange) =>
        HttpMethods.IsGet(exchange.Request.Method) && exchange is { Detached: null, Ai: null } && exchange.Response.ContentLength is null;

    async Task EndAsync(LiveStream[] all, DrainSettings settings, TimeSpan spread, CancellationToken over)
    {
        if (all.Length == 0)
        {
            return;
        }
        LogDraining(all.Length, spread.TotalSeconds);
        var began = time.GetTimestamp();
        var late = new List<Task>();
        for (var i = 0; i < all.Length; i++)
        {
            if ((spread * ((double)i / all.Length)) - time.GetElapsedTime(began) is { Ticks: > TimeSpan.TicksPerMillisecond } wait)
            {
                await Task.Delay(wait, time, over);
            }
            late.Add(EndAsync(all[i], settings, over));
        }
        await Task.WhenAll(late);
    }

    async Task EndAsync(LiveStream stream, DrainSettings settings, CancellationToken over)
    {
        var began = time.GetTimestamp();
        while (stream.Ask(static exchange => StreamEnding.IsBetween(exchange) ? null : exchange) is not null
            && time.GetElapsedTime(began) < s_grace)
        {
            await Task.Delay(s_look, time, over);
        }
        stream.Kill("the gateway stops", "drain", retry: (long)Retry(settings).TotalMilliseconds);
    }

    static TimeSpan Retry(DrainSettings settings) =>
        settings.RetryMin + ((settings.RetryMax - settings.RetryMin) * Random.Shared.NextDouble());

    [LoggerMessage(Level = LogLevel.Information, Message = "{Count} streams are told to come back, over {Seconds} s")]
    partial void LogDraining(int count, double seconds);
}
