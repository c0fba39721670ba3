using Sluice.Model;
using Sluice.Pipeline;
using System.Text.Json.Nodes;

namespace Sluice.Tests.Pipeline;

/// <summary>A proto is compiled before it is stored.</summary>
public class ProtoCheckTests
{
    static string? Check(string content) =>
        ResourceChecker.Check(ResourceKind.Protos, "1", new JsonObject { ["content"] = content }, DocumentSet.Empty,
            TestExchange.Maker([]));

    [Theory]
    [InlineData(
        "syntax = \"proto3\";\npackage helloworld;\nservice Greeter { rpc SayHello (HelloRequest) returns (HelloReply) {} }\nmessage "
            + "HelloRequest { string name = 1; }\nmessage HelloReply { string message = 1; }")]
    [InlineData(
        "syntax = \"proto3\";\nimport \"google/protobuf/timestamp.proto\";\nmessage M { google.protobuf.Timestamp at = 1; map<string, "
            + "int64> of = 2; oneof x { int32 a = 3; bytes b = 4; } enum E { NONE = 0; } repeated E e = 5; }")]
    [InlineData("syntax = \"proto2\"; message M { required string a = 1; optional int32 b = 2 [default = 5]; extensions 100 to 199; }")]
    // protoc --descriptor_set_out of: syntax = "proto3"; message M { string a = 1; }
    [InlineData("CiEKB20ucHJvdG8iDgoBTRIJCgFhGAEgASgJYgZwcm90bzM=")]
    public void Proto_files_are_accepted(string content) => Assert.Null(Check(content));

    [Theory]
    [InlineData("syntax = \"proto3\";\nmessage M { string a = 1 }", "line 2, column 26: ")]
    [InlineData("syntax = \"proto3\";\nmessage M { Unknown a = 1; }", "line 2, column 13: ")]
    [InlineData("syntax = \"proto3\"; nonsense", "line 1, column ")]
    [InlineData("import \"elsewhere.proto\";", "line 1, column ")]
    [InlineData("not a proto", "line 1, column 1: ")]
    public void Text_that_is_no_proto_is_refused_with_its_place(string content, string place) =>
        Assert.StartsWith("invalid configuration: property \"content\" validation failed: " + place, Check(content),
            StringComparison.Ordinal);

    [Fact]
    public void Any_cut_or_damage_of_a_proto_is_accepted_or_refused_and_never_throws()
    {
        const string good =
            "syntax = \"proto3\"; package a.b; import \"google/protobuf/any.proto\"; message M { reserved 5 to max; map<string, M> m = "
                + "1; oneof o { int32 a = 2 [deprecated = true]; } } "
            + "enum E { option allow_alias = true; A = 0; B = 0x7f; } service S { rpc R (stream M) returns (M) { option deprecated = "
                + "true; } }";
        var random = new Random(1);
        for (var i = 0; i < 2000; i++)
        {
            var at = random.Next(good.Length);
            var until = Math.Min(good.Length, at + random.Next(12));
            var piece = (string[])["", "{", "}", "=", ";", "99999999999999999999", "-1", "\"", "/*", "//", "message", "1e999", "\0", "[(",
                "to max"];
            Check(good[..at] + piece[random.Next(piece.Length)] + good[until..]);
        }
        Assert.EndsWith("more than 64 levels of blocks", Check(string.Concat(Enumerable.Repeat("message M { ", 10_000))),
            StringComparison.Ordinal);
    }
}
