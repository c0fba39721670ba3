using System.Reflection;
using System.Reflection.Emit;
using System.Reflection.Metadata;
using System.Reflection.Metadata.Ecma335;
using System.Reflection.PortableExecutable;
using Sluice.Model.Nginx;
using Sluice.Model.Settings;

namespace Sluice.Tests.Architecture;

/// <summary>A setting that is read, documented and then used by nobody is a promise that is not kept.</summary>
public class SettingsInUseTests
{
    /// <summary>What the documentation says to have no effect.</summary>
    static readonly string[] WithoutEffect = [nameof(NginxScope.ProxyBusyBuffersSize)];

    /// <summary>What its own type keeps in another shape, made for asking.</summary>
    static readonly string[] Reshaped = [nameof(HttpSettings.TrustedAddresses), nameof(HttpSettings.RealIpFrom)];

    /// <summary>Types that only fill the settings in.</summary>
    static readonly string[] Readers = [nameof(SettingsReader), "NginxLevel", "NginxDirectives"];

    /// <summary>What the compiler writes for a record uses every property.</summary>
    static readonly string[] Synthesized = ["PrintMembers", "Equals", "GetHashCode", "Deconstruct", ".ctor"];

    static readonly Type[] Settings =
        [typeof(GatewaySettings), typeof(HttpSettings), typeof(TlsSettings), typeof(AdminSettings), typeof(DnsSettings),
            typeof(LogSettings), typeof(ListenSettings), typeof(NginxScope)];

    [Fact]
    public void Every_setting_is_used_by_somebody()
    {
        var used = CallsInto(Settings);
        var unused = from type in Settings
                     from property in type.GetProperties(BindingFlags.Instance | BindingFlags.Public | BindingFlags.DeclaredOnly)
                     where !WithoutEffect.Contains(property.Name) && !Reshaped.Contains(property.Name)
                     && !used.Contains($"{type.Name}.get_{property.Name}")
                     select $"{type.Name}.{property.Name}";
        Assert.True(!unused.Any(), string.Join('\n', unused));
    }

    [Fact]
    public void A_property_counts_as_used_by_its_type_and_not_by_its_name()
    {
        var used = CallsInto([typeof(HttpSettings), typeof(AdminSettings)]);
        Assert.Contains($"{nameof(AdminSettings)}.get_{nameof(AdminSettings.Keys)}", used);
        Assert.DoesNotContain($"{nameof(HttpSettings)}.get_{nameof(AdminSettings.Keys)}", used);
    }

    /// <summary>Methods of these types that the gateway's code calls, as the compiled code says: <c>Type.get_Name</c>.</summary>
    static HashSet<string> CallsInto(Type[] types)
    {
        using var file = new PEReader(File.OpenRead(typeof(GatewaySettings).Assembly.Location));
        var metadata = file.GetMetadataReader();
        var names = types.Select(type => type.Name).ToHashSet();
        var methods = new Dictionary<int, string>();
        foreach (var type in metadata.TypeDefinitions.Select(metadata.GetTypeDefinition)
            .Where(type => names.Contains(metadata.GetString(type.Name))))
        {
            foreach (var method in type.GetMethods())
            {
                methods[MetadataTokens.GetToken(method)] =
                    $"{metadata.GetString(type.Name)}.{metadata.GetString(metadata.GetMethodDefinition(method).Name)}";
            }
        }
        HashSet<string> called = [];
        foreach (var handle in metadata.MethodDefinitions)
        {
            var method = metadata.GetMethodDefinition(handle);
            var owner = Outermost(metadata, method.GetDeclaringType());
            var ofRecord = names.Contains(owner) && Synthesized.Contains(metadata.GetString(method.Name));
            if (method.RelativeVirtualAddress != 0 && !ofRecord && !Readers.Contains(owner))
            {
                called.UnionWith(Tokens(file.GetMethodBody(method.RelativeVirtualAddress).GetILBytes()!).Where(methods.ContainsKey)
                    .Select(token => methods[token]));
            }
        }
        return called;
    }

    /// <summary>Lambdas and state machines are types within the one whose code they are.</summary>
    static string Outermost(MetadataReader metadata, TypeDefinitionHandle handle)
    {
        var type = metadata.GetTypeDefinition(handle);
        return type.GetDeclaringType() is { IsNil: false } outer ? Outermost(metadata, outer) : metadata.GetString(type.Name);
    }

    static readonly Dictionary<int, OpCode> Codes = typeof(OpCodes).GetFields(BindingFlags.Public | BindingFlags.Static)
        .Select(field => (OpCode)field.GetValue(null)!).ToDictionary(code => (int)(ushort)code.Value);

    /// <summary>The methods that a method's code names.</summary>
    static IEnumerable<int> Tokens(byte[] code)
    {
        for (var at = 0; at < code.Length;)
        {
            var value = (int)code[at++];
            if (value == 0xFE)
            {
                value = 0xFE00 | code[at++];
            }
            var operand = Codes[value].OperandType;
            if (operand == OperandType.InlineMethod)
            {
                yield return BitConverter.ToInt32(code, at);
            }
            at += operand switch
            {
                OperandType.InlineNone => 0,
                OperandType.ShortInlineBrTarget or OperandType.ShortInlineI or OperandType.ShortInlineVar => 1,
                OperandType.InlineVar => 2,
                OperandType.InlineI8 or OperandType.InlineR => 8,
                OperandType.InlineSwitch => 4 + (4 * BitConverter.ToInt32(code, at)),
                _ => 4,
            };
        }
    }
}
