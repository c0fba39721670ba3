using System.Buffers;
using Sluice.Relay;
using Sluice.Scripting;

namespace Sluice.Pipeline;

/// <summary>The body filters that take part in one answer, run one after the other on each piece. Null when nobody looks into the body.</summary>
public sealed class BodyFilters : IPieceFilter
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
    public static BodyFilters? Open(Exchange exchange)
    {
        var global = exchange.Snapshot.GlobalRules.BodyFilters;
        var route = exchange.Chain.BodyFilters;
        if (global.Length + route.Length == 0)
        {
            return null;
        }
        List<IPieceFilter> filters = [];
        foreach (var use in global)
        {
            Add(use);
        }
        foreach (var use in route)
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
            if (use.Plugin is IBodyFilter pieces && pieces.OpenBody(exchange) is { } filter)
            {
                filters.Add(filter);
            }
            if (use.Plugin is IEventFilter events && events.OpenEvents(exchange) is { } perEvent)
            {
                filters.Add(new EventPieces(exchange, perEvent, use.Descriptor.Name));
            }
            if (use.Plugin is IWholeBodyFilter whole && whole.WantsWholeBody(exchange))
            {
                filters.Add(new WholeBody(exchange, whole, use.Descriptor.Name));
            }
            if (use.PreFunction is not null && filters.Count > before)
            {
                filters.Insert(before, new PreFunction(exchange, use));
            }
        }
    }

    public bool Ended => Array.Exists(_filters, static filter => filter.Ended);

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
            use.Before(exchange, LuaPhase.BodyFilter, "body_filter");
            output.Write(piece.Span);
        }
    }

    /// <summary>Frames the pieces for a plugin that works on events.</summary>
    sealed class EventPieces(Exchange exchange, IEventStep step, string plugin) : IPieceFilter
    {
        readonly IEventFramer _framer = step.CreateFramer();
        long _events;

        public bool Ended => step.Ended;

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
            while (!step.Ended && _framer.TryRead(out var frame))
            {
                if (frame.Kind == FrameKind.TooLarge)
                {
                    throw new BodyFilterException($"plugin {plugin} needs whole events, and one is over the limit");
                }
                _events += frame.Kind == FrameKind.Event ? 1 : 0;
                step.Filter(frame, output);
            }
            // two plugins see the same events
            exchange.EventsSeen = Math.Max(exchange.EventsSeen, _events);
        }
    }

    /// <summary>Gathers the pieces for a plugin that can only work on all of them.</summary>
    sealed class WholeBody(Exchange exchange, IWholeBodyFilter filter, string plugin) : IPieceFilter
    {
        readonly ArrayBufferWriter<byte> _body = new();

        public void Filter(ReadOnlyMemory<byte> piece, bool last, IBufferWriter<byte> output)
        {
            if (_body.WrittenCount + piece.Length > filter.MaxBodyBytes)
            {
                throw new BodyFilterException($"plugin {plugin} needs the whole body, which is over its limit of {filter.MaxBodyBytes} bytes");
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
public sealed class BodyFilterException(string message) : Exception(message);
