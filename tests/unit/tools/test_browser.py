import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tools import browser


def test_a_browser_is_brought_once_for_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock of one open file keeps out another thread as it keeps out another process."""
    path, starts, brought = tmp_path / "chromium", threading.Barrier(3), []
    another = threading.Event()

    def installed() -> Iterator[Path]:
        yield from [path] if path.exists() else []

    def bring() -> Iterator[Path]:
        brought.append(threading.get_ident())
        if len(brought) > 1:
            another.set()
        another.wait(0.3)  # if there is no lock, the other two are here before this one has brought it
        with path.open("x") as file:  # fails if another is bringing it
            file.write("#!/bin/sh\nsleep 0.1\n")
        path.chmod(0o755)
        yield path

    monkeypatch.setattr(browser, "FOLDER", tmp_path / "build")
    for way, replacement in (("_named", installed), ("_installed", installed), ("_from_debian", bring)):
        monkeypatch.setattr(browser, way, replacement)

    def find() -> Path:
        starts.wait()
        return browser.find()

    with ThreadPoolExecutor(3) as pool:
        found = [pool.submit(find) for _ in range(3)]
        assert [one.result() for one in found] == [path] * 3
    assert len(brought) == 1
