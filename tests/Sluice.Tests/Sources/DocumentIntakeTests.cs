using System.Collections.Concurrent;
using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging.Abstractions;
using Sluice.Model;
using Sluice.Pipeline;
using Sluice.Plugins;
using Sluice.Sources;
using Sluice.Tests.Pipeline;

namespace Sluice.Tests.Sources;

/// <summary>What a configuration says is parsed when it comes in, and never again.</summary>
public sealed class DocumentIntakeTests : IAsyncDisposable
{
    readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("sluice-intake-");
    readonly EmbeddedStore _store;
    readonly LiveConfiguration _live = new(new SnapshotCompiler(TestExchange.Services(), Builtin.All));
    readonly ResourceStore _resources;

    public DocumentIntakeTests()
    {
        _store = EmbeddedStore.Open(_directory.FullName);
        _live.Apply(TestExchange.DefaultSettings);
        _resources = new(_store, _live, TimeProvider.System, NullLogger<ResourceStore>.Instance);
    }

    public async ValueTask DisposeAsync()
    {
        await _resources.DisposeAsync();
        await _store.DisposeAsync();
        _directory.Delete(recursive: true);
    }

    public static TheoryData<string> Patterns =>
    [
        """{"vars":[["arg_a","~~","PATTERN"]]}""",
        """{"plugins":{"limit-count":{"count":1,"time_window":1,"_meta":{"filter":[["arg_a","~~","PATTERN"]]}}}}""",
        """{"plugins":{"ua-restriction":{"denylist":["PATTERN"]}}}""",
        """{"plugins":{"uri-blocker":{"block_rules":["PATTERN"],"case_insensitive":true}}}""",
        """{"plugins":{"cors":{"allow_origins_by_regex":["PATTERN"]}}}""",
        """{"plugins":{"proxy-rewrite":{"regex_uri":["PATTERN","/b"]}}}""",
        """{"plugins":{"redirect":{"regex_uri":["PATTERN","/b"]}}}""",
        """{"plugins":{"response-rewrite":{"filters":[{"regex":"PATTERN","replace":"b"}]}}}""",
        """{"plugins":{"response-rewrite":{"body":"b","vars":[["arg_a","~~","PATTERN"]]}}}""",
        """{"plugins":{"request-validation":{"body_schema":{"type":"string","pattern":"PATTERN"}}}}""",
        """{"plugins":{"fault-injection":{"abort":{"http_status":500,"vars":[[["arg_a","~~","PATTERN"]]]}}}}""",
        """{"plugins":{"traffic-split":{"rules":[{"match":[{"vars":[["arg_a","~~","PATTERN"]]}]}]}}}""",
        """{"plugins":{"traffic-label":{"rules":[{"match":[["arg_a","~~","PATTERN"]],"actions":[{"weight":1}]}]}}}""",
        """{"plugins":{"workflow":{"rules":[{"case":[["arg_a","~~","PATTERN"]],"actions":[["return",{"code":403}]]}]}}}""",
        """{"plugins":{"sse":{"filter":{"vars":[["arg_a","~~","PATTERN"]]}}}}""",
        """{"plugins":{"sse":{"transform":[{"vars":[["arg_a","~~","PATTERN"]],"set_event":"b"}]}}}""",
        """{"plugins":{"http-logger":{"uri":"http://127.0.0.1:1/","include_req_body":true,"include_req_body_expr":[["arg_a","~~","PATTERN"]]}}}""",
    ];

    [Theory]
    [MemberData(nameof(Patterns))]
    public Task A_PUT_compiles_a_regular_expression_once(string route) =>
        CompilesOnceAsync(async pattern =>
            Assert.Null((await PutAsync(route.Replace("PATTERN", pattern, StringComparison.Ordinal))).Error));

    [Fact]
    public Task A_certificates_paths_are_compiled_once() => CompilesOnceAsync(async pattern =>
    {
        var ssl = JsonNode.Parse($$"""
            {"id":"s1","sni":"a.test","cert":"$secret://vault/1/cert","key":"$secret://vault/1/key","client":{"ca":"$secret://vault/1/ca","skip_mtls_uri_regex":["{{pattern}}"] } }
            """)!.AsObject();
        Assert.Null((await _resources.PutAsync(ResourceKind.Ssls, "s1", ssl, cancel: TestContext.Current.CancellationToken)).Error);
    });

