using System.IO.Pipelines;
using System.Net;
using System.Security.Claims;
using System.Security.Cryptography.X509Certificates;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Routing;
using Sluice.Net.Epoll;

namespace Sluice.Net.Http1;

/// <summary>
/// The framework's picture of the request that a connection is at. It asks the connection itself, where <see cref="DefaultHttpContext"/>
/// searches its features and remembers them, in a quarter of the memory; what a gateway hardly asks for it leaves to one of those.
/// </summary>
sealed class Http1Context : HttpContext
{
    readonly Http1Connection _connection;
    DefaultHttpContext? _framework;

    public Http1Context(Http1Connection connection)
    {
        _connection = connection;
        Request = new Incoming(this, connection);
        Response = new Outgoing(this, connection);
        Connection = new Ends(connection);
    }

    /// <summary>The connection below, when it is one of an event loop.</summary>
    public EpollConnection? LoopConnection => _connection.Connection as EpollConnection;

    public string RawTarget => _connection.Head.Target;

    /// <summary>A header that was left out because of its name.</summary>
    public string? InvalidHeader => _connection.Head.InvalidName;

    /// <summary>Bytes of the request so far, head and body as they came over the connection.</summary>
    public long ReceivedBytes => _connection.ReceivedBytes;

    public bool CanHaveBody => _connection.HasFeatures ? Features.Get<IHttpRequestBodyDetectionFeature>()!.CanHaveBody
        : _connection.CanHaveBody;

    /// <summary>Has everything, from the same features.</summary>
    DefaultHttpContext Framework => _framework ??= new(_connection);

    public override IFeatureCollection Features => _connection;

    public override HttpRequest Request { get; }

    public override HttpResponse Response { get; }

    public override ConnectionInfo Connection { get; }

    public override CancellationToken RequestAborted { get => _connection.RequestAborted; set => _connection.RequestAborted = value; }

    public override void Abort() => _connection.Abort();

    public override WebSocketManager WebSockets => Framework.WebSockets;

    public override ClaimsPrincipal User { get => Framework.User; set => Framework.User = value; }

    public override IDictionary<object, object?> Items { get => Framework.Items; set => Framework.Items = value; }

    public override IServiceProvider RequestServices { get => Framework.RequestServices; set => Framework.RequestServices = value; }

    public override string TraceIdentifier { get => Framework.TraceIdentifier; set => Framework.TraceIdentifier = value; }

    public override ISession Session { get => Framework.Session; set => Framework.Session = value; }

    sealed class Incoming(Http1Context context, Http1Connection connection) : HttpRequest
    {
        IHttpRequestFeature Feature => connection;

        HttpRequest Framework => context.Framework.Request;

        public override HttpContext HttpContext => context;

        public override string Method { get => connection.Head.Method; set => Feature.Method = value; }

        public override string Scheme { get => Feature.Scheme; set => Feature.Scheme = value; }

        public override bool IsHttps { get => Feature.Scheme == "https"; set => Feature.Scheme = value ? "https" : "http"; }

        public override string Protocol { get => connection.Head.Protocol; set => Feature.Protocol = value; }

        public override IHeaderDictionary Headers => connection.Head.Headers;

        public override long? ContentLength { get => connection.Head.Headers.ContentLength; set =>
            connection.Head.Headers.ContentLength = value; }

        public override string? ContentType { get => Headers.ContentType; set => Headers.ContentType = value; }

        public override HostString Host { get => new(Headers.Host.ToString()); set => Headers.Host = value.Value; }

        public override PathString Path { get => new(Feature.Path); set => Feature.Path = value.Value ?? ""; }

        public override PathString PathBase { get => new(Feature.PathBase); set => Feature.PathBase = value.Value ?? ""; }

        public override QueryString QueryString { get => new(Feature.QueryString); set => Feature.QueryString = value.Value ?? ""; }

        /// <summary>A script may have put another body in place.</summary>
        public override PipeReader BodyReader => ((IFeatureCollection)connection).Get<IRequestBodyPipeFeature>()!.Reader;

        public override Stream Body { get => Framework.Body; set => Framework.Body = value; }

        public override IQueryCollection Query { get => Framework.Query; set => Framework.Query = value; }

        public override IRequestCookieCollection Cookies { get => Framework.Cookies; set => Framework.Cookies = value; }

        public override bool HasFormContentType => Framework.HasFormContentType;

        public override IFormCollection Form { get => Framework.Form; set => Framework.Form = value; }

        public override Task<IFormCollection> ReadFormAsync(CancellationToken cancellationToken = default) =>
            Framework.ReadFormAsync(cancellationToken);

        public override RouteValueDictionary RouteValues { get => Framework.RouteValues; set => Framework.RouteValues = value; }
    }

    sealed class Outgoing(Http1Context context, Http1Connection connection) : HttpResponse
    {
        HttpResponse Framework => context.Framework.Response;

        public override HttpContext HttpContext => context;

        public override int StatusCode { get => connection.StatusCode; set => connection.StatusCode = value; }

        public override IHeaderDictionary Headers => connection.Answer;

        public override long? ContentLength { get => connection.Answer.ContentLength; set => connection.Answer.ContentLength = value; }

        public override string? ContentType { get => Headers.ContentType; set => Headers.ContentType = value; }

        public override bool HasStarted => ((IHttpResponseFeature)connection).HasStarted;

        public override PipeWriter BodyWriter => ((IHttpResponseBodyFeature)connection).Writer;

        public override Stream Body { get => Framework.Body; set => Framework.Body = value; }

        public override IResponseCookies Cookies => Framework.Cookies;

        public override void OnStarting(Func<object, Task> callback, object state) => Framework.OnStarting(callback, state);

        public override void OnCompleted(Func<object, Task> callback, object state) => Framework.OnCompleted(callback, state);

        public override void Redirect(string location, bool permanent) => Framework.Redirect(location, permanent);

        public override Task StartAsync(CancellationToken cancellationToken = default) => Framework.StartAsync(cancellationToken);

        public override Task CompleteAsync() => ((IHttpResponseBodyFeature)connection).CompleteAsync();
    }

    sealed class Ends(Http1Connection connection) : ConnectionInfo
    {
        IHttpConnectionFeature Feature => connection;

        public override string Id { get => Feature.ConnectionId; set => Feature.ConnectionId = value; }

        public override IPAddress? RemoteIpAddress { get => Feature.RemoteIpAddress; set => Feature.RemoteIpAddress = value; }

        public override int RemotePort { get => Feature.RemotePort; set => Feature.RemotePort = value; }

        public override IPAddress? LocalIpAddress { get => Feature.LocalIpAddress; set => Feature.LocalIpAddress = value; }

        public override int LocalPort { get => Feature.LocalPort; set => Feature.LocalPort = value; }

        public override X509Certificate2? ClientCertificate
        {
            get => ((IFeatureCollection)connection).Get<ITlsConnectionFeature>()?.ClientCertificate;
            set => throw new NotSupportedException("it is what the client sent");
        }

        public override Task<X509Certificate2?> GetClientCertificateAsync(CancellationToken cancellationToken = default) =>
            Task.FromResult(ClientCertificate);
    }
}
