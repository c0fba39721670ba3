using System.Buffers;
using System.Text;

namespace Sluice.Relay;

/// <summary>
/// The fields of one event, read from its raw bytes when asked for. Nothing is copied but <see cref="Data"/> of several lines.
/// A field that comes twice counts with its last value, as at a browser.
/// </summary>
public readonly ref struct SseEvent(ReadOnlySpan<byte> raw)
{
    public ReadOnlySpan<byte> Raw { get; } = raw;

    /// <summary>The <c>event</c> field; empty stands for <c>message</c>.</summary>
    public ReadOnlySpan<byte> Name => Last("event"u8, out _);

    /// <summary>The <c>id</c> field; one with a NUL in it counts as absent. See <see cref="HasId"/>: an empty id is not the same as
    /// none.</summary>
    public ReadOnlySpan<byte> Id => Last("id"u8, out _);

    public bool HasId
    {
        get
        {
            Last("id"u8, out var found);
            return found;
        }
    }

    /// <summary>The <c>retry</c> field in milliseconds, if it consists of digits only.</summary>
    public long? Retry
    {
        get
        {
            var value = Last("retry"u8, out var found);
            return found && long.TryParse(value, System.Globalization.NumberStyles.None, null, out var milliseconds) ? milliseconds : null;
        }
    }

    public bool HasData
    {
        get
        {
            Last("data"u8, out var found);
            return found;
        }
    }

    /// <summary>Whether there is a comment and nothing else.</summary>
    public bool IsComment
    {
        get
        {
            var comment = false;
            foreach (var line in this)
            {
                if (!line.IsComment)
                {
                    return false;
                }
                comment = true;
            }
            return comment;
        }
    }

    /// <summary>The <c>data</c> lines joined with LF: a slice of the event when there is one line, a new array when there are
    /// more.</summary>
    public ReadOnlySpan<byte> Data
    {
        get
        {
            var lines = 0;
            ReadOnlySpan<byte> data = default;
            foreach (var line in this)
            {
                if (line.Is("data"u8))
                {
                    data = line.Value;
                    lines++;
                }
            }
            if (lines < 2)
            {
                return data;
            }
            var joined = new ArrayBufferWriter<byte>(Raw.Length);
            CopyDataTo(joined);
            return joined.WrittenSpan;
        }
    }

    public string DataText => Encoding.UTF8.GetString(Data);

    public void CopyDataTo(IBufferWriter<byte> writer)
    {
        var first = true;
        foreach (var line in this)
        {
            if (line.Is("data"u8))
            {
                if (!first)
                {
                    writer.Write("\n"u8);
                }
                first = false;
                writer.Write(line.Value);
            }
        }
    }

    /// <summary>
    /// Writes an event: data of several lines as several fields. An empty name or null id is left out.
    /// </summary>
    /// <exception cref="ArgumentException">A name or id with a line ending, or an id with a NUL, would be read as something
    /// else.</exception>
    public static void Write(IBufferWriter<byte> writer, ReadOnlySpan<byte> name, ReadOnlySpan<byte> data, string? id = null,
        long? retry = null)
    {
        var idBytes = id is null ? [] : Encoding.UTF8.GetBytes(id);
        if (name.ContainsAny((byte)'\r', (byte)'\n') || idBytes.AsSpan().ContainsAny((byte)'\r', (byte)'\n', (byte)0))
        {
            throw new ArgumentException("the name or id of an event must be one line");
        }
        if (id is not null)
        {
            WriteField(writer, "id: "u8, idBytes);
        }
        if (retry is { } milliseconds)
        {
            Span<byte> digits = stackalloc byte[20];
            milliseconds.TryFormat(digits, out var length);
            WriteField(writer, "retry: "u8, digits[..length]);
        }
        if (!name.IsEmpty)
        {
            WriteField(writer, "event: "u8, name);
        }
        while (true)
        {
            var end = data.IndexOfAny((byte)'\r', (byte)'\n');
            WriteField(writer, "data: "u8, end < 0 ? data : data[..end]);
            if (end < 0)
            {
                break;
            }
            data = data[(data[end] == '\r' && end + 1 < data.Length && data[end + 1] == '\n' ? end + 2 : end + 1)..];
        }
        writer.Write("\n"u8);
    }

    static void WriteField(IBufferWriter<byte> writer, ReadOnlySpan<byte> field, ReadOnlySpan<byte> value)
    {
        writer.Write(field);
        writer.Write(value);
        writer.Write("\n"u8);
    }

    /// <summary>Every line that is not blank, comments too, in their order.</summary>
    public Enumerator GetEnumerator() => new(Raw);

    ReadOnlySpan<byte> Last(ReadOnlySpan<byte> name, out bool found)
    {
        ReadOnlySpan<byte> value = default;
        found = false;
        foreach (var line in this)
        {
            if (line.Is(name) && IsValid(name, line.Value))
            {
                value = line.Value;
                found = true;
            }
        }
        return value;
    }

    static bool IsValid(ReadOnlySpan<byte> name, ReadOnlySpan<byte> value) => name.Length switch
    {
        2 => !value.Contains((byte)0),                                                          // id
        5 when name[0] == 'r' => !value.IsEmpty && !value.ContainsAnyExceptInRange((byte)'0', (byte)'9'),  // retry
        _ => true,
    };

    public readonly ref struct Field(ReadOnlySpan<byte> name, ReadOnlySpan<byte> value, bool isComment)
    {
        public ReadOnlySpan<byte> Name { get; } = name;
        public ReadOnlySpan<byte> Value { get; } = value;
        public bool IsComment { get; } = isComment;

        public bool Is(ReadOnlySpan<byte> name) => !IsComment && Name.SequenceEqual(name);
    }

    public ref struct Enumerator(ReadOnlySpan<byte> raw)
    {
        ReadOnlySpan<byte> _rest = raw;
        ReadOnlySpan<byte> _line;

        public readonly Field Current
        {
            get
            {
                var colon = _line.IndexOf((byte)':');
                if (colon < 0)
                {
                    return new Field(_line, default, false);
                }
                var value = _line[(colon + 1)..];
                return new Field(_line[..colon], value is [(byte)' ', ..] ? value[1..] : value, colon == 0);
            }
        }

        public bool MoveNext()
        {
            while (!_rest.IsEmpty)
            {
                var end = _rest.IndexOfAny((byte)'\r', (byte)'\n');
                _line = end < 0 ? _rest : _rest[..end];
                _rest = end < 0 ? default : _rest[(end + 1)..];     // the LF of a CRLF is a blank line more: skipped
                if (!_line.IsEmpty)
                {
                    return true;
                }
            }
            return false;
        }
    }
}
