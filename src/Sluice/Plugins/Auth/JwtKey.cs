using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.Json.Nodes;
using Org.BouncyCastle.Crypto;
using Org.BouncyCastle.Crypto.Digests;
using Org.BouncyCastle.Crypto.Engines;
using Org.BouncyCastle.Crypto.Parameters;
using Org.BouncyCastle.Crypto.Signers;
using Org.BouncyCastle.Security;
using Org.BouncyCastle.X509;

namespace Sluice.Plugins.Auth;

/// <summary>What verifies the signatures of JSON Web Tokens by one algorithm with one key (RFC 7518, RFC 8037).</summary>
sealed class JwtKey
{
    readonly Func<byte[], byte[], bool> _verify;

    JwtKey(Func<byte[], byte[], bool> verify) => _verify = verify;

    /// <summary>Of a shared secret.</summary>
    public static JwtKey OfSecret(string algorithm, byte[] secret) => new(algorithm switch
    {
        "HS256" => (text, signature) => CryptographicOperations.FixedTimeEquals(HMACSHA256.HashData(secret, text), signature),
        "HS384" => (text, signature) => CryptographicOperations.FixedTimeEquals(HMACSHA384.HashData(secret, text), signature),
        "HS512" => (text, signature) => CryptographicOperations.FixedTimeEquals(HMACSHA512.HashData(secret, text), signature),
        _ => static (_, _) => false,
    });

    /// <summary>Of a public key in PEM.</summary>
    /// <exception cref="CryptographicException">It is no key for this algorithm.</exception>
    public static JwtKey OfPem(string algorithm, string pem)
    {
        try
        {
            return algorithm switch
            {
                "EdDSA" => OfEdwards(pem),
                ['E', 'S', ..] => OfCurve(algorithm, pem),
                _ => OfRsa(algorithm, pem),
            };
        }
        catch (Exception e)
            when (e is ArgumentException or FormatException or IOException or InvalidOperationException or GeneralSecurityException)
        {
            throw new CryptographicException(e.Message, e);
        }
    }

    /// <summary>Of a public key in JSON (RFC 7517), or of the first certificate that it names.</summary>
    /// <exception cref="CryptographicException">It is no key for this algorithm.</exception>
    public static JwtKey OfJwk(string algorithm, JsonObject key)
    {
        try
        {
            return OfPem(algorithm, PemOf(key));
        }
        catch (Exception e) when (e is ArgumentException or FormatException or InvalidOperationException)
        {
            throw new CryptographicException(e.Message, e);
        }
    }

    static string PemOf(JsonObject key)
    {
        switch (Text("kty"))
        {
            case "RSA" when key.ContainsKey("n"):
                using (var rsa = RSA.Create(new RSAParameters { Modulus = Bytes("n"), Exponent = Bytes("e") }))
                {
                    return rsa.ExportSubjectPublicKeyInfoPem();
                }
            case "EC" when key.ContainsKey("x"):
                var curve = Text("crv") switch
                {
                    "P-256" => ECCurve.NamedCurves.nistP256,
                    "P-384" => ECCurve.NamedCurves.nistP384,
                    "P-521" => ECCurve.NamedCurves.nistP521,
                    _ => throw new CryptographicException("unknown curve"),
                };
                using (var ecdsa = ECDsa.Create(new ECParameters { Curve = curve, Q = new ECPoint { X = Bytes("x"), Y = Bytes("y") } }))
                {
                    return ecdsa.ExportSubjectPublicKeyInfoPem();
                }
            case "OKP":
                AsymmetricKeyParameter edwards = Text("crv") == "Ed448" ? new Ed448PublicKeyParameters(Bytes("x"))
                    : new Ed25519PublicKeyParameters(Bytes("x"));
                return PemEncoding.WriteString("PUBLIC KEY",
                    SubjectPublicKeyInfoFactory.CreateSubjectPublicKeyInfo(edwards).GetDerEncoded());
            case "RSA" or "EC" when key["x5c"] is JsonArray { Count: > 0 } certificates:
                using (var certificate = X509CertificateLoader.LoadCertificate(
                    Convert.FromBase64String(certificates[0]!.GetValue<string>())))
                {
                    return PemEncoding.WriteString("PUBLIC KEY", certificate.PublicKey.ExportSubjectPublicKeyInfo());
                }
            default:
                throw new CryptographicException("unknown kind of key");
        }

        string? Text(string name) => key[name]?.GetValue<string>();

        byte[] Bytes(string name) => NginxBase64.DecodeUrl(Text(name) ?? "") is { Length: > 0 } bytes ? bytes
            : throw new CryptographicException($"the key has no {name}");
    }

