using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using Sluice.FunctionalTests.Processes;

namespace Sluice.FunctionalTests.Doctor;

/// <summary>A real nginx in front of a gateway.</summary>
sealed class NginxFront : IAsyncDisposable
{
    readonly string _home = Directory.CreateTempSubdirectory("sluice-nginx-").FullName;
    readonly Process _nginx;

    NginxFront(IPEndPoint gateway, string directives)
    {
        File.WriteAllText(Path.Combine(_home, "nginx.conf"),
            $$"""
            daemon off;
            master_process off;
            pid nginx.pid;
            events { }
            http {
              access_log off;
              client_body_temp_path client; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
              server {
                listen 127.0.0.1:{{Port}};
                location / {
                  proxy_pass http://{{gateway}};
                  {{directives}}
                }
              }
            }
            """);
        _nginx = Process.Start(new ProcessStartInfo("nginx",
            ["-c", Path.Combine(_home, "nginx.conf"), "-p", _home, "-e", Path.Combine(_home, "error.log")]))!;
    }

    int Port { get; } = CommandFixture.FreePort();

    public string Url => $"http://127.0.0.1:{Port}";

    public static async Task<NginxFront> StartAsync(IPEndPoint gateway, string directives)
    {
        var front = new NginxFront(gateway, directives);
        await Eventually.TrueAsync(front.Listens,
            () => File.Exists(Path.Combine(front._home, "error.log")) ? File.ReadAllText(Path.Combine(front._home, "error.log"))
            : "nginx does not start", seconds: 30);
        return front;
    }

    bool Listens()
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        try
        {
            socket.Connect(IPAddress.Loopback, Port);
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }

    public async ValueTask DisposeAsync()
    {
        _nginx.Kill();
        await _nginx.WaitForExitAsync();
        _nginx.Dispose();
        Directory.Delete(_home, recursive: true);
    }
}
