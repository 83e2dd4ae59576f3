"""
The spool on disk: accepted records until Kafka has acknowledged them.

**Constraints.** (1) No record that was reported durable is lost, whatever is killed, unplugged or filled up. (2) Order is preserved.
(3) Appending is on the path of every response: all pending appends share one write and one sync, and the event loop does little.
(4) Memory does not grow with the number of waiting records. (5) Sending a record to Kafka twice is allowed (readers recognise the copy by
its event id), losing one is not.

**On disk.** `<root>/<spool_id>/<first sequence number, 20 digits>.log`; one directory per process, held by `flock` on the directory.
`segments` describes the files, `frames` the format of a frame: one frame per group commit, with a crc and a salt that marks it.

**Writing.** One thread commits all pending appends, up to a limit, as one frame: one write, one fdatasync, one callback into the event
loop. The directory is synced when a segment is created, before any of its records is reported durable. A start always begins a new
segment, so existing segments are only read. Sequence numbers continue from the newest segment, which is therefore never deleted.

**Reading.** `take` goes through the directories recovered from dead processes, then through its own. A frame that was just written stays
in memory while the publisher keeps up; once it lags by more than a limit, everything is read from disk until the rest fits into memory: that
is read at once, or a publisher as fast as the appends would stay behind them for ever. Older
segments are verified when they are read, so a start reads only the newest one, however much waits.

**Forgetting.** The `cursor` file (how far Kafka and the disk are, with a crc) is replaced by a rename about once a second and not synced: an
old or unreadable cursor means copies. A segment that is completely in Kafka is deleted, and so is a recovered directory; a drained spool
that is closed leaves an empty segment.

**Sharing.** `shares` divides the room among the PBXs.

**Faults.** *Bytes that are no frame are corrupt exactly if a sequence number is missing*; if none is, they are a torn write that was never
acknowledged. The cursor knows which numbers were synced, up to its last second. Corrupt frames are counted, the readable rest is published, and the file is moved to `<root>/corrupt/` instead of being
deleted. Disk full or a short write: roll back to what was synced, fail the pending appends with SpoolFull, and try again with the next
append, or after a second. Any other error of a write, a sync or that rollback: SpoolFailed from then on, since a later sync that succeeds
proves nothing. A segment or directory that is no longer where it was: the same, found before anything is reported durable, or in a second.
A segment of another format version: do not start.
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
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple, Self
from uuid import uuid4

from bridge.spool import OnDurable, SpooledRecord, SpoolStats, notify
from bridge.spool.appender import Appender, Written
from bridge.spool.frames import encode_record
from bridge.spool.segment_log import Frame, SegmentLog
from bridge.spool.segments import (
    Cursor,
    Files,
    delete_or_quarantine,
    remove_directory,
    root_locked,
    segment_paths,
    spool_paths,
    try_lock,
    write_cursor,
)
from bridge.spool.shares import Shares, pbx_of
from bridge.spool.tuning import SpoolTuning
from voipex.errors import ServiceUnavailable, ShuttingDown, SpoolFailed, SpoolFull, SpoolShareFull
from voipex.records import Record


class _PendingAppend(NamedTuple):
    on_durable: OnDurable
    records: Sequence[Record]
    body: bytes


_Group = list[_PendingAppend]
"""Appends that are committed together."""
_Job = Callable[[], object]
"""File work for the writer thread."""


class Spool:
    """A RecordSink and RecordSource on disk; see the module. All methods but `open` belong to one event loop."""

    def __init__(
        self,
        logs: list[SegmentLog],
        *,
        limit_bytes: int,
        shares: Shares,
        tuning: SpoolTuning,
        files: Files,
        on_commit: Callable[[float, int], None] | None,
        on_failed: Callable[[SpoolFailed], None] | None,
        on_corrupt: Callable[[Path, int], None] | None,
        monotonic: Callable[[], float],
    ) -> None:
        self._logs = logs  # in the order in which they are taken; the last one is written to
        self._own = logs[-1]
        self.spool_id = self._own.spool_id
        self._limit_bytes, self._tuning, self._files = limit_bytes, tuning, files
        self._on_commit, self._on_failed, self._on_corrupt = on_commit, on_failed, on_corrupt
        self._monotonic = monotonic
        self._shares = shares
        self._full_bytes = 0  # of the append for which there was no room
        self._disk_full = self._checking = False
        self._delayed = 0  # refusals
        self._progress_at = monotonic()  # when a record was acknowledged, or the first one began to wait
        self._appender = Appender(self._own.directory, self._own.end_seq, files, tuning.segment_bytes)
        self._work: SimpleQueue[_Group | _Job | None] = SimpleQueue()
        self._collected: deque[_PendingAppend] = deque()  # the next group, while the writer commits one
        self._committing = False
        self._last_group_appends = 0
        self._last_pbx = ""  # of the last append
        self._group_submitted: asyncio.Future[None] | None = None
        self._is_mixed = False  # an append of the next group came from another PBX than the one before it
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pending_appends = self._pending_bytes = 0  # collected, or with the writer
        self._recovered_bytes = sum(log.waiting_bytes for log in logs[:-1])
        self._sealed = self._failed = self._closed = False
        self._records_available: asyncio.Future[None] | None = None
        self._cursor_timer: asyncio.TimerHandle | None = None
        self._appended = sum(log.waiting_records for log in logs)
        self._corrupt_frames = 0
        for log in logs:
            log.on_gap = self._count_gap
            log.on_acknowledged = shares.subtract
            shares.recover(log.counted_before)
            for segment in log.release_segments():
                delete_or_quarantine(segment)
            if not log.drained:
                log.load_blocking()
        self._writer = threading.Thread(target=self._write, name="spool", daemon=True)
        self._writer.start()
        self._forget_drained()

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        limit_bytes: int,
        pbxs: Sequence[str] = (),
        tuning: SpoolTuning | None = None,
        files: Files | None = None,
        on_commit: Callable[[float, int], None] | None = None,
        on_failed: Callable[[SpoolFailed], None] | None = None,
        on_corrupt: Callable[[Path, int], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> Self:
        """
        Claim every directory that no process holds: continue the first one and recover the others, or create one. Blocks.

        Called once, before requests are served.

        Args:
            directory: root of all spools of this host.
            limit_bytes: maximum of waiting bytes; one more segment may lie on disk.
            pbxs: names of the PBXs that share it.
            tuning: sizes and intervals.
            files: disk operations.
            on_commit: called with seconds (write and sync) and records of each commit.
            on_failed: called once with a disk error, from the event loop: stop the process.
            on_corrupt: called with a segment and the number of records that are missing in it, when that is found by reading.
            monotonic: clock, in seconds.

        Raises:
            SpoolFormat: a segment was written by another version, or belongs to another spool.
            OSError: the directory cannot be used.
        """
        tuning = tuning or SpoolTuning()
        files = files or Files()
        return cls(
            _claim(directory, files, tuning),
            limit_bytes=limit_bytes,
            shares=Shares(pbxs, limit_bytes),
            tuning=tuning,
            files=files,
            on_commit=on_commit,
            on_failed=on_failed,
            on_corrupt=on_corrupt,
            monotonic=monotonic,
        )

    # ---- appending

    def append(self, records: Sequence[Record], on_durable: OnDurable) -> None:
        """
        Write *records* to disk, in order and all or none, and sync them; then call *on_durable*.

        Errors passed to *on_durable*:
            SpoolFull: more than `limit_bytes` wait for Kafka, or the disk is full. Respond 503; the PBX tries again.
            SpoolShareFull: the PBX has filled its share of them. The same response.
            ServiceUnavailable: too many appends wait for the disk. The same response.
            SpoolFailed: a disk error. Stop the process; never respond 2xx. The records may be on disk.
            ShuttingDown: the spool is sealed.
        """
        body = encode_record(records[0]) if len(records) == 1 else b"".join(map(encode_record, records))
        pending_bytes = self._pending_bytes + len(body)
        rejection = self._rejection(records, len(body), pending_bytes)
        if rejection is not None or not records:
            self._reject(rejection, on_durable)
            return
        self._pending_appends += 1
        self._pending_bytes = pending_bytes
        self._shares.add(records)
        loop = self._loop
        if loop is None:  # remembered, since asking for it takes a system call
            loop = self._loop = asyncio.get_running_loop()
        self._collected.append(_PendingAppend(on_durable, records, body))
        if self._shares.reserved_bytes and (pbx := pbx_of(records[0])) != self._last_pbx:
            self._last_pbx = pbx
            self._is_mixed = True
        if not self._committing and len(self._collected) == 1:
            self._schedule_group(loop)

    def _rejection(
        self, records: Sequence[Record], size: int, pending_bytes: int
    ) -> ServiceUnavailable | None:
        if self._failed:
            return SpoolFailed("an earlier write to the spool failed")
        if self._sealed:
            return ShuttingDown("the bridge is shutting down")
        total_bytes = self._own.waiting_bytes + self._recovered_bytes + pending_bytes
        if total_bytes > self._limit_bytes:
            self._full_bytes = size
            return SpoolFull("too much waits for Kafka")
        if records and not self._shares.admit(pbx_of(records[0]), size, total_bytes):
            return SpoolShareFull("too much of this PBX waits for Kafka")
        tuning = self._tuning
        if self._pending_appends >= tuning.max_pending_appends or pending_bytes > tuning.max_pending_bytes:
            return ServiceUnavailable("too many appends wait for the disk")
        return None

    def _reject(self, rejection: ServiceUnavailable | None, on_durable: OnDurable) -> None:
        """
        Call back at once, but later to a PBX that has filled its share.

        A client that sends the next event when it has the response to the last would otherwise be refused thousands of times a second, and
        the other PBXs would wait for the CPU.
        """
        if isinstance(rejection, SpoolShareFull) and self._delayed < self._tuning.max_delayed_refusals:
            self._delayed += 1
            asyncio.get_running_loop().call_later(
                self._tuning.refusal_delay_s, self._reject_delayed, rejection, on_durable
            )
        else:
            on_durable(rejection)

    def _reject_delayed(self, rejection: SpoolShareFull, on_durable: OnDurable) -> None:
        self._delayed -= 1
        notify(asyncio.get_running_loop(), on_durable, rejection)

    def seal(self) -> None:
        """Accept no more appends. Pending ones complete, and `take` ends when everything was taken."""
        self._sealed = True
        self._wake_publisher()

    def _schedule_group(self, loop: asyncio.AbstractEventLoop) -> None:
        """
        Commit the collected appends at the end of this iteration of the event loop, or, when appends arrive in crowds, once arrivals pause.

        Larger groups cost less per append: requests handled back to back keep the CPU caches warm, and they share a commit.
        """
        if self._last_group_appends < self._tuning.busy_appends:
            loop.call_soon(self._submit_group)
        else:
            self._await_pause(loop, collected_before=0, idle_iterations=0)

    def _await_pause(
        self, loop: asyncio.AbstractEventLoop, collected_before: int, idle_iterations: int
    ) -> None:
        """
        Submit the group once enough iterations of the event loop brought no append, once it is large, or once it has appends of several PBXs,
        since none should wait for the crowd of another; else look again in the next one.

        Iterations serve as the clock, since timers of the event loop have a resolution of a millisecond.
        """
        collected = len(self._collected)
        idle_iterations = 0 if collected > collected_before else idle_iterations + 1
        if (
            idle_iterations > self._tuning.idle_iterations
            or collected >= self._tuning.busy_group_appends
            or self._is_mixed
        ):
            self._submit_group()
        else:
            loop.call_soon(self._await_pause, loop, collected, idle_iterations)

    def _submit_group(self) -> None:
        """Hand the next group to the writer, one at a time: waking a thread costs more than writing a record."""
        if self._collected and not self._committing:
            self._committing = True
            group = self._next_group()
            self._last_group_appends = len(group)
            self._is_mixed = False
            self._work.put(group)
            self._resume_publisher()

    def _next_group(self) -> _Group:
        group: _Group = []
        records = size = 0
        while (
            self._collected
            and records < self._tuning.group_max_records
            and size < self._tuning.group_max_bytes
        ):
            append = self._collected.popleft()
            group.append(append)
            records += len(append.records)
            size += len(append.body)
        return group

    # ---- the writer thread

    def _write(self) -> None:
        while (work := self._work.get()) is not None:
            if isinstance(work, list):
                self._commit(work)
            else:
                # An old cursor means copies; the next start deletes a segment that is left.
                with suppress(OSError):
                    work()

    def _commit(self, group: _Group) -> None:
        records = [record for append in group for record in append.records]
        result: Written | SpoolFull | SpoolFailed
        started = self._monotonic()
        if self._failed:
            result = SpoolFailed("an earlier write to the spool failed")
        else:
            try:
                result = self._appender.commit(b"".join([append.body for append in group]), len(records))
            except (SpoolFull, SpoolFailed) as error:
                result = error
            except Exception as error:  # noqa: BLE001 - outermost loop of a thread: its death would leave all appends pending
                result = SpoolFailed(f"the writer failed: {type(error).__name__}")
                result.__cause__ = error
            self._failed = isinstance(result, SpoolFailed)
        seconds = self._monotonic() - started
        loop = self._loop
        assert loop is not None  # `append` set it  # noqa: S101
        with suppress(RuntimeError):  # the event loop is closed, and nobody waits any more
            loop.call_soon_threadsafe(self._on_group_committed, group, records, result, seconds)

    # ---- back on the event loop

    def _on_group_committed(
        self,
        group: _Group,
        records: list[Record],
        result: Written | SpoolFull | SpoolFailed,
        seconds: float,
    ) -> None:
        loop = self._loop
        assert loop is not None  # `append` set it  # noqa: S101
        self._committing = False
        if self._collected:
            self._schedule_group(loop)
        self._pending_appends -= len(group)
        self._pending_bytes -= sum([len(append.body) for append in group])
        self._disk_full = isinstance(result, SpoolFull)
        if isinstance(result, Written):
            if self._drained:
                self._progress_at = self._monotonic()
            self._own.append(Frame(result.first_seq, records, result.size, result.segment), result.stop)
            self._appended += len(records)
            for append in group:
                notify(loop, append.on_durable, None)
            if self._on_commit is not None:
                self._on_commit(seconds, len(records))
            self._schedule_cursor(loop)
        else:
            self._shares.subtract(records)
            self._fail_group(loop, group, result)
        self._wake_publisher()

    def _fail_group(
        self, loop: asyncio.AbstractEventLoop, group: _Group, error: SpoolFull | SpoolFailed
    ) -> None:
        for append in group:
            own = type(error)(*error.args)  # each raises its own, or their tracebacks would mix
            own.__cause__ = error.__cause__
            notify(loop, append.on_durable, own)
        if isinstance(error, SpoolFailed):
            self._report_failed(error)

    def _report_failed(self, error: SpoolFailed) -> None:
        if self._on_failed is not None:
            on_failed, self._on_failed = self._on_failed, None
            on_failed(error)

    # ---- watching the disk

    def check(self) -> None:
        """
        Look at the disk, in the writer thread; called every second.

        A directory or segment that was removed or replaced is a SpoolFailed. A full disk is tried again: while the bridge is not ready, no
        append may come that would find out.
        """
        if not (self._checking or self._failed or self._closed):
            self._checking = True
            self._loop = self._loop or asyncio.get_running_loop()
            self._work.put(partial(self._check, self._disk_full))

    def _check(self, disk_full: bool) -> None:
        result: SpoolFull | SpoolFailed | None = None
        try:
            self._check_directories()
            self._appender.check()
            if disk_full:
                self._appender.probe()
        except (SpoolFull, SpoolFailed) as error:
            result = error
        except OSError as error:
            result = SpoolFailed(f"the spool's directory cannot be read: {error.strerror}")
        self._failed = self._failed or isinstance(result, SpoolFailed)
        loop = self._loop
        assert loop is not None  # `check` set it  # noqa: S101
        with suppress(RuntimeError):  # the event loop is closed
            loop.call_soon_threadsafe(self._on_checked, result, disk_full)

    def _check_directories(self) -> None:
        for log in tuple(self._logs):
            if not self._files.is_at(log.lock, log.directory):
                raise SpoolFailed(f"{log.directory} was removed or replaced")

    def _on_checked(self, result: SpoolFull | SpoolFailed | None, probed: bool) -> None:
        self._checking = False
        if probed:
            self._disk_full = isinstance(result, SpoolFull)
        if isinstance(result, SpoolFailed):
            self._report_failed(result)

    def _wake_publisher(self) -> None:
        if self._records_available is not None and not self._records_available.done():
            self._records_available.set_result(None)

    # ---- publishing

    async def take(self, max_records: int, max_bytes: int) -> Sequence[SpooledRecord]:
        """Return the next records (see RecordSource). Raises SpoolFailed if a segment cannot be read."""
        while True:
            for log in tuple(self._logs):
                try:
                    while log.loadable and (not log.ready or log.nearly_caught_up):
                        await log.load()
                except SpoolFailed:
                    if not log.ready:
                        raise
                if log.ready:
                    return log.take(max_records, max_bytes)
            self._forget_drained()
            if self._sealed and not self._pending_appends:
                return []
            self._records_available = asyncio.get_running_loop().create_future()
            await self._records_available

    async def yield_to_appends(self) -> None:
        """
        RecordSource: while appends arrive in crowds, return once the disk has the next group.

        The publisher's work then fills the time in which the CPU would wait for the disk, instead of keeping a crowd from it.
        """
        await asyncio.sleep(0)
        if self._committing or self._last_group_appends < self._tuning.busy_appends:
            return
        loop = asyncio.get_running_loop()
        self._group_submitted = submitted = loop.create_future()
        timer = loop.call_later(self._tuning.yield_s, self._resume_publisher)
        try:
            await submitted
        finally:
            timer.cancel()

    def _resume_publisher(self) -> None:
        if self._group_submitted is not None and not self._group_submitted.done():
            self._group_submitted.set_result(None)

    def acknowledge(self, through: SpooledRecord) -> None:
        """Forget the records up to *through* in its directory."""
        log = next((log for log in self._logs if log.spool_id == through.spool_id), None)
        if log is None:
            return  # acknowledged before, and removed
        self._progress_at = self._monotonic()
        for segment in log.acknowledge(through.seq):
            self._work.put(partial(delete_or_quarantine, segment))
        if log is not self._own:
            self._forget_drained()
        if not self._pending_appends and self._drained:
            self._shares.clear()
        self._schedule_cursor(asyncio.get_running_loop())

    def _schedule_cursor(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._cursor_timer is None:
            self._cursor_timer = loop.call_later(self._tuning.cursor_interval_s, self._write_cursors)

    def _write_cursors(self) -> None:
        self._cursor_timer = None
        for log in self._logs:
            self._work.put(partial(write_cursor, log.directory, self._cursor_of(log)))

    def _cursor_of(self, log: SegmentLog) -> Cursor:
        # Shares are counted for all directories together: the own one has them.
        counted = dict(self._shares.counted) if log is self._own else {}
        return Cursor(log.acknowledged, log.end_seq, counted)

    def _forget_drained(self) -> None:
        """Remove the recovered directories that are completely in Kafka."""
        for log in self._logs[:-1]:
            if log.drained:
                self._logs.remove(log)
                self._work.put(partial(_remove, log))
        self._recovered_bytes = sum(log.waiting_bytes for log in self._logs[:-1])

    def _count_gap(self, segment: Path, missing_records: int) -> None:
        self._corrupt_frames += 1
        if self._on_corrupt is not None:
            self._on_corrupt(segment, missing_records)

    # ---- the rest

    def stats(self) -> SpoolStats:
        waiting = sum(log.waiting_records for log in self._logs)
        oldest_ms = [log.oldest_waiting_ms for log in self._logs]
        return SpoolStats(
            appended_total=self._appended,
            acknowledged_total=self._appended - waiting,
            waiting_records=waiting,
            bytes=self._own.waiting_bytes + self._recovered_bytes,
            limit_bytes=self._limit_bytes,
            oldest_waiting_ms=min((ms for ms in oldest_ms if ms is not None), default=None),
            stalled_s=self._monotonic() - self._progress_at if waiting else 0.0,
            corrupt_frames_total=self._corrupt_frames,
            full=self._full,
            failed=self._failed,
            used_bytes_by_pbx=self._shares.used_bytes(self._own.waiting_bytes + self._recovered_bytes),
            refused_by_pbx=dict(self._shares.refused),
        )

    @property
    def _drained(self) -> bool:
        return all(log.drained for log in self._logs)

    @property
    def _full(self) -> bool:
        """Whether the last append for which there was no room would be refused again."""
        total_bytes = self._own.waiting_bytes + self._recovered_bytes + self._pending_bytes
        return self._disk_full or total_bytes + self._full_bytes > self._limit_bytes

    async def close(self) -> None:
        """Seal, complete the pending appends, write the cursor and release the directories. Waiting records stay on disk."""
        self.seal()
        while self._collected:
            self._work.put(self._next_group())
        self._work.put(None)
        await asyncio.to_thread(self._writer.join)
        self._release()

    def _release(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._cursor_timer is not None:
            self._cursor_timer.cancel()
        if not self._failed:
            with suppress(OSError):  # the next start deletes what is left
                self._leave_empty_segment()
        self._appender.close()
        for log in self._logs:
            with suppress(OSError):
                write_cursor(log.directory, self._cursor_of(log))
            os.close(log.lock)

    def _leave_empty_segment(self) -> None:
        """Leave no record on the disk that Kafka has: only the newest segment, whose name preserves the next sequence number, and empty."""
        own = self._own
        published = [segment for segment in own.segments if segment.first_seq != own.end_seq]
        if own.drained and published:
            self._appender.begin_segment()
            for segment in published:
                delete_or_quarantine(segment)


# ---------------------------------------------------------------- directories


def _claim(root: Path, files: Files, tuning: SpoolTuning) -> list[SegmentLog]:
    """
    Lock every directory that no process holds. The last log returned is the one to write to.

    A directory without a segment is not continued: its next sequence number is unknown, so numbers could be given twice.
    """
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with root_locked(root):
        held = [(path, lock) for path in spool_paths(root) if (lock := try_lock(path)) is not None]
        if not any(segment_paths(path) for path, _ in held):
            path = root / str(uuid4())
            path.mkdir(mode=0o700)
            files.sync_directory(root)
            held.append((path, os.open(path, os.O_RDONLY | os.O_DIRECTORY)))
            fcntl.flock(held[-1][1], fcntl.LOCK_EX)
    try:
        logs = [SegmentLog(path, lock, tuning) for path, lock in held]
    except BaseException:
        for _, lock in held:
            os.close(lock)
        raise
    own = next((log for log in logs if log.segments), logs[-1])
    return [*(log for log in logs if log is not own), own]


def _remove(log: SegmentLog) -> None:
    try:
        remove_directory(log.directory, log.segments)
    finally:
        os.close(log.lock)
