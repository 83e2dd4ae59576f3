"""
How each error is answered: the one table of statuses, titles and headers, and the problem details (RFC 9457) made from it.

docs/http-responses.md shows the table with the docstrings of the errors. An error that is not in it is a fault of the bridge: 503.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from bridge.auth import attempts
from bridge.http import errors as http
from bridge.http.messages import CLOSE, Response, json_response
from voipex import errors

RETRY_AFTER_S: Final = 2
"""With every 503: about one reconnect to Kafka; at least 1, or clients come back at once."""

_BASIC_CHALLENGE: Final = (b"www-authenticate", b'Basic realm="voipex-bridge", charset="UTF-8"')
_BEARER_CHALLENGE: Final = (b"www-authenticate", b'Bearer realm="voipex-bridge"')
_INVALID_TOKEN: Final = (b"www-authenticate", b'Bearer realm="voipex-bridge", error="invalid_token"')
_RETRY_AFTER: Final = ((b"retry-after", b"%d" % RETRY_AFTER_S),)


class Problem(NamedTuple):
    """An error as HTTP says it. `retriable`: the same request may succeed later."""

    status: int
    title: str
    retriable: bool
    headers: tuple[tuple[bytes, bytes], ...] = ()


PROBLEMS: Final[Mapping[type[Exception], Problem]] = {
    http.IncompleteRequest: Problem(400, "Incomplete request", retriable=True),
    http.MalformedRequest: Problem(400, "Malformed request", retriable=False),
    errors.InvalidJson: Problem(400, "Not JSON", retriable=False),
    errors.TokenInvalid: Problem(
        401, "Invalid token", retriable=True, headers=(_BASIC_CHALLENGE, _INVALID_TOKEN)
    ),
    errors.Unauthorized: Problem(
        401, "Unauthorized", retriable=False, headers=(_BASIC_CHALLENGE, _BEARER_CHALLENGE)
    ),
    http.NotFound: Problem(404, "Not found", retriable=False),
    http.MethodNotAllowed: Problem(
        405, "Method not allowed", retriable=False, headers=((b"allow", b"POST"),)
    ),
    http.RequestTimeout: Problem(408, "Request too slow", retriable=True),
    http.LengthRequired: Problem(411, "Length required", retriable=False),
    # The rest of the body is not read.
    http.ContentTooLarge: Problem(413, "Body too large", retriable=False, headers=(CLOSE,)),
    http.UnsupportedContentEncoding: Problem(415, "Compressed bodies are not accepted", retriable=False),
    errors.InvalidEvent: Problem(422, "Not an event", retriable=False),
    http.HeadersTooLarge: Problem(431, "Headers too large", retriable=False),
    http.TooManyAttempts: Problem(
        429,
        "Too many wrong passwords",
        retriable=True,
        headers=((b"retry-after", b"%d" % attempts.RETRY_AFTER_S), CLOSE),
    ),
    errors.KafkaTooSlow: Problem(503, "Kafka did not answer in time", retriable=True, headers=_RETRY_AFTER),
    errors.ServiceUnavailable: Problem(503, "Temporarily unavailable", retriable=True, headers=_RETRY_AFTER),
    errors.ShuttingDown: Problem(503, "Shutting down", retriable=True, headers=_RETRY_AFTER),
    errors.SpoolFailed: Problem(503, "Spool broken", retriable=True, headers=_RETRY_AFTER),
    errors.SpoolFull: Problem(503, "Spool full", retriable=True, headers=_RETRY_AFTER),
    errors.SpoolShareFull: Problem(503, "Share of the spool full", retriable=True, headers=_RETRY_AFTER),
    http.RetryProbe: Problem(503, "Temporarily unavailable", retriable=True, headers=_RETRY_AFTER),
    http.TooManyConnections: Problem(503, "Too many connections", retriable=True, headers=_RETRY_AFTER),
    # Answers of POST /token, in the form of RFC 6749.
    errors.InvalidTokenRequest: Problem(400, "No token", retriable=False),
    errors.UnsupportedGrantType: Problem(400, "No token", retriable=False),
    errors.InvalidClient: Problem(401, "No token", retriable=False, headers=(_BASIC_CHALLENGE,)),
}


def known(error: Exception) -> Exception:
    """Return *error*, or a ServiceUnavailable in place of one that is not in the table. Its text may hold a body, so it is not shown."""
    if type(error) in PROBLEMS:
        return error
    return errors.ServiceUnavailable("an internal error; the event is not kept")


def problem_details(error: Exception) -> dict[str, str | int]:
    """Make the body of the response to an error of the table."""
    problem = PROBLEMS[type(error)]
    return {
        "type": f"urn:voipex-bridge:problem:{type(error).__name__}",
        "title": problem.title,
        "status": problem.status,
        "detail": str(error) or problem.title,
    }


def problem_response(error: Exception) -> Response:
    """Make the response to an error of the table."""
    problem = PROBLEMS[type(error)]
    return json_response(problem.status, b"application/problem+json", problem_details(error), problem.headers)
