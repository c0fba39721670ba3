using System.Text;
using Microsoft.AspNetCore.Http;
using Sluice.Net.Http1;

namespace Sluice.Tests.Net.Http1;

public class HeaderListTests
{
    static void Receive(HeaderList list, string name, string value) =>
        list.Receive(Encoding.Latin1.GetBytes(name), Encoding.Latin1.GetBytes(value));

    [Fact]
    public void Names_are_found_in_any_casing_and_lines_of_one_name_are_one_header()
    {
        var list = new HeaderList();
        Receive(list, "X-A", "1");
        Receive(list, "Host", "a.test");
        Receive(list, "x-a", "2");
        Assert.Equal("1,2", list["X-a"].ToString());
        Assert.Equal(["X-A", "Host"], list.Keys);
        Assert.True(list.Remove("HOST"));
        Assert.False(list.ContainsKey("Host"));
        Assert.Single(list);
    }

    [Fact]
    public void The_length_is_a_header_like_others()
    {
        var list = new HeaderList { ContentLength = 12 };
        Assert.Equal("12", list["content-length"]);
        Assert.Equal("Content-Length", Assert.Single(list).Key);
        list["Content-Length"] = "13";
        Assert.Equal(13, list.ContentLength);
        Assert.Throws<InvalidOperationException>(() => list["Content-Length"] = "+13");
        Assert.True(list.Remove("Content-Length"));
        Assert.Empty(list);
    }

    [Fact]
    public void An_empty_value_removes()
    {
        var list = new HeaderList { ["A"] = "1" };
        list["A"] = default;
        Assert.Empty(list);
    }

    [Theory]
    [InlineData("A", "b\r\nC: d")]
    [InlineData("A", "b\0")]
    [InlineData("A b", "c")]
    public void An_answer_takes_no_value_that_would_become_a_line(string name, string value) =>
        Assert.Throws<InvalidOperationException>(() => new HeaderList(checks: true)[name] = value);

    [Fact]
    public void The_next_request_of_a_connection_uses_the_strings_of_the_one_before()
    {
        var list = new HeaderList();
        Receive(list, "X-Own-Name", "own value");
        var (name, values) = list.At(0);
        list.Next();
        Assert.Empty(list);
        Receive(list, "X-Own-Name", "own value");
        Assert.Same(name, list.At(0).Name);
        Assert.Same((string?)values, (string?)list.At(0).Values);
        list.Next();
        Receive(list, "X-Own-Name", "another");
        Assert.Equal("another", list["X-Own-Name"]);
    }

    [Fact]
    public void What_a_plugin_changed_is_not_taken_for_what_the_client_sends_next()
    {
        var list = new HeaderList();
        Receive(list, "Cookie", "a=1");
        list["Cookie"] = "changed";
        list.Next();
        Receive(list, "Cookie", "a=1");
        Assert.Equal("a=1", list["Cookie"]);
    }
}
