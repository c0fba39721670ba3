using Sluice.Model;

namespace Sluice.Tests.Model;

public class DataEncryptionTests
{
    const string Key = "edd1c9f0985e76a2";

    [Fact]
    public void What_APISIX_encrypted_is_read_and_written_the_same()
    {
        var encryption = new DataEncryption([Key], true);
        // from APISIX's tests: basic-auth with password bar
        Assert.Equal("77+NmbYqNfN+oLm0aX5akg==", encryption.Encrypt("bar"));
        Assert.Equal("bar", encryption.Decrypt("77+NmbYqNfN+oLm0aX5akg=="));
    }

    [Fact]
    public void Older_keys_still_decrypt_and_the_first_encrypts()
    {
        var old = new DataEncryption([Key], true).Encrypt("secret");
        var both = new DataEncryption(["0123456789abcdef", Key], true);
        Assert.Equal("secret", both.Decrypt(old));
        Assert.NotEqual(old, both.Encrypt("secret"));
        Assert.Equal("secret", both.Decrypt(both.Encrypt("secret")));
    }

    [Theory]
    [InlineData("")]
    [InlineData("auth-one")]
    [InlineData("$secret://vault/1/jack/key")]
    [InlineData("AAAAAAAAAAAAAAAAAAAAAA==")]
    public void A_text_that_was_not_encrypted_decrypts_to_itself(string text) =>
        Assert.Equal(text, new DataEncryption([Key], true).Decrypt(text));

    [Fact]
    public void Without_keys_nothing_is_encrypted()
    {
        Assert.Equal("x", DataEncryption.None.Encrypt("x"));
        Assert.False(new DataEncryption([], true).Fields);
    }
}
