using Sluice.Model;

namespace Sluice.Sources;

/// <summary>
/// Where resources come from: the embedded store, etcd, conf/apisix.yaml, or whoever pushes them. It keeps the running configuration at
/// what stands there, from its start until it is disposed.
/// </summary>
internal interface IConfigurationSource : IAsyncDisposable
{
    /// <summary>Applies what is there and follows it from then on. The settings have been applied before: they say which plugins there
    /// are.</summary>
    /// <returns>What is wrong there and was not logged; with an error among it nothing was applied.</returns>
    /// <exception cref="ConfigurationSourceException">It cannot be read.</exception>
    Task<IReadOnlyList<Problem>> StartAsync(CancellationToken cancel);

    /// <summary>Reads again what is not followed anyway, when a reload was asked for and the settings were applied.</summary>
    Task<IReadOnlyList<Problem>> ReloadAsync() => Task.FromResult<IReadOnlyList<Problem>>([]);

    /// <summary>Why requests should go elsewhere although it has started; null when they should not.</summary>
    string? NotReady => null;

    /// <summary>What is not as it should be although requests are served; null when all is well.</summary>
    string? Warning => null;

    /// <summary>Writes resources one by one; null where they cannot be written so.</summary>
    ResourceStore? Writer => null;
}

/// <summary>A source cannot be read; with the place that says where it is.</summary>
internal sealed class ConfigurationSourceException(Problem problem, Exception inner) : Exception(problem.ToString(), inner)
{
    public Problem Problem { get; } = problem;
}
