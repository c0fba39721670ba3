using System.Buffers;
using Sluice.Relay;

namespace Sluice.Pipeline;

/// <summary>The body filters that take part in one answer, run one after the other on each piece. Null when nobody looks into the
/// body.</summary>
internal sealed class BodyFilters : IPieceFilter
{
    readonly IPieceFilter[] _filters;
    readonly ArrayBufferWriter<byte>[] _between;

    BodyFilters(IPieceFilter[] filters)
    {
        _filters = filters;
        _between = new ArrayBufferWriter<byte>[filters.Length - 1];
        for (var i = 0; i < _between.Length; i++)
        {
            _between[i] = new ArrayBufferWriter<byte>();
        }
    }

    /// <summary>Asks the plugins, global rules first, whether they want to see this answer's body.</summary>
    /// <param name="waiting">Those up to the last that may take its time; null when nobody may.</param>
    internal static BodyFilters? Open(Exchange exchange, out WaitingFilters? waiting)
    {
        waiting = null;
        var global = exchange.Snapshot.GlobalRules.BodyFilters;
        var route = exchange.Chain.BodyFilters;
        var (globalCompressors, compressors) = (exchange.Snapshot.GlobalRules.Steps(Phase.Compression),
            exchange.Chain.Steps(Phase.Compression));
        if (global.Length + route.Length + globalCompressors.Length + compressors.Length == 0)
        {
            return null;
        }
        List<IPieceFilter> filters = [];
        List<(BodyFilters?, IAsyncEventStep, string)>? waits = null;
        foreach (var use in global)
        {
            Add(use);
        }
        foreach (var use in route)
        {
            Add(use);
        }
        if (filters.FindLast(static filter => filter is EventPieces) is EventPieces last)
        {
            // what the last one lets through is what the client gets
            last.Counts = exchange.Events = new(exchange);
        }
        if (waits is not null)
        {
            waiting = new(waits) { Counts = exchange.Events is null ? exchange.Events = new(exchange) : null };
        }
        foreach (var (_, use) in globalCompressors)
        {
            Add(use);
        }
        foreach (var (_, use) in compressors)
        {
            Add(use);
        }
        return filters.Count == 0 ? null : new([.. filters]);

        void Add(PluginUse use)
        {
            if (!use.Applies(exchange))
            {
                return;
            }
            var before = filters.Count;
            if (use.In(Phase.BodyFilter, exchange) is { } pieces && pieces.OpenBody(exchange) is { } filter)
            {
                filters.Add(filter);
            }
            if (use.In(Phase.Events, exchange) is { } events && events.OpenEvents(exchange) is { } perEvent)
            {
                filters.Add(new EventPieces(perEvent, use.Descriptor.Name));
            }
            if (use.In(Phase.WaitingEvents, exchange) is { } unhurried && unhurried.OpenEvents(exchange) is { } step)
            {
                (waits ??= []).Add((filters.Count == 0 ? null : new([.. filters]), step, use.Descriptor.Name));
                filters.Clear();
                before = 0;
            }
            if (use.In(Phase.WholeBody, exchange) is { } whole && whole.WantsWholeBody(exchange))
            {
                filters.Add(new WholeBody(exchange, whole, use.Descriptor.Name));
            }
            if (use.PreFunction is not null && filters.Count > before)
            {
                filters.Insert(before, new PreFunction(exchange, use));
            }
        }
    }

    /// <summary>Those that want to see the request's body, global rules first; null when nobody does.</summary>
    public static BodyFilters? OfRequest(Exchange exchange)
    {
        var (global, route) = (exchange.Snapshot.GlobalRules.Steps(Phase.RequestBodyFilter), exchange.Chain.Steps(Phase.RequestBodyFilter));
        if (global.Length + route.Length == 0)
        {
            return null;
        }
        List<IPieceFilter> filters = [];
        foreach (var step in (IEnumerable<Step<IRequestBodyFilter>>)[.. global, .. route])
        {
            if (step.Use.Applies(exchange) && step.Use.In(Phase.RequestBodyFilter, exchange)?.OpenRequestBody(exchange) is { } filter)
            {
                filters.Add(filter);
            }
        }
        return filters.Count == 0 ? null : new([.. filters]);
    }

    /// <summary>The same, and one more before them.</summary>
    public static BodyFilters Behind(IPieceFilter first, BodyFilters filters) => new([first, .. filters._filters]);

    /// <summary>The same, and one more behind them.</summary>
    public static BodyFilters With(BodyFilters? filters, IPieceFilter last) => new([.. filters?._filters ?? [], last]);

