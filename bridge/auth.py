"""
Who calls: an Authorization header -> Caller (pure; fails closed).

Secrets are long and random (`credentials` sees to that), so one sha256 protects them as well as a slow hash would, at a thousandth of
its price. An unknown user costs what a wrong password costs: always one digest and two comparisons in constant time.
"""

from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from typing import Final

from bridge.errors import Unauthorized

LIVE_SECRETS: Final = 2
"""Most secrets that one credential may have at a time: the new one, and the old one until the PBX was changed over."""

_NO_SECRET: Final = bytes(32)  # nobody knows a text with this sha256
_MAX_HEADER_BYTES: Final = 1024  # user and password are far shorter; nobody makes us decode and hash more


@dataclass(frozen=True, slots=True)
class Caller:
    """A PBX that proved who it is, and how to read what it sends: `keys` is the table for `webhook.parse`, made once."""

    name: str
    pbx: str
    region: str
    keys: Mapping[str, str]


class Credentials:
    """Everyone who may call. Immutable: a changed file makes a new one (`credentials.CredentialStore`)."""

    __slots__ = ("_by_user",)

    def __init__(self, live: Iterable[tuple[Caller, Sequence[bytes]]]) -> None:
        """`live`: each caller with the sha256 of its secrets, at most `LIVE_SECRETS`."""
        self._by_user = {caller.name.encode(): (caller, *_padded(tuple(digests))) for caller, digests in live}

    def __len__(self) -> int:
        return len(self._by_user)

    def find(self, user: bytes) -> tuple[Caller | None, bytes, bytes]:
        """Return the user's caller and the digests of its two secrets; for an unknown user no caller, and digests that nothing matches."""
        return self._by_user.get(user, (None, _NO_SECRET, _NO_SECRET))

    def caller(self, name: str) -> Caller | None:
        """Look a caller up by name, without a secret: a dead letter is read again as its sender's."""
        return self.find(name.encode())[0]

    def callers(self) -> tuple[Caller, ...]:
        return tuple(caller for caller, _, _ in self._by_user.values())


def _padded(digests: tuple[bytes, ...]) -> tuple[bytes, bytes]:
    if len(digests) > LIVE_SECRETS or any(len(digest) != len(_NO_SECRET) for digest in digests):
        raise ValueError("at most two secrets, as sha256")
    first, second = (*digests, _NO_SECRET, _NO_SECRET)[:LIVE_SECRETS]
    return first, second


def authenticate(authorization: bytes | None, credentials: Credentials) -> Caller:
    """
    Find out who calls, by HTTP Basic (RFC 7617). Called for every request, before its body is read.

    Raises:
        Unauthorized: no header, another scheme, a malformed one, an unknown user or a wrong password (the last two look alike).
    """
    if authorization is None:
        raise Unauthorized("no Authorization header")
    if len(authorization) > _MAX_HEADER_BYTES:
        raise Unauthorized("the Authorization header is too long")
    scheme, _, token = authorization.partition(b" ")
    if scheme != b"Basic" and scheme.lower() != b"basic":
        raise Unauthorized("the Authorization is not Basic")
    try:
        user, colon, password = a2b_base64(token.strip(b" "), strict_mode=True).partition(b":")
    except Base64Error:
        raise Unauthorized("the Authorization header is malformed") from None

    caller, first, second = credentials.find(user)
    digest = sha256(password).digest()
    proved = compare_digest(digest, first) | compare_digest(digest, second)
    if not proved or caller is None or not colon:
        raise Unauthorized("unknown user or wrong password")
    return caller
