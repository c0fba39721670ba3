using Sluice.Cli;

return await CommandLine.RunAsync(args);
