"""docs/http-responses.md: every response of the ingress, its cause, and whether to try again."""

from bridge.http.problems import PROBLEMS, Problem
from voipex.errors import InvalidWebhook, OAuthError


def responses_page() -> str:
    """Return the page: the table of `problems` with the docstrings of the errors."""
    rows = sorted(PROBLEMS.items(), key=lambda row: (row[1].status, row[0].__name__))
    lines = [
        "# HTTP responses of the ingress",
        "",
        "Generated from `bridge/http/problems.py` by `make contract`. For tools: [OpenAPI](contract/openapi.yaml).",
        "",
        "The response to `POST /voipex` is `VOIPEX_ACCEPTED_STATUS` (200) with `VOIPEX_ACCEPTED_BODY` (empty) once the event is on disk.",
        "Every other response is a problem (RFC 9457, `application/problem+json`) whose `type` ends in the name below. It never repeats the body.",
        "",
        "| status | problem | retry | dead letter | cause |",
        "|---|---|---|---|---|",
    ]
    for error, problem in rows:
        if not issubclass(error, OAuthError):
            kept = "yes" if issubclass(error, InvalidWebhook) else "no"
            lines.append(
                f"| {problem.status} | `{error.__name__}` | {_again(problem)} | {kept} | {_cause(error)} |"
            )
    lines += [
        "",
        "The response to `POST /token` is 200 with `access_token`, `token_type` and `expires_in`. Its other responses are those of RFC 6749, section 5.2:",
        "JSON with `error` and `error_description`. 405, 411, 413 (here above 4 KiB), 415, 429 and 503 are as above, as `invalid_request` and `temporarily_unavailable`.",
        "",
        "| status | problem | `error` | cause |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {problem.status} | `{error.__name__}` | `{error.error}` | {_cause(error)} |"
        for error, problem in rows
        if issubclass(error, OAuthError)
    ]
    return "\n".join(lines) + "\n"


def _again(problem: Problem) -> str:
    if not problem.retriable:
        return "no"
    return "yes, after `Retry-After`" if any(name == b"retry-after" for name, _ in problem.headers) else "yes"


def _cause(error: type[Exception]) -> str:
    return " ".join((error.__doc__ or "").split())
