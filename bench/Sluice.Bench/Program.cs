using BenchmarkDotNet.Running;

BenchmarkSwitcher.FromAssembly(typeof(Sluice.Bench.RouterBenchmark).Assembly).Run(args);
