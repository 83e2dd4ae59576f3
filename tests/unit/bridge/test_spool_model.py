"""
The spool against a list: whatever is appended, rejected, taken, crashed and restarted, every durable record comes out, in order.

A crash preserves a prefix of each file, at least as long as what was synced, with any bytes behind it, and may forget a file whose
directory was not synced.
"""

import asyncio
import itertools
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bridge.spool import SpooledRecord
from tests.spool_fixtures import DISK_FAILED, DISK_FULL, Disk, Faults, append, jobs_done, open_spool, record
from voipex.errors import SpoolFailed, SpoolFull


@dataclass
class Entry:
    """A record of the list. If it is not durable, the disk failed while it was written, and it may come out or not."""

    number: int
    durable: bool = True


class SpoolMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.home = Path(tempfile.mkdtemp())
        self.roots = (self.home / f"spool-{n}" for n in itertools.count())
        self.next_number = 0
        self.entries: list[Entry] = []
        self.acknowledged = 0  # index into entries
        self.next: int | None = (
            0  # index of the entry to be taken next; None after a restart: at most `acknowledged`
        )
        self.unacknowledged: list[SpooledRecord] = []
        self.numbers: dict[tuple[str, int], int] = {}
        self.failed = False

    @initialize(
        read_ahead_bytes=st.sampled_from([0, 500, 1 << 20]),
        chunk_bytes=st.sampled_from([300, 1 << 20]),
        inline_read_bytes=st.sampled_from([0, 1 << 16]),
        cursor_interval_s=st.sampled_from([0, 3600]),
        allocates=st.booleans(),
    )
    def start(
        self,
        read_ahead_bytes: int,
        chunk_bytes: int,
        inline_read_bytes: int,
        cursor_interval_s: float,
        allocates: bool,
    ) -> None:
        self.tuning = {
            "segment_bytes": 700,
            "read_ahead_bytes": read_ahead_bytes,
            "chunk_bytes": chunk_bytes,
            "inline_read_bytes": inline_read_bytes,
            "cursor_interval_s": cursor_interval_s,
        }
        self.allocates = allocates
        self.root = next(self.roots)
        self._open()

    def _open(self) -> None:
        self.disk = Disk(allocates=self.allocates)
        self.spool = open_spool(self.root, self.disk, **self.tuning)
        self.unacknowledged, self.failed = [], False

    def _append(self, count: int) -> range:
        numbers = range(self.next_number, self.next_number + count)
        self.next_number += count
        self.loop.run_until_complete(append(self.spool, [record(n) for n in numbers]))
        return numbers

    @precondition(lambda self: not self.failed)
    @rule(count=st.integers(1, 4))
    def append(self, count: int) -> None:
        self.entries += map(Entry, self._append(count))

    @precondition(lambda self: not self.failed)
    @rule(faults=st.sampled_from(DISK_FULL), count=st.integers(1, 4))
    def append_to_a_full_disk(self, faults: Faults, count: int) -> None:
        self.disk.faults = faults
        with suppress(SpoolFull):
            self.entries += map(Entry, self._append(count))
        self.disk.faults = {}

    @precondition(lambda self: not self.failed)
    @rule(faults=st.sampled_from(DISK_FAILED))
    def append_to_a_failing_disk(self, faults: Faults) -> None:
        self.disk.faults = faults
        number = self.next_number
        try:
            self.entries += map(Entry, self._append(1))
        except SpoolFull:
            pass  # there was no segment to roll back
        except SpoolFailed:
            self.entries.append(Entry(number, durable=False))
            self.failed = True
        self.disk.faults = {}

    @precondition(lambda self: self.spool.stats().waiting_records > len(self.unacknowledged))
    @rule(max_records=st.integers(1, 5))
    def take(self, max_records: int) -> None:
        taken = self.loop.run_until_complete(self.spool.take(max_records, 1 << 20))
        assert 1 <= len(taken) <= max_records
        for spooled in taken:
            self._expect(spooled)
        self.unacknowledged += taken

    def _expect(self, spooled: SpooledRecord) -> None:
        number = int(spooled.record.value)
        assert spooled.record == record(number)
        assert self.numbers.setdefault((spooled.spool_id, spooled.seq), number) == number
        if self.next is None:
            self.next = next(i for i, entry in enumerate(self.entries) if entry.number == number)
            assert all(not entry.durable for entry in self.entries[self.acknowledged : self.next])
        while self.entries[self.next].number != number:
            assert not self.entries.pop(self.next).durable
        self.entries[self.next].durable = True
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

    async def _acknowledge(self, through: SpooledRecord) -> None:
        self.spool.acknowledge(through)

    @rule()
    def restart(self) -> None:
        self.loop.run_until_complete(self.spool.close())
        self.next = None
        self._open()

    @rule(data=st.data(), unlisted=st.booleans(), cursor=st.sampled_from([None, b"", b"5 12345678"]))
    def crash(self, data: st.DataObject, unlisted: bool, cursor: bytes | None) -> None:
        def tear(content: bytes, synced: int) -> bytes:
            length = data.draw(st.integers(synced, len(content)), "length")
            return content[:length] + data.draw(st.sampled_from([b"", b"\0" * 99, b"\xa5" * 99]), "garbage")

        jobs_done(self.spool)
        root = next(self.roots)
        self.disk.image(self.root, root, tear, unlisted=unlisted)
        if cursor is not None:
            (root / self.spool.spool_id / "cursor").write_bytes(cursor)
        self.loop.run_until_complete(self.spool.close())
        self.root, self.next = root, None
        self._open()

    @invariant()
    def nothing_is_corrupt(self) -> None:
        if hasattr(self, "spool"):
            assert self.spool.stats().corrupt_frames_total == 0
            assert self.spool.stats().bytes >= 0

    def teardown(self) -> None:
        if hasattr(self, "spool"):
            try:
                self._drain()
            finally:
                self.loop.run_until_complete(self.spool.close())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.home)

    def _drain(self) -> None:
        self.restart()  # unacknowledged records are taken again
        self.spool.seal()
        while taken := self.loop.run_until_complete(self.spool.take(100, 1 << 20)):
            for spooled in taken:
                self._expect(spooled)
        rest = self.entries[self.acknowledged if self.next is None else self.next :]
        assert not [entry for entry in rest if entry.durable]
        stats = self.spool.stats()
        assert stats.appended_total - stats.acknowledged_total == stats.waiting_records


TestSpoolMachine = SpoolMachine.TestCase
TestSpoolMachine.settings = settings(deadline=None)
