"""
The credentials file: who may POST, for which PBX, with which secret, and under which key names.

Constraints: secrets are generated here (192 bit) or given with at least 20 characters, shown once and kept only as `sha256$<hex>`; a
rotation has two live secrets for as long as the PBX needs; a running bridge takes a changed file without restart, and never a broken one.

The file is JSON, mode 0600, small, and always written whole: a temporary file beside it, fsync, rename. Writers (the CLI) queue on a lock
file `<name>.lock`; readers need none, since they see the old file or the new one.

    {"version": 1,
     "signing_key": "<32 random bytes, base64url>",        signs the tokens of every replica
     "credentials": [{"name": "site-7", "pbx": "voipex", "region": "CZ",
                      "key_names": {"UniqueId": "call_id"},  documented name -> the key this PBX sends
                      "secrets": [{"id": "5f0c2a91", "digest": "sha256$…", "created_at": "2026-03-02T08:00:00.000000Z"}]}]}

The older secret comes first.
"""

import fcntl
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from bridge.auth.authenticate import LIVE_SECRETS, Caller, Credentials
from bridge.auth.authenticate import LiveSecret as Digest
from voipex.errors import CredentialsInvalid
from voipex.phone import is_region
from voipex.timestamps import microseconds, rfc3339
from voipex.webhook import DOCUMENTED_KEYS, key_table

DEFAULT_REGION: Final = "CZ"
MIN_GIVEN_SECRET_LENGTH: Final = 20
_SECRET_PREFIX: Final = "vpx_"  # noqa: S105  # found by secret scanners, and no secret begins with a `-` that a shell command misreads
_SECRET_BYTES: Final = 24
_SIGNING_KEY_BYTES: Final = 32
_VISIBLE_ASCII: Final = re.compile(r"[!-~]+")
_OWNER_ONLY: Final = 0o600

_R = TypeVar("_R")


# ---------------------------------------------------------------- the file


def _known_region(region: str) -> str:
    if not is_region(region):
        raise ValueError("not a region that numbers can be parsed in, such as CZ")
    return region


def _moment(text: str) -> str:
    try:
        microseconds(text)
    except ValueError:
        raise ValueError("no time such as 2026-03-02T08:00:00Z") from None
    return text


def _distinct_key_names(key_names: Mapping[str, str]) -> Mapping[str, str]:
    faults = [
        f"{name!r} is no documented name (they are {', '.join(DOCUMENTED_KEYS)})"
        for name in key_names
        if name not in DOCUMENTED_KEYS
    ]
    faults += [f"the key for {name} is blank" for name, sent in key_names.items() if not sent.strip()]
    meanings: dict[str, list[str]] = {}
    for name, sent in key_names.items():
        meanings.setdefault(sent, []).append(name)
    faults += [
        f"the key {sent!r} cannot mean {' and '.join(names)} at once"
        for sent, names in meanings.items()
        if sent.strip() and len(names) > 1
    ]
    if faults:
        raise ValueError("; ".join(faults))
    return key_names


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Secret(_Part):
    """A live secret, as far as we know it."""

    id: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,32}$")]
    digest: Annotated[str, StringConstraints(pattern=r"^sha256\$[0-9a-f]{64}$"), Field(repr=False)]
    created_at: Annotated[str, AfterValidator(_moment)]


