"""
The spool against a list: whatever is appended, refused, taken, rewound, crashed and restarted, what was answered comes out in order.

A crash keeps any prefix of a file that is at least as long as what was synced, with anything behind it, and may forget a file whose
directory was not synced.
"""

import asyncio
import itertools
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bridge.spool import segment_log as backlog
from bridge.spool import segments
from bridge.spool.spool import Spooled
from tests.spool_fixtures import BROKEN, FULL, Disk, chores_done, open_spool, record
from voipex.errors import SpoolFailed, SpoolFull


@dataclass
class Entry:
    """A record of the list. Not `sure`: refused by a disk that broke, so it may be there or not."""

    number: int
    sure: bool = True


class SpoolMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.home = Path(tempfile.mkdtemp())
        self.roots = (self.home / f"spool-{n}" for n in itertools.count())
        self.fresh = 0
        self.entries: list[Entry] = []
        self.acknowledged = 0  # index into entries
        self.next: int | None = (
            0  # index of the entry that take must bring; None: at most `acknowledged`, after a crash
        )
        self.unacknowledged: list[Spooled] = []
        self.content: dict[tuple[str, int], int] = {}
        self.broken = False

    @initialize(
        ahead=st.sampled_from([0, 500, 1 << 20]),
        chunk=st.sampled_from([300, 1 << 20]),
        near=st.sampled_from([0, 1 << 16]),
        allocates=st.booleans(),
    )
    def start(self, ahead: int, chunk: int, near: int, allocates: bool) -> None:
        self.patches = [
            patch.object(backlog, "_AHEAD_BYTES", ahead),
            patch.object(backlog, "_NEAR_BYTES", near),
            patch.object(backlog, "CHUNK_BYTES", chunk),
            patch.object(segments, "CHUNK_BYTES", chunk),
        ]
        for one in self.patches:
            one.start()
        self.allocates = allocates
        self.root = next(self.roots)
        self._open()

    def _open(self) -> None:
        self.disk = Disk(allocates=self.allocates)
        self.spool = open_spool(self.root, self.disk, segment_bytes=700)
        self.unacknowledged, self.broken = [], False

    def _append(self, count: int) -> range:
        numbers = range(self.fresh, self.fresh + count)
        self.fresh += count
        self.loop.run_until_complete(self.spool.append([record(n) for n in numbers]))
        return numbers

    @precondition(lambda self: not self.broken)
    @rule(count=st.integers(1, 4))
    def append(self, count: int) -> None:
        self.entries += map(Entry, self._append(count))

    @precondition(lambda self: not self.broken)
    @rule(faults=st.sampled_from(FULL), count=st.integers(1, 4))
    def append_to_a_full_disk(self, faults: dict[str, int | str], count: int) -> None:
        self.disk.faults = faults
        with suppress(SpoolFull):
            self.entries += map(Entry, self._append(count))
        self.disk.faults = {}

    @precondition(lambda self: not self.broken)
    @rule(faults=st.sampled_from(BROKEN))
    def append_to_a_broken_disk(self, faults: dict[str, int | str]) -> None:
        self.disk.faults = faults
        number = self.fresh
        try:
            self.entries += map(Entry, self._append(1))
        except SpoolFull:
            pass  # there was no segment yet to cut back
        except SpoolFailed:
            self.entries.append(Entry(number, sure=False))
            self.broken = True
        self.disk.faults = {}

    @precondition(lambda self: self.spool.stats().waiting_records > len(self.unacknowledged))
    @rule(most=st.integers(1, 5))
    def take(self, most: int) -> None:
        taken = self.loop.run_until_complete(self.spool.take(most, 1 << 20))
        assert 1 <= len(taken) <= most
        for one in taken:
            self._expect(one)
        self.unacknowledged += taken

    def _expect(self, one: Spooled) -> None:
        number = int(one.record.value)
        assert one.record == record(number)
        assert self.content.setdefault((one.spool_id, one.seq), number) == number
        if self.next is None:
            self.next = next(i for i, entry in enumerate(self.entries) if entry.number == number)
            assert all(not entry.sure for entry in self.entries[self.acknowledged : self.next])
        while self.entries[self.next].number != number:
            assert not self.entries.pop(self.next).sure
        self.entries[self.next].sure = True
        self.next += 1

    @precondition(lambda self: self.unacknowledged)
    @rule(part=st.floats(0, 1))
    def acknowledge(self, part: float) -> None:
        count = max(1, round(part * len(self.unacknowledged)))
        through = self.unacknowledged[count - 1]
        self.loop.run_until_complete(self._acknowledge(through))
        del self.unacknowledged[:count]
        index = next(i for i, e in enumerate(self.entries) if e.number == int(through.record.value))
        self.acknowledged = max(self.acknowledged, index + 1)

    async def _acknowledge(self, through: Spooled) -> None:
        self.spool.acknowledge(through)

    @rule()
    def rewind(self) -> None:
        self.spool.rewind()
        if self.unacknowledged:
            first = int(self.unacknowledged[0].record.value)
            self.next = next(i for i, entry in enumerate(self.entries) if entry.number == first)
        self.unacknowledged = []

    @rule()
    def pass_a_second(self) -> None:
        self.spool._write_cursors()

    @rule()
    def restart(self) -> None:
        self.loop.run_until_complete(self.spool.close())
        self.next = None
        self._open()

    @rule(data=st.data(), unlisted=st.booleans(), cursor=st.sampled_from([None, b"", b"5 12345678"]))
    def crash(self, data: st.DataObject, unlisted: bool, cursor: bytes | None) -> None:
        def spoil(content: bytes, synced: int) -> bytes:
            kept = data.draw(st.integers(synced, len(content)), "kept")
            return content[:kept] + data.draw(st.sampled_from([b"", b"\0" * 99, b"\xa5" * 99]), "garbage")

        chores_done(self.spool)
        root = next(self.roots)
        self.disk.image(self.root, root, spoil, unlisted=unlisted)
        if cursor is not None:
            (root / self.spool.spool_id / "cursor").write_bytes(cursor)
        self.loop.run_until_complete(self.spool.close())
        self.root, self.next = root, None
        self._open()

    @invariant()
    def nothing_is_damaged(self) -> None:
        if hasattr(self, "spool"):
            assert self.spool.stats().damaged_frames_total == 0
            assert self.spool.stats().bytes >= 0

    def teardown(self) -> None:
        if hasattr(self, "spool"):
            try:
                self._drain_all()
            finally:
                self.loop.run_until_complete(self.spool.close())
                for one in self.patches:
                    one.stop()
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.home)

    def _drain_all(self) -> None:
        self.spool.rewind()
        self.next = None
        self.spool.seal()
        while taken := self.loop.run_until_complete(self.spool.take(100, 1 << 20)):
            for one in taken:
                self._expect(one)
        rest = self.entries[self.acknowledged if self.next is None else self.next :]
        assert not [entry for entry in rest if entry.sure]
        stats = self.spool.stats()
        assert stats.appended_total - stats.acknowledged_total == stats.waiting_records


TestSpoolMachine = SpoolMachine.TestCase
TestSpoolMachine.settings = settings(deadline=None)
