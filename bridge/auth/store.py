"""The credentials in force in a running bridge: reloaded when the file changes, never replaced by a broken one."""

import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bridge.auth.authenticate import Credentials, Principal, SecretHash
from bridge.auth.credentials import complaint, foreign_pbx, open_file
from voipex.errors import CredentialsInvalid
from voipex.service.watched_file import WatchedFiles
from voipex.webhook import key_map


@dataclass(frozen=True, slots=True)
class Reload:
    """Outcome of a reload. `names`: the credentials in force; with a `fault` they are the old ones, and an operator must act."""

    names: tuple[str, ...]
    fault: str | None = None


class CredentialStore:
    """
    One owner (the event loop); every call reads a small file at most, and blocks for that.

    `credentials` changes with `reload` and `reload_if_changed` only: read the attribute for each request.
    """

    def __init__(self, path: Path, pbxs: Collection[str]) -> None:
        """
        Load the file.

        Raises:
            CredentialsInvalid: lists every fault, such as a credential of a PBX that is not in `pbxs`. Do not start.
        """
        self._path = path
        self._pbxs = tuple(pbxs)
        self._file = WatchedFiles(path)
        self.readable_by: Literal["owner", "group", "everyone"] = "owner"
        """Who besides root may read the file. Anyone but the owner deserves a warning; Kubernetes mounts secrets that way."""
        self.credentials = self._load()

    def reload_if_changed(self) -> Reload | None:
        """Reload if the file changed since the last look; None otherwise. Call it every second or two."""
        return self.reload() if self._file.changed() else None

    def reload(self) -> Reload:
        """Reload now (SIGHUP). A broken or missing file keeps the old credentials in force and is reported once."""
        fault = None
        try:
            self.credentials = self._load()
        except CredentialsInvalid as error:
            fault = str(error)
        return Reload(tuple(principal.name for principal in self.credentials.principals()), fault)

    def _load(self) -> Credentials:
        self._file.changed()  # what changes from here on is found by the next look
        file, status = open_file(self._path)
        faults = [
            foreign_pbx(each.name, each.pbx, self._pbxs)
            for each in file.credentials
            if each.pbx not in self._pbxs
        ]
        if faults:
            raise CredentialsInvalid(complaint(self._path, faults))
        self.readable_by = _readers(status.st_mode)
        return Credentials(
            (
                (
                    Principal(each.name, each.pbx, each.region, key_map(each.key_names)),
                    [
                        SecretHash(secret.id, bytes.fromhex(secret.digest.removeprefix("sha256$")))
                        for secret in each.secrets
                    ],
                )
                for each in file.credentials
            ),
            signing_key=file.signing_key.encode(),
        )


def _readers(mode: int) -> Literal["owner", "group", "everyone"]:
    if mode & stat.S_IROTH:
        return "everyone"
    return "group" if mode & stat.S_IRGRP else "owner"
