using Microsoft.AspNetCore.WebUtilities;

namespace Sluice.Net.Http;

/// <summary>Reason phrases as nginx writes them, in status lines, pages and error messages alike; the registry's where nginx has
/// none.</summary>
static class StatusText
{
    public static string Of(int status) => status switch
    {
        103 => "Early Hints",
        405 => "Not Allowed",
        408 => "Request Time-out",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Large",
        416 => "Requested Range Not Satisfiable",
        503 => "Service Temporarily Unavailable",
        504 => "Gateway Time-out",
        _ => ReasonPhrases.GetReasonPhrase(status),
    };

    /// <summary><c>404 Not Found</c>; the number alone for a status without a phrase.</summary>
    public static string WithCode(int status) => $"{status} {Of(status)}".TrimEnd();
}
