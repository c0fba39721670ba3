using System.Net;
using System.Net.Sockets;

namespace Sluice.Scripting.Api;

/// <summary>IP addresses, for <c>apisix.core.ip</c>.</summary>
static class AddressesApi
{
    public static readonly (string Name, LuaHost.HostFunction Function)[] Functions =
    [
        ("ip_valid", AddressIsValid), ("ip_in", AddressIsIn),
    ];

    static bool TryRange(string text, out IPNetwork range)
    {
        if (IPAddress.TryParse(text, out var one))
        {
            range = new IPNetwork(one, one.AddressFamily == AddressFamily.InterNetwork ? 32 : 128);
            return true;
        }
        // 10.1.2.3/8 is 10.0.0.0/8
        range = default;
        var slash = text.IndexOf('/', StringComparison.Ordinal);
        if (slash < 0 || !IPAddress.TryParse(text.AsSpan(0, slash), out var address) || !int.TryParse(text.AsSpan(slash + 1), out var bits)
            || bits < 0 || bits > address.GetAddressBytes().Length * 8)
        {
            return false;
        }
        var bytes = address.GetAddressBytes();
        for (var i = 0; i < bytes.Length; i++)
        {
            bytes[i] &= (byte)(0xff00 >> Math.Clamp(bits - (i * 8), 0, 8));
        }
        range = new IPNetwork(new IPAddress(bytes), bits);
        return true;
    }

    static int AddressIsValid(LuaLane lane, LuaStack stack)
    {
        stack.Push(TryRange(stack.Text(1), out _));
        return 1;
    }

    /// <summary>address, an address or a range.</summary>
    static int AddressIsIn(LuaLane lane, LuaStack stack)
    {
        stack.Push(IPAddress.TryParse(stack.Text(1), out var address) && TryRange(stack.Text(2), out var range) && range.Contains(address));
        return 1;
    }
}
