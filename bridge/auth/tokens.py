"""
Bearer tokens of our own (RFC 6749 client credentials, RFC 6750), pure: what a client asks for, what it gets, what a token proves.

    vpt1~<credential>~<secret id>~<expires, seconds since 1970>~<HMAC-SHA256 of all before, base64url>

A token is no session: each replica, and each restart, checks it with the signing key of the credentials file alone. It names the secret it
was fetched with, so it ends with that secret (`auth` looks), with its hour, or with the signing key.
"""

import hmac
from base64 import b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from functools import lru_cache
from hmac import compare_digest
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, unquote_plus

import orjson

from voipex.errors import InvalidClient, InvalidTokenRequest, TokenInvalid, UnsupportedGrantType

LIFETIME_S: Final = 3600
MAX_BODY_BYTES: Final = 4096  # a request for a token has some 150
_VERSION: Final = b"vpt1"  # signed too: another use of the key must not make tokens
_MAX_FIELDS: Final = 16
_MAX_BASIC_BYTES: Final = 1024
_GRANT: Final = "client_credentials"
_FIELDS: Final = ("grant_type", "client_id", "client_secret")


class Claims(NamedTuple):
    """What a token says. Whether its secret still lives is for `auth` to find out."""

    name: bytes
    secret_id: bytes
    expires_s: int


def issue(name: str, secret_id: str, now_s: float, signing_key: bytes) -> str:
    """A token for *LIFETIME_S*. Names and ids have no `~` (`credentials` sees to that)."""
    signed = b"~".join((_VERSION, name.encode(), secret_id.encode(), str(int(now_s) + LIFETIME_S).encode()))
    return f"{signed.decode()}~{_signature(signed, signing_key).decode()}"


def claims(token: bytes, now_s: float, signing_key: bytes) -> Claims:
    """
    What an unexpired token of ours says.

    Raises:
        TokenInvalid: another's, changed, or too old; without a signing key every token is.
    """
    signed, _, signature = token.rpartition(b"~")
    genuine = compare_digest(_signature(signed, signing_key), signature) if signing_key else False
    if not genuine:
        raise TokenInvalid("the token is not one of ours")
    # Signed by us, so it has the form that `issue` gave it; but a later version may give it another.
    version, _, rest = signed.partition(b"~")
    parts = rest.split(b"~")
    if version != _VERSION or len(parts) != 3 or not parts[2].isdigit():
        raise TokenInvalid("the token is not one of ours")
    expires_s = int(parts[2])
    if not now_s < expires_s:
        raise TokenInvalid("the token has expired")
    return Claims(parts[0], parts[1], expires_s)


def _signature(signed: bytes, signing_key: bytes) -> bytes:
    mac = _keyed(signing_key).copy()
    mac.update(signed)
    return urlsafe_b64encode(mac.digest()).rstrip(b"=")


@lru_cache(maxsize=4)
def _keyed(signing_key: bytes) -> hmac.HMAC:
    """Setting the key costs as much as the rest."""
    return hmac.new(signing_key, digestmod="sha256")


# ---------------------------------------------------------------- what a client asks


class Client(NamedTuple):
    """Who asks for a token, not yet proved. `alternative`: its name and secret as RFC 6749 2.3.1 would have them read."""

    name: bytes
    secret: bytes
    alternative: "Client | None" = None

    def __repr__(self) -> str:
        return f"Client({self.name!r})"


def client_of(body: bytes, authorization: bytes | None) -> Client:
    """
    Read a request for a token: form or JSON (by its first byte: VOIPEX sends what it was told to, under any content type), client in the
    body or in HTTP Basic.

    Raises:
        InvalidTokenRequest: no form or JSON object, a field missing, twice, or no text.
        UnsupportedGrantType: another grant than `client_credentials`.
        InvalidClient: no client, or a malformed Authorization.
    """
    fields = _fields(body)
    grant = fields.get("grant_type")
    if grant is None:
        raise InvalidTokenRequest("no grant_type; it must be client_credentials")
    if grant != _GRANT:
        raise UnsupportedGrantType("the only grant_type is client_credentials")
    name, secret = fields.get("client_id"), fields.get("client_secret")
    if authorization is not None:
        if secret is not None:
            raise InvalidTokenRequest("a client_secret in the body and an Authorization; send one of them")
        client = _basic(authorization)
        if name is not None and name.encode() not in (
            client.name,
            client.alternative and client.alternative.name,
        ):
            raise InvalidTokenRequest("client_id and Authorization name two clients")
        return client
    if not name or not secret:
        raise InvalidClient("no client_id and client_secret, and no Authorization")
    return Client(name.encode(), secret.encode())


def _fields(body: bytes) -> dict[str, str]:
    """The fields of ours; others are ignored."""
    try:
        if body.lstrip()[:1] == b"{":
            pairs: list[tuple[str, Any]] = list(orjson.loads(body).items())
        else:
            text = body.decode().strip()
            pairs = list(
                parse_qsl(
                    text,
                    keep_blank_values=True,
                    strict_parsing=bool(text),
                    errors="strict",
                    max_num_fields=_MAX_FIELDS,
                )
            )
    except ValueError:  # orjson's is one too, and that of bytes that are not UTF-8
        raise InvalidTokenRequest("neither a form nor a JSON object") from None
    fields: dict[str, str] = {}
    for name, value in pairs:
        if name in _FIELDS:
            if name in fields or not isinstance(value, str):
                raise InvalidTokenRequest(f"{name} stands there twice, or is no text")
            fields[name] = value
    return fields


def _basic(authorization: bytes) -> Client:
    scheme, _, token = authorization.partition(b" ")
    try:
        if scheme.lower() != b"basic" or len(authorization) > _MAX_BASIC_BYTES:
            raise InvalidClient("the Authorization is not Basic")
        name, colon, secret = b64decode(token.strip(b" "), validate=True).partition(b":")
    except Base64Error:
        raise InvalidClient("the Authorization header is malformed") from None
    if not name or not colon:
        raise InvalidClient("the Authorization header is malformed")
    if b"%" in name + secret or b"+" in name + secret:
        return Client(name, secret, Client(_unquoted(name), _unquoted(secret)))
    return Client(name, secret)


def _unquoted(text: bytes) -> bytes:
    return unquote_plus(text.decode("latin-1"), encoding="latin-1").encode("latin-1")
