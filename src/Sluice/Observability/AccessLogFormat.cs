using System.Buffers;
using System.Text;
using Sluice.Net.Http;

namespace Sluice.Observability;

/// <summary>nginx's <c>log_format … escape=</c>.</summary>
internal enum AccessLogEscape
{
    /// <summary><c>"</c>, <c>\</c> and bytes below 32 or above 126 become <c>\xXX</c>; a variable without a value is <c>-</c>.</summary>
    Default,

    /// <summary>What JSON strings need; a variable without a value is empty.</summary>
    Json,

    /// <summary>As it is; a variable without a value is empty.</summary>
    None,
}

/// <summary>An access log's line in nginx's <c>log_format</c> language: text with <c>$name</c> and <c>${name}</c>, compiled once.</summary>
internal sealed class AccessLogFormat
{
    /// <summary>APISIX's <c>nginx_config.http.access_log_format</c>.</summary>
    public const string Default =
        "$remote_addr - $remote_user [$time_local] $http_host \"$request\" $status $body_bytes_sent $request_time \"$http_referer\" "
        + "\"$http_user_agent\" $upstream_addr $upstream_status $upstream_response_time \"$upstream_scheme://$upstream_host$upstream_uri\"";

    /// <summary>APISIX's <c>nginx_config.stream.access_log_format</c>.</summary>
    public const string StreamDefault = "$remote_addr [$time_local] $protocol $status $bytes_sent $bytes_received $session_time";

    static readonly SearchValues<char> PlainDefault =
        SearchValues.Create([.. Enumerable.Range(0, 127).Select(c => (char)c).Where(c => c is >= ' ' and <= '~' and not ('"' or '\\'))]);
    static readonly SearchValues<char> NeedsJson = SearchValues.Create([.. Enumerable.Range(0, 32).Select(c => (char)c), '"', '\\']);

    readonly record struct Part(byte[] Text, string? Variable, Func<IVariables, string?>? Read = null)
    {
        /// <summary>The value's characters are bytes.</summary>
        public bool IsWire { get; } = Variable is not null && ByteText.IsWire(Variable);

        public int GetBytes(string value, Span<byte> destination) =>
            IsWire && !value.AsSpan().ContainsAnyExceptInRange('\0', '\xff') ? Encoding.Latin1.GetBytes(value, destination)
            : ByteText.GetBytes(value, destination);
    }

    readonly Part[] _parts;
    readonly AccessLogEscape _escape;

    AccessLogFormat(Part[] parts, AccessLogEscape escape)
    {
        _parts = parts;
        _escape = escape;
    }

    /// <summary>The variables that a line asks for, without the dollar sign.</summary>
    public IEnumerable<string> Variables => _parts.Select(part => part.Variable).OfType<string>();

    /// <exception cref="FormatException">A <c>$</c> without a name; the message tells the column.</exception>
    public static AccessLogFormat Compile(string format, AccessLogEscape escape = AccessLogEscape.Default)
    {
        var parts = new List<Part>();
        var trimmed = format.AsSpan().TrimEnd();
        var rest = trimmed;
        while (!rest.IsEmpty)
        {
            var dollar = rest.IndexOf('$');
            var text = dollar < 0 ? rest : rest[..dollar];
            rest = rest[text.Length..];
            if (!text.IsEmpty)
            {
                parts.Add(new Part(Encoding.UTF8.GetBytes(text.ToString()), null));
                continue;
            }
            var braces = rest.Length > 1 && rest[1] == '{';
            var name = rest[(braces ? 2 : 1)..];
            var length = 0;
            while (length < name.Length && (char.IsAsciiLetterOrDigit(name[length]) || name[length] == '_'))
            {
                length++;
            }
            if (length == 0 || (braces && (length == name.Length || name[length] != '}')))
            {
                throw new FormatException($"access log format: invalid variable name at column {trimmed.Length - rest.Length + 1}");
            }
            parts.Add(new Part([], name[..length].ToString()));
            rest = name[(braces ? length + 1 : length)..];
        }
        return new AccessLogFormat([.. parts], escape);
    }

