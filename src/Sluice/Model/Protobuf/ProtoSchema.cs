extern alias ProtobufNet;

using System.Collections.Frozen;
using Google.Protobuf.Collections;
using Google.Protobuf.Reflection;
using ProtobufNet::ProtoBuf.Reflection;
using Parsed = ProtobufNet::Google.Protobuf.Reflection;

namespace Sluice.Model.Protobuf;

/// <summary>
/// The messages and services of a proto: of the text of a .proto file, or of a set of file descriptors in Base64 (<c>protoc
/// --descriptor_set_out --include_imports</c>).
/// </summary>
sealed class ProtoSchema
{
    const int MaxDepth = 64;

    readonly FrozenDictionary<string, ProtoMessage> _messages;
    readonly FrozenDictionary<(string Service, string Method), ProtoMethod> _methods;

    ProtoSchema(Builder builder)
    {
        _messages = builder.Messages.ToFrozenDictionary();
        _methods = builder.Methods.ToFrozenDictionary();
    }

    /// <summary>By its full name, without a dot in front.</summary>
    public ProtoMessage? FindMessage(string name) => _messages.GetValueOrDefault(name);

    public ProtoMethod? FindMethod(string service, string method) => _methods.GetValueOrDefault((service, method));

    /// <exception cref="ProtoException">It is neither, or has a type that nobody declares; the message has the place.</exception>
    public static ProtoSchema Parse(string content)
    {
        var builder = new Builder();
        foreach (var file in DescriptorsOf(content) ?? ParseText(content))
        {
            builder.Declare(file);
        }
        builder.Fill();
        return new(builder);
    }

    static RepeatedField<FileDescriptorProto>? DescriptorsOf(string content)
    {
        var bytes = new byte[content.Length];
        if (!System.Convert.TryFromBase64String(content, bytes, out var length) || length == 0)
        {
            return null;
        }
        try
        {
            return FileDescriptorSet.Parser.ParseFrom(bytes, 0, length).File is { Count: > 0 } files ? files : null;
        }
        catch (Google.Protobuf.InvalidProtocolBufferException)
        {
            return null;
        }
    }

    static IEnumerable<FileDescriptorProto> ParseText(string content)
    {
        if (IsTooDeep(content))
        {
            throw new ProtoException($"more than {MaxDepth} levels of blocks");
        }
        // nothing is read from the disk; what Google ships with protobuf is known
        var set = new Parsed.FileDescriptorSet { ImportValidator = static path => path.StartsWith("google/", StringComparison.Ordinal) };
        using var text = new StringReader(content);
        try
        {
            set.Add("content", includeInOutput: true, source: text);
            set.Process();
        }
        catch (Exception e)
            when (e is ArgumentException or FormatException or InvalidOperationException or OverflowException or NotSupportedException
                or KeyNotFoundException)
        {
            throw new ProtoException(e.Message.ReplaceLineEndings(" "));
        }
        return Array.Find(set.GetErrors(), static error => error.IsError) is { } wrong
            ? throw new ProtoException($"line {wrong.LineNumber}, column {wrong.ColumnNumber}: {wrong.Message}")
            : set.Files.Select(Convert);
    }

    /// <summary>The parser goes down a level with each; braces in comments and texts count, too.</summary>
    static bool IsTooDeep(string content)
    {
        var depth = 0;
        foreach (var c in content)
        {
            depth += c switch { '{' or '[' or '<' or '(' => 1, '}' or ']' or '>' or ')' => -1, _ => 0 };
            if (depth > MaxDepth)
            {
                return true;
            }
        }
        return false;
    }

    // The parser's descriptors have other types than those of a descriptor set, and the same names

    static FileDescriptorProto Convert(Parsed.FileDescriptorProto file)
    {
        var result = new FileDescriptorProto { Name = file.Name, Package = file.Package, Syntax = file.Syntax };
        result.MessageType.AddRange(file.MessageTypes.Select(Convert));
        result.EnumType.AddRange(file.EnumTypes.Select(Convert));
        foreach (var service in file.Services)
        {
            var made = new ServiceDescriptorProto { Name = service.Name };
            made.Method.AddRange(service.Methods.Select(static method => new MethodDescriptorProto
            {
                Name = method.Name, InputType = method.InputType, OutputType = method.OutputType, ClientStreaming = method.ClientStreaming,
                    ServerStreaming = method.ServerStreaming,
            }));
            result.Service.Add(made);
        }
        return result;
    }

