"""
The credentials file: who may POST, for which PBX, with which secret, and under which key names.

The file is JSON, mode 0600, small, and always replaced as a whole: a temporary file beside it, fsync, rename. Writers (the CLI) take a lock
on `<name>.lock`; readers need none, since they see either the old file or the new one.

    {"version": 1,
     "signing_key": "<32 random bytes, base64url>",        signs the tokens of every replica
     "credentials": [{"name": "site-7", "pbx": "voipex", "region": "CZ",
                      "key_names": {"UniqueId": "call_id"},  documented name -> the key this PBX sends
                      "secrets": [{"id": "5f0c2a91", "digest": "sha256$…", "created_at": "2026-03-02T08:00:00.000000Z"}]}]}

The older secret comes first. `manage` changes the file, `store` serves it to a running bridge.
"""

import fcntl
import os
import secrets
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from bridge.auth.authenticate import MAX_SECRETS
from voipex.errors import CredentialsInvalid
from voipex.phone import is_region
from voipex.timestamps import parse_rfc3339
from voipex.webhook import DOCUMENTED_KEYS

DEFAULT_REGION: Final = "CZ"
_OWNER_ONLY: Final = 0o600


def _check_region(region: str) -> str:
    if not is_region(region):
        raise ValueError("not a region with a numbering plan, such as CZ")
    return region


def _check_timestamp(text: str) -> str:
    try:
        parse_rfc3339(text)
    except ValueError:
        raise ValueError("not a timestamp such as 2026-03-02T08:00:00Z") from None
    return text


def _check_key_names(key_names: Mapping[str, str]) -> Mapping[str, str]:
    faults = [
        f"{name!r} is not a documented name (they are {', '.join(DOCUMENTED_KEYS)})"
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


class _FileModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Secret(_FileModel):
    """A live secret: its hash, never the secret itself."""

    id: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,32}$")]
    digest: Annotated[str, StringConstraints(pattern=r"^sha256\$[0-9a-f]{64}$"), Field(repr=False)]
    created_at: Annotated[str, AfterValidator(_check_timestamp)]


class Credential(_FileModel):
    """One PBX that may POST. `secrets`: one or two, the older one first."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9._-]{1,64}$")]
    pbx: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,32}$")]
    region: Annotated[str, AfterValidator(_check_region)] = DEFAULT_REGION
    key_names: Annotated[dict[str, str], AfterValidator(_check_key_names)] = {}
    secrets: Annotated[tuple[Secret, ...], Field(min_length=1, max_length=MAX_SECRETS)]


class CredentialsFile(_FileModel):
    """The content of the file."""

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
    Read and validate the file.

    Raises:
        CredentialsInvalid: lists every fault; never repeats a secret or a digest.
    """
    return open_file(path).file


class OpenedFile(NamedTuple):
    """The content, and the status of the very file that was read, whatever is renamed meanwhile."""

    file: CredentialsFile
    status: os.stat_result


def open_file(path: Path) -> OpenedFile:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            content = file.read()
    except FileNotFoundError:
        raise CredentialsInvalid(
            f"{path} does not exist. Create it with `voipex-bridge credentials create NAME`"
        ) from None
    except OSError as error:
        raise CredentialsInvalid(f"{path} cannot be read: {error.strerror}") from None
    return OpenedFile(_validate(content, path), status)


def _validate(content: bytes, path: Path) -> CredentialsFile:
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise CredentialsInvalid(f"{path} is not JSON: line {error.lineno}, column {error.colno}") from None
    try:
        file = CredentialsFile.model_validate(document)
    except ValidationError as error:
        faults = [fault_message(dict(each), document) for each in error.errors(include_input=False)]
        raise CredentialsInvalid(complaint(path, faults)) from None
    faults = [f"credential {name!r} is listed twice" for name in _repeated_names(file)]
    if faults:
        raise CredentialsInvalid(complaint(path, faults))
    return file


def complaint(path: Path, faults: list[str]) -> str:
    return f"{path} cannot be used:\n" + "\n".join(f"  {fault}" for fault in faults)


def fault_message(error: Mapping[str, Any], document: Any) -> str:
    """`credential 'site-7', key_names: the key 'x' cannot mean From and To at once`."""
    location = list(error["loc"])
    place = []
    if len(location) >= 2 and location[0] == "credentials":
        place.append(_entry_name(document, location[1]))
        location = location[2:]
    if location:
        place.append(".".join(map(str, location)))
    wanted = _PATTERNS.get(str(location[-1])) if location else None
    if error["type"] == "string_pattern_mismatch" and wanted is not None:
        return f"{', '.join(place)}: must be {wanted}"
    return f"{', '.join(place) or 'the file'}: {str(error['msg']).removeprefix('Value error, ')}"


def _entry_name(document: Any, index: int) -> str:
    entry = document["credentials"][index]
    name = entry.get("name") if isinstance(entry, dict) else None
    return f"credential {name!r}" if isinstance(name, str) else f"credential number {index + 1}"


def _repeated_names(file: CredentialsFile) -> list[str]:
    names = [credential.name for credential in file.credentials]
    return sorted({name for name in names if names.count(name) > 1})


def write(path: Path, file: CredentialsFile) -> None:
    """
    Replace the file atomically.

    1. Create a temporary file beside it, mode 0600, owned by the owner of the old file.
    2. fsync its content before it gets the name.
    3. Rename it, and fsync the folder.
    """
    target = path.resolve()  # a symbolic link stays one
    new = target.with_name(f".{target.name}.{secrets.token_hex(4)}.new")
    content = orjson.dumps(file.model_dump(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    try:
        # 1
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _OWNER_ONLY)
        with open(fd, "wb") as handle:  # noqa: PTH123  # a file descriptor has no path
            os.fchmod(fd, _OWNER_ONLY)
            with suppress(
                FileNotFoundError, PermissionError
            ):  # a file owned by root after `sudo` would be unreadable for the bridge
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
def file_lock(path: Path) -> Iterator[None]:
    """Wait for other writers. Never delete the lock file: a process could lock the unlinked inode."""
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


def foreign_pbx(name: str, pbx: str, pbxs: Collection[str]) -> str:
    return f"credential {name!r} is of PBX {pbx!r}, which is not in VOIPEX_PBXS ({', '.join(pbxs)})"
