using Sluice.Sources;

namespace Sluice.Tests.Sources;

public class ExpiriesTests
{
    [Fact]
    public void What_ends_first_is_told_first_and_what_is_written_again_no_longer_ends()
    {
        var time = new FakeTime();
        var told = 0;
        using var expiries = new Expiries(time, () => told++);
        expiries.Written("/apisix/routes/a", TimeSpan.FromSeconds(10));
        expiries.Written("/apisix/routes/b", TimeSpan.FromSeconds(5));
        expiries.Written("/apisix/routes/c", TimeSpan.FromSeconds(5));
        expiries.Written("/apisix/routes/c", null);
        Assert.Empty(expiries.Ended());
        time.Advance(TimeSpan.FromSeconds(6));
        Assert.Equal(1, told);
        Assert.Equal(["/apisix/routes/b"], expiries.Ended());
        expiries.Written("/apisix/routes/b", null);
        time.Advance(TimeSpan.FromSeconds(5));
        Assert.Equal(["/apisix/routes/a"], expiries.Ended());
    }

    [Fact]
    public void The_end_is_written_beside_the_resource_and_deleted_with_it()
    {
        using var expiries = new Expiries(new FakeTime(), () => { });
        var put = Assert.IsType<StoreOp.Put>(expiries.Op("/apisix/routes/a", TimeSpan.FromSeconds(1)));
        Assert.Equal("/sluice/expiry/apisix/routes/a", put.Key);
        Assert.Equal(put.Key, Assert.IsType<StoreOp.Delete>(expiries.Op("/apisix/routes/a", null)).Key);
    }
}
