using System.Security.Cryptography;

namespace Sluice.Scripting.Api;

/// <summary>Digests and random bytes.</summary>
static class CryptoApi
{
    public static readonly (string Name, LuaHost.HostFunction Function)[] Functions =
    [
        ("digest", Digest), ("hmac", Hmac), ("crc32", Crc32), ("random", RandomBytes),
    ];

    /// <summary>algorithm, text.</summary>
    static int Digest(LuaLane lane, LuaStack stack)
    {
        var text = stack.Bytes(2);
        stack.Push(stack.Text(1) switch
        {
#pragma warning disable CA5350, CA5351 // scripts ask for these by name
            "md5" => MD5.HashData(text),
            "sha1" => SHA1.HashData(text),
#pragma warning restore CA5350, CA5351
            "sha256" => SHA256.HashData(text),
            "sha384" => SHA384.HashData(text),
            "sha512" => SHA512.HashData(text),
            var other => throw new LuaException($"no such digest: {other}"),
        });
        return 1;
    }

    /// <summary>algorithm, key, text.</summary>
    static int Hmac(LuaLane lane, LuaStack stack)
    {
        var key = stack.Bytes(2);
        var text = stack.Bytes(3);
        stack.Push(stack.Text(1) switch
        {
#pragma warning disable CA5350, CA5351 // scripts ask for these by name
            "md5" => HMACMD5.HashData(key, text),
            "sha1" => HMACSHA1.HashData(key, text),
#pragma warning restore CA5350, CA5351
            "sha256" => HMACSHA256.HashData(key, text),
            "sha512" => HMACSHA512.HashData(key, text),
            var other => throw new LuaException($"no such digest: {other}"),
        });
        return 1;
    }

    static int Crc32(LuaLane lane, LuaStack stack)
    {
        var crc = uint.MaxValue;
        foreach (var b in stack.Bytes(1))
        {
            crc ^= b;
            for (var i = 0; i < 8; i++)
            {
                crc = (crc >> 1) ^ ((crc & 1) * 0xEDB88320);
            }
        }
        stack.Push(~crc);
        return 1;
    }

    static int RandomBytes(LuaLane lane, LuaStack stack)
    {
        stack.Push(RandomNumberGenerator.GetBytes(Math.Clamp(stack.Integer(1), 0, 65536)));
        return 1;
    }
}
