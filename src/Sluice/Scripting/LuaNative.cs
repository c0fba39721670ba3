using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Sluice.Scripting;

/// <summary>
/// LuaJIT's C API (Debian's <c>libluajit-5.1-2</c>), as far as it is used. Functions that can neither allocate nor call back do without the
/// transition of the garbage collector. None that can raise an error is called outside a protected call.
/// </summary>
static unsafe partial class LuaNative
{
    public const string Library = "libluajit-5.1.so.2";
    public const string Package = "libluajit-5.1-2";

    public const int Registry = -10000;
    public const int Globals = -10002;
    public const int Yielded = 1;
    public const int OutOfMemory = 4;
    public const int MaskCount = 8;

    // luaJIT_setmode, for the whole engine
    public const int CompilerOff = 0;
    public const int CompilerOn = 0x100;

    /// <summary>The beginning of lua_Debug and room for the rest.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct Debug
    {
        public int Event;
        public byte* Name;
        public byte* NameWhat;
        public byte* What;
        public byte* Source;
        public int CurrentLine;
        public int Ups;
        public int LineDefined;
        public int LastLineDefined;
        public ShortSourceText ShortSource;
        public int Frame;
        readonly long _spare;
    }

    [InlineArray(60)]
    public struct ShortSourceText
    {
        byte _first;
    }

    static readonly nint s_library = Open();

    /// <summary>Whether the library is there. Asked before anything else of it.</summary>
    public static bool Available => s_library != 0;

    /// <summary>The system's LuaJIT, or the file that <c>SLUICE_LUAJIT</c> names.</summary>
    static nint Open()
    {
        var name = Environment.GetEnvironmentVariable("SLUICE_LUAJIT") is { Length: > 0 } named ? named : Library;
        if (!NativeLibrary.TryLoad(name, out var library))
        {
            return 0;
        }
        NativeLibrary.SetDllImportResolver(typeof(LuaNative).Assembly, (wanted, _, _) => wanted == Library ? library : 0);
        return library;
    }

    /// <summary>A function of the library as a pointer that Lua can call without any managed code in between.</summary>
    public static nint Export(string name) => NativeLibrary.GetExport(s_library, name);

    public static int UpValue(int index) => Globals - index;

    // -- May allocate, run Lua or take long

    [LibraryImport(Library)]
    public static partial nint lua_newstate(delegate* unmanaged[Cdecl]<void*, void*, nuint, nuint, void*> allocate, void* data);

    [LibraryImport(Library)]
    public static partial void lua_close(nint state);

    [LibraryImport(Library)]
    public static partial void luaL_openlibs(nint state);

    [LibraryImport(Library)]
    public static partial void luaJIT_setmode(nint state, int index, int mode);

    [LibraryImport(Library)]
    public static partial int luaL_loadbuffer(nint state, byte* text, nuint length, byte* name);

    [LibraryImport(Library)]
    public static partial int lua_pcall(nint state, int arguments, int results, int handler);

    [LibraryImport(Library)]
    public static partial int lua_resume(nint state, int arguments);

    [LibraryImport(Library)]
    public static partial nint lua_newthread(nint state);

    [LibraryImport(Library)]
    public static partial void lua_createtable(nint state, int array, int hash);

    [LibraryImport(Library)]
    public static partial void lua_pushlstring(nint state, byte* text, nuint length);

    [LibraryImport(Library)]
    public static partial void lua_pushcclosure(nint state, delegate* unmanaged[Cdecl]<nint, int> function, int upValues);

    [LibraryImport(Library)]
    public static partial void lua_rawset(nint state, int index);

    [LibraryImport(Library)]
    public static partial void lua_rawseti(nint state, int index, int n);

    [LibraryImport(Library)]
    public static partial void lua_setmetatable(nint state, int index);

    [LibraryImport(Library)]
    public static partial int luaL_ref(nint state, int table);

