using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Microsoft.Data.Sqlite;
using Sluice.Sources;

namespace Sluice.FunctionalTests.Configuration;

/// <summary>
/// What the store has acknowledged is on the disk, not only with the kernel. <c>kill -9</c> cannot show that, for the kernel outlives it:
/// here SQLite's calls to the disk are counted.
/// </summary>
public sealed class StoreSyncTests : IDisposable
{
    readonly TemporaryPrefix _prefix = new();

    static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public void Dispose() => _prefix.Dispose();

    [Fact]
    public async Task Every_write_is_synced_before_it_is_acknowledged()
    {
        using var _ = CountedSyncs.Install();
        await using var store = EmbeddedStore.Open(_prefix.Path);
        for (var i = 0; i < 5; i++)
        {
            var before = CountedSyncs.Of(_prefix.Path);
            await store.Put($"/apisix/routes/{i}", "{}", Cancel);
            Assert.True(CountedSyncs.Of(_prefix.Path) > before, $"write {i} was acknowledged without a sync");
        }
        var last = CountedSyncs.Of(_prefix.Path);
        await store.Delete("/apisix/routes/1", Cancel);
        Assert.True(CountedSyncs.Of(_prefix.Path) > last, "a deletion was acknowledged without a sync");
    }

    /// <summary>SQLite's default file system, with a count of the syncs of each file. Files that are open when it goes are counted
    /// on.</summary>
    static unsafe class CountedSyncs
    {
        const string Library = "e_sqlite3";
        static readonly Lock Gate = new();
        static readonly Dictionary<string, int> Counts = [];
        static readonly Dictionary<nint, (string Path, nint Methods)> Files = [];
        static Vfs* s_inner;

        public static int Of(string directory)
        {
            lock (Gate)
            {
                return Counts.Where(file => file.Key.StartsWith(directory, StringComparison.Ordinal)).Sum(file => file.Value);
            }
        }

        public static IDisposable Install()
        {
            SQLitePCL.Batteries_V2.Init();
            s_inner = sqlite3_vfs_find(null);
            // never freed: files that are open go on using it
            var counting = (Vfs*)NativeMemory.Alloc((nuint)sizeof(Vfs));
            *counting = *s_inner;
            counting->Name = (byte*)Marshal.StringToCoTaskMemUTF8("counting");
            counting->Next = null;
            counting->Open = &Open;
            Assert.Equal(0, sqlite3_vfs_register(counting, 1));
            return new Installed();
        }

        sealed class Installed : IDisposable
        {
            public void Dispose() => Assert.Equal(0, sqlite3_vfs_register(s_inner, 1));
        }

        [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
        static int Open(Vfs* vfs, byte* name, nint* file, int flags, int* outFlags)
        {
            var result = s_inner->Open(s_inner, name, file, flags, outFlags);
            if (result == 0 && name is not null && *file != 0)
            {
                lock (Gate)
                {
                    var methods = (nint*)NativeMemory.Alloc((nuint)(MethodsCount * sizeof(nint)));
                    new ReadOnlySpan<nint>((nint*)*file, MethodsCount).CopyTo(new Span<nint>(methods, MethodsCount));
                    methods[SyncIndex] = (nint)(delegate* unmanaged[Cdecl]<nint*, int, int>)&Sync;
                    Files[(nint)file] = (Marshal.PtrToStringUTF8((nint)name)!, *file);
                    *file = (nint)methods;
                }
            }
            return result;
        }

        [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
        static int Sync(nint* file, int flags)
        {
            nint inner;
            lock (Gate)
            {
                (var path, inner) = Files[(nint)file];
                Counts[path] = Counts.GetValueOrDefault(path) + 1;
            }
            return ((delegate* unmanaged[Cdecl]<nint*, int, int>)((nint*)inner)[SyncIndex])(file, flags);
        }

        /// <summary>Of sqlite3_io_methods, version 3: the version and 18 functions; xSync comes after xClose, xRead, xWrite and
        /// xTruncate.</summary>
        const int MethodsCount = 19, SyncIndex = 5;

        /// <summary>sqlite3_vfs.</summary>
        [StructLayout(LayoutKind.Sequential)]
        struct Vfs
        {
            public int Version, FileSize, LongestPath;
            public Vfs* Next;
            public byte* Name;
            public nint Data;
            public delegate* unmanaged[Cdecl]<Vfs*, byte*, nint*, int, int*, int> Open;
            readonly nint _delete, _access, _fullPath, _dlOpen, _dlError, _dlSym, _dlClose, _randomness, _sleep, _time, _lastError, _time64,
                _setCall, _getCall, _nextCall;
        }

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        static extern Vfs* sqlite3_vfs_find(byte* name);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        static extern int sqlite3_vfs_register(Vfs* vfs, int makeDefault);
    }
}
