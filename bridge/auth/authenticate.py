"""
Who calls: an Authorization header, Basic or Bearer -> Caller (pure; fails closed).

Secrets are long and random (`credentials` sees to that), so one sha256 protects them as well as a slow hash would, at a thousandth of
its price. An unknown user costs what a wrong password costs: always one digest and two comparisons in constant time.
"""

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

LIVE_SECRETS: Final = 2
"""Most secrets that one credential may have at a time: the new one, and the old one until the PBX was changed over."""

_NO_SECRET: Final = bytes(32)  # nobody knows a text with this sha256
_PROVEN: Final = 1024  # headers that are known to be right; a PBX sends one, spelt the same each time
_MAX_HEADER_BYTES: Final = 1024  # user and password are far shorter; nobody makes us decode and hash more


@dataclass(frozen=True, slots=True)
class Caller:
    """A PBX that proved who it is, and how to read what it sends: `keys` is the table for `webhook.parse`, made once."""

    name: str
    pbx: str
    region: str
    keys: Mapping[str, str]


class LiveSecret(NamedTuple):
    """What we know of a secret: the id that tokens name it by, and its sha256."""

    id: str
    digest: bytes


class Credentials:
    """
    Everyone who may call, and the key that their tokens are signed with. A changed file makes a new one
    (`credentials.CredentialStore`).
    """

    __slots__ = ("_by_user", "proven", "signing_key")

    def __init__(self, live: Iterable[tuple[Caller, Sequence[LiveSecret]]], signing_key: bytes = b"") -> None:
        """`live`: each caller with its secrets, at most `LIVE_SECRETS`. Without a signing key no token is good."""
        self._by_user = {caller.name.encode(): (caller, *_padded(tuple(secrets))) for caller, secrets in live}
        self.signing_key = signing_key
        self.proven: dict[bytes, Caller] = {}
        """Basic headers that proved right, until these credentials are replaced. A wrong one is found by its hash only, so time tells nothing."""

    def __len__(self) -> int:
        return len(self._by_user)

    def find(self, user: bytes) -> tuple[Caller | None, LiveSecret, LiveSecret]:
        """Return the user's caller and its two secrets; for an unknown user no caller, and secrets that nothing matches."""
        return self._by_user.get(user, _NOBODY)

    def caller(self, name: str) -> Caller | None:
        """Look a caller up by name, without a secret: a dead letter is read again as its sender's."""
        return self.find(name.encode())[0]

    def callers(self) -> tuple[Caller, ...]:
        return tuple(caller for caller, _, _ in self._by_user.values())


_NO_LIVE_SECRET: Final = LiveSecret("", _NO_SECRET)
_NOBODY: Final = (None, _NO_LIVE_SECRET, _NO_LIVE_SECRET)


def _padded(secrets: tuple[LiveSecret, ...]) -> tuple[LiveSecret, LiveSecret]:
    if len(secrets) > LIVE_SECRETS or any(len(secret.digest) != len(_NO_SECRET) for secret in secrets):
        raise ValueError("at most two secrets, as sha256")
    first, second = (*secrets, _NO_LIVE_SECRET, _NO_LIVE_SECRET)[:LIVE_SECRETS]
    return first, second


def authenticate(authorization: bytes | None, credentials: Credentials, now_s: float = inf) -> Caller:
    """
    Find out who calls, by HTTP Basic (RFC 7617) or a Bearer token of ours (RFC 6750). Called for every request, before its body is read.

    `now_s`: seconds since 1970; at the end of time, the default, every token has expired.

    Raises:
        Unauthorized: no header, an empty one (two count as such), another scheme, a malformed one, an unknown user or a wrong password
            (the last two look alike).
        TokenInvalid: a token that is not good, or no longer.
    """
    if authorization is None:
        raise Unauthorized("no Authorization header")
    known = credentials.proven.get(authorization)
    if known is not None:
        return known
    if not authorization:  # `ingress.asked_for` makes none of several
        raise Unauthorized("the Authorization header is empty, or there is more than one")
    if len(authorization) > _MAX_HEADER_BYTES:
        raise Unauthorized("the Authorization header is too long")
    scheme, _, token = authorization.partition(b" ")
    if scheme != b"Basic" and scheme.lower() != b"basic":
        if scheme.lower() == b"bearer":
            return _bearer(token.strip(b" "), credentials, now_s)
        raise Unauthorized("the Authorization is neither Basic nor Bearer")
    try:
        user, colon, password = a2b_base64(token.strip(b" "), strict_mode=True).partition(b":")
    except Base64Error:
        raise Unauthorized("the Authorization header is malformed") from None
    if not colon:
        raise Unauthorized("the Authorization header is malformed")
    caller, _ = prove(user, password, credentials)
    if len(credentials.proven) < _PROVEN:
        credentials.proven[authorization] = caller
    return caller


def prove(user: bytes, password: bytes, credentials: Credentials) -> tuple[Caller, str]:
    """Return the caller and the id of its secret that *password* is. Raises Unauthorized."""
    caller, first, second = credentials.find(user)
    digest = sha256(password).digest()
    is_first, is_second = compare_digest(digest, first.digest), compare_digest(digest, second.digest)
    if caller is None or not (is_first or is_second):
        raise Unauthorized("unknown user or wrong password")
    return caller, first.id if is_first else second.id


def _bearer(token: bytes, credentials: Credentials, now_s: float) -> Caller:
    """The token proves itself; whether its secret still lives, the credentials say, now."""
    claims = tokens.claims(token, now_s, credentials.signing_key)
    caller, first, second = credentials.find(claims.name)
    secret_id = claims.secret_id.decode()
    if caller is None or not secret_id or secret_id not in (first.id, second.id):
        raise TokenInvalid("the secret that the token was fetched with is no longer good")
    return caller
