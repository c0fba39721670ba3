using System.Text.Json.Nodes;

namespace Sluice.Model.Schema;

/// <summary>A schema that stands in a configuration.</summary>
class JsonSchemaConverter : ParsedConverter<JsonSchema>
{
    protected override JsonSchema Parse(JsonNode value)
    {
        try
        {
            return JsonSchema.Compile(value.AsObject());
        }
        catch (Exception e) when (e is ArgumentException or InvalidOperationException)
        {
            throw new FormatException(e.Message, e);
        }
    }
}
