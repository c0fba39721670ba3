using System.Text.Json.Nodes;

namespace Sluice.Scripting.Api;

/// <summary>Consumers, for auth plugins in Lua.</summary>
static class ConsumersApi
{
    public static readonly (string Name, LuaHost.HostFunction Function)[] Functions =
    [
        ("consumers_version", ConsumersVersion), ("consumers", Consumers), ("consumer_find", FindConsumer),
        ("consumer_named", NamedConsumer), ("consumer_attached", AttachedConsumer), ("consumer_attach", AttachConsumer),
    ];

    static int ConsumersVersion(LuaLane lane, LuaStack stack)
    {
        stack.Push(LuaHost.Exchange(lane).Consumers.Version);
        return 1;
    }

    /// <summary>Name of a plugin, or nothing for all: an array of consumers.</summary>
    static int Consumers(LuaLane lane, LuaStack stack)
    {
        var consumers = LuaHost.Exchange(lane).Consumers;
        var count = 0;
        var found = stack.IsNil(1) ? consumers.All : consumers.With(stack.Utf8(1));
        stack.NewTable();
        foreach (var consumer in found)
        {
            stack.Push(consumer, lane.ArrayMetatable);
            stack.SetIndex(++count);
        }
        return 1;
    }

    /// <summary>Plugin, property, value: the consumer or nil, and whether there is anybody with this plugin.</summary>
    static int FindConsumer(LuaLane lane, LuaStack stack)
    {
        var consumers = LuaHost.Exchange(lane).Consumers;
        var plugin = stack.Utf8(1);
        var found = stack.IsNil(3) ? null : consumers.Find(plugin, stack.Utf8(2), stack.Utf8(3));
        PushConsumer(lane, stack, found);
        stack.Push(found is not null || consumers.With(plugin).Any());
        return 2;
    }

    static int NamedConsumer(LuaLane lane, LuaStack stack) =>
        PushConsumer(lane, stack, LuaHost.Exchange(lane).Consumers.Named(stack.Utf8(1)));

    static int AttachedConsumer(LuaLane lane, LuaStack stack) => PushConsumer(lane, stack, lane.Running?.Exchange?.Consumers.Attached);

    static int PushConsumer(LuaLane lane, LuaStack stack, JsonObject? consumer)
    {
        if (consumer is null)
        {
            stack.PushNil();
        }
        else
        {
            stack.Push(consumer, lane.ArrayMetatable);
        }
        return 1;
    }

    /// <summary>Username and id of a credential or nil: whether there is such a consumer; it asks from here on.</summary>
    static int AttachConsumer(LuaLane lane, LuaStack stack)
    {
        stack.Push(LuaHost.Exchange(lane).Consumers.Attach(stack.Utf8(1), stack.IsNil(2) ? null : stack.Utf8(2)));
        return 1;
    }
}
