"""Readers of the board's stream who take nothing: they are cut, the others go on, and memory is bounded."""

import re
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.processes import ServiceProcess, environment_with, free_port
from tests.waiting import eventually, soak_rounds

GOOD, STALLED = 50, 10
REQUEST = b"GET /api/stream HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n"
_ID = re.compile(rb"^id: boot-(\d+)\nevent: (\w+)$", re.MULTILINE)


class BoardProcess(ServiceProcess):
    def __init__(self, folder: Path, changes: int, send_timeout_s: float, unread_ms: int) -> None:
        port = free_port()
        arguments = map(str, (port, 1000, changes, send_timeout_s, unread_ms))
        super().__init__(
            ("-m", "tests.board_process", *arguments), environment_with(), port, folder / "board.log"
        )

    @contextmanager
    def serving(self) -> Iterator["BoardProcess"]:
        self.launch(*self.command)
        with self:
            self.await_ready()
            yield self

    def metric(self, name: str) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.management_port}/metrics", timeout=60) as answer:
            text = answer.read().decode()
        found = re.search(rf"^voipex_board_{name} (\S+)", text, re.MULTILINE)
        assert found is not None, name
        return int(float(found[1]))

    def has_cut(self, streams: int) -> bool:
        return self.metric("stalled_streams_total") == streams

    def rss_mib(self) -> float:
        status = Path(f"/proc/{self.running.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+)", status)
        assert found is not None
        return int(found[1]) / 1024

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.running.pid}/fd").iterdir()))


class GoodReaders(threading.Thread):
    """Takes the streams of *count* readers, and notes the numbers of their frames."""

    def __init__(self, port: int, count: int) -> None:
        super().__init__(daemon=True)
        self._sockets = [connected(port) for _ in range(count)]
        self._held = [b""] * count
        self.frames: list[list[int]] = [[] for _ in range(count)]
        self.snapshots = [0] * count
        self.ended = 0
        self._done = threading.Event()

    def run(self) -> None:
        import selectors

        with selectors.DefaultSelector() as selector:
            for number, each in enumerate(self._sockets):
                selector.register(each, selectors.EVENT_READ, number)
            while not self._done.is_set():
                for key, _ in selector.select(0.2):
                    self._take(key.data)
        for each in self._sockets:
            each.close()

    def _take(self, number: int) -> None:
        content = self._sockets[number].recv(1 << 20)
        self.ended += not content
        self._held[number] += content
        whole, _, self._held[number] = self._held[number].rpartition(b"\n\n")
        for found in _ID.finditer(whole):
            if found[2] == b"change":
                self.frames[number].append(int(found[1]))
            self.snapshots[number] += found[2] == b"snapshot"

    def least(self) -> int:
        """Frames of the reader who has the fewest."""
        return min(map(len, self.frames))

    def stop(self) -> None:
        self._done.set()
        self.join(30)

    def gaps(self) -> list[int]:
        """Readers whose frames are not one after the other."""
        return [
            number
            for number, each in enumerate(self.frames)
            if each != list(range(each[0], each[0] + len(each)))
        ]


def connected(port: int, buffer_bytes: int | None = None) -> socket.socket:
    made = socket.socket()
    if buffer_bytes is not None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    made.settimeout(60)
    made.connect(("127.0.0.1", port))
    made.sendall(REQUEST)
    return made


@contextmanager
def stalled_readers(port: int, count: int) -> Iterator[None]:
    """Ask for the stream and take nothing; the sockets stay open."""
    stuck = [connected(port, 4096) for _ in range(count)]
    try:
        yield
    finally:
        for each in stuck:
            each.close()


@pytest.fixture
def board(tmp_path: Path) -> Callable[..., BoardProcess]:
    return lambda *arguments: BoardProcess(tmp_path, *arguments)


@pytest.mark.process
def test_stalled_readers_are_cut_and_good_ones_go_on(
    board: Callable[..., BoardProcess], record_property: Any
) -> None:
    with board(60, 1.0, 2000).serving() as served:
        port = served.management_port
        good = GoodReaders(port, GOOD)
        good.start()
        eventually(lambda: good.least() >= 40, "the ring is not full yet")
        before_mib, before_files = served.rss_mib(), served.open_files()

        with stalled_readers(port, STALLED):
            eventually(partial(served.has_cut, STALLED), served.log)
            assert served.metric("readers") == GOOD
            eventually(lambda: served.open_files() <= before_files, "connections stay open")
            seen = good.least()
            eventually(lambda: good.least() >= seen + 20, "the good readers stand")
            grown_mib = served.rss_mib() - before_mib
        good.stop()

    record_property("stalled readers cut", STALLED)
    record_property("MiB of memory more", round(max(0.0, grown_mib), 1))
    assert grown_mib <= 20
    assert (good.ended, good.gaps()) == (0, [])
    assert good.snapshots == [1] * GOOD


@pytest.mark.process
def test_a_reader_that_is_cut_resumes_behind_its_last_frame(board: Callable[..., BoardProcess]) -> None:
    with board(20, 1.0, 2000).serving() as served:
        port = served.management_port
        first = GoodReaders(port, 1)
        first.start()
        eventually(lambda: first.least() >= 5, "no frames come")
        first.stop()
        last = first.frames[0][-1]
        with socket.create_connection(("127.0.0.1", port), timeout=60) as again:
            again.sendall(REQUEST.replace(b"\r\n\r\n", f"\r\nLast-Event-ID: boot-{last}\r\n\r\n".encode()))
            content = b""
            while b"event: change" not in content:
                content += again.recv(1 << 16)

    first_again = _ID.search(content)
    assert first_again is not None
    assert (int(first_again[1]), first_again[2]) == (last + 1, b"change")


@pytest.mark.slow
@pytest.mark.process
def test_waves_of_stalled_readers_leave_memory_as_it_was(
    board: Callable[..., BoardProcess], record_property: Any
) -> None:
    """With the true limits: each wave is cut within two minutes, and what it took is given back."""
    with board(60, 10.0, 30_000).serving() as served:
        port = served.management_port
        good = GoodReaders(port, GOOD)
        good.start()
        eventually(lambda: good.least() >= 100, "the ring is not full yet")
        before_mib, before_files = served.rss_mib(), served.open_files()
        grown_mib, slowest_s = [], 0.0
        for wave in range(1, soak_rounds(10) + 1):
            begun = time.monotonic()
            with stalled_readers(port, STALLED):
                eventually(partial(served.has_cut, wave * STALLED), served.log, 120)
                slowest_s = max(slowest_s, time.monotonic() - begun)
                eventually(lambda: served.open_files() <= before_files, "connections stay open", 120)
            grown_mib.append(served.rss_mib() - before_mib)
        good.stop()

    record_property("stalled readers cut", STALLED * len(grown_mib))
    record_property("s until the last of a wave was (most)", round(slowest_s, 1))
    record_property("MiB of memory more", round(max(0.0, *grown_mib), 1))
    assert max(grown_mib) <= 20
    assert (good.ended, good.gaps()) == (0, [])
