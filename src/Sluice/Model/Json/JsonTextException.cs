namespace Sluice.Model.Json;

/// <summary>A text is not JSON. The message is worded as lua-cjson words it, with a 1-based position.</summary>
internal sealed class JsonTextException(string message) : FormatException(message);
