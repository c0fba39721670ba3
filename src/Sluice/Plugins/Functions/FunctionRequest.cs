namespace Sluice.Plugins.Functions;

/// <summary>What a function is asked: the client's request, to which credentials are added.</summary>
sealed class FunctionRequest
{
    public required string Method { get; init; }

    /// <summary>As it goes over the wire.</summary>
    public required string Path { get; init; }

    /// <summary>Without the question mark.</summary>
    public required string Query { get; set; }

    public required Dictionary<string, string> Headers { get; init; }

    public ReadOnlyMemory<byte> Body { get; init; }
}
