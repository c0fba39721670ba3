namespace Sluice.Model.Yaml;

/// <summary>The text is not one well-formed YAML document. The message is one line; line and column count from 1.</summary>
internal sealed class YamlTextException(string file, int line, int column, string message) : Exception(message)
{
    public string File => file;

    public int Line => line;

    public int Column => column;

    public Problem ToProblem() => Problem.Error($"{file}:{line}", $"{Message} (column {column})");
}