    /// <summary>What goes to the client is counted behind them.</summary>
    public void CountNothing()
    {
        foreach (var filter in _filters)
        {
            (filter as EventPieces)?.Counts = null;
        }
    }

    public bool Holds => Array.Exists(_filters, static filter => filter.Holds);

    public bool Ended => Array.Exists(_filters, static filter => filter.Ended);

    public bool CutsEvents => Array.Exists(_filters, static filter => filter.CutsEvents);

    /// <summary>Runs a piece through all filters into the output.</summary>
    public void Filter(ReadOnlyMemory<byte> piece, bool last, IBufferWriter<byte> output)
    {
        for (var i = 0; i < _filters.Length; i++)
        {
            var isLastFilter = i == _filters.Length - 1;
            if (piece.IsEmpty && !last)
            {
                return;
            }
            _filters[i].Filter(piece, last, isLastFilter ? output : Clear(_between[i]));
            if (!isLastFilter)
            {
                piece = _between[i].WrittenMemory;
            }
        }
    }

    static ArrayBufferWriter<byte> Clear(ArrayBufferWriter<byte> writer)
    {
        writer.ResetWrittenCount();
        return writer;
    }

    /// <summary>Runs a plugin's <c>_meta.pre_function</c> before the plugin has a piece.</summary>
    sealed class PreFunction(Exchange exchange, PluginUse use) : IPieceFilter
    {
        public bool Ended => false;

        public void Filter(ReadOnlyMemory<byte> piece, bool last, IBufferWriter<byte> output)
        {
            use.Before(exchange, Phase.BodyFilter);
            output.Write(piece.Span);
        }
    }

    /// <summary>Frames the pieces for a plugin that works on events.</summary>
    sealed class EventPieces(IEventStep step, string plugin) : IPieceFilter, IBufferWriter<byte>
    {
        readonly IEventFramer _framer = step.CreateFramer();
        IBufferWriter<byte> _output = null!;
        Memory<byte> _given;
        long _written;

        public EventCounts? Counts { get; set; }

        public bool Ended => step.Ended;

        public bool CutsEvents => true;

        public void Filter(ReadOnlyMemory<byte> piece, bool last, IBufferWriter<byte> output)
        {
            if (!piece.IsEmpty && !step.Ended)
            {
                _framer.Push(piece);
                Drain(output);
            }
            if (last)
            {
                if (!step.Ended)
                {
                    _framer.End();
                    Drain(output);
                }
                step.End(output);
                _framer.Dispose();
            }
        }

        void Drain(IBufferWriter<byte> output)
        {
            _output = output;
            var (events, bytes) = (0, 0);
            while (!step.Ended && _framer.TryRead(out var frame))
            {
                if (frame.Kind == FrameKind.TooLarge)
                {
                    throw new BodyFilterException($"plugin {plugin} needs whole events, and one is over the limit");
                }
                if (Counts is null || frame.Kind != FrameKind.Event)
                {
                    step.Filter(frame, output);
                    continue;
                }
                _written = 0;
                step.Filter(frame, this);
                if (_written > 0)
                {
                    (events, bytes) = (events + 1, (int)_written);
                }
            }
            if (events > 0)
            {
                Counts!.Add(events, bytes);
            }
            _given = default;
        }

        // What an event came to

        public void Advance(int count)
        {
            Counts!.Show(_given.Span[..count], isFirst: _written == 0);
            _written += count;
            _output.Advance(count);
        }

        public Memory<byte> GetMemory(int sizeHint = 0) => _given = _output.GetMemory(sizeHint);

        public Span<byte> GetSpan(int sizeHint = 0) => GetMemory(sizeHint).Span;
    }

    /// <summary>Gathers the pieces for a plugin that can only work on all of them.</summary>
    sealed class WholeBody(Exchange exchange, IWholeBodyFilter filter, string plugin) : IPieceFilter
    {
        readonly ArrayBufferWriter<byte> _body = new();

        public void Filter(ReadOnlyMemory<byte> piece, bool last, IBufferWriter<byte> output)
        {
            if (_body.WrittenCount + piece.Length > filter.MaxBodyBytes)
            {
                throw new BodyFilterException(
                    $"plugin {plugin} needs the whole body, which is over its limit of {filter.MaxBodyBytes} bytes");
            }
            _body.Write(piece.Span);
            if (last)
            {
                output.Write(filter.FilterBody(exchange, _body.WrittenMemory).Span);
            }
        }
    }
}

/// <summary>A body filter cannot go on: the answer is ended as incomplete.</summary>
/// <param name="kind">As <c>$sluice_failure</c> says it.</param>
public sealed class BodyFilterException(string message, string kind = "body_filter_failed") : Exception(message)
{
    public string Kind => kind;
}
