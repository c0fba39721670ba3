using Sluice.FunctionalTests.Configuration;

// The tests' executable is also what tests start as a process of its own: `dotnet Sluice.FunctionalTests.dll child NAME ARGUMENTS`.
return args is ["child", var name, .. var rest]
    ? name switch
    {
        "store-writer" => await StoreWriter.Run(rest[0]),
        _ => throw new ArgumentException($"no such child: {name}"),
    }
    : await Xunit.Runner.InProc.SystemConsole.ConsoleRunner.Run(args);
