"""
Authenticate a request: Authorization header (Basic or Bearer) -> Principal. Pure, and fails closed.

Secrets are long and random (`manage` enforces it), so one SHA-256 protects them as well as a slow password hash, at a thousandth of the
cost. An unknown user costs as much as a wrong password: always one digest and two constant-time comparisons.
"""

import re
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from math import inf
from typing import Final, NamedTuple

from bridge.auth import tokens
from voipex.errors import TokenInvalid, Unauthorized

MAX_SECRETS: Final = 2
"""Live secrets per credential: during a rotation the old one works until the PBX has the new one."""

_MAX_VERIFIED: Final = 1024  # a PBX sends one header, spelled the same each time, and one token an hour
_MAX_HEADER_BYTES: Final = (
    1024  # user, password and tokens are shorter; bounds what a stranger makes us decode and hash
)


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated PBX and how to read its webhooks: `keys` maps the keys it sends to the documented ones (`webhook.key_map`)."""

    name: str
    pbx: str
    region: str
    keys: Mapping[str, str]


class SecretHash(NamedTuple):
    """A live secret: the id that tokens carry, and its SHA-256."""

    id: str
    digest: bytes


_STRANGER: Final = re.compile(rb"[A-Za-z0-9._-]{1,19}")  # secrets have at least 20 characters (`manage`)
_NO_SECRET: Final = SecretHash("", bytes(32))  # nobody knows a text with this SHA-256
_UNKNOWN_USER: Final = (None, _NO_SECRET, _NO_SECRET)


class Credentials:
    """Everyone who may POST, and the key that signs their tokens. Immutable; a changed file makes a new one (`store.CredentialStore`)."""

    __slots__ = ("_by_user", "_verified", "signing_key")

    def __init__(
        self, principals: Iterable[tuple[Principal, Sequence[SecretHash]]], signing_key: bytes = b""
    ) -> None:
        """`principals`: each with its live secrets, at most MAX_SECRETS. Without a signing key every token is invalid."""
        self._by_user = {
            principal.name.encode(): (principal, *_two(tuple(secrets))) for principal, secrets in principals
        }
        self.signing_key = signing_key
        self._verified: dict[bytes, tuple[Principal, float]] = {}

    def __len__(self) -> int:
        return len(self._by_user)

    def find(self, user: bytes) -> tuple[Principal | None, SecretHash, SecretHash]:
        """Return the user's principal and its two secrets; for an unknown user None and secrets that nothing matches."""
        return self._by_user.get(user, _UNKNOWN_USER)

    def principal(self, name: str) -> Principal | None:
        """Look a principal up by name, without a secret: the replay of a dead letter reads its body as its sender's."""
        return self.find(name.encode())[0]

    def principals(self) -> tuple[Principal, ...]:
        return tuple(principal for principal, _, _ in self._by_user.values())

    def verified(self, authorization: bytes, now_s: float) -> Principal | None:
        """
        Return the principal of a header that was verified before and has not expired.

        Only valid headers are cached. An invalid one is found by its hash, so timing says nothing about a password.
        """
        known = self._verified.get(authorization)
        return None if known is None or now_s >= known[1] else known[0]

    def remember(self, authorization: bytes, principal: Principal, expires_s: float) -> None:
        if len(self._verified) >= _MAX_VERIFIED:
            self._verified.clear()  # tokens change every hour; verifying a few headers again costs microseconds
        self._verified[authorization] = (principal, expires_s)


def _two(secrets: tuple[SecretHash, ...]) -> tuple[SecretHash, SecretHash]:
    if len(secrets) > MAX_SECRETS or any(len(secret.digest) != 32 for secret in secrets):
        raise ValueError("at most two secrets, as SHA-256")
    first, second = (*secrets, _NO_SECRET, _NO_SECRET)[:MAX_SECRETS]
    return first, second


def authenticate(authorization: bytes | None, credentials: Credentials, now_s: float) -> Principal:
    """
    Authenticate by HTTP Basic (RFC 7617) or a Bearer token (RFC 6750). Called for every request, before its body is read.

    Args:
        authorization: the header's value; empty when the header was repeated.
        credentials: those in force.
        now_s: seconds since 1970.

    Raises:
        Unauthorized: no header, an empty one, another scheme, a malformed one, an unknown user or a wrong password (the last two look alike).
        TokenInvalid: a token that is forged, expired, or issued for a secret that was revoked.
    """
    if authorization is None:
        raise Unauthorized("no Authorization header")
    known = credentials.verified(authorization, now_s)
    if known is not None:
        return known
    if not authorization:
        raise Unauthorized("the Authorization header is empty, or there is more than one")
    if len(authorization) > _MAX_HEADER_BYTES:
        raise Unauthorized("the Authorization header is too long")
    scheme, _, value = authorization.partition(b" ")
    match scheme.lower():
        case b"basic":
            principal, expires_s = _basic(value.strip(b" "), credentials), inf
        case b"bearer":
            principal, expires_s = _bearer(value.strip(b" "), credentials, now_s)
        case _:
            raise Unauthorized("the Authorization is neither Basic nor Bearer")
    credentials.remember(authorization, principal, expires_s)
    return principal


def verify_secret(user: bytes, password: bytes, credentials: Credentials) -> tuple[Principal, str]:
    """Return the user's principal and the id of the secret that *password* is. Raises Unauthorized."""
    principal, first, second = credentials.find(user)
    digest = sha256(password).digest()
    is_first, is_second = compare_digest(digest, first.digest), compare_digest(digest, second.digest)
    if principal is None or not (is_first or is_second):
        raise Unauthorized("unknown user or wrong password", user=_loggable(user, principal))
    return principal, first.id if is_first else second.id


def _loggable(user: bytes, principal: Principal | None) -> str:
    """Return the user's name; `?` for what may be an e-mail address, or a secret in the place of the name."""
    if principal is not None:
        return principal.name
    return user.decode() if _STRANGER.fullmatch(user) else "?"


def _basic(value: bytes, credentials: Credentials) -> Principal:
    try:
        user, colon, password = a2b_base64(value, strict_mode=True).partition(b":")
    except Base64Error:
        raise Unauthorized("the Authorization header is malformed") from None
    if not colon:
        raise Unauthorized("the Authorization header is malformed")
    return verify_secret(user, password, credentials)[0]


def _bearer(value: bytes, credentials: Credentials, now_s: float) -> tuple[Principal, float]:
    claims = tokens.verify(value, now_s, credentials.signing_key)
    principal, first, second = credentials.find(claims.name.encode())
    if principal is None or not claims.secret_id or claims.secret_id not in (first.id, second.id):
        raise TokenInvalid("the secret that the token was issued for is no longer valid")
    return principal, claims.expires_s