    /// <summary>Never throws: a signature that cannot be is a wrong one.</summary>
    public bool Verify(string text, byte[] signature)
    {
        try
        {
            return _verify(Encoding.ASCII.GetBytes(text), signature);
        }
        catch (Exception e) when (e is CryptographicException or ArgumentException or CryptoException)
        {
            return false;
        }
    }

    static HashAlgorithmName Hash(string algorithm) => new($"SHA{algorithm[2..]}");

    static JwtKey OfRsa(string algorithm, string pem)
    {
        var rsa = RSA.Create();
        rsa.ImportFromPem(pem);
        var hash = Hash(algorithm);
        if (algorithm[0] == 'R')
        {
            return new((text, signature) =>
            {
                // a key is not for several threads at once
                lock (rsa)
                {
                    return rsa.VerifyData(text, signature, hash, RSASignaturePadding.Pkcs1);
                }
            });
        }
        var numbers = rsa.ExportParameters(false);
        var key = new RsaKeyParameters(false, new(1, numbers.Modulus), new(1, numbers.Exponent));
        return new((text, signature) =>
        {
            lock (rsa)
            {
                if (rsa.VerifyData(text, signature, hash, RSASignaturePadding.Pss))
                {
                    return true;
                }
            }
            // RFC 7518 wants a salt as long as the hash; OpenSSL's own default, with which APISIX signs, is the longest, which .NET does
            // not know
            IDigest digest = algorithm switch
            {
                "PS256" => new Sha256Digest(),
                "PS384" => new Sha384Digest(),
                _ => new Sha512Digest(),
            };
            var longest = new PssSigner(new RsaEngine(), digest, ((key.Modulus.BitLength + 6) / 8) - digest.GetDigestSize() - 2);
            longest.Init(false, key);
            longest.BlockUpdate(text, 0, text.Length);
            return longest.VerifySignature(signature);
        });
    }

    static JwtKey OfCurve(string algorithm, string pem)
    {
        var curve = ECDsa.Create();
        curve.ImportFromPem(pem);
        var hash = Hash(algorithm);
        var length = algorithm switch
        {
            "ES256" => 64,
            "ES384" => 96,
            _ => 132,
        };
        return new((text, signature) =>
        {
            if (signature.Length != length)
            {
                return false;
            }
            lock (curve)
            {
                return curve.VerifyData(text, signature, hash, DSASignatureFormat.IeeeP1363FixedFieldConcatenation);
            }
        });
    }

    static JwtKey OfEdwards(string pem)
    {
        var fields = PemEncoding.Find(pem);
        var key = PublicKeyFactory.CreateKey(Convert.FromBase64String(pem[fields.Base64Data]));
        Func<ISigner> open = key switch
        {
            Ed25519PublicKeyParameters => static () => new Ed25519Signer(),
            Ed448PublicKeyParameters => static () => new Ed448Signer([]),
            _ => throw new CryptographicException("no Ed25519 or Ed448 key"),
        };
        return new((text, signature) =>
        {
            var signer = open();
            signer.Init(false, key);
            signer.BlockUpdate(text, 0, text.Length);
            return signer.VerifySignature(signature);
        });
    }
}
