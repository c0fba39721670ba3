using System.Buffers;
using Sluice.Relay;
using static Sluice.Scripting.LuaNative;

namespace Sluice.Scripting;

/// <summary>What a unit of a stream is made of.</summary>
enum UnitFraming
{
    Sse,
    Lines,
    Messages,
}

/// <summary>Units of streams, one by one: the phase <c>event_filter</c>.</summary>
internal sealed partial class LuaContext
{
    /// <summary>What becomes of a unit, as Lua says it.</summary>
    const int AsItCame = 0, Rewritten = 2;

    ArrayBufferWriter<byte>? _data;

    /// <summary>A unit of a stream through a script's <c>event_filter</c>; what is left of it is written.</summary>
    /// <param name="finished">The script wants the stream to end after it, and why; null: it goes on.</param>
    /// <returns>False: it failed.</returns>
    public bool FilterEvent(LuaUnit unit, UnitFraming framing, ReadOnlySpan<byte> raw, long number, IBufferWriter<byte> output,
        out string? finished)
    {
        finished = null;
        Phase = LuaPhase.EventFilter;
        Unit = unit;
        using (Lane.Enter())
        {
            if (Lane.Ensure(unit, this) is { } error)
            {
                LogFailure(FailureOf(LuaPhase.Init), error, "event_filter");
                return false;
            }
            var coroutine = Lane.RentCoroutine(Lane.EventEntry, unit);
            var stack = new LuaStack(coroutine.State);
            PushFields(stack, framing, raw);
            stack.Push(raw);
            stack.Push(number);
            var status = Lane.Resume(coroutine.State, 6, this, LuaPhase.EventFilter);
            if (status == 0)
            {
                switch (stack.Integer(1))
                {
                    case AsItCame:
                        output.Write(raw);
                        break;
                    case Rewritten:
                        Write(stack, framing, raw, output);
                        break;
                }
                finished = stack.OptionalText(5);
            }
            else
            {
                LogFailure(FailureOf(Phase), status == Yielded
                    ? "attempt to yield in event_filter" : Lane.ErrorOf(stack) + Lane.TraceOf(coroutine.State), "event_filter");
            }
            Lane.ReturnCoroutine(coroutine, status == 0);
            return status == 0;
        }
    }

    /// <summary>Name, id and data.</summary>
    void PushFields(LuaStack stack, UnitFraming framing, ReadOnlySpan<byte> raw)
    {
        if (framing != UnitFraming.Sse)
        {
            stack.PushNil();
            stack.PushNil();
            stack.Push(framing == UnitFraming.Messages ? MessageFramer.MessageOf(raw) : raw.TrimEnd("\r\n"u8));
            return;
        }
        var sse = new SseEvent(raw);
        ReadOnlySpan<byte> name = "message"u8, id = default, data = default;
        var (hasId, lines) = (false, 0);
        foreach (var line in sse)
        {
            if (line.Is("data"u8))
            {
                data = line.Value;
                lines++;
            }
            else if (line.Is("event"u8))
            {
                name = line.Value.IsEmpty ? "message"u8 : line.Value;
            }
            else if (line.Is("id"u8) && !line.Value.Contains((byte)0))
            {
                id = line.Value;
                hasId = true;
            }
        }
        stack.Push(name);
        if (hasId)
        {
            stack.Push(id);
        }
        else
        {
            stack.PushNil();
        }
        if (lines > 1)
        {
            _data ??= new();
            _data.ResetWrittenCount();
            sse.CopyDataTo(_data);
            data = _data.WrittenSpan;
        }
        stack.Push(data);
    }

    /// <summary>The unit that Lua has made: name, id and data behind the outcome.</summary>
    static void Write(LuaStack stack, UnitFraming framing, ReadOnlySpan<byte> raw, IBufferWriter<byte> output)
    {
        var data = stack.Bytes(4);
        if (framing == UnitFraming.Lines)
        {
            output.Write(data);
            output.Write("\n"u8);
            return;
        }
        if (framing == UnitFraming.Messages)
        {
            MessageFramer.WritePrefix(output, raw[0], data.Length);
            output.Write(data);
            return;
        }
        if (!stack.IsNil(3))
        {
            WriteField("id: "u8, OneLine(stack.Bytes(3)), output);
        }
        if (new SseEvent(raw).Retry is { } retry)
        {
            Span<byte> digits = stackalloc byte[20];
            retry.TryFormat(digits, out var length);
            WriteField("retry: "u8, digits[..length], output);
        }
        if (!stack.IsNil(2) && stack.Bytes(2) is { IsEmpty: false } name && !name.SequenceEqual("message"u8))
        {
            WriteField("event: "u8, OneLine(name), output);
        }
        while (true)
        {
            var end = data.IndexOfAny((byte)'\r', (byte)'\n');
            WriteField("data: "u8, end < 0 ? data : data[..end], output);
            if (end < 0)
            {
                break;
            }
            data = data[(data[end] == '\r' && end + 1 < data.Length && data[end + 1] == '\n' ? end + 2 : end + 1)..];
        }
        output.Write("\n"u8);
    }

    /// <summary>More lines would be fields of their own.</summary>
    static ReadOnlySpan<byte> OneLine(ReadOnlySpan<byte> text) =>
        text.IndexOfAny((byte)'\r', (byte)'\n', (byte)0) is >= 0 and var end ? text[..end] : text;

    static void WriteField(ReadOnlySpan<byte> field, ReadOnlySpan<byte> value, IBufferWriter<byte> output)
    {
        output.Write(field);
        output.Write(value);
        output.Write("\n"u8);
    }
}