    [LibraryImport(Library)]
    public static partial void luaL_traceback(nint state, nint of, byte* message, int level);

    [LibraryImport(Library)]
    public static partial void luaL_unref(nint state, int table, int reference);

    [LibraryImport(Library)]
    public static partial void lua_gc(nint state, int what, int data);

    [LibraryImport(Library)]
    public static partial void lua_sethook(nint state, nint hook, int mask, int count);

    [LibraryImport(Library)]
    public static partial void lua_getinfo(nint state, byte* what, Debug* debug);

    [LibraryImport(Library)]
    public static partial void lua_checkstack(nint state, int more);

    [LibraryImport(Library)]
    public static partial byte* lua_tolstring(nint state, int index, nuint* length);

    [LibraryImport(Library)]
    public static partial void lua_xmove(nint from, nint to, int count);

    [LibraryImport(Library)]
    public static partial void lua_pushthread(nint state);

    // -- Neither

    [LibraryImport(Library), SuppressGCTransition]
    public static partial int lua_gettop(nint state);

    [LibraryImport(Library), SuppressGCTransition]
    public static partial void lua_settop(nint state, int index);

    [LibraryImport(Library), SuppressGCTransition]
    public static partial void lua_pushvalue(nint state, int index);

    [LibraryImport(Library), SuppressGCTransition]
    public static partial LuaType lua_type(nint state, int index);

    [LibraryImport(Library), SuppressGCTransition]
    public static partial int lua_toboolean(nint state, int index);

    [LibraryImport(Library), SuppressGCTransition]
    public static partial double lua_tonumber(nint state, int index);

    [LibraryImport(Library), SuppressGCTransition]
    public static partial nint lua_touserdata(nint state, int index);

    [LibraryImport(Library), SuppressGCTransition]
    public static partial nint lua_tothread(nint state, int index);

    [LibraryImport(Library), SuppressGCTransition]
    public static partial nuint lua_objlen(nint state, int index);

    [LibraryImport(Library), SuppressGCTransition]
    public static partial void lua_pushnil(nint state);

    [LibraryImport(Library), SuppressGCTransition]
    public static partial void lua_pushnumber(nint state, double number);

    [LibraryImport(Library), SuppressGCTransition]
    public static partial void lua_pushboolean(nint state, int value);

    [LibraryImport(Library), SuppressGCTransition]
    public static partial void lua_rawgeti(nint state, int index, int n);

    [LibraryImport(Library), SuppressGCTransition]
    public static partial void lua_rawget(nint state, int index);

    [LibraryImport(Library), SuppressGCTransition]
    public static partial int lua_getmetatable(nint state, int index);

    /// <summary>Into a slot that the table has from its beginning.</summary>
    [LibraryImport(Library, EntryPoint = "lua_rawseti"), SuppressGCTransition]
    public static partial void SetSlot(nint state, int index, int n);

    [LibraryImport(Library), SuppressGCTransition]
    public static partial int lua_next(nint state, int index);

    [LibraryImport(Library), SuppressGCTransition]
    public static partial int lua_rawequal(nint state, int left, int right);

    [LibraryImport(Library)]
    public static partial void lua_pushlightuserdata(nint state, nint value);

    // strings are read where they are: no conversion, nothing is allocated
    [LibraryImport(Library, EntryPoint = "lua_tolstring"), SuppressGCTransition]
    public static partial byte* StringAt(nint state, int index, nuint* length);

    [LibraryImport("libc"), SuppressGCTransition]
    public static partial void* realloc(void* memory, nuint size);

    [LibraryImport("libc"), SuppressGCTransition]
    public static partial void free(void* memory);
}

/// <summary>What a Lua value is.</summary>
enum LuaType
{
    None = -1,
    Nil = 0,
    Boolean = 1,
    LightUserData = 2,
    Number = 3,
    String = 4,
    Table = 5,
    Function = 6,
    UserData = 7,
    Thread = 8,
}