class Credential(_Part):
    """One PBX's right to call; `secrets`: the older one first."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9._-]{1,64}$")]
    pbx: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,32}$")]
    region: Annotated[str, AfterValidator(_known_region)] = DEFAULT_REGION
    key_names: Annotated[dict[str, str], AfterValidator(_distinct_key_names)] = {}
    secrets: Annotated[tuple[Secret, ...], Field(min_length=1, max_length=LIVE_SECRETS)]


class CredentialsFile(_Part):
    """The whole file."""

    version: Literal[1] = 1
    signing_key: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{43,}$"), Field(repr=False)]
    credentials: tuple[Credential, ...] = ()


_PATTERNS: Final = {
    "id": "1 to 32 of a-z, 0-9 and -",
    "digest": "`sha256$` and 64 hexadecimal digits",
    "name": "1 to 64 of a-z, 0-9, `.`, `_` and -",
    "pbx": "1 to 32 of a-z, 0-9 and -",
    "signing_key": "at least 32 random bytes as base64url",
}


def read(path: Path) -> CredentialsFile:
    """
    Read and check the file.

    Raises:
        CredentialsInvalid: with every fault; never with what stands in the file's secrets.
    """
    return _opened(path).file


class _Opened(NamedTuple):
    file: CredentialsFile
    status: os.stat_result


def _opened(path: Path) -> _Opened:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())  # of the very file that is read, whatever is renamed meanwhile
            content = file.read()
    except FileNotFoundError:
        raise CredentialsInvalid(
            f"{path} does not exist. Make it with `voipex-bridge credentials create NAME`"
        ) from None
    except OSError as error:
        raise CredentialsInvalid(f"{path} cannot be read: {error.strerror}") from None
    return _Opened(_checked(content, path), status)


def _checked(content: bytes, path: Path) -> CredentialsFile:
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise CredentialsInvalid(f"{path} is no JSON: line {error.lineno}, column {error.colno}") from None
    try:
        file = CredentialsFile.model_validate(document)
    except ValidationError as error:
        faults = [_fault(dict(each), document) for each in error.errors(include_input=False)]
        raise CredentialsInvalid(_complaint(path, faults)) from None
    faults = [f"credential {name!r} stands there twice" for name in _repeated(file)]
    if faults:
        raise CredentialsInvalid(_complaint(path, faults))
    return file


def _complaint(path: Path, faults: list[str]) -> str:
    return f"{path} cannot be used:\n" + "\n".join(f"  {fault}" for fault in faults)


def _fault(error: Mapping[str, Any], document: Any) -> str:
    """`credential 'site-7', key_names: the key 'x' cannot mean From and To at once`."""
    location = list(error["loc"])
    place = []
    if len(location) >= 2 and location[0] == "credentials":
        place.append(_named(document, location[1]))
        location = location[2:]
    if location:
        place.append(".".join(map(str, location)))
    wanted = _PATTERNS.get(str(location[-1])) if location else None
    if error["type"] == "string_pattern_mismatch" and wanted is not None:
        return f"{', '.join(place)}: must be {wanted}"
    return f"{', '.join(place) or 'the file'}: {str(error['msg']).removeprefix('Value error, ')}"


def _named(document: Any, index: int) -> str:
    entry = document["credentials"][index]
    name = entry.get("name") if isinstance(entry, dict) else None
    return f"credential {name!r}" if isinstance(name, str) else f"credential number {index + 1}"


def _repeated(file: CredentialsFile) -> list[str]:
    names = [credential.name for credential in file.credentials]
    return sorted({name for name in names if names.count(name) > 1})


def _write(path: Path, file: CredentialsFile) -> None:
    """
    Replace the file, whole or not at all.

    1. A new file beside it that only its owner can read, of the old one's owner.
    2. Its content is on disk before its name is.
    3. It takes the name; the folder remembers that.
    """
    target = path.resolve()  # a link stays a link
    new = target.with_name(f".{target.name}.{secrets.token_hex(4)}.new")
    content = orjson.dumps(file.model_dump(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    try:
        # 1
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _OWNER_ONLY)
        with open(fd, "wb") as handle:  # noqa: PTH123  # a file descriptor has no path
            os.fchmod(fd, _OWNER_ONLY)
            with suppress(FileNotFoundError, PermissionError):  # else root's edit would lock the bridge out
                old = target.stat()
                os.fchown(fd, old.st_uid, old.st_gid)
            # 2
            handle.write(content)
            handle.flush()
            os.fsync(fd)
        # 3
        new.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise CredentialsInvalid(f"{path} cannot be written: {error.strerror}") from error


@contextmanager
def _sole_writer(path: Path) -> Iterator[None]:
    """Wait for other writers. The lock file stays: whoever removed it could lock a file that nobody else sees."""
    target = path.resolve()
    lock = target.with_name(f"{target.name}.lock")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _OWNER_ONLY)
    except OSError as error:
        raise CredentialsInvalid(f"{path} cannot be written: {error.filename}: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


# ---------------------------------------------------------------- what an operator does


class Issued(NamedTuple):
    """A new secret, to be shown once. `dropped`: ids of secrets that no longer work since."""

    name: str
    pbx: str
    secret: str
    secret_id: str
    dropped: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Issued(name={self.name!r}, pbx={self.pbx!r}, secret_id={self.secret_id!r})"


class Revoked(NamedTuple):
    """What no longer works: ids of secrets, and whether the credential is gone altogether."""

    name: str
    dropped: tuple[str, ...]
    whole: bool


class LiveSecret(NamedTuple):
    id: str
    created_at: str


class Listed(NamedTuple):
    """A credential as it may be shown to anyone."""

    name: str
    pbx: str
    region: str
    key_names: Mapping[str, str]
    secrets: tuple[LiveSecret, ...]


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
) -> Issued:
    """
    Add a credential, and the file if there is none. `secret`: one of the operator's choice, else a generated one.

    Raises:
        CredentialsInvalid: the name is taken, the PBX is not one of `pbxs`, or one of the arguments or the file cannot be used.
    """
    _refuse_foreign(pbx, name, pbxs)
    issued, live = _new_secret(name, pbx, secret, now_us)
    entry = {
        "name": name,
        "pbx": pbx,
        "region": region.upper(),
        "key_names": dict(key_names or {}),
        "secrets": [live],
    }
    try:
        credential = Credential.model_validate(entry)
    except ValidationError as error:
        faults = [_fault(dict(each), entry) for each in error.errors(include_input=False)]
        raise CredentialsInvalid("\n".join(faults)) from None
    with _sole_writer(path):
        file = read(path) if path.exists() else CredentialsFile(signing_key=_new_signing_key())
        if any(each.name == name for each in file.credentials):
            raise CredentialsInvalid(
                f"credential {name!r} exists; `voipex-bridge credentials rotate {name}` gives it a new secret"
            )
        _write(path, file.model_copy(update={"credentials": (*file.credentials, credential)}))
    return issued


def listed(path: Path) -> tuple[Listed, ...]:
    """Everyone in the file, without secrets and their digests."""
    return tuple(
        Listed(
            each.name,
            each.pbx,
            each.region,
            each.key_names,
            tuple(LiveSecret(secret.id, secret.created_at) for secret in each.secrets),
        )
        for each in read(path).credentials
    )


def rotate(path: Path, name: str, *, now_us: int, secret: str | None = None) -> Issued:
    """
    Give a credential a second live secret; of two it had the older one stops working at once.

    Raises:
        CredentialsInvalid: there is no such credential, or the given secret or the file cannot be used.
    """

    def renew(credential: Credential) -> tuple[Credential, Issued]:
        issued, live = _new_secret(name, credential.pbx, secret, now_us)
        kept = (*credential.secrets, live)[-LIVE_SECRETS:]
        dropped = tuple(each.id for each in credential.secrets if each not in kept)
        return credential.model_copy(update={"secrets": kept}), issued._replace(dropped=dropped)

    return _changed(path, name, renew)


def revoke(path: Path, name: str, *, old: bool = False) -> Revoked:
    """
    Take a credential away; with `old` only the older of its two secrets, which ends a rotation.

    Raises:
        CredentialsInvalid: there is no such credential, it has no older secret, or the file cannot be used.
    """

    def lessen(credential: Credential) -> tuple[Credential | None, Revoked]:
        if not old:
            return None, Revoked(name, tuple(each.id for each in credential.secrets), whole=True)
        if len(credential.secrets) < LIVE_SECRETS:
            raise CredentialsInvalid(f"credential {name!r} has only one secret; nothing was revoked")
        older, newer = credential.secrets
        return credential.model_copy(update={"secrets": (newer,)}), Revoked(name, (older.id,), whole=False)

    return _changed(path, name, lessen)


def _changed(path: Path, name: str, change: Callable[[Credential], tuple[Credential | None, _R]]) -> _R:
    """Rewrite the file with one credential changed, or without it (None)."""
    read(path)  # a missing or broken file is told before a lock is made for it
    with _sole_writer(path):
        file = read(path)
        credential = next((each for each in file.credentials if each.name == name), None)
        if credential is None:
            known = ", ".join(each.name for each in file.credentials) or "none"
            raise CredentialsInvalid(f"there is no credential {name!r}; those in the file: {known}")
        changed, result = change(credential)
        entries = (changed if each is credential else each for each in file.credentials)
        _write(
            path,
            file.model_copy(update={"credentials": tuple(each for each in entries if each is not None)}),
        )
    return result


def _new_secret(name: str, pbx: str, given: str | None, now_us: int) -> tuple[Issued, Secret]:
    if given is not None and len(given) < MIN_GIVEN_SECRET_LENGTH:
        raise CredentialsInvalid(
            f"a given secret needs at least {MIN_GIVEN_SECRET_LENGTH} characters, this one has {len(given)}"
        )
    if given is not None and not _VISIBLE_ASCII.fullmatch(given):
        raise CredentialsInvalid(
            "a given secret is made of visible ASCII characters: HTTP does not say how others are sent"
        )
    secret = given if given is not None else _SECRET_PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    secret_id = secrets.token_hex(4)
    digest = f"sha256${hashlib.sha256(secret.encode()).hexdigest()}"
    return (
        Issued(name, pbx, secret, secret_id),
        Secret(id=secret_id, digest=digest, created_at=rfc3339(now_us)),
    )


def _new_signing_key() -> str:
    return secrets.token_urlsafe(_SIGNING_KEY_BYTES)


def _refuse_foreign(pbx: str, name: str, pbxs: Collection[str]) -> None:
    if pbx not in pbxs:
        raise CredentialsInvalid(_foreign(name, pbx, pbxs))


def _foreign(name: str, pbx: str, pbxs: Collection[str]) -> str:
    return f"credential {name!r} is of PBX {pbx!r}, which is not in VOIPEX_PBXS ({', '.join(pbxs)})"


# ---------------------------------------------------------------- what the bridge does


@dataclass(frozen=True, slots=True)
class Reload:
    """What came of a changed file: `names` are in force now; with a `fault` they are the old ones, and a person must act."""

    names: tuple[str, ...]
    fault: str | None = None


_Stamp = tuple[int, int, int, int] | None


class CredentialStore:
    """
    The credentials in force in a running bridge. One owner (the event loop); every call reads a small file at most, and blocks for that.

    `credentials` may change with `reload…` only: take it anew for each request.
    """

    def __init__(self, path: Path, pbxs: Collection[str]) -> None:
        """
        Load the file.

        Raises:
            CredentialsInvalid: with every fault, such as a credential of a PBX that is not in `pbxs`. Do not start.
        """
        self._path = path
        self._pbxs = tuple(pbxs)
        self._stamp: _Stamp = None
        self.readable_by: Literal["owner", "group", "everyone"] = "owner"
        """Who may read the file besides root; other than the owner is worth a warning (secret volumes in Kubernetes are like that)."""
        self.credentials = self._loaded()

    def reload_if_changed(self) -> Reload | None:
        """Take the file if it is another one than at the last look (also behind a link); None if not. Call it every few seconds."""
        if _stamp_of(self._path) == self._stamp:
            return None
        return self.reload()

    def reload(self) -> Reload:
        """Take the file as it is now (SIGHUP). A broken or missing one leaves the old credentials in force; it is reported once."""
        self._stamp = _stamp_of(self._path)
        fault = None
        try:
            self.credentials = self._loaded()
        except CredentialsInvalid as error:
            fault = str(error)
        return Reload(tuple(caller.name for caller in self.credentials.callers()), fault)

    def _loaded(self) -> Credentials:
        file, status = _opened(self._path)
        self._stamp = _stamp(status)
        faults = [
            _foreign(each.name, each.pbx, self._pbxs)
            for each in file.credentials
            if each.pbx not in self._pbxs
        ]
        if faults:
            raise CredentialsInvalid(_complaint(self._path, faults))
        self.readable_by = _readers(status.st_mode)
        return Credentials(
            (
                (
                    Caller(each.name, each.pbx, each.region, key_table(each.key_names)),
                    [
                        Digest(secret.id, bytes.fromhex(secret.digest.removeprefix("sha256$")))
                        for secret in each.secrets
                    ],
                )
                for each in file.credentials
            ),
            signing_key=file.signing_key.encode(),
        )


def _stamp_of(path: Path) -> _Stamp:
    try:
        return _stamp(path.stat())
    except OSError:
        return None


def _stamp(status: os.stat_result) -> _Stamp:
    return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)


def _readers(mode: int) -> Literal["owner", "group", "everyone"]:
    if mode & stat.S_IROTH:
        return "everyone"
    return "group" if mode & stat.S_IRGRP else "owner"
