namespace Sluice.Scripting.Api;

/// <summary>Shared dictionaries: <c>ngx.shared</c>.</summary>
static class SharedDictApi
{
    public static readonly (string Name, LuaHost.HostFunction Function)[] Functions =
    [
        ("dict", DictionaryExists), ("dict_get", DictionaryGet), ("dict_store", DictionaryStore), ("dict_incr", DictionaryIncrement),
        ("dict_op", DictionaryOperation),
    ];

    static SharedDictionary Dictionary(LuaLane lane, LuaStack stack) =>
        lane.Engine.Dictionary(stack.Text(1)) ?? throw new LuaException("too many shared dictionaries");

    static int DictionaryExists(LuaLane lane, LuaStack stack)
    {
        stack.Push(lane.Engine.Dictionary(stack.Text(1)) is not null);
        return 1;
    }

    static void PushShared(LuaStack stack, object? value)
    {
        switch (value)
        {
            case bool flag:
                stack.Push(flag);
                break;
            case double number:
                stack.Push(number);
                break;
            case byte[] bytes:
                stack.Push(bytes.AsSpan());
                break;
            default:
                stack.PushNil();
                break;
        }
    }

    static object? Shared(LuaStack stack, int index) => stack.TypeAt(index) switch
    {
        LuaType.None or LuaType.Nil => null,
        LuaType.Boolean => stack.Flag(index),
        LuaType.Number => stack.Number(index),
        LuaType.String => stack.ByteArray(index),
        _ => throw new LuaException("bad value type"),
    };

    /// <summary>dictionary, key, stale: value, flags, whether it is stale.</summary>
    static int DictionaryGet(LuaLane lane, LuaStack stack)
    {
        var (value, flags, stale) = Dictionary(lane, stack).Get(stack.Text(2), stack.Flag(3));
        if (value is LinkedList<object>)
        {
            stack.PushNil();
            stack.Push("value is a list");
            return 2;
        }
        PushShared(stack, value);
        if (flags != 0)
        {
            stack.Push(flags);
        }
        else
        {
            stack.PushNil();
        }
        stack.Push(stale);
        return 3;
    }

    /// <summary>dictionary, mode, safe, key, value, seconds, flags: ok, error, whether something had to go.</summary>
    static int DictionaryStore(LuaLane lane, LuaStack stack)
    {
        var mode = (SharedDictionary.Mode)stack.Integer(2);
        var (error, forcible) = Dictionary(lane, stack).Store(stack.Text(4), Shared(stack, 5), stack.Number(6), stack.Integer(7), mode,
            stack.Flag(3));
        stack.Push(error is null);
        stack.Push(error);
        stack.Push(forcible);
        return 3;
    }

    static int DictionaryIncrement(LuaLane lane, LuaStack stack)
    {
        var (value, error, forcible) = Dictionary(lane, stack).Increment(
            stack.Text(2), stack.Number(3), stack.IsNil(4) ? null : stack.Number(4), stack.Number(5));
        if (value is { } number)
        {
            stack.Push(number);
        }
        else
        {
            stack.PushNil();
        }
        stack.Push(error);
        stack.Push(forcible);
        return 3;
    }

    /// <summary>dictionary, operation, key, value.</summary>
    static int DictionaryOperation(LuaLane lane, LuaStack stack)
    {
        var dictionary = Dictionary(lane, stack);
        var operation = stack.Text(2);
        switch (operation)
        {
            case "lpush" or "rpush":
                var (length, error) = dictionary.Push(stack.Text(3), Shared(stack, 4) ?? throw new LuaException("bad value type"),
                    operation == "lpush");
                return LuaHost.NumberOr(stack, length, error);
            case "lpop" or "rpop":
                var (value, why) = dictionary.Pop(stack.Text(3), operation == "lpop");
                PushShared(stack, value);
                stack.Push(why);
                return 2;
            case "llen":
                var (count, not) = dictionary.Length(stack.Text(3));
                return LuaHost.NumberOr(stack, count, not);
            case "expire":
                var found = dictionary.Expire(stack.Text(3), stack.Number(4));
                stack.Push(found);
                stack.Push(found ? null : "not found");
                return 2;
            case "ttl":
                if (dictionary.TimeToLive(stack.Text(3)) is { } left)
                {
                    stack.Push(left);
                    return 1;
                }
                stack.PushNil();
                stack.Push("not found");
                return 2;
            case "flush_all":
                dictionary.FlushAll();
                return 0;
            case "flush_expired":
                stack.Push(dictionary.FlushExpired((int)stack.Number(3)));
                return 1;
            case "get_keys":
                var keys = dictionary.Keys(stack.IsNil(3) ? 1024 : stack.Integer(3));
                stack.NewTable(keys.Length);
                for (var i = 0; i < keys.Length; i++)
                {
                    stack.Push(keys[i]);
                    stack.SetIndex(i + 1);
                }
                return 1;
            case "capacity":
                stack.Push(dictionary.Capacity);
                return 1;
            case "free_space":
                stack.Push(dictionary.Free);
                return 1;
            default:
                throw new LuaException($"no such operation: {operation}");
        }
    }
}
