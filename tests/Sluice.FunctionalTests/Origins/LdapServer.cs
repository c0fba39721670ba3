using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;

namespace Sluice.FunctionalTests.Origins;

/// <summary>
/// Debian's slapd in a directory of its own, listening on a unix socket only, with a proxy in front of it, with or without TLS. In it are
/// <c>cn=user01</c> (<c>password1</c>) and <c>cn=comma,user</c> (<c>commapass</c>).
/// </summary>
sealed class LdapServer : IAsyncDisposable
{
    public const string Users = "ou=users,dc=example,dc=org";

    readonly string _directory = Directory.CreateTempSubdirectory("sluice-ldap-").FullName;
    readonly TcpListener _proxy = new(IPAddress.Loopback, 0);
    readonly X509Certificate2? _certificate;
    Process? _process;
    int _binds;

    LdapServer(X509Certificate2? certificate) => _certificate = certificate;

    public int Port => ((IPEndPoint)_proxy.LocalEndpoint).Port;

    /// <summary>How many connections there have been.</summary>
    public int Connections => Volatile.Read(ref _binds);

    string SocketPath => Path.Combine(_directory, "s");

    public static async Task<LdapServer> StartAsync(X509Certificate2? certificate = null)
    {
        var server = new LdapServer(certificate);
        await server.RunAsync();
        server._proxy.Start();
        _ = server.AcceptAsync();
        return server;
    }

    async Task RunAsync()
    {
        Directory.CreateDirectory(Path.Combine(_directory, "data"));
        var config = Path.Combine(_directory, "slapd.conf");
        await File.WriteAllTextAsync(config, $"""
            include /etc/ldap/schema/core.schema
            pidfile {_directory}/pid
            modulepath /usr/lib/ldap
            moduleload back_mdb
            database mdb
            maxsize 1048576
            suffix "dc=example,dc=org"
            rootdn "cn=admin,dc=example,dc=org"
            directory {_directory}/data
            access to attrs=userPassword by anonymous auth by * none
            access to * by * read

            """);
        var entries = $"""
            dn: dc=example,dc=org
            objectClass: dcObject
            objectClass: organization
            dc: example
            o: example

            dn: {Users}
            objectClass: organizationalUnit
            ou: users

            dn: cn=user01,{Users}
            objectClass: person
            cn: user01
            sn: user01
            userPassword: password1

            dn: cn=comma\,user,{Users}
            objectClass: person
            cn: comma,user
            sn: user
            userPassword: commapass

            """;
        var (code, output) = await Tool.RunAsync("/usr/sbin/slapadd", entries, ["-f", config]);
        Assert.True(code == 0, output);
        var start = new ProcessStartInfo("/usr/sbin/slapd") { RedirectStandardError = true };
        foreach (var argument in (string[])["-d", "0", "-f", config, "-h", $"ldapi://{Uri.EscapeDataString(SocketPath)}"])
        {
            start.ArgumentList.Add(argument);
        }
        _process = Process.Start(start)!;
        var error = _process.StandardError.ReadToEndAsync();
        var watch = Stopwatch.StartNew();
        while (!await AnswersAsync())
        {
            Assert.False(_process.HasExited || watch.Elapsed.TotalSeconds > 60, _process.HasExited ? await error : "slapd did not start");
            await Task.Delay(20);
        }
    }

    async Task<bool> AnswersAsync()
    {
        try
        {
            using var socket = await ConnectAsync();
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }

    async Task<Socket> ConnectAsync()
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(SocketPath));
            return socket;
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    async Task AcceptAsync()
    {
        try
        {
            while (true)
            {
                _ = CarryAsync(await _proxy.AcceptSocketAsync());
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // stopped
        }
    }

    async Task CarryAsync(Socket client)
    {
        Interlocked.Increment(ref _binds);
        try
        {
            Stream near = new NetworkStream(client, ownsSocket: true);
            if (_certificate is not null)
            {
                var secure = new System.Net.Security.SslStream(near);
                near = secure;
                await secure.AuthenticateAsServerAsync(_certificate);
            }
            await using (near)
            {
                await using var far = new NetworkStream(await ConnectAsync(), ownsSocket: true);
                await Task.WhenAny(near.CopyToAsync(far), far.CopyToAsync(near));
            }
        }
        catch (Exception e) when (e is IOException or SocketException or System.Security.Authentication.AuthenticationException)
        {
            client.Dispose();
        }
    }

    public async Task KillAsync()
    {
        _process!.Kill();
        await _process.WaitForExitAsync();
        File.Delete(SocketPath);
    }

    public async ValueTask DisposeAsync()
    {
        _proxy.Stop();
        if (_process is { HasExited: false })
        {
            await KillAsync();
        }
        _process?.Dispose();
        Directory.Delete(_directory, recursive: true);
    }
}
