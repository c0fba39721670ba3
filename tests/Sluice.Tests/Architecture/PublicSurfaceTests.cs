using System.Reflection;
using System.Text.RegularExpressions;
using Sluice.Pipeline;

namespace Sluice.Tests.Architecture;

/// <summary>What is public is a contract with plugins and with programs that embed the gateway, and stands in PublicAPI.*.txt. All else is
/// internal.</summary>
public partial class PublicSurfaceTests
{
    [Fact]
    public void Whatever_is_public_is_written_down()
    {
        var declared = Directory.GetFiles(Path.Combine(Repository.Root, "src", "Sluice"), "PublicAPI.*.txt").SelectMany(File.ReadAllLines)
            .Select(line => Name(line)).ToHashSet();
        var missing = typeof(PluginDescriptor).Assembly.GetExportedTypes().Where(type => type.Namespace is not null)
            .SelectMany(type => type.GetMembers(BindingFlags.Public | BindingFlags.Instance | BindingFlags.Static
                | BindingFlags.DeclaredOnly)
                .Where(static member => member is MethodInfo { IsSpecialName: false } or PropertyInfo or FieldInfo { IsSpecialName: false }
                    && !member.Name.Contains('<', StringComparison.Ordinal))
                .Where(static member => member.DeclaringType is { IsValueType: false } && !s_ofRecords.Contains(member.Name))
                .Select(member => $"{NameOf(type)}.{member.Name}").Prepend(NameOf(type)))
            .Where(name => !declared.Contains(name)).Distinct().ToArray();
        Assert.True(missing.Length == 0,
            $"{string.Join('\n', missing)}\nMake it internal; a contract goes into src/Sluice/PublicAPI.Unshipped.txt, as RS0016 of the build with analyzers spells it.");
    }

    /// <summary>What the compiler writes.</summary>
    static readonly HashSet<string> s_ofRecords = ["Equals", "GetHashCode", "ToString", "Deconstruct", "Clone", "PrintMembers"];

    static string NameOf(Type type) => Generics().Replace(type.FullName!.Replace('+', '.'), "");

    /// <summary>The name alone, of <c>static Sluice.A&lt;T&gt;.B(int c) -> void</c>.</summary>
    static string Name(string line)
    {
        var text = line;
        foreach (var word in (string[])["override ", "sealed ", "static ", "abstract ", "virtual ", "readonly ", "const "])
        {
            text = text.Replace(word, "", StringComparison.Ordinal);
        }
        text = TypeArguments()
            .Replace(text.Split("->")[0].Split('(')[0].Split(" = ")[0].Replace(".this[", ".Item[", StringComparison.Ordinal)
                .Split('[')[0].Trim().TrimEnd('!', '?'), "");
        return text.EndsWith(".get", StringComparison.Ordinal) || text.EndsWith(".set", StringComparison.Ordinal) ? text[..^4]
            : text.EndsWith(".init", StringComparison.Ordinal) ? text[..^5] : text;
    }

    [GeneratedRegex("`[0-9]+")]
    private static partial Regex Generics();

    [GeneratedRegex("<[^>]*>")]
    private static partial Regex TypeArguments();
}
