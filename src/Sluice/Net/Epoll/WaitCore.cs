using System.Threading.Tasks.Sources;

namespace Sluice.Net.Epoll;

static class WaitCore
{
    /// <summary>The result of a wait, and the core as new: whoever waited is not kept alive until the next wait, which may be hours
    /// away.</summary>
    public static T Take<T>(ref this ManualResetValueTaskSourceCore<T> core, short token)
    {
        try
        {
            return core.GetResult(token);
        }
        finally
        {
            core.Reset();
        }
    }
}
