using BenchmarkDotNet.Running;
using Sluice.Bench;

if (args is ["scale", ..])
{
    await ScaleRun.RunAsync(args is [_, var etcd] ? new Uri(etcd) : null);
    return;
}
BenchmarkSwitcher.FromAssembly(typeof(RouterBenchmark).Assembly).Run(args);
