"""Processes of ours that must not outlive us."""

import os
import sys
from typing import Final

_DIE_WITH_PARENT: Final = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL; it outlives exec
if os.getppid() == int(sys.argv[1]):  # else the parent died before the line above
    os.execv(sys.argv[2], sys.argv[2:])
"""
"""Run by a new Python that then becomes the command: code between fork and exec would not be safe in a process with threads."""


def dying_with_parent(command: list[str]) -> list[str]:
    """
    Make *command* end when the thread that starts it ends, also by kill -9; that thread must live as long as it should.

    Linux only: elsewhere the command is returned as it is, and a process may be left behind by a kill -9.
    """
    if sys.platform != "linux":
        return command
    return [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]
