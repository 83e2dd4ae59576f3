"""docs/answers.md: every status of the HTTP endpoint, its cause, and whether to try again."""

from collections.abc import Iterator

from voipex import errors


def answers_page() -> str:
    """Every status of the front door: cause, and whether to try again."""
    lines = [
        "# Answers of the front door",
        "",
        "Made from `voipex/errors.py` by `make contract`.",
        "",
        "`POST /voipex` is answered with `VOIPEX_ACCEPTED_STATUS` (200) and `VOIPEX_ACCEPTED_BODY` (empty) once the event is safe on disk.",
        "Every other answer is a problem (RFC 9457, `application/problem+json`) whose `type` ends in the name below. It never repeats the body.",
        "",
        "| status | problem | try again | kept as dead letter | cause |",
        "|---|---|---|---|---|",
    ]
    answered = sorted(_leaves(errors.IngressError), key=lambda each: (each.status, each.__name__))
    for error in answered:
        if issubclass(error, errors.OAuthError):
            continue
        kept = "yes" if issubclass(error, errors.InvalidWebhook) else "no"
        again = (
            "yes, after `Retry-After`"
            if issubclass(error, errors.ServiceUnavailable)
            else ("yes" if error.retriable else "no")
        )
        lines.append(f"| {error.status} | `{error.__name__}` | {again} | {kept} | {_cause(error)} |")
    lines += [
        "",
        "`POST /token` is answered 200 with `access_token`, `token_type` and `expires_in`. Its other answers are those of RFC 6749, section 5.2:",
        "JSON with `error` and `error_description`. 405, 413 (here above 4 KiB), 415 and 503 are as above, as `invalid_request` and `temporarily_unavailable`.",
        "",
        "| status | problem | `error` | cause |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {error.status} | `{error.__name__}` | `{error.error}` | {_cause(error)} |"
        for error in answered
        if issubclass(error, errors.OAuthError)
    ]
    return "\n".join(lines) + "\n"


def _cause(error: type[errors.IngressError]) -> str:
    return " ".join((error.__doc__ or "").split())


def _leaves(error: type[errors.IngressError]) -> Iterator[type[errors.IngressError]]:
    """Errors that are answered: all but those that only group others."""
    if error not in (errors.IngressError, errors.InvalidWebhook, errors.OAuthError):
        yield error
    for child in error.__subclasses__():
        yield from _leaves(child)
