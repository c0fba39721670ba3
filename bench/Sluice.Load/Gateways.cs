using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace Sluice.Load;

/// <summary>Kinds of ports that a gateway opens: one for each thing that is configured, not asked for.</summary>
enum Door
{
    Plain,
    Tls,

    /// <summary>Answers are buffered, whatever they are.</summary>
    Buffered,

    /// <summary>Something looks into every piece of a body.</summary>
    Filtered,

    /// <summary>A Lua function that does nothing runs before each request.</summary>
    LuaAccess,

    /// <summary>A Lua body filter gets every piece and gives it back as it is.</summary>
    LuaFilter,

    /// <summary>A Lua event filter gets every event and lets it pass as it is.</summary>
    LuaEvents,

    /// <summary>Heartbeats and last words may come between events.</summary>
    Watched,

    /// <summary>Every limit of <c>streaming</c> is set.</summary>
    Timed,

    /// <summary>Streams can be come back to.</summary>
    Kept,
}

/// <summary>A gateway in front of the origin, as its users run it, on core 0.</summary>
sealed class RunningGateway(string name, Process? process, IReadOnlyDictionary<Door, int> ports) : IDisposable
{
    public string Name => name;

    /// <summary>0: there is none, clients reach the origin itself.</summary>
    public int Pid => process?.Id ?? 0;

    public int? Port(Door door) => ports.TryGetValue(door, out var port) ? port : null;

    public void Dispose()
    {
        if (process is null)
        {
            return;
        }
        process.Kill(entireProcessTree: true);
        process.WaitForExit();
        process.Dispose();
    }
}

/// <summary>Writes each gateway's configuration into a directory of its own and starts it.</summary>
sealed class Gateways(string root, string workDirectory, int originPort)
{
    /// <summary>Of the gateway that is being started: two of a kind may run at once, one for all scenarios and one for memory
    /// alone.</summary>
    string directory = "";

    int _started;

    public static readonly string[] All = ["none", "nginx", "haproxy", "yarp", "sluice"];

    public RunningGateway Start(string name)
    {
        directory = Directory.CreateDirectory(Path.Combine(workDirectory, $"{++_started}-{name}")).FullName;
        return StartHere(name);
    }

    RunningGateway StartHere(string name) => name switch
    {
        "none" => new(name, null, new Dictionary<Door, int> { [Door.Plain] = originPort }),
        "nginx" => StartNginx(),
        "haproxy" => StartHaproxy(),
        "yarp" => StartYarp(),
        "sluice" => StartSluice(),
        _ => throw new ArgumentException($"there is no gateway {name}; there are {string.Join(", ", All)}"),
    };

    RunningGateway StartNginx()
    {
        var hasLua = File.Exists(Path.Combine(NginxModules, "ngx_http_lua_module.so"));
        var ports = hasLua
            ? FreePorts(Door.Plain, Door.Tls, Door.Buffered, Door.Filtered, Door.LuaAccess, Door.LuaFilter)
            : FreePorts(Door.Plain, Door.Tls, Door.Buffered, Door.Filtered);
        string Server(Door door, string directives) => $$"""
              server {
                listen 127.0.0.1:{{ports[door]}}{{(door == Door.Tls ? " ssl http2" : "")}} backlog=4096;
                location / {
                  proxy_pass http://origin;
                  proxy_http_version 1.1;
                  proxy_set_header Connection "";
                  proxy_read_timeout 1h;
                  {{directives}}
                }
              }
            """;
        var modules = hasLua ? $"load_module {NginxModules}/ndk_http_module.so; load_module {NginxModules}/ngx_http_lua_module.so;" : "";
        var file = Write("nginx.conf", $$"""
            {{modules}}
            daemon off;
            user {{Environment.UserName}};
            worker_processes 1;
            worker_rlimit_nofile 20000;
            pid {{directory}}/nginx.pid;
            error_log {{directory}}/nginx.error.log;
            events { worker_connections 16000; }
            http {
              access_log {{directory}}/nginx.access.log;
              client_body_temp_path {{directory}}/nginx-body;
              proxy_temp_path {{directory}}/nginx-proxy;
              fastcgi_temp_path {{directory}}/nginx-fastcgi;
              uwsgi_temp_path {{directory}}/nginx-uwsgi;
              scgi_temp_path {{directory}}/nginx-scgi;
              keepalive_requests 100000000;
              ssl_certificate {{Certificate}};
              ssl_certificate_key {{Key}};
              upstream origin { server 127.0.0.1:{{originPort}}; keepalive 64; keepalive_requests 100000000; }
            {{Server(Door.Plain, "proxy_buffering off;")}}
            {{Server(Door.Tls, "proxy_buffering off;")}}
            {{Server(Door.Buffered, "proxy_buffering on;")}}
            {{Server(Door.Filtered, "proxy_buffering off; sub_filter 'no such text' 'x'; sub_filter_types text/event-stream;")}}
            {{(hasLua ? Server(Door.LuaAccess, "proxy_buffering off; access_by_lua_block { return }") : "")}}
            {{(hasLua ? Server(Door.LuaFilter, "proxy_buffering off; body_filter_by_lua_block { ngx.arg[1] = ngx.arg[1] }") : "")}}
            }
            """);
        return Run("nginx", ports, "nginx", "-c", file);
    }

