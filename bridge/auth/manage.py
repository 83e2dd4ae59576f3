"""Create, list, rotate and revoke credentials: `voipex-bridge credentials`. Secrets are shown once and stored as `sha256$<hex>`."""

import hashlib
import re
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeVar

from pydantic import ValidationError

from bridge.auth.authenticate import MAX_SECRETS
from bridge.auth.credentials import (
    DEFAULT_REGION,
    Credential,
    CredentialsFile,
    Secret,
    fault_message,
    file_lock,
    foreign_pbx,
    read,
    write,
)
from voipex.errors import CredentialsInvalid
from voipex.timestamps import format_rfc3339

MIN_GIVEN_SECRET_LENGTH: Final = 20
_SECRET_PREFIX: Final = "vpx_"  # noqa: S105 - secret scanners find it, and no secret begins with a `-` that a shell command misreads
_SECRET_BYTES: Final = 24
_SIGNING_KEY_BYTES: Final = 32
_GIVEN_SECRET: Final = re.compile(r"[!-~]+")

_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A new secret, to be shown once. `dropped`: ids of the secrets that it replaced."""

    name: str
    pbx: str
    secret: str = field(repr=False)
    secret_id: str
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Revocation:
    """`dropped`: ids of the revoked secrets; `whole`: the credential itself is gone."""

    name: str
    dropped: tuple[str, ...]
    whole: bool


@dataclass(frozen=True, slots=True)
class SecretInfo:
    id: str
    created_at: str


@dataclass(frozen=True, slots=True)
class CredentialInfo:
    """A credential without its secrets and their digests."""

    name: str
    pbx: str
    region: str
    key_names: Mapping[str, str]
    secrets: tuple[SecretInfo, ...]


def create(
    path: Path,
    name: str,
    pbx: str,
    *,
    pbxs: Collection[str],
    now_us: int,
    region: str = DEFAULT_REGION,
    key_names: Mapping[str, str] | None = None,
    secret: str | None = None,
) -> NewSecret:
    """
    Add a credential, and create the file if it does not exist. `secret`: chosen by the operator, else generated.

    Raises:
        CredentialsInvalid: the name is taken, the PBX is not in `pbxs`, or an argument or the file is invalid.
    """
    _require_known_pbx(pbx, name, pbxs)
    new, stored = _new_secret(name, pbx, secret, now_us)
    entry = {
        "name": name,
        "pbx": pbx,
        "region": region.upper(),
        "key_names": dict(key_names or {}),
        "secrets": [stored],
    }
    try:
        credential = Credential.model_validate(entry)
    except ValidationError as error:
        faults = [fault_message(dict(each), entry) for each in error.errors(include_input=False)]
        raise CredentialsInvalid("\n".join(faults)) from None
    with file_lock(path):
        file = read(path) if path.exists() else CredentialsFile(signing_key=_new_signing_key())
        if any(each.name == name for each in file.credentials):
            raise CredentialsInvalid(
                f"credential {name!r} exists; `voipex-bridge credentials rotate {name}` gives it a new secret"
            )
        write(path, file.model_copy(update={"credentials": (*file.credentials, credential)}))
    return new


def list_all(path: Path) -> tuple[CredentialInfo, ...]:
    """Return every credential of the file."""
    return tuple(
        CredentialInfo(
            each.name,
            each.pbx,
            each.region,
            each.key_names,
            tuple(SecretInfo(secret.id, secret.created_at) for secret in each.secrets),
        )
        for each in read(path).credentials
    )


def rotate(path: Path, name: str, *, now_us: int, secret: str | None = None) -> NewSecret:
    """
    Add a second live secret. Of two existing ones the older stops working at once.

    Raises:
        CredentialsInvalid: no such credential, or the given secret or the file is invalid.
    """

    def add_secret(credential: Credential) -> tuple[Credential, NewSecret]:
        new, stored = _new_secret(name, credential.pbx, secret, now_us)
        remaining = (*credential.secrets, stored)[-MAX_SECRETS:]
        dropped = tuple(each.id for each in credential.secrets if each not in remaining)
        return credential.model_copy(update={"secrets": remaining}), replace(new, dropped=dropped)

    return _change(path, name, add_secret)


def revoke(path: Path, name: str, *, old: bool = False) -> Revocation:
    """
    Revoke a credential; with `old` only the older of its two secrets, which ends a rotation.

    Raises:
        CredentialsInvalid: no such credential, it has a single secret, or the file is invalid.
    """

    def drop(credential: Credential) -> tuple[Credential | None, Revocation]:
        if not old:
            return None, Revocation(name, tuple(each.id for each in credential.secrets), whole=True)
        if len(credential.secrets) < MAX_SECRETS:
            raise CredentialsInvalid(f"credential {name!r} has only one secret; nothing was revoked")
        older, newer = credential.secrets
        return credential.model_copy(update={"secrets": (newer,)}), Revocation(name, (older.id,), whole=False)

    return _change(path, name, drop)


def _change(path: Path, name: str, change: Callable[[Credential], tuple[Credential | None, _R]]) -> _R:
    """Rewrite the file with one credential changed, or removed (None)."""
    read(path)  # report a missing or broken file before creating its lock
    with file_lock(path):
        file = read(path)
        credential = next((each for each in file.credentials if each.name == name), None)
        if credential is None:
            known = ", ".join(each.name for each in file.credentials) or "none"
            raise CredentialsInvalid(f"there is no credential {name!r}; the file has: {known}")
        changed, result = change(credential)
        entries = (changed if each is credential else each for each in file.credentials)
        write(
            path,
            file.model_copy(update={"credentials": tuple(each for each in entries if each is not None)}),
        )
    return result


def _new_secret(name: str, pbx: str, given: str | None, now_us: int) -> tuple[NewSecret, Secret]:
    if given is not None and len(given) < MIN_GIVEN_SECRET_LENGTH:
        raise CredentialsInvalid(
            f"a given secret needs at least {MIN_GIVEN_SECRET_LENGTH} characters, this one has {len(given)}"
        )
    if given is not None and (not _GIVEN_SECRET.fullmatch(given) or "%" in given or "+" in given):
        raise CredentialsInvalid(
            "a given secret has visible ASCII characters other than % and +: HTTP clients encode those differently"
        )
    secret = given if given is not None else _SECRET_PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    secret_id = secrets.token_hex(4)
    digest = f"sha256${hashlib.sha256(secret.encode()).hexdigest()}"
    return (
        NewSecret(name, pbx, secret, secret_id),
        Secret(id=secret_id, digest=digest, created_at=format_rfc3339(now_us)),
    )


def _new_signing_key() -> str:
    return secrets.token_urlsafe(_SIGNING_KEY_BYTES)


def _require_known_pbx(pbx: str, name: str, pbxs: Collection[str]) -> None:
    if pbx not in pbxs:
        raise CredentialsInvalid(foreign_pbx(name, pbx, pbxs))
