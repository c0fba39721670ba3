using System.Buffers;
using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Sluice.Model.Expressions;
using Sluice.Model.Json;
using Sluice.Observability;
using Sluice.Pipeline;
using Sluice.Relay;

namespace Sluice.Plugins.Streaming;

/// <summary>An event as expressions and texts of the configuration see it, and as rules change it. Beside its own, the variables of its
/// request are there.</summary>
sealed class RuledEvent(Exchange exchange) : IVariables
{
    string _name = "", _data = "";
    string? _id;
    JsonNode? _json;
    bool _parsed;
    int _bytes;
    long? _retry;

    /// <summary>Which event of its stream it is.</summary>
    public long Number { get; private set; }

    public bool Changed { get; private set; }

    /// <summary>The next event of the stream.</summary>
    public void Read(SseEvent sse)
    {
        Number++;
        (_name, _id, _data) = (Encoding.UTF8.GetString(sse.Name), sse.HasId ? Encoding.UTF8.GetString(sse.Id) : null, sse.DataText);
        (_json, _parsed, _bytes, _retry, Changed) = (null, false, sse.Raw.Length, sse.Retry, false);
    }

    public string Name
    {
        get => _name.Length == 0 ? "message" : _name;
        set => (_name, Changed) = (OneLine(value), true);
    }

    public string? Id
    {
        get => _id;
        set => (_id, Changed) = (value is null ? null : OneLine(value), true);
    }

    public string Data
    {
        get => _data;
        set => (_data, _json, _parsed, Changed) = (value, null, false, true);
    }

    /// <summary>The data as JSON; null: it is none.</summary>
    JsonNode? Json
    {
        get
        {
            if (!_parsed)
            {
                _parsed = true;
                try
                {
                    _json = JsonNode.Parse(_data, documentOptions: new() { AllowDuplicateProperties = false });
                }
                catch (JsonException)
                {
                    // then it has no paths
                }
            }
            return _json;
        }
    }

    public string? Get(string name) => name switch
    {
        "event" => Name,
        "id" => _id,
        "data" => _data,
        "bytes" => _bytes.ToString(CultureInfo.InvariantCulture),
        "n" => Number.ToString(CultureInfo.InvariantCulture),
        _ when name.StartsWith("data.", StringComparison.Ordinal) => Find(name[5..]) is { } found
            ? found is JsonValue value && value.TryGetValue(out string? text) ? text : JsonBytes.Text(found) : null,
        _ => exchange.Get(name),
    };

    JsonNode? Find(string path) => path.Split('.').Aggregate(Json, Step);

    static JsonNode? Step(JsonNode? node, string part) => node switch
    {
        JsonObject items => items[part],
        JsonArray list => int.TryParse(part, NumberStyles.None, CultureInfo.InvariantCulture, out var index) && index < list.Count
            ? list[index] : null,
        _ => null,
    };

    /// <summary>What a rule does with what is at a path. Where that leads nowhere nothing changes.</summary>
    public enum Change
    {
        /// <summary>A property that is not there is added.</summary>
        Put,
        Replace,
        Remove,
    }

    public void Edit(string path, Change change, JsonNode? value = null)
    {
        var dot = path.LastIndexOf('.');
        var (parent, last) = dot < 0 ? (Json, path) : (Find(path[..dot]), path[(dot + 1)..]);
        switch (parent)
        {
            case JsonObject items when change == Change.Put || items.ContainsKey(last):
                if (change == Change.Remove)
                {
                    items.Remove(last);
                }
                else
                {
                    items[last] = value?.DeepClone();
                }
                break;
            case JsonArray list when int.TryParse(last, NumberStyles.None, CultureInfo.InvariantCulture, out var index)
                && index < list.Count:
                if (change == Change.Remove)
                {
                    list.RemoveAt(index);
                }
                else
                {
                    list[index] = value?.DeepClone();
                }
                break;
            default:
                return;
        }
        (_data, Changed) = (JsonBytes.Text(Json!), true);
    }

    public void Write(IBufferWriter<byte> output) =>
        SseEvent.Write(output, Encoding.UTF8.GetBytes(_name), Encoding.UTF8.GetBytes(_data), _id, _retry);

    /// <summary>More lines would be fields of their own.</summary>
    static string OneLine(string text) =>
        text.AsSpan().ContainsAny('\r', '\n', '\0') ? text.Replace('\r', ' ').Replace('\n', ' ').Replace('\0', ' ') : text;
}

/// <summary>One rule of <c>sse.transform</c>.</summary>
sealed class EventRule(Sse.TransformConfig config)
{
    static readonly JsonNode s_masked = JsonValue.Create("***");

    public void Apply(RuledEvent one)
    {
        if (config.Vars?.Matches(one) == false)
        {
            return;
        }
        if (config.SetEvent is { } name)
        {
            one.Name = Template.Expand(name, one);
        }
        if (config.SetId is { } id)
        {
            one.Id = Template.Expand(id, one);
        }
        if (config.SetData is { } data)
        {
            one.Data = Template.Expand(data, one);
        }
        foreach (var replace in config.Replace ?? [])
        {
            one.Edit(replace.Path, RuledEvent.Change.Put, replace.Value);
        }
        foreach (var path in config.Remove ?? [])
        {
            one.Edit(path, RuledEvent.Change.Remove);
        }
        foreach (var path in config.Mask ?? [])
        {
            one.Edit(path, RuledEvent.Change.Replace, s_masked);
        }
    }
}
