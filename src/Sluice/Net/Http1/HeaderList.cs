using System.Collections;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Text;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Primitives;
using Sluice.Net.Http;

namespace Sluice.Net.Http1;

/// <summary>
/// Headers in the order in which they came: there are few, so that a search from the front beats any table. Used again for the next request
/// of a connection, whose names and values are mostly those of the one before and need no new strings.
/// </summary>
/// <param name="checks">Refuse values that would become a second line: for what plugins and scripts put in.</param>
internal sealed class HeaderList(bool checks = false) : IHeaderDictionary
{
    const int UsualCount = 6;

    struct Field
    {
        public string Name;
        public StringValues Values;
    }

    Field[] _fields = new Field[UsualCount];
    Field[]? _before;
    int _count, _countBefore;
    long? _length;

    /// <summary>How many there are, Content-Length included.</summary>
    public int Count => _count + (_length is null ? 0 : 1);

    public bool IsReadOnly => false;

    /// <summary>Kept as the number it is.</summary>
    public long? ContentLength { get => _length; set => _length = value; }

    public StringValues this[string key]
    {
        get => TryGetValue(key, out var values) ? values : default;
        set
        {
            if (value.Count == 0)
            {
                Remove(key);
                return;
            }
            if (checks)
            {
                Check(key, value);
            }
            if (IsContentLength(key))
            {
                _length = long.TryParse(value.ToString(), NumberStyles.None, CultureInfo.InvariantCulture, out var length)
                    ? length
                    : throw new InvalidOperationException($"not a Content-Length: \"{value}\"");
                return;
            }
            var index = IndexOf(key);
            if (index >= 0)
            {
                _fields[index].Values = value;
                return;
            }
            Append(key, value);
        }
    }

    public bool TryGetValue(string key, [MaybeNullWhen(false)] out StringValues value)
    {
        if (IsContentLength(key))
        {
            value = _length?.ToString(CultureInfo.InvariantCulture);
            return _length is not null;
        }
        var index = IndexOf(key);
        value = index < 0 ? default : _fields[index].Values;
        return index >= 0;
    }

    public bool ContainsKey(string key) => IsContentLength(key) ? _length is not null : IndexOf(key) >= 0;

    public void Add(string key, StringValues value)
    {
        if (ContainsKey(key))
        {
            throw new ArgumentException($"the header {key} is there already", nameof(key));
        }
        this[key] = value;
    }

    public bool Remove(string key)
    {
        if (IsContentLength(key))
        {
            var had = _length is not null;
            _length = null;
            return had;
        }
        var index = IndexOf(key);
        if (index < 0)
        {
            return false;
        }
        _count--;
        Array.Copy(_fields, index + 1, _fields, index, _count - index);
        _fields[_count] = default;
        return true;
    }

    public void Clear()
    {
        _fields.AsSpan(0, _count).Clear();
        _count = 0;
        _length = null;
    }

    /// <summary>The name and the values at this place; <see cref="ContentLength"/> has none.</summary>
    internal (string Name, StringValues Values) At(int index) => (_fields[index].Name, _fields[index].Values);

    /// <summary>How many places <see cref="At"/> knows.</summary>
    internal int Places => _count;

    // -- Filled from a request's lines

    /// <summary>Empty, for the connection's next request.</summary>
    internal void Next()
    {
        if (_count == 0 && _before is null)
        {
            return;
        }
        var before = _before ?? new Field[_fields.Length];
        before.AsSpan(0, _countBefore).Clear();
        (_before, _fields) = (_fields, before);
        (_countBefore, _count) = (_count, 0);
        _length = null;
    }

    /// <summary>One received line: checked, the value trimmed. Bytes read as Latin-1.</summary>
    internal void Receive(ReadOnlySpan<byte> name, ReadOnlySpan<byte> value)
    {
        var known = _count < _countBefore && Ascii.Equals(name, _before![_count].Name) ? _before[_count].Name : RequestNames.Text(name);
        Receive(known, value);
    }

    /// <summary>The same when the name is a string already.</summary>
    internal void Receive(string key, ReadOnlySpan<byte> value)
    {
        if (_count < _countBefore && _before![_count] is { Values.Count: 1 } same && key == same.Name
            && Ascii.Equals(value, (string?)same.Values))
        {
            Append(same.Name, same.Values);
            return;
        }
        var text = Encoding.Latin1.GetString(value);
        var index = IndexOf(key);
        if (index >= 0)
        {
            _fields[index].Values = StringValues.Concat(_fields[index].Values, text);
            return;
        }
        Append(key, text);
    }

    void Append(string key, StringValues value)
    {
        if (_count == _fields.Length)
        {
            Array.Resize(ref _fields, _count * 2);
        }
        _fields[_count++] = new() { Name = key, Values = value };
    }

    // -- Looking up

    int IndexOf(string key)
    {
        for (var i = 0; i < _count; i++)
        {
            var name = _fields[i].Name;
            if (ReferenceEquals(name, key) || (name.Length == key.Length && name.Equals(key, StringComparison.OrdinalIgnoreCase)))
            {
                return i;
            }
        }
        return -1;
    }

    static bool IsContentLength(string key) => key.Length == 14 && key.Equals("Content-Length", StringComparison.OrdinalIgnoreCase);

    static void Check(string key, StringValues values)
    {
        if (!HeaderName.IsToken(key))
        {
            throw new InvalidOperationException($"not a header name: \"{key}\"");
        }
        foreach (var value in values)
        {
            if (value.AsSpan().ContainsAny(RequestNames.Controls))
            {
                throw new InvalidOperationException($"a control character in the value of {key}");
            }
        }
    }

    // -- As a dictionary

    public ICollection<string> Keys => [.. this.Select(static one => one.Key)];

    public ICollection<StringValues> Values => [.. this.Select(static one => one.Value)];

    public IEnumerator<KeyValuePair<string, StringValues>> GetEnumerator()
    {
        if (_length is { } length)
        {
            yield return new("Content-Length", length.ToString(CultureInfo.InvariantCulture));
        }
        for (var i = 0; i < _count; i++)
        {
            yield return new(_fields[i].Name, _fields[i].Values);
        }
    }

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    public void Add(KeyValuePair<string, StringValues> item) => Add(item.Key, item.Value);

    public bool Contains(KeyValuePair<string, StringValues> item) => TryGetValue(item.Key, out var values) && values.Equals(item.Value);

    public void CopyTo(KeyValuePair<string, StringValues>[] array, int arrayIndex)
    {
        foreach (var field in this)
        {
            array[arrayIndex++] = field;
        }
    }

    public bool Remove(KeyValuePair<string, StringValues> item) => Contains(item) && Remove(item.Key);
}