    const string NginxModules = "/usr/lib/nginx/modules";

    RunningGateway StartHaproxy()
    {
        var ports = FreePorts(Door.Plain, Door.Tls);
        var pem = Write("haproxy.pem", File.ReadAllText(Certificate) + File.ReadAllText(Key));
        var file = Write("haproxy.cfg", $"""
            global
              nbthread 1
              maxconn 8000
            defaults
              mode http
              option http-no-delay
              timeout connect 5s
              timeout client 1h
              timeout server 1h
            frontend plain
              bind 127.0.0.1:{ports[Door.Plain]} backlog 4096
              default_backend origin
            frontend tls
              bind 127.0.0.1:{ports[Door.Tls]} ssl crt {pem} alpn h2,http/1.1
              default_backend origin
            backend origin
              http-reuse always
              server one 127.0.0.1:{originPort}

            """);
        return Run("haproxy", ports, "haproxy", "-f", file);
    }

    RunningGateway StartYarp()
    {
        var ports = FreePorts(Door.Plain, Door.Tls);
        return Run("yarp", ports, "dotnet", Path.Combine(root, "bench/Yarp/bin/Release/net10.0/Yarp.dll"),
            $"{originPort}", $"{ports[Door.Plain]}", $"{ports[Door.Tls]}", Certificate, Key);
    }

    RunningGateway StartSluice()
    {
        Door[] doors = [Door.Plain, Door.Tls, Door.Buffered, Door.Filtered, Door.LuaAccess, Door.LuaFilter, Door.LuaEvents, Door.Watched,
            Door.Timed, Door.Kept];
        var free = FreePorts(doors.Length + 3);
        var ports = doors.Zip(free).ToDictionary(pair => pair.First, pair => pair.Second);
        var (control, status, metrics) = (free[^3], free[^2], free[^1]);
        Write("sluice/conf/config.yaml", $$"""
            apisix:
              node_listen:
                - {ip: 127.0.0.1, port: {{ports[Door.Plain]}} }
                - {ip: 127.0.0.1, port: {{ports[Door.Filtered]}} }
                - {ip: 127.0.0.1, port: {{ports[Door.LuaAccess]}} }
                - {ip: 127.0.0.1, port: {{ports[Door.LuaFilter]}} }
                - {ip: 127.0.0.1, port: {{ports[Door.LuaEvents]}} }
                - {ip: 127.0.0.1, port: {{ports[Door.Watched]}} }
                - {ip: 127.0.0.1, port: {{ports[Door.Timed]}} }
                - {ip: 127.0.0.1, port: {{ports[Door.Kept]}} }
              ssl: {ssl_cert: {{Certificate}}, ssl_cert_key: {{Key}}, listen: [{ip: 127.0.0.1, port: {{ports[Door.Tls]}} }]}
              control: {ip: 127.0.0.1, port: {{control}} }
              status: {ip: 127.0.0.1, port: {{status}} }
            deployment:
              role: data_plane
              role_data_plane: {config_provider: yaml}
            plugin_attr: {prometheus: {export_addr: {ip: 127.0.0.1, port: {{metrics}} } } }

            """);
        Write("sluice/conf/nginx.conf", $$"""
            http { server { listen 127.0.0.1:{{ports[Door.Buffered]}}; proxy_buffering on; } }

            """);
        var upstream =
            $$"""{type: roundrobin, nodes: {"127.0.0.1:{{originPort}}": 1}, keepalive_pool: {size: 320, idle_timeout: 60, requests: 100000000} }""";
        string Route(string id, Door door, string plugin) =>
            $$"""  - {id: {{id}}, uri: "/*", priority: 1, vars: [[server_port, "==", "{{ports[door]}}"]], timeout: {connect: 6, send: 60, read: 3600}, plugins: { {{plugin}} }, upstream: {{upstream}} }""";
        Write("sluice/conf/apisix.yaml", $$"""
            routes:
              - {id: all, uri: "/*", timeout: {connect: 6, send: 60, read: 3600}, upstream: {{upstream}} }
              - id: filtered
                uri: "/*"
                priority: 1
                vars: [[server_port, "==", "{{ports[Door.Filtered]}}"]]
                timeout: {connect: 6, send: 60, read: 3600}
                plugins: {sse: {max_events: 1000000000} }
                upstream: {{upstream}}
              - id: lua-access
                uri: "/*"
                priority: 1
                vars: [[server_port, "==", "{{ports[Door.LuaAccess]}}"]]
                timeout: {connect: 6, send: 60, read: 3600}
                plugins: {serverless-pre-function: {phase: access, functions: ["return function(conf, ctx) end"]} }
                upstream: {{upstream}}
              - id: lua-filter
                uri: "/*"
                priority: 1
                vars: [[server_port, "==", "{{ports[Door.LuaFilter]}}"]]
                timeout: {connect: 6, send: 60, read: 3600}
                plugins: {serverless-pre-function: {phase: body_filter, functions: ["return function(conf, ctx) ngx.arg[1] = ngx.arg[1] end"]} }
                upstream: {{upstream}}
            {{Route("lua-events", Door.LuaEvents, "serverless-pre-function: {phase: event_filter, functions: [\"return function(conf, ctx, event) end\"]}")}}
            {{Route("watched", Door.Watched, "streaming: {idle_timeout: 3600, heartbeat: {interval: 3600}}")}}
            {{Route("timed", Door.Timed, "streaming: {first_byte_timeout: 60, first_event_timeout: 3600, idle_timeout: 3600, event_idle_timeout: 3600, max_duration: 86400, send_timeout: 60, heartbeat: {interval: 3600}}")}}
            {{Route("kept", Door.Kept, "sse-resume: {ids: upstream, tail: {events: 100}}")}}
            global_rules:
              - {id: "1", plugins: {prometheus: {} } }
            #END

            """);
        return Run("sluice", ports, "dotnet", Path.Combine(root, "out/Sluice.dll"), "run", "-p", Path.Combine(directory, "sluice"));
    }