    /// <summary>The same format with its variables looked up by name once, not once a line.</summary>
    /// <param name="find">How a variable is read; null: by its name.</param>
    public AccessLogFormat Bind(Func<string, Func<IVariables, string?>?> find) =>
        new([.. _parts.Select(part => part.Variable is { } name ? part with { Read = find(name) } : part)], _escape);

    /// <summary>One line with its LF.</summary>
    public void Render(IVariables variables, IBufferWriter<byte> line)
    {
        var piece = line.GetSpan(Piece);
        var at = 0;
        foreach (var part in _parts)
        {
            var value = part.Variable is null ? null : part.Read is { } read ? read(variables) : variables.Get(part.Variable);
            var text = part.Variable is null ? part.Text : value is null && _escape == AccessLogEscape.Default ? "-"u8 : default;
            var plain = value is not null && IsPlain(value);
            var needs = text.Length + (plain ? ByteText.MaxBytes(value!.Length) : 0);
            if (piece.Length - at < needs || (value is not null && !plain))
            {
                line.Advance(at);
                if (value is not null && !plain)
                {
                    Escape(part, value, line);
                }
                piece = line.GetSpan(Math.Max(needs, Piece));
                at = 0;
            }
            if (plain)
            {
                at += part.GetBytes(value!, piece[at..]);
                continue;
            }
            text.CopyTo(piece[at..]);
            at += text.Length;
        }
        line.Advance(at);
        line.Write("\n"u8);
    }

    const int Piece = 512;

    bool IsPlain(string value) => _escape switch
    {
        AccessLogEscape.Default => !value.AsSpan().ContainsAnyExcept(PlainDefault),
        AccessLogEscape.Json => !value.AsSpan().ContainsAny(NeedsJson),
        _ => true,
    };

    void Escape(in Part part, string value, IBufferWriter<byte> line)
    {
        var rented = ArrayPool<byte>.Shared.Rent(ByteText.MaxBytes(value.Length));
        var bytes = rented.AsSpan(0, part.GetBytes(value, rented));
        if (_escape == AccessLogEscape.Json)
        {
            EscapeJson(bytes, line);
        }
        else
        {
            EscapeDefault(bytes, line);
        }
        ArrayPool<byte>.Shared.Return(rented);
    }

    static void EscapeDefault(ReadOnlySpan<byte> bytes, IBufferWriter<byte> line)
    {
        var target = line.GetSpan(bytes.Length * 4);
        var at = 0;
        foreach (var c in bytes)
        {
            if (c is >= (byte)' ' and <= (byte)'~' and not ((byte)'"' or (byte)'\\'))
            {
                target[at++] = c;
                continue;
            }
            target[at++] = (byte)'\\';
            target[at++] = (byte)'x';
            target[at++] = Hex(c >> 4);
            target[at++] = Hex(c & 15);
        }
        line.Advance(at);
    }

    static void EscapeJson(ReadOnlySpan<byte> bytes, IBufferWriter<byte> line)
    {
        var target = line.GetSpan(bytes.Length * 6);
        var at = 0;
        foreach (var c in bytes)
        {
            var letter = c switch
            {
                (byte)'"' => '"',
                (byte)'\\' => '\\',
                (byte)'\n' => 'n',
                (byte)'\r' => 'r',
                (byte)'\t' => 't',
                (byte)'\b' => 'b',
                (byte)'\f' => 'f',
                < 32 => 'u',
                _ => '\0',
            };
            if (letter == '\0')
            {
                target[at++] = c;
                continue;
            }
            target[at++] = (byte)'\\';
            target[at++] = (byte)letter;
            if (letter == 'u')
            {
                target[at++] = (byte)'0';
                target[at++] = (byte)'0';
                target[at++] = Hex(c >> 4);
                target[at++] = Hex(c & 15);
            }
        }
        line.Advance(at);
    }

    static byte Hex(int digit) => (byte)"0123456789ABCDEF"[digit];
}
