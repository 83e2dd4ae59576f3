"""`POST /token`: a Bearer token for a PBX that would rather not send its secret with every event (RFC 6749, client credentials)."""

import time
from collections.abc import Callable
from typing import Final

import orjson

from bridge.auth.authenticate import Credentials, verify_secret
from bridge.auth.tokens import LIFETIME_S, MAX_BODY_BYTES, Client, issue, parse_token_request
from bridge.ingress import BASIC_CHALLENGE, METHODS, OncePerSecond, Receive, Scope, Send, asked_for, read_body
from bridge.metrics import Metrics
from voipex.errors import (
    ContentTooLarge,
    IngressError,
    InvalidClient,
    MethodNotAllowed,
    OAuthError,
    ServiceUnavailable,
    Unauthorized,
)
from voipex.service.logging import get_logger

# A token must not stay in a cache (RFC 6749, 5.1).
_NOT_STORED: Final = [
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
    (b"pragma", b"no-cache"),
]

log = get_logger("tokens")


class TokenEndpoint:
    """
    ASGI application of one path. Its answers, good and bad, have the form of RFC 6749, section 5.

    Args:
        credentials: those in force now.
        now_s: seconds since 1970.
    """

    def __init__(
        self, credentials: Callable[[], Credentials], metrics: Metrics, now_s: Callable[[], float] = time.time
    ) -> None:
        self._credentials = credentials
        self._metrics = metrics
        self._now_s = now_s
        self._complaints = OncePerSecond()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            token = await self._token(scope, receive)
        except IngressError as error:
            await self._refuse(error, scope, send)
        except Exception:
            log.exception("the token endpoint failed")
            await self._refuse(ServiceUnavailable("an internal error"), scope, send)
        else:
            answer = {"access_token": token, "token_type": "Bearer", "expires_in": LIFETIME_S}
            await self._say(200, orjson.dumps(answer), [], scope, send)

    async def _token(self, scope: Scope, receive: Receive) -> str:
        if scope["method"] != "POST":
            raise MethodNotAllowed("a token is fetched by POST /token")
        asked = asked_for(scope["headers"])
        client = parse_token_request(await read_body(asked, receive, MAX_BODY_BYTES), asked.authorization)
        credentials = self._credentials()
        name, secret_id = _verified(client, credentials)
        return issue(name, secret_id, self._now_s(), credentials.signing_key)

    async def _refuse(self, error: IngressError, scope: Scope, send: Send) -> None:
        if isinstance(error, (InvalidClient, ServiceUnavailable)):
            self._complaints.say(type(error).__name__, error)
        code = error.error if isinstance(error, OAuthError) else "invalid_request"
        if isinstance(error, ServiceUnavailable):
            code = "temporarily_unavailable"
        headers = []
        if isinstance(error, InvalidClient):
            headers.append((b"www-authenticate", BASIC_CHALLENGE))
        elif isinstance(error, MethodNotAllowed):
            headers.append((b"allow", b"POST"))
        elif isinstance(error, ContentTooLarge):
            headers.append((b"connection", b"close"))
        elif isinstance(error, ServiceUnavailable):
            headers.append((b"retry-after", b"2"))
        body = orjson.dumps({"error": code, "error_description": str(error) or error.title})
        await self._say(error.status, body, headers, scope, send)

    async def _say(
        self, status: int, body: bytes, headers: list[tuple[bytes, bytes]], scope: Scope, send: Send
    ) -> None:
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._metrics.http_requests.inc("/token", method, str(status))
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [*_NOT_STORED, (b"content-length", str(len(body)).encode()), *headers],
            }
        )
        await send({"type": "http.response.body", "body": body})


def _verified(client: Client, credentials: Credentials) -> tuple[str, str]:
    """Return the credential's name and the id of the secret that the client showed."""
    try:
        principal, secret_id = verify_secret(client.name, client.secret, credentials)
    except Unauthorized:
        raise InvalidClient("unknown client or wrong secret") from None
    return principal.name, secret_id
