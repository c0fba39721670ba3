using System.Security.Cryptography;
using System.Text;

namespace Sluice.Model;

/// <summary>
/// How secrets are written in a store: APISIX's <c>data_encryption</c>, AES-128-CBC whose initial vector is the key itself, as base64. The
/// first key encrypts; all are tried to decrypt, so that a new one can be put in front.
/// </summary>
internal sealed class DataEncryption
{
    /// <summary>Of AES-128.</summary>
    public const int KeyLength = 16;

    readonly byte[][] _keys;

    /// <param name="keyring">Keys of 16 bytes. None: nothing is encrypted.</param>
    /// <param name="fields">Whether the plugins' secrets are; private keys of certificates always are.</param>
    public DataEncryption(IEnumerable<string> keyring, bool fields) =>
        (_keys, Fields) = ([.. keyring.Select(Encoding.UTF8.GetBytes)], fields && keyring.Any());

    public static DataEncryption None { get; } = new([], false);

    /// <summary>Whether the secrets in plugins' configurations are encrypted.</summary>
    public bool Fields { get; }

    public string Encrypt(string text)
    {
        if (_keys.Length == 0)
        {
            return text;
        }
        using var aes = Aes.Create();
        aes.Key = _keys[0];
        return Convert.ToBase64String(aes.EncryptCbc(Encoding.UTF8.GetBytes(text), _keys[0]));
    }

    /// <summary>What none of the keys fits was not encrypted, and stays as it is.</summary>
    public string Decrypt(string text)
    {
        var bytes = new byte[text.Length];
        if (_keys.Length == 0 || text.Length < 24 || !Convert.TryFromBase64String(text, bytes, out var length) || length % 16 != 0)
        {
            return text;
        }
        foreach (var key in _keys)
        {
            if (TryDecrypt(bytes.AsSpan(0, length), key) is { } clear)
            {
                return clear;
            }
        }
        return text;
    }

    static string? TryDecrypt(ReadOnlySpan<byte> bytes, byte[] key)
    {
        using var aes = Aes.Create();
        aes.Key = key;
        var clear = new byte[bytes.Length];
        try
        {
            // padding and UTF-8 together tell a wrong key with near certainty
            return aes.TryDecryptCbc(bytes, key, clear, out var length) ? StrictUtf8.GetString(clear, 0, length) : null;
        }
        catch (Exception e) when (e is CryptographicException or DecoderFallbackException)
        {
            return null;
        }
    }

    static readonly UTF8Encoding StrictUtf8 = new(false, throwOnInvalidBytes: true);
}
