using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;

namespace Sluice.Net.Epoll;

/// <summary>The system calls of the event loops, for Linux on 64 bits. Every one returns at once: all descriptors are
/// non-blocking.</summary>
static unsafe partial class Posix
{
    public const uint In = 0x1, Out = 0x4, Err = 0x8, Hup = 0x10, PeerClosed = 0x2000, EdgeTriggered = 1u << 31;

    public const int Again = 11, Interrupted = 4, InProgress = 115, ConnectionReset = 104, BadDescriptor = 9;
    public const int TooManyFilesOfSystem = 23, TooManyFiles = 24, NoMemory = 12, NoBuffers = 105;
    public const int Invalid = 22, ConnectionAborted = 103, Protocol = 71;

    const int AddressFamilyInet = 2, AddressFamilyInet6 = 10, AddressFamilyUnix = 1;
    const int StreamNonBlockingCloseOnExec = 1 | 0x800 | 0x80000;
    const int NonBlockingCloseOnExec = 0x800 | 0x80000;
    const int NoSignal = 0x4000, More = 0x8000, Peek = 2;
    const int SocketLevel = 1, ReuseAddress = 2, ReusePort = 15, Linger = 13, Error = 4;
    const int Tcp = 6, NoDelay = 1, NotSentLowWater = 25;
    const int Ipv6 = 41, Ipv6Only = 26;
    const int EpollAdd = 1, EpollDelete = 2;

    [StructLayout(LayoutKind.Sequential, Pack = 4)]
    public struct Event
    {
        public uint Events;
        public ulong Data;
    }

    /// <summary>epoll's event is packed on x86-64 only.</summary>
    [StructLayout(LayoutKind.Sequential)]
    struct PaddedEvent
    {
        public uint Events;
        public ulong Data;
    }

    static readonly bool Packed = RuntimeInformation.ProcessArchitecture == Architecture.X64;

    /// <summary>Whether the event loops can run here.</summary>
    public static bool IsSupported { get; } = OperatingSystem.IsLinux() && Environment.Is64BitProcess && BitConverter.IsLittleEndian;

    public static int LastError => Marshal.GetLastSystemError();

    public static SocketException Failure(int error) => new(error switch
    {
        ConnectionReset => (int)SocketError.ConnectionReset,
        111 => (int)SocketError.ConnectionRefused,
        110 => (int)SocketError.TimedOut,
        113 => (int)SocketError.HostUnreachable,
        101 => (int)SocketError.NetworkUnreachable,
        98 => (int)SocketError.AddressAlreadyInUse,
        99 => (int)SocketError.AddressNotAvailable,
        13 => (int)SocketError.AccessDenied,
        32 => (int)SocketError.Shutdown,
        TooManyFiles or TooManyFilesOfSystem => (int)SocketError.TooManyOpenSockets,
        _ => (int)SocketError.SocketError,
    }, $"{Marshal.GetPInvokeErrorMessage(error)}");

    // -- epoll

    public static int CreateEpoll() => Check(epoll_create1(0x80000));

    public static int CreateWakeup() => Check(eventfd(0, NonBlockingCloseOnExec));

    public static void Signal(int wakeup)
    {
        ulong one = 1;
        _ = write(wakeup, &one, sizeof(ulong));
    }

    public static void TakeSignal(int wakeup)
    {
        ulong count;
        _ = read(wakeup, &count, sizeof(ulong));
    }

    public static void Add(int epoll, int descriptor, uint events, ulong data)
    {
        if (Packed)
        {
            var one = new Event { Events = events, Data = data };
            Check(epoll_ctl(epoll, EpollAdd, descriptor, &one));
            return;
        }
        var padded = new PaddedEvent { Events = events, Data = data };
        Check(epoll_ctl(epoll, EpollAdd, descriptor, &padded));
    }

    public static void Remove(int epoll, int descriptor)
    {
        var none = default(PaddedEvent);
        _ = epoll_ctl(epoll, EpollDelete, descriptor, &none);
    }

