"""`POST /token`: a Bearer token for a PBX that would rather not send its secret with every event (RFC 6749, client credentials)."""

import time
from collections.abc import Callable
from typing import Final

from bridge.auth.authenticate import Credentials, verify_secret
from bridge.auth.tokens import LIFETIME_S, MAX_BODY_BYTES, Client, issue, parse_token_request
from bridge.http.errors import TooManyAttempts
from bridge.http.ingress import Exchange
from bridge.http.messages import RequestHeaders, Response, json_response
from bridge.http.problems import PROBLEMS
from voipex.errors import InvalidClient, OAuthError, ServiceUnavailable, Unauthorized

_NO_STORE: Final = ((b"cache-control", b"no-store"), (b"pragma", b"no-cache"))  # RFC 6749, 5.1


class TokenEndpoint:
    """
    Answers in the form of RFC 6749, section 5.

    Args:
        credentials: those in force now.
        now_s: seconds since 1970.
    """

    route: Final = "/token"
    usage: Final = "a token is fetched by POST /token"
    max_body_bytes: Final = MAX_BODY_BYTES

    def __init__(
        self, credentials: Callable[[], Credentials], now_s: Callable[[], float] = time.time
    ) -> None:
        self._credentials = credentials
        self._now_s = now_s

    def authenticate(self, headers: RequestHeaders) -> None:
        """The client may be in the body."""

    def receive(self, body: bytes, exchange: Exchange) -> None:
        """Issue a token."""
        client = parse_token_request(body, exchange.headers.get(b"authorization"))
        credentials = self._credentials()
        name, secret_id = _verified(client, credentials)
        token = issue(name, secret_id, self._now_s(), credentials.signing_key)
        answer = {"access_token": token, "token_type": "Bearer", "expires_in": LIFETIME_S}
        exchange.respond(json_response(200, b"application/json", answer, _NO_STORE))

    def rejection(self, error: Exception) -> Response:
        problem = PROBLEMS[type(error)]
        if isinstance(error, OAuthError):
            code = error.error
        elif isinstance(error, ServiceUnavailable | TooManyAttempts):
            code = "temporarily_unavailable"
        else:
            code = "invalid_request"
        answer = {"error": code, "error_description": str(error) or problem.title}
        return json_response(problem.status, b"application/json", answer, (*_NO_STORE, *problem.headers))

    def on_rejected(self, error: Exception) -> None:
        """The count of responses by status tells enough."""


def _verified(client: Client, credentials: Credentials) -> tuple[str, str]:
    """Return the credential's name and the id of the secret that the client showed."""
    try:
        principal, secret_id = verify_secret(client.name, client.secret, credentials)
    except Unauthorized as error:
        raise InvalidClient("unknown client or wrong secret", user=error.user) from None
    return principal.name, secret_id