    async Task CompilesOnceAsync(Func<string, Task> put)
    {
        var pattern = $"^/{Guid.NewGuid():N}";
        ConcurrentQueue<string> compiled = [];
        void Note(string one)
        {
            if (one.Contains(pattern, StringComparison.Ordinal))
            {
                compiled.Enqueue(one);
            }
        }
        Pcre.Compiling += Note;
        try
        {
            await put(pattern);
            Assert.Single(compiled);
            // what did not change is not compiled again, neither is what it is merged with
            Assert.Null((await PutAsync("""{"uri":"/other"}""", "r2")).Error);
            Assert.Single(compiled);
        }
        finally
        {
            Pcre.Compiling -= Note;
        }
    }

    Task<WriteResult> PutAsync(string route, string id = "r1")
    {
        var value = JsonNode.Parse(route)!.AsObject();
        value["id"] = id;
        value["uri"] ??= "/a";
        value["upstream"] = JsonNode.Parse("""{"nodes":{"127.0.0.1:1":1}}""");
        return _resources.PutAsync(ResourceKind.Routes, id, value, cancel: TestContext.Current.CancellationToken);
    }

    [Fact]
    public async Task A_plugins_configuration_that_is_an_empty_list_is_an_empty_mapping()
    {
        Assert.Null((await PutAsync("""{"plugins":{"request-id":[]}}""")).Error);
        // what was sent is shown, what holds is the mapping
        Assert.Equal("[]", _live.Current.Documents.Find(ResourceKind.Routes, "r1")!.Sent["plugins"]!["request-id"]!.ToJsonString());
        Assert.Equal("failed to check the configuration of plugin real-ip err: property \"source\" is required",
            (await PutAsync("""{"plugins":{"real-ip":[]}}""")).Error);
        Assert.Equal("invalid plugin conf type for plugin [real-ip]", (await PutAsync("""{"plugins":{"real-ip":[1]}}""")).Error);
    }

    [Fact]
    public async Task A_PUT_compiles_the_configuration_once_and_what_runs_has_the_revisions_of_the_store()
    {
        var before = _live.Current.Version;
        var result = await PutAsync("{}");
        var document = _live.Current.Documents.Find(ResourceKind.Routes, "r1")!;
        Assert.Equal((before + 1, WriteOutcome.Created), (_live.Current.Version, result.Outcome));
        Assert.Same(result.Document, document);
        Assert.True(document.CreatedRevision > 0 && document.CreatedRevision == document.ModifiedRevision);
        await PutAsync("{}");
        Assert.True(_live.Current.Documents.Find(ResourceKind.Routes, "r1")!.ModifiedRevision > document.ModifiedRevision);
    }

    [Fact]
    public void What_was_prepared_before_another_change_is_compiled_anew()
    {
        var route = TestExchange.Document(ResourceKind.Routes, "r1", """{"uri":"/a"}""");
        using var prepared = _live.Prepare(DocumentSet.Of([route]));
        _live.Apply(_live.Current.Settings with { });
        var version = _live.Current.Version;
        Assert.Empty(_live.Publish(prepared));
        Assert.Equal((version + 1, true), (_live.Current.Version, _live.Current.Routes.GetValueOrDefault("r1") is not null));
    }

    [Fact]
    public void A_change_may_come_while_another_is_told()
    {
        List<long> told = [];
        _live.Changed += snapshot =>
        {
            told.Add(snapshot.Version);
            if (told.Count == 1)
            {
                // of another thread, which must not wait for this one
                Task.Run(
                    () =>
                    _live.Apply(documents: DocumentSet.Empty.With(TestExchange.Document(ResourceKind.Routes, "r1", """{"uri":"/a"}"""))))
                    .Wait();
            }
        };
        var version = _live.Current.Version;
        _live.Apply(_live.Current.Settings with { });
        Assert.Equal([version + 1, version + 2], told);
    }
}
