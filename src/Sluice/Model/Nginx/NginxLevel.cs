namespace Sluice.Model.Nginx;

/// <summary>The directives of one block while it is read; null = not given, so that the outer level's holds.</summary>
sealed class NginxLevel(NginxLevel? outer, NginxContexts context, string block)
{
    public NginxLevel? Outer => outer;

    public NginxContexts Context => context;

    public string Block { get; set; } = block;

    /// <summary>Where each directive was first given, for "is duplicate".</summary>
    public Dictionary<string, string> Given { get; } = [];

    public bool? ProxyBuffering { get; set; }
    public bool? ProxyRequestBuffering { get; set; }
    public int? ProxyBufferSize { get; set; }
    public (int Number, int Size)? ProxyBuffers { get; set; }
    public int? ProxyBusyBuffersSize { get; set; }
    public long? ProxyMaxTempFileSize { get; set; }
    public string? ProxyTempPath { get; set; }
    public int? ClientBodyBufferSize { get; set; }
    public long? ClientMaxBodySize { get; set; }
    public bool? ChunkedTransferEncoding { get; set; }
    public TimeSpan? ProxyConnectTimeout { get; set; }
    public TimeSpan? ProxySendTimeout { get; set; }
    public TimeSpan? ProxyReadTimeout { get; set; }
    public TimeSpan? SendTimeout { get; set; }
    public TimeSpan? KeepaliveTimeout { get; set; }
    public TimeSpan? ClientHeaderTimeout { get; set; }
    public TimeSpan? ClientBodyTimeout { get; set; }
    public bool? IgnoreAccelBuffering { get; set; }
    public bool? IgnoreInvalidHeaders { get; set; }
    public (int Number, int Size)? HeaderBuffers { get; set; }
    public int? HeaderBuffer { get; set; }
    public int? MaxHeaders { get; set; }
    public List<NginxHeader> SetHeaders { get; } = [];
    public List<NginxHeader> AddHeaders { get; } = [];
    public List<NginxErrorPage> ErrorPages { get; } = [];
    public bool? InterceptErrors { get; set; }

    public bool? IgnoreClientAbort { get; set; }
    public NginxReturn? Return { get; set; }
    public bool IsInternal { get; set; }
    public bool IsNamed { get; init; }
    public string? DefaultType { get; set; }
    public (string Directory, bool IsAlias)? Files { get; set; }

    string LevelName => context switch
    {
        NginxContexts.Location => "location",
        NginxContexts.Server => "server",
        _ => "http",
    };

    IEnumerable<NginxLevel> Chain()
    {
        for (var level = this; level is not null; level = level.Outer)
        {
            yield return level;
        }
    }

    T? Nearest<T>(Func<NginxLevel, T?> value)
        where T : struct
    {
        for (var level = this; level is not null; level = level.Outer)
        {
            if (value(level) is { } found)
            {
                return found;
            }
        }
        return null;
    }

    T? NearestObject<T>(Func<NginxLevel, T?> value)
        where T : class =>
        Chain().Select(value).FirstOrDefault(found => found is not null);

    IReadOnlyList<BufferingRule> Rules(string directive, Func<NginxLevel, bool?> value) =>
        [.. Chain().Where(level => value(level) is not null)
            .Select(level => new BufferingRule(level.LevelName, value(level)!.Value, level.Given[directive], level.Block))];

    // Headers and error pages are inherited only by a level that has none of its own. The http blocks of several texts are one level.
    List<T> NearestList<T>(Func<NginxLevel, List<T>> list)
    {
        var nearest = Chain().FirstOrDefault(level => list(level).Count > 0);
        return nearest is { Context: NginxContexts.Http, Outer: { } rest } ? [.. rest.NearestList(list), .. list(nearest)]
            : nearest is null ? [] : list(nearest);
    }

