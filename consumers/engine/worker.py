"""
Worker: one service as a member of its consumer group: which partitions are ours, and a task for each (ADR 2, kafka.md's order).

A rebalance first revokes everything: tasks finish the transaction they are in, and close. Then each assigned place (a PBX and a
partition number: that partition of every input topic) gets an owner, which restores it and runs its task. An owner whose task broke
begins again with the restore, since only that tells what was committed. An owner that finds its offsets lost halts: a person must decide.

One loop polls for all tasks that are running and hands them their records; a partition whose task has enough is paused. A client that
hears nothing from the brokers for a while is replaced by a new one: it knows only the addresses that it last heard of.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Final, Generic, Literal, TypeVar

from consumers.engine.batch import Place
from consumers.engine.group import (
    GroupConsumer,
    OutOfRange,
    Partition,
    TransactionalProducer,
    check_rights,
    examine,
)
from consumers.engine.metrics import Metrics, Standing
from consumers.engine.projection import Projection
from consumers.engine.restore import OffsetsLost, Plan, restore
from consumers.engine.store import Store, StoreBroken
from consumers.engine.task import Task, TaskBroken, Terms
from consumers.settings import Settings
from voipex.errors import BridgeError, KafkaAccessDenied, KafkaUnavailable, KafkaUnreachable
from voipex.service.logging import get_logger
from voipex.topics import DEAD_LETTERS, topic_name

State = TypeVar("State")
OwnerState = Literal["restoring", "running", "halted", "closed"]

_POLL_MS: Final = 50
_REVOKE_S: Final = 20.0  # a transaction in flight and closing; below the rebalance timeout
_SILENT_S: Final = (
    60.0  # without an answer of any broker: a new client, which asks the configured addresses again
)
_BACKOFF_S: Final = (0.2, 1.0, 2.0, 5.0)
_STEADY_S: Final = 30.0  # a task that ran for so long broke for a new reason
_WATCH_EVERY_S: Final = 5.0

log = get_logger("worker")


class Worker(Generic[State]):
    """Run it until `stop`. `now_us` is the only clock that folds' timers see."""

    def __init__(
        self,
        projection: Projection[State],
        settings: Settings,
        metrics: Metrics,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self.service = projection.name
        self.group = f"voipex-{projection.name}"
        self._projection = projection
        self._settings = settings
        self._metrics = metrics
        self._now_us = now_us
        self._stopping = asyncio.Event()
        self._session: _Session[State] | None = None

    async def run(self) -> None:
        """
        Be a member until told to stop; while Kafka is out of reach, try again.

        Raises:
            TopicMismatch: better no documents than some in the wrong place.
        """
        attempt = 0
        while not self._stopping.is_set():
            session = self._session = _Session(self._projection, self._settings, self._metrics, self._now_us)
            try:
                await session.run(self._stopping)
            except KafkaUnavailable as error:
                attempt = 0 if session.lasted_s > _STEADY_S else attempt + 1
                tell = log.error if isinstance(error, KafkaAccessDenied) else log.warning
                tell("Kafka is out of reach", service=self.service, cause=str(error), attempt=attempt)
                await _rest(self._stopping, attempt)

    def stop(self) -> None:
        self._stopping.set()

    @property
    def ready(self) -> bool:
        """Joined, and every partition of ours is running."""
        session = self._session
        return session is not None and session.joined and set(session.partitions()) <= {"running"}

    def describe(self) -> Mapping[str, Any]:
        """For `/ready`."""
        session = self._session
        return {
            "group": self.group,
            "joined": session is not None and session.joined,
            "partitions": session.partitions() if session is not None else {},
            "halted": session.halted() if session is not None else {},
        }

    def standing(self) -> Standing:
        """For the metrics."""
        session = self._session
        owners = list(session.owners.values()) if session is not None else []
        tasks = [each.task for each in owners if each.task is not None]
        keys: dict[tuple[str, str], int] = {}
        for owner in owners:
            if owner.task is not None:
                for standing, number in owner.task.store.standings.items():
                    keys[owner.place.pbx, standing] = keys.get((owner.place.pbx, standing), 0) + number
        now_us = self._now_us()
        overdue = [each.store.next_due_us for each in tasks]
        return Standing(
            self.service,
            self.group,
            session.lag() if session is not None else {},
            session.partitions() if session is not None else {},
            keys,
            sum(1 for due_us in overdue if due_us is not None and due_us <= now_us),
            sum(each.store.size_bytes for each in tasks),
        )


class _Owner(Generic[State]):
    """A place that is ours: restoring, running, or halted until it is revoked."""

    def __init__(self, session: "_Session[State]", place: Place) -> None:
        self.place = place
        self.inputs = tuple(
            Partition(topic_name(place.pbx, kind), place.partition) for kind in session.projection.inputs
        )
        self.state: OwnerState = "restoring"
        self.fault: str | None = None
        self.task: Task[State] | None = None
        self.handed: dict[Partition, int] = {}
        """How far the task was given what was polled."""
        self._closing = False
        self._began = False
        self._session = session
        self._working = asyncio.create_task(self._work(), name=f"{session.projection.name} {place}")

    async def close(self) -> None:
        """Finish the transaction that is being written, and let go. Bounded."""
        self._closing = True
        if self.task is not None:
            self.task.close()
        else:
            self._working.cancel()
        _, late = await asyncio.wait({self._working}, timeout=_REVOKE_S)
        if late:
            self._working.cancel()
            await asyncio.wait({self._working}, timeout=_REVOKE_S)
        if not self._working.cancelled() and self._working.done() and self._working.exception() is not None:
            log.error("an owner failed", place=str(self.place), fault=repr(self._working.exception()))
        self.state = "closed"

    def halt(self, why: str) -> None:
        """Stop working on it, and say so until it is revoked."""
        self.state, self.fault = "halted", why
        if self.task is not None:
            self.task.close()
        log.error(
            "the partition is halted: see docs/operations.md, Offsets are lost",
            service=self._session.projection.name,
            place=str(self.place),
            why=why,
        )

    async def _work(self) -> None:
        attempt, fences = 0, 0
        while True:
            started_s, is_refused = time.monotonic(), False
            try:
                await self._once()
            except OffsetsLost as error:
                self.halt(str(error))
            except TaskBroken as broken:
                fences = fences + 1 if broken.fenced else 0
                cause = str(broken)
            except (KafkaUnavailable, StoreBroken, OSError) as error:
                cause = str(error)
                is_refused = isinstance(error, KafkaAccessDenied)
            except Exception as error:  # noqa: BLE001 - the client's own; begin again as after any other
                cause = repr(error)
            else:
                return
            if self.fault is not None or self._closing:
                return
            if fences > 1:
                # Somebody else works here, or the brokers stall: only the group can say who should.
                self._session.end(KafkaUnreachable(f"{self.place} was fenced twice"))
                return
            attempt = 0 if time.monotonic() - started_s > _STEADY_S else attempt + 1
            tell = log.error if is_refused else log.warning
            tell(
                "a partition starts again",
                service=self._session.projection.name,
                place=str(self.place),
                cause=cause,
            )
            await asyncio.sleep(_BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)])

    async def _once(self) -> None:
        """Restore, then work until closed."""
        session = self._session
        self.state = "restoring"
        started_s = time.monotonic()
        store = await Store.open(
            session.settings.state_dir / session.projection.name / self.place.pbx,
            f"state-{self.place.partition}",
        )
        producer = session.producer(self.place)
        try:
            if self._began:
                # What broke may be a right that is missing by now, and transactions do not say which.
                await check_rights(session.settings, session.needed_rights(self.place.pbx))
            self._began = True
            restored = await restore(session.plan(self.place, self.inputs), store, producer, session.consumer)
            self.task = session.task(self.place, store, producer, restored.positions)
            for partition, position in restored.positions.items():
                session.consumer.seek(partition, position)
            self.handed = dict(restored.positions)
            session.consumer.resume(self.inputs)
            self.state = "running"
            session.metrics.restore_duration.labels(session.projection.name).observe(
                time.monotonic() - started_s
            )
            session.metrics.restored_states.labels(session.projection.name).inc(restored.records)
            log.info(
                "partition restored",
                service=session.projection.name,
                place=str(self.place),
                read=restored.records,
                wiped=restored.wiped_because,
                seconds=round(time.monotonic() - started_s, 3),
            )
            session.news.set()
            await self.task.run()
        finally:
            if self.state == "running":
                self.state = "restoring"
            session.consumer.pause(self.inputs)
            self.task = None
            await asyncio.shield(_closed(store, producer))


