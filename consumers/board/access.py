"""
Who may look: users with a role, by Basic authentication.

The users file is JSON: `{"users": [{"name": "team", "role": "desk", "digest": "scrypt$<salt>$<hash>"}]}`. `desk` sees all, `wall` never
receives a whole phone number. Without a users file everybody is `desk`; that is allowed on loopback only.
"""

import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from voipex.errors import CredentialsInvalid

Role = Literal["desk", "wall"]

_COST: Final = {"n": 2**14, "r": 8, "p": 1}  # 16 MiB and some 40 ms
_CACHED: Final = 1000
_DIGEST: Final = re.compile(r"scrypt\$([0-9a-f]{32})\$([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class User:
    name: str
    role: Role


class _UserEntry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9._-]{1,64}$")]
    role: Role
    digest: Annotated[str, StringConstraints(pattern=_DIGEST.pattern), Field(repr=False)]


class _UsersFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    users: tuple[_UserEntry, ...]


def digest_of(password: str, salt: bytes | None = None) -> str:
    """Hash a password with scrypt and a salt of its own."""
    salt = secrets.token_bytes(16) if salt is None else salt
    return f"scrypt${salt.hex()}${hashlib.scrypt(password.encode(), salt=salt, dklen=32, **_COST).hex()}"


def read_users(path: Path) -> Mapping[str, tuple[User, str]]:
    """
    Read the users file: name -> user and digest.

    Raises:
        CredentialsInvalid: the file is missing, is no such JSON, or names a user twice.
    """
    try:
        file = _UsersFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise CredentialsInvalid(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        faults = sorted({".".join(map(str, each["loc"])) or "the file" for each in error.errors()})
        raise CredentialsInvalid(f"{path}: not valid: {', '.join(faults)}") from None
    users = {each.name: (User(each.name, each.role), each.digest) for each in file.users}
    if len(users) != len(file.users):
        raise CredentialsInvalid(f"{path}: a user is named twice")
    return users


def add_user(path: Path, name: str, role: Role, password: str) -> None:
    """
    Add a user to the file, or replace one; the file is made when it is missing, mode 0600.

    Raises:
        CredentialsInvalid: the name is not valid, or the file is not.
    """
    users = dict(read_users(path)) if path.exists() else {}
    users[name] = (User(name, role), digest_of(password))
    content = {
        "users": [{"name": user.name, "role": user.role, "digest": digest} for user, digest in users.values()]
    }
    try:
        _UsersFile.model_validate(content)
    except ValidationError:
        raise CredentialsInvalid("a name is 1 to 64 of a-z, 0-9, `.`, `_` and -") from None
    temporary = path.with_name(path.name + ".new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(orjson.dumps(content, option=orjson.OPT_INDENT_2))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


class Access:
    """Checks the Authorization header. A header that was right once is right until the users change; only its hash is stored."""

    def __init__(self, users: Mapping[str, tuple[User, str]] | None) -> None:
        self._users = users
        self._known: OrderedDict[bytes, User] = OrderedDict()
        self._salt = secrets.token_bytes(16)
        self.sign_ins = {"accepted": 0, "refused": 0}

    @property
    def open_to_all(self) -> bool:
        return self._users is None

    def known(self, header: str | None) -> User | None:
        """Return the user of a header that was checked before; without a users file everybody is known."""
        if self._users is None:
            return User("anyone", "desk")
        return None if header is None else self._known.get(self._key(header))

    def check(self, header: str | None) -> User | None:
        """Check name and password, which takes some 40 ms: call it in a thread, one at a time. None: wrong, or no Basic."""
        user = self._checked(header)
        self.sign_ins["refused" if user is None else "accepted"] += 1
        return user

    def _checked(self, header: str | None) -> User | None:
        name, password = _basic(header)
        if self._users is None or name is None or header is None:
            return None
        user, digest = self._users.get(name, (None, _NOBODY))
        match = _DIGEST.fullmatch(digest)
        salt = bytes.fromhex(match[1]) if match is not None else b""
        if not hmac.compare_digest(digest_of(password, salt), digest) or user is None:
            return None
        self._known[self._key(header)] = user
        while len(self._known) > _CACHED:
            self._known.popitem(last=False)
        return user

    def _key(self, header: str) -> bytes:
        return hashlib.sha256(self._salt + header.encode()).digest()


_NOBODY: Final = digest_of(secrets.token_hex(16))
"""An unknown name takes as long as a wrong password."""


def _basic(header: str | None) -> tuple[str | None, str]:
    scheme, _, encoded = (header or "").partition(" ")
    if scheme.casefold() != "basic":
        return None, ""
    try:
        name, _, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None, ""
    return name, password
