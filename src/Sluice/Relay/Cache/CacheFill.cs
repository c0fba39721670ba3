namespace Sluice.Relay.Cache;

/// <summary>A response that is being copied while it passes. Nothing of it can be found before <see cref="Commit"/>.</summary>
sealed class CacheFill(CacheZone zone, CachedHead head, long? told, long most)
{
    /// <summary>Bodies are kept in blocks of this size; the last one is as long as what is left.</summary>
    public const int Block = 32 * 1024;

    readonly List<byte[]> _blocks = [];
    int _used = Block;
    bool _over;

    public CachedHead Head => head;

    public long Length { get; private set; }

    /// <summary>Somebody has purged the key meanwhile. Under the zone's lock.</summary>
    public bool IsPurged { get; set; }

    public void Write(ReadOnlySpan<byte> piece)
    {
        if (_over || piece.IsEmpty)
        {
            return;
        }
        if (Length + piece.Length > (told ?? most) || Length + piece.Length > most || !zone.TryHold(piece.Length))
        {
            Abandon();
            return;
        }
        Length += piece.Length;
        while (!piece.IsEmpty)
        {
            if (_used == Block)
            {
                _blocks.Add(new byte[Block]);
                _used = 0;
            }
            var part = piece[..Math.Min(piece.Length, Block - _used)];
            part.CopyTo(_blocks[^1].AsSpan(_used));
            _used += part.Length;
            piece = piece[part.Length..];
        }
    }

    /// <summary>All of the body has come: the response is there from now on.</summary>
    public void Commit()
    {
        if (_over)
        {
            return;
        }
        if (told is { } length && length != Length)
        {
            Abandon();
            return;
        }
        _over = true;
        if (_used < Block && _blocks.Count > 0)
        {
            _blocks[^1] = _blocks[^1][.._used];
        }
        zone.Store(this, [.. _blocks]);
    }

    /// <summary>Nothing is kept of it.</summary>
    public void Abandon()
    {
        if (!_over)
        {
            _over = true;
            _blocks.Clear();
            zone.LetGo(this);
        }
    }
}