    static DescriptorProto Convert(Parsed.DescriptorProto message)
    {
        var result = new DescriptorProto { Name = message.Name };
        result.NestedType.AddRange(message.NestedTypes.Select(Convert));
        result.EnumType.AddRange(message.EnumTypes.Select(Convert));
        if (message.Options?.MapEntry == true)
        {
            result.Options = new() { MapEntry = true };
        }
        foreach (var field in message.Fields)
        {
            var made = new FieldDescriptorProto
            {
                Name = field.Name, Number = field.Number, Label = (FieldDescriptorProto.Types.Label)field.label,
                    Type = (FieldDescriptorProto.Types.Type)field.type,
                Proto3Optional = field.Proto3Optional,
            };
            if (!string.IsNullOrEmpty(field.TypeName))
            {
                made.TypeName = field.TypeName;
            }
            if (field.ShouldSerializeOneofIndex())
            {
                made.OneofIndex = field.OneofIndex;
            }
            if (!string.IsNullOrEmpty(field.DefaultValue))
            {
                made.DefaultValue = field.DefaultValue;
            }
            if (field.Options?.ShouldSerializePacked() == true)
            {
                made.Options = new() { Packed = field.Options.Packed };
            }
            result.Field.Add(made);
        }
        return result;
    }

    static EnumDescriptorProto Convert(Parsed.EnumDescriptorProto type)
    {
        var result = new EnumDescriptorProto { Name = type.Name };
        result.Value.AddRange(
            type.Values.Select(static value => new EnumValueDescriptorProto { Name = value.Name, Number = value.Number }));
        return result;
    }

    /// <summary>First all names, then what refers to them.</summary>
    sealed class Builder
    {
        readonly Dictionary<string, ProtoEnum> _enums = [];
        readonly List<(ProtoMessage Message, DescriptorProto Source)> _open = [];
        readonly List<(string Scope, ServiceDescriptorProto Service)> _services = [];

        public Dictionary<string, ProtoMessage> Messages { get; } = [];

        public Dictionary<(string, string), ProtoMethod> Methods { get; } = [];

        public void Declare(FileDescriptorProto file)
        {
            foreach (var message in file.MessageType)
            {
                Declare(file.Package, message, file.Syntax == "proto3", 0);
            }
            foreach (var type in file.EnumType)
            {
                Declare(file.Package, type);
            }
            _services.AddRange(file.Service.Select(service => (file.Package, service)));
        }

        void Declare(string scope, DescriptorProto source, bool isProto3, int depth)
        {
            if (depth > MaxDepth)
            {
                throw new ProtoException($"more than {MaxDepth} levels of blocks");
            }
            var name = In(scope, source.Name);
            var message = new ProtoMessage(name, isProto3, source.Options?.MapEntry == true);
            Messages[name] = message;
            _open.Add((message, source));
            foreach (var nested in source.NestedType)
            {
                Declare(name, nested, isProto3, depth + 1);
            }
            foreach (var type in source.EnumType)
            {
                Declare(name, type);
            }
        }

        void Declare(string scope, EnumDescriptorProto source)
        {
            var name = In(scope, source.Name);
            _enums[name] = new(name, [.. source.Value.Select(static value => KeyValuePair.Create(value.Name, value.Number))]);
        }

        static string In(string scope, string name) => scope.Length == 0 ? name : $"{scope}.{name}";

        public void Fill()
        {
            foreach (var (message, source) in _open)
            {
                message.Fields = [.. source.Field.Select(field => Field(message, field))];
            }
            foreach (var (scope, service) in _services)
            {
                foreach (var method in service.Method)
                {
                    Methods[(In(scope, service.Name), method.Name)] = new(
                        Resolve(Messages, scope, method.InputType), Resolve(Messages, scope, method.OutputType), method.ClientStreaming,
                        method.ServerStreaming);
                }
            }
        }

        ProtoField Field(ProtoMessage message, FieldDescriptorProto field)
        {
            var type = (ProtoType)field.Type;
            var isRepeated = field.Label == FieldDescriptorProto.Types.Label.Repeated;
            return new(
                field.Name, field.Number, type, isRepeated,
                IsPacked: isRepeated && (field.Options?.HasPacked == true ? field.Options.Packed : message.IsProto3),
                IsOptional: field.HasOneofIndex || field.Proto3Optional,
                Default: field.HasDefaultValue ? field.DefaultValue : null,
                Message: type is ProtoType.Message or ProtoType.Group ? Resolve(Messages, message.Name, field.TypeName) : null,
                Enum: type == ProtoType.Enum ? Resolve(_enums, message.Name, field.TypeName) : null);
        }

        /// <summary>A name with a dot in front is whole; others are looked for from the innermost scope outwards.</summary>
        static T Resolve<T>(Dictionary<string, T> all, string scope, string name)
            where T : class
        {
            if (name.StartsWith('.'))
            {
                return all.GetValueOrDefault(name[1..]) ?? throw new ProtoException($"type {name[1..]} is not declared");
            }
            for (var at = scope; ; at = at[..Math.Max(0, at.LastIndexOf('.'))])
            {
                if (all.TryGetValue(In(at, name), out var found))
                {
                    return found;
                }
                if (at.Length == 0)
                {
                    throw new ProtoException($"type {name} is not declared");
                }
            }
        }
    }
}