    /// <summary>How many events came; 0 after the time or an interruption.</summary>
    public static int Wait(int epoll, Event[] events, int milliseconds)
    {
        int count;
        if (Packed)
        {
            fixed (Event* first = events)
            {
                count = epoll_wait(epoll, first, events.Length, milliseconds);
            }
        }
        else
        {
            var padded = stackalloc PaddedEvent[events.Length];
            count = epoll_wait(epoll, padded, events.Length, milliseconds);
            for (var i = 0; i < count; i++)
            {
                events[i] = new() { Events = padded[i].Events, Data = padded[i].Data };
            }
        }
        if (count >= 0)
        {
            return count;
        }
        return LastError == Interrupted ? 0 : throw Failure(LastError);
    }

    // -- sockets

    /// <summary>A non-blocking socket for an address.</summary>
    public static int Open(EndPoint address)
    {
        var family = address.AddressFamily switch
        {
            AddressFamily.InterNetwork => AddressFamilyInet,
            AddressFamily.InterNetworkV6 => AddressFamilyInet6,
            AddressFamily.Unix => AddressFamilyUnix,
            _ => throw new NotSupportedException($"{address.AddressFamily} addresses"),
        };
        return Check(socket(family, StreamNonBlockingCloseOnExec, 0));
    }

    /// <param name="dualMode">An IPv6 socket takes IPv4 clients too.</param>
    /// <param name="shared">Several sockets listen on the address and the kernel spreads connections over them.</param>
    public static void Bind(int descriptor, IPEndPoint address, bool shared, bool dualMode)
    {
        SetOption(descriptor, SocketLevel, ReuseAddress, 1);
        if (shared)
        {
            SetOption(descriptor, SocketLevel, ReusePort, 1);
        }
        if (address.AddressFamily == AddressFamily.InterNetworkV6)
        {
            SetOption(descriptor, Ipv6, Ipv6Only, dualMode ? 0 : 1);
        }
        var native = address.Serialize();
        fixed (byte* bytes = native.Buffer.Span)
        {
            Check(bind(descriptor, bytes, native.Size));
        }
    }

    public static void Listen(int descriptor, int backlog) => Check(listen(descriptor, backlog));

    /// <summary>A new connection, or minus the error.</summary>
    public static int Accept(int descriptor)
    {
        var accepted = accept4(descriptor, null, null, NonBlockingCloseOnExec);
        return accepted >= 0 ? accepted : -LastError;
    }

    /// <summary>0 or the error; <see cref="InProgress"/>: the socket becomes writable when it is decided.</summary>
    public static int Connect(int descriptor, EndPoint address)
    {
        var native = address.Serialize();
        fixed (byte* bytes = native.Buffer.Span)
        {
            return connect(descriptor, bytes, native.Size) == 0 ? 0 : LastError;
        }
    }

    /// <summary>The error that the socket met meanwhile; 0: none.</summary>
    public static int PendingError(int descriptor)
    {
        int error, size = sizeof(int);
        return getsockopt(descriptor, SocketLevel, Error, &error, &size) == 0 ? error : LastError;
    }

    /// <summary>Bytes, 0 at the end, or minus the error.</summary>
    public static int Receive(int descriptor, Span<byte> into)
    {
        fixed (byte* bytes = into)
        {
            var count = recv(descriptor, bytes, into.Length, 0);
            return count >= 0 ? (int)count : -LastError;
        }
    }

    /// <summary>There is nothing to receive, and the connection is up.</summary>
    public static bool IsQuiet(int descriptor)
    {
        byte one;
        return recv(descriptor, &one, 1, Peek) < 0 && LastError == Again;
    }

    /// <summary>How many bytes the kernel took, or minus the error.</summary>
    public static int Send(int descriptor, ReadOnlySpan<byte> from, bool more)
    {
        fixed (byte* bytes = from)
        {
            var count = send(descriptor, bytes, from.Length, more ? NoSignal | More : NoSignal);
            return count >= 0 ? (int)count : -LastError;
        }
    }

    public static void ShutdownSend(int descriptor) => _ = shutdown(descriptor, 1);

    public static void Close(int descriptor) => _ = close(descriptor);

