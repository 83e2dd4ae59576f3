"""
The spool: what was answered 2xx lies here, on disk, until Kafka has it.

**Constraints.** (1) Nothing that `append` returned for may be lost, whatever is killed, pulled or filled up. (2) Order is kept.
(3) It lies in the way of every answer: one write and one sync for all who wait, and little work on the event loop.
(4) Memory does not grow with what waits. (5) A copy sent to Kafka twice is allowed (readers know it by its event id), a loss is not.

**On disk.** `<root>/<spool_id>/<first sequence number, 20 digits>.log`; one directory per process, held by `flock` on the directory.
A segment opens with one line of 64 bytes, the same in every version: `voipex-spool <version> <spool_id> <crc32>`. Then frames, one per
group commit: mark (the first 8 bytes of the spool's id: frames are found again behind damage, and no body can forge one), crc32 of all
that follows, length, count, first sequence number, records. A record: two lengths, its metadata as a JSON array (bytes as latin-1), its
value as it is. Segments are allocated ahead where the file system can, so zeros may follow the last frame.

**Writing.** One thread takes all waiting appends, up to a bound and without artificial wait, as one frame: one write, one fdatasync, one
call back into the loop. The directory is synced when a segment is made, before anything in it is answered. A start always begins a new
segment, so what exists is only read; sequence numbers go on from the newest segment, which is therefore never deleted.

**Reading.** `take` goes through the directories adopted on start, then our own. A frame just written is handed
over from memory while the publisher keeps up; once it lags by more than a bound, everything goes by way of the disk until it has caught
up. Older segments are verified as they are read, so a start needs the newest one only, however much waits.

**Forgetting.** The `cursor` file (first number not in Kafka, with crc32) is replaced by rename about once a second, not synced: an old or
unreadable one means copies. A segment that is wholly in Kafka is deleted, an adopted directory that is drained too.

**Faults.** *Bytes that are no frame are damage exactly when a number is missing*; if none is, they are a write that was never answered.
Damage is counted, the readable rest is published, and the file is then moved to `<root>/damaged/` instead of being deleted. Disk full or
a short write: cut back to what was synced, those who wait get SpoolFull, the next append tries again. Anything else from write, sync or
that cut: SpoolFailed for ever, since a later sync that succeeds proves nothing. A segment of another format version: refuse to start.
"""

import asyncio
import fcntl
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import Final, NamedTuple, Self
from uuid import UUID, uuid4

from bridge.spool.frames import decode_records, encode_record
from bridge.spool.segment_log import Frame, Log, Spooled
from bridge.spool.segments import (
    LINE_BYTES,
    Appender,
    Files,
    SpoolFormat,
    Written,
    good_frames,
    locked,
    opened,
    put_away,
    read_cursor,
    segment_paths,
    spool_paths,
    try_lock,
    write_cursor,
)
from voipex.errors import ServiceUnavailable, ShuttingDown, SpoolFailed, SpoolFull
from voipex.records import Record

__all__ = ["Files", "Spool", "SpoolFormat", "SpoolStats", "SpoolStatus", "Spooled", "inspect"]

# A group takes no more appends once it has either: one commit stays in the milliseconds.
_GROUP_RECORDS: Final = 512
_GROUP_BYTES: Final = 4 << 20
_CROWD: Final = 8  # appends in the last group: so many at a time, more are coming
_QUIET_TURNS: Final = 2  # of the loop, in which no more came: that was all
_ENOUGH: Final = 128  # appends: more in a group save little, and the first would wait for the last
# Most bytes with the writer: events are below 1 KiB, but 4,096 great dead letters would be 2 GiB.
_WAITING_BYTES: Final = 32 << 20
_CURSOR_EVERY_S: Final = 1.0


class SpoolStats(NamedTuple):
    """Counters since the start; what waited then counts as appended. Damaged records count as acknowledged once passed over."""

    appended_total: int
    acknowledged_total: int
    waiting_records: int
    bytes: int
    limit_bytes: int
    oldest_waiting_ms: int | None
    commits_total: int
    damaged_frames_total: int
    damaged_records_total: int
    adopted_spools: int


class SpoolStatus(NamedTuple):
    """One directory as `inspect` finds it."""

    spool_id: str
    in_use: bool
    segments: int
    bytes: int
    waiting_records: int
    oldest_age_s: float | None


