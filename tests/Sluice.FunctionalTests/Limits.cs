using System.Runtime.CompilerServices;

namespace Sluice.FunctionalTests;

/// <summary>
/// <see cref="Xunit.FactAttribute"/> for this program's tests: one that waits for what does not come fails under its own name instead of
/// holding up the whole run. A test without an <c>await</c> is an <c>[Xunit.Fact]</c>.
/// </summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class FactAttribute : Xunit.FactAttribute
{
    public const int Milliseconds = 120_000;

    public FactAttribute([CallerFilePath] string? file = null, [CallerLineNumber] int line = -1)
        : base(file, line) => Timeout = Milliseconds;
}

/// <inheritdoc cref="FactAttribute"/>
[AttributeUsage(AttributeTargets.Method)]
public sealed class TheoryAttribute : Xunit.TheoryAttribute
{
    public TheoryAttribute([CallerFilePath] string? file = null, [CallerLineNumber] int line = -1)
        : base(file, line) => Timeout = FactAttribute.Milliseconds;
}
