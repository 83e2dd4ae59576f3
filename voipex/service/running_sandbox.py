"""
Find the sandbox that runs here, as `voipex-sandbox up` (`make run`) describes it in `build/run.json`.

Commands that are run beside it, in the same folder or below, use its ports and files unless the environment names another Kafka.
"""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from voipex.service.settings import is_set, variable_of

RUN_FILE: Final = Path("build/run.json")
_BOOTSTRAP: Final = variable_of("kafka_bootstrap_servers")


@dataclass(frozen=True, slots=True)
class RunningSandbox:
    """What `run.json` says. `variables`: those that each service was started with, by service, without passwords."""

    run_file: Path
    ingress_url: str
    user: str
    password: str
    pbx: str
    bootstrap_servers: str
    variables: Mapping[str, Mapping[str, str]]

    @property
    def chosen(self) -> bool:
        """Whether the commands use it although no variable names its Kafka."""
        return not is_set(_BOOTSTRAP)

    def __str__(self) -> str:
        return f"using the sandbox of {self.run_file}: Kafka at {self.bootstrap_servers}, bridge at {self.ingress_url}"


def find_sandbox(start: Path | None = None) -> RunningSandbox | None:
    """
    Return the sandbox that runs in *start* (the current folder) or in a folder above it.

    None if there is none, if its processes are gone, if the file belongs to another user, or if the environment names another Kafka.
    """
    here = (start or Path.cwd()).absolute()
    for folder in (here, *here.parents):
        found = _read(folder / RUN_FILE)
        if found is not None:
            found_elsewhere = is_set(_BOOTSTRAP) and os.environ.get(_BOOTSTRAP) != found.bootstrap_servers
            return None if found_elsewhere else found
    return None


def _read(path: Path) -> RunningSandbox | None:
    try:
        found = path.stat()
        if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
            return None  # written by somebody else: its addresses are not to be trusted
        content: Any = orjson.loads(path.read_bytes())
        if not all(_is_running(pid) for pid in content["pids"].values()):
            return None  # left behind by kill -9
        return RunningSandbox(
            Path(os.path.relpath(path)),
            content["ingress_url"],
            content["user"],
            content["password"],
            content["pbx"],
            content["bootstrap_servers"],
            content["variables"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # no file, or not one of this version


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