Kept = Callable[[ServiceUnavailable | None], None]
"""Told once: None when the records are on disk, else why they are not."""


class _Append:
    __slots__ = ("body", "kept", "records")

    def __init__(self, kept: Kept, records: Sequence[Record], body: bytes) -> None:
        self.kept: Final = kept
        self.records: Final = records
        self.body: Final = body


_Chore = Callable[[], object]
_Refused = SpoolFull | SpoolFailed


class Spool:
    """See the module. All but `open` belongs to one event loop; there is one taker."""

    def __init__(
        self,
        logs: list[Log],
        *,
        limit_bytes: int,
        segment_bytes: int,
        max_waiting: int,
        files: Files,
        on_commit: Callable[[float, int], None] | None,
        on_broken: Callable[[], None] | None,
        on_damage: Callable[[Path, int], None] | None,
        monotonic: Callable[[], float],
    ) -> None:
        self._logs = logs  # in the order in which they are taken; the last is ours
        self._own = logs[-1]
        self.spool_id = self._own.spool_id
        self._limit_bytes, self._max_waiting = limit_bytes, max_waiting
        self._on_commit, self._on_broken, self._on_damage = on_commit, on_broken, on_damage
        self._monotonic = monotonic
        self._appender = Appender(self._own.directory, self._own.end, files, segment_bytes)
        self._queue: SimpleQueue[list[_Append] | _Chore | None] = SimpleQueue()
        self._gathering: deque[_Append] = deque()  # the next group, while the writer has one
        self._writing = False
        self._last_group = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting_appends = self._waiting_bytes = 0  # gathering, or with the writer
        self._adopted_bytes = sum(log.waiting_bytes for log in logs[:-1])
        self._sealed = self._broken = self._closed = False
        self._news: asyncio.Future[None] | None = None
        self._cursor_timer: asyncio.TimerHandle | None = None
        self._found = sum(log.end - log.acknowledged for log in logs)
        self._appended = self._commits = self._damaged_frames = self._damaged_records = 0
        for log in logs:
            log.on_missing = self._count_missing
            for segment in log.let_go():
                put_away(segment)
            if not log.drained:
                log.load_now()
        self._writer = threading.Thread(target=self._write, name="spool", daemon=True)
        self._writer.start()
        self._forget_drained()

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        limit_bytes: int,
        segment_bytes: int = 32 << 20,
        max_waiting: int = 4096,
        files: Files | None = None,
        on_commit: Callable[[float, int], None] | None = None,
        on_broken: Callable[[], None] | None = None,
        on_damage: Callable[[Path, int], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> Self:
        """
        Continue the first directory nobody holds and adopt the others, or begin a new one. Blocks; done before the loop serves.

        Args:
            directory: the root of all spools of this host.
            limit_bytes: most that may wait for Kafka; a segment more may lie on disk.
            segment_bytes: length of a segment, allocated ahead.
            max_waiting: most appends that may wait for the writer; above it ServiceUnavailable.
            files: the disk.
            on_commit: told seconds (write and sync) and records of each commit.
            on_broken: told once when the disk refused: stop the process.
            on_damage: told a segment and how many records are missing in it, when that is found by reading.
            monotonic: seconds.

        Raises:
            SpoolFormat: what lies there is not ours to read.
            OSError: no right to the directory, or the disk refuses.
        """
        files = files or Files()
        return cls(
            _claim(directory, files),
            limit_bytes=limit_bytes,
            segment_bytes=segment_bytes,
            max_waiting=max_waiting,
            files=files,
            on_commit=on_commit,
            on_broken=on_broken,
            on_damage=on_damage,
            monotonic=monotonic,
        )

    # ---- keeping

    async def append(self, records: Sequence[Record]) -> None:
        """
        Keep *records*, in order and all or none; return once they are on disk (fdatasync). If cancelled they may be kept or not.

        Raises:
            SpoolFull: more than `limit_bytes` wait for Kafka, or the disk is full. Answer 503 and let the PBX retry.
            ServiceUnavailable: too many appends wait for the disk. The same answer.
            SpoolFailed: the disk refused. Stop the process; never answer 2xx.
            ShuttingDown: the spool was sealed.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.add(records, partial(_resolve, done))
        await done

    def add(self, records: Sequence[Record], kept: Kept) -> None:
        """Keep *records* as `append` does, and tell *kept* from the loop: no task and no future for each answer."""
        body = encode_record(records[0]) if len(records) == 1 else b"".join(map(encode_record, records))
        waiting_bytes = self._waiting_bytes + len(body)
        refusal = self._refusal(waiting_bytes)
        if refusal is not None or not records:
            kept(refusal)
            return
        self._waiting_appends += 1
        self._waiting_bytes = waiting_bytes
        loop = self._loop
        if loop is None:  # asking for it is a system call
            loop = self._loop = asyncio.get_running_loop()
        self._gathering.append(_Append(kept, records, body))
        if not self._writing and len(self._gathering) == 1:
            self._hand_over_soon(loop)

    def _refusal(self, waiting_bytes: int) -> ServiceUnavailable | None:
        if self._broken:
            return SpoolFailed("the disk refused before")
        if self._sealed:
            return ShuttingDown("no more events are taken")
        if self._own.waiting_bytes + self._adopted_bytes + waiting_bytes > self._limit_bytes:
            return SpoolFull("too much waits for Kafka")
        if self._waiting_appends >= self._max_waiting or waiting_bytes > _WAITING_BYTES:
            return ServiceUnavailable("too many appends wait for the disk")
        return None

    def seal(self) -> None:
        """Take no more appends; those under way still complete, and `take` ends when all was taken."""
        self._sealed = True
        self._tell()

    def _hand_over_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        """
        Hand over with what else arrives in this turn of the loop, or, while many append at a time, once no more arrives: larger groups
        cost less for each, since events that are handled one after another find their code and data in the core's caches, and so does
        a commit. No timer: nothing is to do meanwhile, and libuv's count in milliseconds.
        """
        if self._last_group >= _CROWD:
            self._gather(loop, 0, 0)
        else:
            loop.call_soon(self._hand_over)

    def _gather(self, loop: asyncio.AbstractEventLoop, seen: int, quiet: int) -> None:
        waiting = len(self._gathering)
        quiet = 0 if waiting > seen else quiet + 1
        if quiet > _QUIET_TURNS or waiting >= _ENOUGH:
            self._hand_over()
        else:
            loop.call_soon(self._gather, loop, waiting, quiet)

    def _hand_over(self) -> None:
        """Give the writer the next group, one at a time: waking a thread costs more than keeping a record."""
        if self._gathering and not self._writing:
            self._writing = True
            group = self._next_group()
            self._last_group = len(group)
            self._queue.put(group)

    def _next_group(self) -> list[_Append]:
        group: list[_Append] = []
        records = size = 0
        while self._gathering and records < _GROUP_RECORDS and size < _GROUP_BYTES:
            append = self._gathering.popleft()
            group.append(append)
            records += len(append.records)
            size += len(append.body)
        return group

    # ---- the writer thread

    def _write(self) -> None:
        while (work := self._queue.get()) is not None:
            if isinstance(work, list):
                self._commit(work)
            else:
                # An old cursor means copies; a segment left behind is deleted by the next start.
                with suppress(OSError):
                    work()

    def _commit(self, group: list[_Append]) -> None:
        records = [record for append in group for record in append.records]
        outcome: Written | _Refused
        started = self._monotonic()
        if self._broken:
            outcome = SpoolFailed("the disk refused before")
        else:
            try:
                outcome = self._appender.commit(b"".join([append.body for append in group]), len(records))
            except (SpoolFull, SpoolFailed) as fault:
                outcome = fault
            except Exception as fault:  # noqa: BLE001 - the outermost loop of a thread: dead, it would leave all waiting
                outcome = SpoolFailed(f"the writer failed: {type(fault).__name__}")
                outcome.__cause__ = fault
            self._broken = isinstance(outcome, SpoolFailed)
        seconds = self._monotonic() - started
        loop = self._loop
        assert loop is not None  # `add` knew it  # noqa: S101
        with suppress(RuntimeError):  # the loop is gone, and with it all who wait
            loop.call_soon_threadsafe(self._settle, group, records, outcome, seconds)

    # ---- back on the loop

    def _settle(
        self, group: list[_Append], records: list[Record], outcome: Written | _Refused, seconds: float
    ) -> None:
        self._writing = False
        if self._gathering and self._loop is not None:
            self._hand_over_soon(self._loop)
        self._waiting_appends -= len(group)
        self._waiting_bytes -= sum([len(append.body) for append in group])
        if isinstance(outcome, Written):
            frame = Frame(outcome.first, records, outcome.size, outcome.segment)
            self._own.committed(outcome.segment, frame, outcome.stop)
            self._appended += len(records)
            self._commits += 1
            for append in group:
                self._tell_kept(append, None)
            if self._on_commit is not None:
                self._on_commit(seconds, len(records))
        else:
            self._refuse(group, outcome)
        self._tell()

    def _tell_kept(self, append: _Append, fault: ServiceUnavailable | None) -> None:
        """One that fails to hear it keeps nobody else from hearing."""
        try:
            append.kept(fault)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is not the spool's
            if self._loop is not None:
                self._loop.call_exception_handler(
                    {"message": "an append's answer failed", "exception": error}
                )

    def _refuse(self, group: list[_Append], fault: _Refused) -> None:
        for append in group:
            refusal = type(fault)(*fault.args)
            refusal.__cause__ = fault.__cause__
            self._tell_kept(append, refusal)
        if isinstance(fault, SpoolFailed) and self._on_broken is not None:
            on_broken, self._on_broken = self._on_broken, None
            on_broken()

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    # ---- publishing

    async def take(self, max_records: int, max_bytes: int) -> Sequence[Spooled]:
        """
        Return the next records after the last taken ones, in order, all of one directory; at least one, waiting for it.

        Empty only when the spool is sealed and everything was taken. Cancelling it takes nothing.
        """
        while True:
            for log in tuple(self._logs):
                while not log.ready and log.read < log.end:
                    await log.load()
                if log.ready:
                    return log.take(max_records, max_bytes)
            self._forget_drained()
            if self._sealed and not self._waiting_appends:
                return []
            self._news = asyncio.get_running_loop().create_future()
            await self._news

    def rewind(self) -> None:
        """Begin again at the first unacknowledged record."""
        for log in self._logs:
            log.rewind()
        self._tell()

    def acknowledge(self, through: Spooled) -> None:
        """Forget everything up to *through* in its directory: Kafka has it."""
        log = next((log for log in self._logs if log.spool_id == through.spool_id), None)
        if log is None:
            return  # acknowledged before, and gone
        for segment in log.acknowledge(through.seq):
            self._queue.put(partial(put_away, segment))
        if log is not self._own:
            self._forget_drained()
        if self._cursor_timer is None:
            self._cursor_timer = asyncio.get_running_loop().call_later(_CURSOR_EVERY_S, self._write_cursors)

    def _write_cursors(self) -> None:
        self._cursor_timer = None
        for log in self._logs:
            self._queue.put(partial(write_cursor, log.directory, log.acknowledged))

    def _forget_drained(self) -> None:
        for log in self._logs[:-1]:
            if log.drained:
                self._logs.remove(log)
                self._queue.put(partial(_remove_directory, log))
        self._adopted_bytes = sum(log.waiting_bytes for log in self._logs[:-1])

    def _count_missing(self, path: Path, records: int) -> None:
        self._damaged_frames += 1
        self._damaged_records += records
        if self._on_damage is not None:
            self._on_damage(path, records)

    # ---- the rest

    def stats(self) -> SpoolStats:
        waiting = sum(log.end - log.acknowledged for log in self._logs)
        appended = self._found + self._appended
        oldest_ms = [log.oldest_waiting_ms for log in self._logs]
        return SpoolStats(
            appended_total=appended,
            acknowledged_total=appended - waiting,
            waiting_records=waiting,
            bytes=self._own.waiting_bytes + self._adopted_bytes,
            limit_bytes=self._limit_bytes,
            oldest_waiting_ms=min((ms for ms in oldest_ms if ms is not None), default=None),
            commits_total=self._commits,
            damaged_frames_total=self._damaged_frames,
            damaged_records_total=self._damaged_records,
            adopted_spools=len(self._logs) - 1,
        )

    async def close(self) -> None:
        """Seal, complete what was appended, write the cursor, give the directories back. What waits stays on disk."""
        self._end_writing()
        await asyncio.to_thread(self._writer.join)
        self._release()

    def close_sync(self) -> None:
        """Close without a loop: nobody waits any more."""
        self._end_writing()
        self._writer.join()
        self._release()

    def _end_writing(self) -> None:
        self.seal()
        while self._gathering:
            self._queue.put(self._next_group())
        self._queue.put(None)

    def _release(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._cursor_timer is not None:
            self._cursor_timer.cancel()
        self._appender.close()
        for log in self._logs:
            with suppress(OSError):
                write_cursor(log.directory, log.acknowledged)
            os.close(log.lock)


def _resolve(done: "asyncio.Future[None]", fault: Exception | None) -> None:
    if done.done():  # cancelled
        return
    if fault is None:
        done.set_result(None)
    else:
        done.set_exception(fault)


# ---------------------------------------------------------------- which directories are taken on, and what they hold


def _claim(root: Path, files: Files) -> list[Log]:
    """Lock every directory nobody holds. The last of the list is ours; numbers go on only where a segment keeps them."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(root):
        held = [(path, lock) for path in spool_paths(root) if (lock := try_lock(path)) is not None]
        if not any(segment_paths(path) for path, _ in held):
            path = root / str(uuid4())
            path.mkdir(mode=0o700)
            files.sync_directory(root)
            held.append((path, os.open(path, os.O_RDONLY | os.O_DIRECTORY)))
            fcntl.flock(held[-1][1], fcntl.LOCK_EX)
    try:
        logs = [Log(path, lock) for path, lock in held]
    except BaseException:
        for _, lock in held:
            os.close(lock)
        raise
    own = next((log for log in logs if log.segments), logs[-1])
    return [*(log for log in logs if log is not own), own]


def _remove_directory(log: Log) -> None:
    try:
        for segment in log.segments:
            put_away(segment)
        for name in ("cursor", "cursor.new"):
            (log.directory / name).unlink(missing_ok=True)
        log.directory.rmdir()
    finally:
        os.close(log.lock)


def inspect(directory: Path, now_s: Callable[[], float] = time.time) -> list[SpoolStatus]:
    """Look at every spool below *directory*, also while bridges run; changes nothing. Blocks."""
    if not directory.is_dir():
        return []
    with locked(directory):
        in_use = {path: not _is_free(path) for path in spool_paths(directory)}
    return [_status(path, used, now_s()) for path, used in in_use.items()]


def _is_free(path: Path) -> bool:
    lock = try_lock(path)
    if lock is not None:
        os.close(lock)
    return lock is not None


def _status(directory: Path, in_use: bool, now_s: float) -> SpoolStatus:
    lengths = _lengths(directory)
    firsts = [int(path.stem) for path in lengths]
    waiting_from = max([read_cursor(directory), *firsts[:1]])
    # The oldest is in the last segment that begins at or before it; only the newest segment tells where the numbers end.
    oldest_in = sum(first <= waiting_from for first in firsts) - 1
    end = waiting_from
    oldest_ms = None
    for path in list(lengths)[max(oldest_in, 0) :]:
        if oldest_ms is None or int(path.stem) == firsts[-1]:
            path_end, lengths[path], path_oldest_ms = _look(path, lengths[path], waiting_from)
            end = max(end, path_end)
            oldest_ms = path_oldest_ms if oldest_ms is None else oldest_ms
    return SpoolStatus(
        spool_id=directory.name,
        in_use=in_use,
        segments=len(lengths),
        bytes=sum(lengths.values()),
        waiting_records=end - waiting_from,
        oldest_age_s=None if oldest_ms is None else max(0.0, now_s - oldest_ms / 1000),
    )


def _lengths(directory: Path) -> dict[Path, int]:
    lengths = {}
    for path in segment_paths(directory):
        with suppress(FileNotFoundError):  # a running bridge deletes what it has published
            lengths[path] = path.stat().st_size
    return lengths


def _look(path: Path, length: int, waiting_from: int) -> tuple[int, int, int | None]:
    """Which number the segment ends before, where its frames end, and the time of its first record from *waiting_from* on."""
    mark, end, stop, oldest_ms = UUID(path.parent.name).bytes[:8], int(path.stem), 0, None
    with suppress(FileNotFoundError), opened(path) as fd:
        for found in good_frames(fd, mark, LINE_BYTES, length):
            end, stop = found.end, found.stop
            if oldest_ms is None and end > waiting_from:
                records = decode_records(found.body, found.records)
                oldest_ms = next(islice(records, max(0, waiting_from - found.first), None)).timestamp_ms
    return end, stop, oldest_ms