    static RunningGateway Run(string name, Dictionary<Door, int> ports, params string[] command)
    {
        var start = new ProcessStartInfo("taskset") { RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["PATH"] = Environment.GetEnvironmentVariable("PATH") + ":/usr/sbin:/sbin";
        foreach (var word in (string[])["-c", "0", .. command])
        {
            start.ArgumentList.Add(word);
        }
        var process = Process.Start(start)!;
        var said = new System.Text.StringBuilder();
        process.OutputDataReceived += (_, line) => said.AppendLine(line.Data);
        process.ErrorDataReceived += (_, line) => said.AppendLine(line.Data);
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        var patience = Stopwatch.StartNew();
        while (!ports.Values.All(Answers))
        {
            if (process.HasExited || patience.Elapsed > TimeSpan.FromSeconds(20))
            {
                using var failed = new RunningGateway(name, process, ports);
                throw new InvalidOperationException($"{name} does not start: {said}");
            }
            Thread.Sleep(50);
        }
        return new(name, process, ports);
    }

    static bool Answers(int port)
    {
        try
        {
            using var probe = new TcpClient();
            probe.Connect(IPAddress.Loopback, port);
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }

    static Dictionary<Door, int> FreePorts(params Door[] doors) =>
        doors.Zip(FreePorts(doors.Length)).ToDictionary(pair => pair.First, pair => pair.Second);

    /// <summary>Different ones: all are held until all are found.</summary>
    internal static int[] FreePorts(int count)
    {
        Socket[] sockets = [.. Enumerable.Range(0, count)
            .Select(_ => new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp))];
        try
        {
            Array.ForEach(sockets, socket => socket.Bind(new IPEndPoint(IPAddress.Loopback, 0)));
            return [.. sockets.Select(socket => ((IPEndPoint)socket.LocalEndPoint!).Port)];
        }
        finally
        {
            Array.ForEach(sockets, socket => socket.Dispose());
        }
    }

    string Write(string file, string text)
    {
        var path = Path.Combine(directory, file);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllText(path, text);
        return path;
    }

    string Certificate => field ??= MakeCertificate();

    string Key => Path.Combine(workDirectory, "key.pem");

    string MakeCertificate()
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest("CN=localhost", key, HashAlgorithmName.SHA256);
        using var certificate = request.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(30));
        // of all gateways
        File.WriteAllText(Key, key.ExportPkcs8PrivateKeyPem() + "\n");
        var path = Path.Combine(workDirectory, "certificate.pem");
        File.WriteAllText(path, certificate.ExportCertificatePem() + "\n");
        return path;
    }
}
