using System.Buffers;

namespace Sluice.Net.Epoll;

/// <summary>
/// Blocks of memory for connections: those of the usual size are kept for reuse, with their owners; larger ones come from the shared array
/// pool.
/// </summary>
sealed class BlockPool : MemoryPool<byte>
{
    public const int BlockSize = 4096;
    const int MaxKept = 4096;

    public static readonly BlockPool Instance = new();

    readonly Lock _lock = new();
    readonly Stack<Block> _kept = new();

    public override int MaxBufferSize => int.MaxValue;

    public override IMemoryOwner<byte> Rent(int minBufferSize = -1) => RentBlock(minBufferSize);

    public Block RentBlock(int size)
    {
        if (size > BlockSize)
        {
            return new Block(this, ArrayPool<byte>.Shared.Rent(size));
        }
        lock (_lock)
        {
            if (_kept.TryPop(out var block))
            {
                return block;
            }
        }
        return new Block(this, new byte[BlockSize]);
    }

    void Return(Block block)
    {
        if (block.Array.Length != BlockSize)
        {
            ArrayPool<byte>.Shared.Return(block.Array);
            return;
        }
        lock (_lock)
        {
            if (_kept.Count < MaxKept)
            {
                _kept.Push(block);
            }
        }
    }

    protected override void Dispose(bool disposing)
    {
    }

    /// <summary>A block; also a part of a connection's input or output while it is in use there.</summary>
    internal sealed class Block(BlockPool pool, byte[] array) : ReadOnlySequenceSegment<byte>, IMemoryOwner<byte>
    {
        public byte[] Array => array;

        Memory<byte> IMemoryOwner<byte>.Memory => array;

        /// <summary>Filled from 0 to here.</summary>
        public int End { get; private set; }

        /// <summary>Used up from 0 to here.</summary>
        public int Start { get; set; }

        public int Room => array.Length - End;

        public int Length => End - Start;

        public Block? Following => (Block?)Next;

        public Memory<byte> Free => array.AsMemory(End);

        public ReadOnlySpan<byte> Filled => array.AsSpan(Start, End - Start);

        public void Fill(int count)
        {
            End += count;
            Memory = array.AsMemory(0, End);
        }

        public void Append(Block next)
        {
            next.RunningIndex = RunningIndex + End;
            Next = next;
        }

        public void Dispose()
        {
            Start = End = 0;
            Next = null;
            Memory = default;
            RunningIndex = 0;
            pool.Return(this);
        }
    }
}