async def _closed(store: Store, producer: TransactionalProducer) -> None:
    try:
        await producer.stop()
    finally:
        await store.close()


class _Session(Generic[State]):
    """One client's membership."""

    def __init__(
        self, projection: Projection[State], settings: Settings, metrics: Metrics, now_us: Callable[[], int]
    ) -> None:
        self.projection = projection
        self.settings = settings
        self.metrics = metrics
        self.consumer = GroupConsumer(
            settings,
            f"voipex-{projection.name}",
            session_timeout_ms=round(settings.session_timeout_s * 1000),
            records_at_once=projection.records_at_once,
        )
        self.owners: dict[Place, _Owner[State]] = {}
        self.joined = False
        self.news = asyncio.Event()
        self._now_us = now_us
        self._terms: Terms | None = None
        self._polling = asyncio.Lock()
        self._fault: Exception | None = None
        self._began_s = time.monotonic()

    @property
    def lasted_s(self) -> float:
        return time.monotonic() - self._began_s

    async def run(self, stopping: asyncio.Event) -> None:
        """Join, and work until `stopping`. Raises KafkaUnreachable, TopicMismatch."""
        try:
            await _unless(stopping, self._join())
            await self._poll(stopping)
        finally:
            await self._revoked()
            await self.consumer.stop()
        if self._fault is not None:
            raise self._fault

    async def _join(self) -> None:
        cluster_id = await examine(self.settings, self._topics(), self.needed_rights())
        settings, projection = self.settings, self.projection
        self._terms = Terms(
            f"voipex-{projection.name}",
            settings.topic_partitions,
            settings.commit_interval_ms / 1000,
            2 * settings.transaction_timeout_s,
            cluster_id,
            self._now_us,
        )
        inputs = [topic_name(pbx, kind) for pbx in settings.pbxs for kind in projection.inputs]
        await self.consumer.start(inputs, self._assigned, self._revoked)

    def end(self, fault: Exception) -> None:
        """Give the membership up; the worker begins a new one."""
        self._fault = self._fault or fault
        self.news.set()

    # ---------------------------------------------------------------- what owners need

    def producer(self, place: Place) -> TransactionalProducer:
        name = self.projection.name
        return TransactionalProducer(
            self.settings,
            f"voipex-{name}.{place.pbx}.{name}.{place.partition}",
            transaction_timeout_ms=round(self.settings.transaction_timeout_s * 1000),
        )

    def plan(self, place: Place, inputs: tuple[Partition, ...]) -> Plan:
        changelog = Partition(topic_name(place.pbx, self.projection.changelog), place.partition)
        return Plan(
            self.settings,
            self._agreed().cluster_id,
            self.projection.fold_version,
            changelog,
            inputs,
            self._now_us(),
        )

    def task(
        self, place: Place, store: Store, producer: TransactionalProducer, positions: Mapping[Partition, int]
    ) -> Task[State]:
        return Task(self.projection, place, self._agreed(), store, producer, self, positions, self.metrics)

    def needed_rights(self, pbx: str | None = None) -> dict[str, list[str]]:
        """On the topics of one PBX, or of all."""
        projection = self.projection
        reads = {*projection.inputs, projection.changelog}
        writes = {*projection.outputs, projection.changelog, DEAD_LETTERS}
        topics = [topic for topic in self._topics() if pbx in {None, topic.name.split(".", 1)[0]}]
        return {
            right: [topic.name for topic in topics if topic.kind in kinds]
            for right, kinds in {"Read": reads, "Write": writes}.items()
        }

    async def position(self, partition: Partition) -> int:
        """Between two polls, when every record below it has been handed to its task."""
        async with self._polling:
            return await self.consumer.position(partition)

    async def ends(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        return await self.consumer.ends(partitions)

    def _agreed(self) -> Terms:
        if self._terms is None:
            raise BridgeError("the session has not begun")
        return self._terms

    # ---------------------------------------------------------------- what others see

    def partitions(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for owner in self.owners.values():
            counts[owner.state] = counts.get(owner.state, 0) + 1
        return counts

    def halted(self) -> dict[str, str]:
        return {str(place): owner.fault for place, owner in self.owners.items() if owner.fault is not None}

    def lag(self) -> dict[tuple[str, int], int]:
        lag: dict[tuple[str, int], int] = {}
        for owner in self.owners.values():
            if owner.task is not None:
                for partition in owner.inputs:
                    unread = self.consumer.lag(partition)
                    if unread is not None:
                        taken = owner.task.waiting_of(partition.topic)
                        lag[partition.topic, partition.number] = unread + taken
        return lag

    # ---------------------------------------------------------------- membership

    def _topics(self) -> list[Any]:
        ours = {*self.projection.inputs, *self.projection.outputs, self.projection.changelog, DEAD_LETTERS}
        return [topic for topic in self.settings.topics() if topic.kind in ours]

    def _assigned(self, partitions: set[Partition]) -> None:
        """Called by the client's own task, before anything is fetched; must not fail or take long."""
        numbers = sorted({(topic.split(".", 1)[0], number) for topic, number in partitions})
        for owner in self.owners.values():  # a rebalance that revoked nothing
            owner.halt("assigned anew")
        self.owners = {place: _Owner(self, place) for place in (Place(*each) for each in numbers)}
        self.joined = True
        log.info(
            "partitions assigned", service=self.projection.name, partitions=",".join(map(str, self.owners))
        )
        self.news.set()

    async def _revoked(self) -> None:
        self.joined = False
        owners, self.owners = list(self.owners.values()), {}
        await asyncio.gather(*(owner.close() for owner in owners))
        if owners:
            log.info("partitions revoked", service=self.projection.name, partitions=len(owners))

    async def _poll(self, stopping: asyncio.Event) -> None:
        stop = asyncio.create_task(stopping.wait())
        stop.add_done_callback(lambda _: self.news.set())
        watched_s = time.monotonic()
        full: set[Place] = set()
        try:
            while not stopping.is_set() and self._fault is None:
                self.news.clear()
                running = {each.place: each for each in self.owners.values() if each.task is not None}
                full = self._hold_back(running, full)
                if running:
                    await self._poll_once(running)
                else:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self.news.wait(), 1.0)
                if time.monotonic() - watched_s > _WATCH_EVERY_S:
                    watched_s = time.monotonic()
                    self._watch(running.values())
        finally:
            stop.cancel()

    async def _poll_once(self, running: Mapping[Place, _Owner[State]]) -> None:
        asked = {partition: owner for owner in running.values() for partition in owner.inputs}
        tasks = {owner.place: owner.task for owner in running.values()}
        async with self._polling:
            self._require_no_gap(running.values())
            try:
                polled = await self.consumer.poll(asked, _POLL_MS)
            except OutOfRange as error:
                for partition in error.partitions:
                    owner = self._owner_of(partition)
                    if owner is not None:
                        owner.halt(f"what comes next in {partition.topic} {partition.number} is not there")
                return
            reached = self.consumer.reached(asked)
            for partition, asking in asked.items():
                # Not who asked: a rebalance may have come between, and a successor that has sought already would miss them.
                records, owner = polled.get(partition), self._owner_of(partition)
                if owner is None or owner.task is None:  # it seeks when it is restored
                    continue
                if records:
                    owner.task.take(partition.topic, records)
                if partition in reached and (records or owner.task is tasks[asking.place]):
                    owner.handed[partition] = reached[partition]  # without records: over markers

    def _require_no_gap(self, running: Iterable[_Owner[State]]) -> None:
        """Begin again where something was polled that did not reach the task: it would be missing in documents, and no lag would show it."""
        for owner in running:
            for partition, reached in self.consumer.reached(owner.inputs).items():
                handed = owner.handed.get(partition)
                if handed != reached and owner.task is not None:
                    owner.task.fail(
                        f"{partition.topic} {partition.number} is at {reached}, handed on until {handed}"
                    )

    def _owner_of(self, partition: Partition) -> "_Owner[State] | None":
        return self.owners.get(Place(partition.topic.split(".", 1)[0], partition.number))

    def _hold_back(self, running: Mapping[Place, _Owner[State]], full: set[Place]) -> set[Place]:
        """Fetch nothing more for tasks that have enough."""
        now = {
            place
            for place, owner in running.items()
            if owner.task is not None and owner.task.waiting >= self.projection.records_at_once
        }
        for place in now - full:
            self.consumer.pause(running[place].inputs)
        for place in full - now:
            if place in running:
                self.consumer.resume(running[place].inputs)
        return now

    def _watch(self, running: Iterable[_Owner[State]]) -> None:
        """Brokers answer fetches also when there is nothing: who hears nothing has lost them."""
        heard = [self.consumer.fetched_at_ms(partition) for owner in running for partition in owner.inputs]
        newest_ms = max((at_ms for at_ms in heard if at_ms), default=None)
        if newest_ms is not None and time.time() * 1000 - newest_ms > _SILENT_S * 1000:
            self.end(KafkaUnreachable(f"no broker has answered for {_SILENT_S:.0f} s"))


async def _unless(stopping: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Do *work*; told to stop, drop it: a join may wait for a frozen member's session to end."""
    working, told = asyncio.create_task(work), asyncio.create_task(stopping.wait())
    told.add_done_callback(lambda _: working.cancel())
    try:
        await working
    except asyncio.CancelledError:
        if not stopping.is_set():
            raise
    finally:
        told.cancel()


async def _rest(stopping: asyncio.Event, attempt: int) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), _BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)])