    public NginxScope Resolve()
    {
        var bufferSize = Nearest(level => level.ProxyBufferSize) ?? 4096;
        var buffers = Nearest(level => level.ProxyBuffers) ?? (8, 4096);
        var maxBody = Nearest(level => level.ClientMaxBodySize);
        var defaults = NginxScope.Default;
        return new()
        {
            Block = Block,
            ResponseBuffering = Rules("proxy_buffering", level => level.ProxyBuffering),
            RequestBuffering = Rules("proxy_request_buffering", level => level.ProxyRequestBuffering),
            ProxyBufferSize = Nearest(level => level.ProxyBufferSize) ?? NginxScope.BestPiece,
            LargestPiece = Nearest(level => level.ProxyBuffers)?.Size ?? Nearest(level => level.ProxyBufferSize) ?? NginxScope.BestPiece,
            ProxyBuffersNumber = buffers.Number,
            ProxyBuffersSize = buffers.Size,
            ProxyBusyBuffersSize = Nearest(level => level.ProxyBusyBuffersSize)
                ?? (int)Math.Min(2L * Math.Max(bufferSize, buffers.Size), int.MaxValue),
            ProxyMaxTempFileSize = Nearest(level => level.ProxyMaxTempFileSize) ?? defaults.ProxyMaxTempFileSize,
            ProxyTempPath = NearestObject(level => level.ProxyTempPath),
            ClientBodyBufferSize = Nearest(level => level.ClientBodyBufferSize) ?? defaults.ClientBodyBufferSize,
            ClientMaxBodySize = maxBody == 0 ? null : maxBody,
            ChunkedTransferEncoding = Nearest(level => level.ChunkedTransferEncoding) ?? true,
            ProxyConnectTimeout = Nearest(level => level.ProxyConnectTimeout),
            ProxySendTimeout = Nearest(level => level.ProxySendTimeout),
            ProxyReadTimeout = Nearest(level => level.ProxyReadTimeout),
            SendTimeout = Nearest(level => level.SendTimeout) ?? defaults.SendTimeout,
            KeepaliveTimeout = Nearest(level => level.KeepaliveTimeout) ?? defaults.KeepaliveTimeout,
            ClientHeaderTimeout = Nearest(level => level.ClientHeaderTimeout) ?? defaults.ClientHeaderTimeout,
            ClientBodyTimeout = Nearest(level => level.ClientBodyTimeout) ?? defaults.ClientBodyTimeout,
            IgnoreAccelBuffering = Nearest(level => level.IgnoreAccelBuffering) ?? false,
            Heads = Heads(),
            SetHeaders = NearestList(level => level.SetHeaders),
            AddHeaders = NearestList(level => level.AddHeaders),
            ErrorPages = NearestList(level => level.ErrorPages),
            InterceptErrors = Nearest(level => level.InterceptErrors) ?? false,
            IgnoreClientAbort = Nearest(level => level.IgnoreClientAbort) ?? false,
            // the server's comes first, but not on the way to a named location
            Return = (context == NginxContexts.Location && outer is { Context: NginxContexts.Server } && !IsNamed ? outer.Return : null)
                ?? Return,
            IsInternal = IsInternal,
            DefaultType = NearestObject(level => level.DefaultType),
            Files = Nearest(level => level.Files),
        };
    }

    NginxHeads Heads()
    {
        var (first, large) = (Nearest(level => level.HeaderBuffer), Nearest(level => level.HeaderBuffers));
        var heads = new NginxHeads
        {
            MaxHeaders = Nearest(level => level.MaxHeaders) ?? NginxHeads.Default.MaxHeaders,
            IgnoreInvalid = Nearest(level => level.IgnoreInvalidHeaders) ?? true,
        };
        if (first is null && large is null)
        {
            return heads;
        }
        var (number, size) = large ?? (4, 8 * 1024);
        var line = Math.Max(size, first ?? 0);
        return heads with { MaxRequestLine = line, MaxHeaderLine = line, MaxTotal = Math.Max(number * size, line) };
    }

    /// <summary>nginx's own checks that the buffer sizes fit each other, as warnings: the gateway works with any.</summary>
    public IEnumerable<Problem> CheckBuffers(NginxScope scope)
    {
        string[] names = ["proxy_busy_buffers_size", "proxy_buffers", "proxy_buffer_size", "proxy_max_temp_file_size"];
        var place = Chain().SelectMany(level => names.Where(level.Given.ContainsKey).Select(name => level.Given[name])).FirstOrDefault();
        if (place is null)
        {
            yield break;
        }
        var largest = Math.Max(Nearest(level => level.ProxyBufferSize) ?? 4096, scope.ProxyBuffersSize);
        if (scope.ProxyBuffersNumber < 2)
        {
            yield return Problem.Warning(place, "there must be at least 2 \"proxy_buffers\"");
        }
        else if (scope.ProxyBusyBuffersSize < largest)
        {
            yield return Problem.Warning(place,
                "\"proxy_busy_buffers_size\" must be equal to or greater than the maximum of the value of \"proxy_buffer_size\" and one "
                    + "of the \"proxy_buffers\"");
        }
        else if (scope.ProxyBusyBuffersSize > (scope.ProxyBuffersNumber - 1L) * scope.ProxyBuffersSize)
        {
            yield return Problem.Warning(place,
                "\"proxy_busy_buffers_size\" must be less than the size of all \"proxy_buffers\" minus one buffer");
        }
        if (scope.ProxyMaxTempFileSize != 0 && scope.ProxyMaxTempFileSize < largest)
        {
            yield return Problem.Warning(place,
                "\"proxy_max_temp_file_size\" must be equal to zero to disable temporary files usage or must be "
                + "equal to or greater than the maximum of the value of \"proxy_buffer_size\" and one of the \"proxy_buffers\"");
        }
    }
}
