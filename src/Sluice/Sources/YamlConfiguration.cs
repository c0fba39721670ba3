using Sluice.Model;
using Sluice.Model.Json;
using Sluice.Pipeline;

namespace Sluice.Sources;

/// <summary>
/// Keeps the running configuration at what <c>conf/apisix.yaml</c> says (standalone mode). A file with any error changes nothing: each error is
/// logged with its line, and the configuration in use goes on.
/// </summary>
/// <param name="live">Has its settings already: they say which plugins there are.</param>
public sealed partial class YamlConfiguration(YamlSource source, LiveConfiguration live, ILogger<YamlConfiguration> logger) : IAsyncDisposable
{
    readonly CancellationTokenSource _stopping = new();
    readonly Lock _applying = new();
    Task _watching = Task.CompletedTask;

    /// <summary>Reads and applies the file now: at the start, and when a reload was asked for. Not logged: the caller tells of the problems.</summary>
    public IReadOnlyList<Problem> Load() => Apply(source.Load());

    /// <summary>Follows the file from now on.</summary>
    public void Start() => _watching = WatchAsync();

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
            LogKept(YamlSource.Name);
        }
        else
        {
            LogApplied(YamlSource.Name);
        }
    }

    /// <summary>Checks every resource and applies all or nothing.</summary>
    /// <returns>All problems; with an error among them nothing was changed.</returns>
    internal IReadOnlyList<Problem> Apply(YamlResources resources)
    {
        lock (_applying)
        {
            var problems = new List<Problem>(resources.Problems);
            var documents = Check(resources.Documents, live.Current.Plugins, problems);
            if (HasErrors(problems))
            {
                return problems;
            }
            var found = live.Apply(documents: Known(documents, live.Current.Documents));
            // places of what is known may be those of an older reading
            problems.AddRange(HasErrors(found) ? live.Try(documents) : found);
            return problems;
        }
    }

    static DocumentSet Check(IReadOnlyList<RawDocument> raw, PluginRegistry plugins, List<Problem> problems)
    {
        var documents = DocumentSet.Of(raw.Select(one => new Document(one.Kind, one.Id, one.Value, 0, 0, one.Place)));
        foreach (var (kind, id, value, place) in raw)
        {
            var warnings = new List<string>();
            if (DocumentCheck.Check(kind, id, value, documents, plugins, warnings) is { } error)
            {
                problems.Add(Problem.Error(place, error));
            }
            else if (DocumentCheck.Conflict(kind, id, value, documents, plugins) is { } conflict)
            {
                warnings.Add(conflict);
            }
            problems.AddRange(warnings.Select(warning => Problem.Warning(place, warning)));
        }
        return documents;
    }

    /// <summary>A document that says the same as before stays the same object, and so does what was compiled from it.</summary>
    static DocumentSet Known(DocumentSet documents, DocumentSet running) => DocumentSet.Of(ResourceKinds.All
        .SelectMany(kind => documents[kind].Values)
        .Select(document => running.Find(document.Kind, document.Id) is { } known && LuaEquality.Instance.Equals(known.Value, document.Value) ? known : document));

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
