"""Child processes that die with their parent, and the end of their logs."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from voipex.errors import BridgeError

_LOG_LINES: Final = 15
_LOG_BYTES: Final = 16_384  # more than that many lines

_DIE_WITH_PARENT: Final = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL; it survives exec
if os.getppid() == int(sys.argv[1]):  # else the parent died before the line above
    os.execv(sys.argv[2], sys.argv[2:])
"""
"""Runs in a new Python, which then becomes the command: code between fork and exec is not safe in a process with threads."""


def with_parent_death_signal(command: list[str]) -> list[str]:
    """
    Return a command that runs *command* and is killed when the thread that starts it ends, even by kill -9.

    Linux only: elsewhere *command* is returned unchanged, and a killed parent may leave the process behind.
    """
    if sys.platform != "linux":
        return command
    return [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]


class ProcessExited(BridgeError):
    """A process ended that should run until it is stopped, or it did not become ready."""


@dataclass(slots=True)
class Child:
    """A child process, with its output in a log file."""

    name: str
    process: "subprocess.Popen[bytes]"
    log_path: Path

    def has_exited(self) -> bool:
        """Whether the process has ended."""
        return self.process.poll() is not None

    def terminate(self) -> None:
        """Send SIGTERM, unless the process has ended."""
        if not self.has_exited():
            self.process.send_signal(signal.SIGTERM)

    def stop(self, timeout_s: float) -> None:
        """Send SIGTERM and wait; after *timeout_s* kill the process."""
        self.terminate()
        try:
            self.process.wait(max(0.0, timeout_s))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def exit_message(self) -> str:
        """Say that the process exited, with its exit code and the end of its log."""
        return f"{self.name} exited with code {self.process.returncode}; {last_lines(self.log_path)}"


def last_lines(log_path: Path) -> str:
    """Return the end of a log file, indented, under a heading."""
    try:
        with log_path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_BYTES))
            lines = log.read().decode(errors="replace").splitlines()[-_LOG_LINES:]
    except OSError:
        return f"there is no log at {log_path}"
    return f"the end of {log_path}:\n" + "\n".join(f"  {line}" for line in lines)