    /// <summary>Closing sends RST.</summary>
    public static void DropOnClose(int descriptor)
    {
        var linger = stackalloc int[] { 1, 0 };
        _ = setsockopt(descriptor, SocketLevel, Linger, linger, 2 * sizeof(int));
    }

    public static void SetNoDelay(int descriptor) => SetOption(descriptor, Tcp, NoDelay, 1);

    public static void SetOption(int descriptor, int level, int option, int value) =>
        _ = setsockopt(descriptor, level, option, &value, sizeof(int));

    /// <param name="bytes">0: as the system says.</param>
    public static void LimitUnsent(int descriptor, int bytes) => SetOption(descriptor, Tcp, NotSentLowWater, bytes);

    /// <param name="known">Given back when it is the same: a listener's connections have few local ends.</param>
    public static IPEndPoint? LocalEndPoint(int descriptor, IPEndPoint? known = null)
    {
        var bytes = stackalloc byte[128];
        var size = 128;
        var local = getsockname(descriptor, bytes, &size) == 0 ? ToEndPoint(new(bytes, size)) : null;
        return known?.Equals(local) == true ? known : local;
    }

    public static IPEndPoint? RemoteEndPoint(int descriptor)
    {
        var bytes = stackalloc byte[128];
        var size = 128;
        return getpeername(descriptor, bytes, &size) == 0 ? ToEndPoint(new(bytes, size)) : null;
    }

    static IPEndPoint? ToEndPoint(ReadOnlySpan<byte> native)
    {
        if (native.Length < 2)
        {
            return null;
        }
        switch (BinaryPrimitives.ReadUInt16LittleEndian(native))
        {
            case AddressFamilyInet:
                return new(new IPAddress(native[4..8]), BinaryPrimitives.ReadUInt16BigEndian(native[2..]));
            case AddressFamilyInet6:
                var address = new IPAddress(native[8..24], BinaryPrimitives.ReadUInt32LittleEndian(native[24..]));
                return new(address.IsIPv4MappedToIPv6 ? address.MapToIPv4() : address, BinaryPrimitives.ReadUInt16BigEndian(native[2..]));
            default:
                return null;
        }
    }

    static int Check(int result) => result >= 0 ? result : throw Failure(LastError);

    [LibraryImport("libc")]
    private static partial int epoll_create1(int flags);

    [LibraryImport("libc")]
    private static partial int epoll_ctl(int epoll, int operation, int descriptor, void* @event);

    [LibraryImport("libc")]
    private static partial int epoll_wait(int epoll, void* events, int count, int milliseconds);

    [LibraryImport("libc")]
    private static partial int eventfd(uint initial, int flags);

    [LibraryImport("libc")]
    private static partial nint read(int descriptor, void* bytes, nint count);

    [LibraryImport("libc")]
    private static partial nint write(int descriptor, void* bytes, nint count);

    [LibraryImport("libc")]
    private static partial int socket(int family, int type, int protocol);

    [LibraryImport("libc")]
    private static partial int bind(int descriptor, byte* address, int size);

    [LibraryImport("libc")]
    private static partial int listen(int descriptor, int backlog);

    [LibraryImport("libc")]
    private static partial int accept4(int descriptor, byte* address, int* size, int flags);

    [LibraryImport("libc")]
    private static partial int connect(int descriptor, byte* address, int size);

    [LibraryImport("libc")]
    private static partial nint recv(int descriptor, byte* bytes, nint count, int flags);

    [LibraryImport("libc")]
    private static partial nint send(int descriptor, byte* bytes, nint count, int flags);

    [LibraryImport("libc")]
    private static partial int shutdown(int descriptor, int how);

    [LibraryImport("libc")]
    private static partial int close(int descriptor);

    [LibraryImport("libc")]
    private static partial int setsockopt(int descriptor, int level, int option, void* value, int size);

    [LibraryImport("libc")]
    private static partial int getsockopt(int descriptor, int level, int option, void* value, int* size);

    [LibraryImport("libc")]
    private static partial int getsockname(int descriptor, byte* address, int* size);

    [LibraryImport("libc")]
    private static partial int getpeername(int descriptor, byte* address, int* size);
}
