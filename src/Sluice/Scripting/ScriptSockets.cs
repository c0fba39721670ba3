namespace Sluice.Scripting;

/// <summary>The sockets of one request, by their numbers; its body and its connection among them when a script has taken these.</summary>
sealed class ScriptSockets(LuaContext context)
{
    const int MaxSockets = 1024;

    readonly List<LuaSocket> _sockets = [];
    bool _bodyTaken;
    bool _bodyRead;

    /// <summary>A script has taken the client's connection: there is no response of the gateway's any more.</summary>
    public bool HasConnection { get; private set; }

    public LuaSocket At(int number) =>
        number >= 0 && number < _sockets.Count ? _sockets[number] : throw new LuaException("bad request: a socket of another request");

    public int Open()
    {
        if (_sockets.Count >= MaxSockets)
        {
            throw new LuaException("too many sockets in one request");
        }
        _sockets.Add(new LuaSocket(context.Engine));
        return _sockets.Count - 1;
    }

    public async ValueTask ReadBodyAsync()
    {
        if (context.Body is null && !_bodyTaken)
        {
            _bodyRead = true;
            context.Body = await context.Exchange!.ReadBodyAsync();
        }
    }

    /// <summary>Opens the request's body as a socket; or says why not.</summary>
    public (int Socket, string? Error) OpenBody()
    {
        if (context.Body is not null || _bodyTaken)
        {
            return (0, "request body already exists");
        }
        if (context.Exchange!.OpenBody() is not { } body)
        {
            return (0, "no body");
        }
        _bodyTaken = true;
        var socket = Open();
        context.Exchange.ReplaceBody(At(socket).Read(body));
        return (socket, null);
    }

    /// <summary>Opens the client's connection as a socket; or says why not.</summary>
    public (int Socket, string? Error) OpenConnection()
    {
        if ((HasConnection ? "duplicate call" : context.PendingOutput) is { } error)
        {
            return (0, error);
        }
        var (connection, refused) = context.Exchange!.TakeConnection(_bodyRead || _bodyTaken);
        if (connection is null)
        {
            return (0, refused);
        }
        HasConnection = _bodyTaken = true;
        context.ConnectionTaken();
        var socket = Open();
        At(socket).Take(connection, context.Exchange.Sent);
        return (socket, null);
    }

    public void Close()
    {
        foreach (var socket in _sockets)
        {
            socket.Close();
        }
    }
}
