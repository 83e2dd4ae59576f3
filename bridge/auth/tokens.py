"""
Bearer tokens (RFC 6749 client credentials, RFC 6750): JSON Web Tokens (RFC 7519) signed with HS256. Pure.

    {"sub": credential, "jti": secret id, "iat": seconds, "exp": seconds}

Tokens are not sessions: every replica verifies them with the signing key of the credentials file alone, also after a restart. `jti` names
the secret that the token was issued for, so a token ends with that secret (`authenticate` checks), at `exp`, or with the signing key.
"""

from base64 import b64decode
from binascii import Error as Base64Error
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

import jwt

from voipex.errors import InvalidClient, InvalidJson, InvalidTokenRequest, TokenInvalid, UnsupportedGrantType
from voipex.webhook import parse_json, text_of

LIFETIME_S: Final = 3600
MAX_BODY_BYTES: Final = 4096  # a token request has about 150
_ALGORITHM: Final = "HS256"
_MAX_FIELDS: Final = 16
_MAX_BASIC_BYTES: Final = 1024
_GRANT: Final = "client_credentials"
_FIELDS: Final = ("grant_type", "client_id", "client_secret")


class Claims(NamedTuple):
    """A verified token. Whether its secret is still live, `authenticate` checks."""

    name: str
    secret_id: str
    expires_s: int


def issue(name: str, secret_id: str, now_s: float, signing_key: bytes) -> str:
    """Issue a token that is valid for LIFETIME_S."""
    issued_s = int(now_s)
    payload = {"sub": name, "jti": secret_id, "iat": issued_s, "exp": issued_s + LIFETIME_S}
    return jwt.encode(payload, signing_key, _ALGORITHM)


def verify(token: bytes, now_s: float, signing_key: bytes) -> Claims:
    """
    Verify signature and expiry.

    Raises:
        TokenInvalid: forged, malformed or expired; without a signing key every token is.
    """
    if not signing_key:
        raise TokenInvalid("the token was not issued here")
    try:
        # PyJWT reads the clock by itself; the expiry is compared below with the caller's.
        payload = jwt.decode(
            token,
            signing_key,
            algorithms=[_ALGORITHM],
            options={"require": ["sub", "jti", "exp"], "verify_exp": False, "verify_iat": False},
        )
    except jwt.InvalidTokenError:
        raise TokenInvalid("the token was not issued here") from None
    name, secret_id, expires_s = payload["sub"], payload["jti"], payload["exp"]
    if not isinstance(expires_s, int):
        raise TokenInvalid("the token was not issued here")
    if not now_s < expires_s:
        raise TokenInvalid("the token has expired")
    return Claims(name, secret_id, expires_s)


# ---------------------------------------------------------------- token requests


@dataclass(frozen=True, slots=True)
class Client:
    """A client that asks for a token, not verified yet."""

    name: bytes
    secret: bytes = field(repr=False)


def parse_token_request(body: bytes, authorization: bytes | None) -> Client:
    """
    Parse a token request: a form or JSON, distinguished by the first byte, because VOIPEX sends a configured body under any content type. The
    client is in the body or in HTTP Basic.

    Raises:
        InvalidTokenRequest: neither a form nor a JSON object; a field is missing, repeated or not a string.
        UnsupportedGrantType: another grant than `client_credentials`.
        InvalidClient: no client, or a malformed Authorization.
    """
    fields = _parse_fields(body)
    grant = fields.get("grant_type")
    if grant is None:
        raise InvalidTokenRequest("no grant_type; it must be client_credentials")
    if grant != _GRANT:
        raise UnsupportedGrantType("the only grant_type is client_credentials")
    name, secret = fields.get("client_id"), fields.get("client_secret")
    if authorization is not None:
        if secret is not None:
            raise InvalidTokenRequest("a client_secret in the body and an Authorization; send one of them")
        client = _parse_basic(authorization)
        if name is not None and name.encode() != client.name:
            raise InvalidTokenRequest("client_id and Authorization name two clients")
        return client
    if not name or not secret:
        raise InvalidClient("no client_id and client_secret, and no Authorization")
    return Client(name.encode(), secret.encode())


def _parse_fields(body: bytes) -> dict[str, str]:
    """Return the fields that matter; others are ignored (RFC 6749, 3.2). The bytes are decoded as those of a webhook."""
    try:
        text = text_of(body).strip()
        if text.startswith("{"):
            pairs: list[tuple[str, Any]] = list(parse_json(text).items())
        else:
            pairs = list(
                parse_qsl(
                    text,
                    keep_blank_values=True,
                    strict_parsing=bool(text),
                    errors="strict",
                    max_num_fields=_MAX_FIELDS,
                )
            )
    except (ValueError, RecursionError, InvalidJson):
        raise InvalidTokenRequest("neither a form nor a JSON object") from None
    fields: dict[str, str] = {}
    for name, value in pairs:
        if name in _FIELDS:
            if name in fields or not isinstance(value, str):
                raise InvalidTokenRequest(f"{name} is repeated, or not a string")
            fields[name] = value
    return fields


def _parse_basic(authorization: bytes) -> Client:
    """RFC 6749 2.3.1 percent-encodes both parts. Names and secrets have no character that it would change (`manage`)."""
    scheme, _, value = authorization.partition(b" ")
    try:
        if scheme.lower() != b"basic" or len(authorization) > _MAX_BASIC_BYTES:
            raise InvalidClient("the Authorization is not Basic")
        name, colon, secret = b64decode(value.strip(b" "), validate=True).partition(b":")
    except Base64Error:
        raise InvalidClient("the Authorization header is malformed") from None
    if not name or not colon:
        raise InvalidClient("the Authorization header is malformed")
    return Client(name, secret)
