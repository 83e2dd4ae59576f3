"""
Tools of other ecosystems that check the artefacts. `make artefacts` installs those of pip and npm; the others (docker with compose, kubectl,
promtool, node, kcat) must be on the PATH. A missing tool fails the test with a hint how to install it.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
BUILD: Final = ROOT / "build" / "artefacts"
"""Output of the checks; not committed."""
_BIN: Final = BUILD / "venv" / "bin"
NODE_MODULES: Final = BUILD / "npm" / "node_modules"

_HINTS: Final = {
    "docker": "an engine (25 or newer) with compose (2.24 or newer): https://docs.docker.com/engine/install/",
    "kubectl": "https://kubernetes.io/docs/tasks/tools/",
    "promtool": "Debian's package prometheus, or a release of Prometheus",
    "amtool": "Debian's package prometheus-alertmanager, or a release of Alertmanager",
    "node": "https://nodejs.org",
    "kcat": "Debian's package kcat",
}


def tool(name: str) -> str:
    """Return the path of a tool. Raises AssertionError with a hint if it is missing."""
    own = _BIN / name
    if own.exists():
        return str(own)
    found = shutil.which(name)
    assert found is not None, f"{name} is needed: {_HINTS.get(name, 'run it by `make artefacts`')}"
    return found


def run(
    name: str,
    *arguments: str | Path,
    timeout_s: float = 120,
    text: str | None = None,
    variables: Mapping[str, str] | None = None,
    **more: str,
) -> "subprocess.CompletedProcess[str]":
    """
    Run a tool in the root of the repository, whatever its exit code. `text` is its standard input; `variables` and `more` are
    added to its environment.
    """
    return subprocess.run(
        [tool(name), *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **(variables or {}), **more},
        input=text,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def passes(name: str, *arguments: str | Path, timeout_s: float = 120, **environment: str) -> str:
    """Run a tool and return its standard output. Raises AssertionError with its output unless its exit code is 0."""
    done = run(name, *arguments, timeout_s=timeout_s, variables=environment)
    assert done.returncode == 0, (
        f"{name} {' '.join(map(str, arguments))}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    )
    return done.stdout


def fails(name: str, *arguments: str | Path, text: str | None = None, **more: str) -> str:
    """Run a tool on a planted fault and return its output. Raises AssertionError if its exit code is 0."""
    done = run(name, *arguments, text=text, variables=more)
    assert done.returncode != 0, f"{name} {' '.join(map(str, arguments))} found nothing\n{done.stdout}"
    return done.stdout + done.stderr


def engine() -> None:
    """Raise AssertionError unless docker, compose and a running engine are available."""
    for command in (("version",), ("compose", "version")):
        done = run("docker", *command)
        assert done.returncode == 0, f"docker {' '.join(command)}: {done.stderr}\n{_HINTS['docker']}"


def written(name: str, found: object) -> None:
    """Write measurements to build/artefacts/<name>.json."""
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


IMAGE: Final = "voipex-bridge:artefacts"


@cache
def image() -> str:
    """Build the image from the working tree, once, and return its name."""
    engine()
    passes("docker", "build", "--quiet", "-f", "deploy/Dockerfile", "-t", IMAGE, ".", timeout_s=900)
    return IMAGE
