using System.Text.Json.Nodes;
using Sluice.Model;
using Sluice.Model.Json;
using Sluice.Pipeline;

namespace Sluice.Sources;

/// <summary>
/// Keeps the running configuration at what <c>conf/apisix.yaml</c> says (standalone mode). A file with any error changes nothing: each
/// error is logged with its line, and the configuration in use goes on.
/// </summary>
/// <param name="live">Has its settings already: they say which plugins there are.</param>
internal sealed partial class YamlConfiguration(YamlSource source, LiveConfiguration live, ILogger<YamlConfiguration> logger)
    : IConfigurationSource
{
    readonly CancellationTokenSource _stopping = new();
    readonly Lock _applying = new();
    Task _watching = Task.CompletedTask;

    /// <summary>Reads and applies the file now. Not logged: the caller tells of the problems.</summary>
    public IReadOnlyList<Problem> Reload() => Apply(source.Load());

    public Task<IReadOnlyList<Problem>> ReloadAsync() => Task.FromResult(Reload());

    public Task<IReadOnlyList<Problem>> StartAsync(CancellationToken cancel)
    {
        var problems = Reload();
        if (!HasErrors(problems))
        {
            _watching = WatchAsync();
        }
        return Task.FromResult(problems);
    }

    public async ValueTask DisposeAsync()
    {
        await _stopping.CancelAsync();
        await _watching;
        _stopping.Dispose();
    }

    async Task WatchAsync()
    {
        try
        {
            await foreach (var resources in source.Watch(_stopping.Token))
            {
                Log(Apply(resources));
            }
        }
        catch (OperationCanceledException)
        {
            // disposed
        }
        catch (Exception e)
        {
            LogWatchEnded(e);
        }
    }

    void Log(IReadOnlyList<Problem> problems)
    {
        foreach (var (severity, place, message) in problems)
        {
            if (severity == Severity.Error)
            {
                LogError(place, message);
            }
            else
            {
                LogWarning(place, message);
            }
        }
        if (problems.Any(problem => problem.Severity == Severity.Error))
        {
            LogKept(source.FileName);
        }
        else
        {
            LogApplied(source.FileName);
        }
    }

    /// <summary>Checks every resource and applies all or nothing.</summary>
    /// <returns>All problems; with an error among them nothing was changed.</returns>
    internal IReadOnlyList<Problem> Apply(YamlResources resources)
    {
        lock (_applying)
        {
            var problems = new List<Problem>(resources.Problems);
            var documents = Check(resources.Documents, problems);
            if (HasErrors(problems))
            {
                return problems;
            }
            var found = live.Apply(documents: Known(documents, live.Current.Documents));
            // places of what is known may be those of an older reading
            problems.AddRange(HasErrors(found) ? ProblemsOf(documents) : found);
            return problems;
        }
    }

    IReadOnlyList<Problem> ProblemsOf(DocumentSet documents)
    {
        using var prepared = live.Prepare(documents);
        return prepared.Problems;
    }

    DocumentSet Check(IReadOnlyList<RawDocument> raw, List<Problem> problems)
    {
        foreach (var one in raw)
        {
            TakeUnknownPlugins(one, live.Current.Plugins, problems);
        }
        var all = raw.Select(one => Document.Of(one.Kind, one.Id, one.Value, 0, 0, one.Place)).ToArray();
        var documents = DocumentSet.Of(all);
        var intake = new DocumentIntake(live.Maker(documents));
        foreach (var (one, document) in raw.Zip(all))
        {
            var (error, warnings) = intake.Take(document, documents);
            if (error is not null)
            {
                problems.Add(Problem.Error(one.Locate?.Invoke(error) ?? document.Place, error));
            }
            else if (intake.Conflict(document.Kind, document.Id, document.Value, documents) is { } conflict)
            {
                warnings = [.. warnings, conflict];
            }
            problems.AddRange(warnings.Select(warning => Problem.Warning(document.Place, warning)));
        }
        return documents;
    }

    /// <summary>Each has its own line, and what else is wrong with the resource is found too. With an error nothing is applied, so that
    /// nothing is missing from it.</summary>
    static void TakeUnknownPlugins(RawDocument document, PluginRegistry plugins, List<Problem> problems)
    {
        var used = document.Value["plugins"] as JsonObject ?? [];
        var forStreams = document.Kind == ResourceKind.StreamRoutes;
        foreach (var name in used.Select(plugin => plugin.Key).Where(name => !plugins.Has(name, forStreams)).ToList())
        {
            var explanation = ApisixPlugins.Explain(name, forStreams ? plugins.StreamNames : plugins.Names, forStreams);
            problems.Add(Problem.Error(document.PlaceOfPlugin?.Invoke(name) ?? document.Place, $"unknown plugin [{name}]{explanation}"));
            used.Remove(name);
        }
    }

    /// <summary>A document that says the same as before stays the same object, and so does what was compiled from it.</summary>
    static DocumentSet Known(DocumentSet documents, DocumentSet running) => DocumentSet.Of(ResourceKinds.All
        .SelectMany(kind => documents[kind].Values)
        .Select(document => running.Find(document.Kind, document.Id) is { } known
            && LuaEquality.Instance.Equals(known.Value, document.Value) ? known : document));

    static bool HasErrors(IEnumerable<Problem> problems) => problems.Any(problem => problem.Severity == Severity.Error);

    [LoggerMessage(Level = LogLevel.Error, Message = "{Place}: {Problem}")]
    partial void LogError(string place, string problem);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Place}: {Problem}")]
    partial void LogWarning(string place, string problem);

    [LoggerMessage(Level = LogLevel.Error, Message = "{File} was not applied; the configuration in use stays")]
    partial void LogKept(string file);

    [LoggerMessage(Level = LogLevel.Information, Message = "{File} was applied")]
    partial void LogApplied(string file);

    [LoggerMessage(Level = LogLevel.Critical, Message = "conf/apisix.yaml is no longer watched")]
    partial void LogWatchEnded(Exception exception);
}
