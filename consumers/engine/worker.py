"""
Worker: one service as a member of its consumer group.

It runs one session after another. A session ends when Kafka becomes unreachable; the worker then starts a new one with a new client, until
it is stopped. Topics that do not exist (yet) are waited for, too; only topics that contradict the settings end the service.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

from consumers.engine.access import (
    admin_client_id,
    check_access,
    check_cluster,
    group_of,
    required_acls,
    used_topics,
)
from consumers.engine.group import GroupConsumer
from consumers.engine.membership import instance_id
from consumers.engine.metrics import Metrics, ServiceSnapshot
from consumers.engine.projection import Projection
from consumers.engine.runner import LOG_INTERVAL_S, STABLE_AFTER_S, backoff_s
from consumers.engine.session import GroupSession
from consumers.engine.stopping import sleep_unless_stopped, unless_stopped
from consumers.engine.task import TaskConfig
from consumers.engine.task_state import TaskState
from consumers.settings import Settings
from voipex.errors import (
    BridgeError,
    KafkaAccessDenied,
    KafkaUnavailable,
    KafkaUnreachable,
    TopicMismatch,
    TopicsMissing,
)
from voipex.kafka.admin import describe_cluster
from voipex.kafka.topics import topics_missing
from voipex.kafka.watch import TopicWatch
from voipex.service.logging import LogThrottle, get_logger

State = TypeVar("State")

STALL_LIMIT_S: Final = 300.0
"""Longer than any step may take: a transaction has twice its timeout, a poll 50 ms."""

log = get_logger("worker")


class Worker(Generic[State]):
    """Run it until `stop`. `now_us` is the only clock that timers see."""

    def __init__(
        self,
        projection: Projection[State],
        settings: Settings,
        metrics: Metrics,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self.service = projection.name
        self.group = group_of(projection.name)
        self._projection = projection
        self._settings = settings
        self._metrics = metrics
        self._now_us = now_us
        self._stopping = asyncio.Event()
        self._session: GroupSession[State] | None = None
        self._topics = used_topics(projection, settings.topics())
        self._watch = TopicWatch(settings, self._topics, admin_client_id(self.group))
        self._was_member = False
        self._instance_id: str | None = None
        self._throttle = LogThrottle(LOG_INTERVAL_S)
        self._cause: str | None = None

    async def run(self) -> None:
        """
        Be a member until stopped; retry while Kafka is unreachable or topics are missing.

        Raises:
            TopicMismatch: records would go to the wrong partitions (I7).
        """
        with instance_id(
            self._settings.state_dir / self.service, [topic.name for topic in self._topics]
        ) as self._instance_id:
            watching = asyncio.create_task(self._watch.run(self._rejoin))
            try:
                await self._run_sessions()
            finally:
                watching.cancel()
                await asyncio.wait({watching})

    async def _run_sessions(self) -> None:
        attempt = 0
        while not self._stopping.is_set():
            started_s = time.monotonic()
            try:
                await self._run_session()
            except (KafkaUnavailable, TopicsMissing) as error:
                attempt = 0 if time.monotonic() - started_s > STABLE_AFTER_S else attempt + 1
                self._cause = str(error)
                self._log(error)
                await sleep_unless_stopped(self._stopping, backoff_s(attempt))

    def _log(self, error: BridgeError) -> None:
        suppressed = self._throttle.admit(f"{type(error).__name__} {error}")
        if suppressed is None:
            return
        fields = {"service": self.service, "cause": str(error), "suppressed": suppressed}
        if isinstance(error, TopicsMissing):
            log.error("topics missing", **fields)
        elif isinstance(error, KafkaAccessDenied):
            log.error("Kafka access denied", **fields)
        else:
            log.warning("Kafka unreachable", **fields)

    def stop(self) -> None:
        self._stopping.set()

    async def _run_session(self) -> None:
        settings, projection = self._settings, self._projection
        self._session = None
        cluster_id = await unless_stopped(self._stopping, self._check_cluster())
        if cluster_id is None:
            return
        self._cause = None
        config = TaskConfig(
            self.group,
            settings.partitions_of,
            settings.commit_interval_ms / 1000,
            2 * settings.transaction_timeout_s,
            cluster_id,
            self._now_us,
        )
        consumer = GroupConsumer(
            settings,
            self.group,
            session_timeout_ms=round(settings.session_timeout_s * 1000),
            max_batch_records=projection.max_batch_records,
            instance_id=self._instance_id,
        )
        self._session = GroupSession(projection, settings, self._metrics, config, consumer)
        self._was_member = True
        await self._session.run(self._stopping)

    async def _check_cluster(self) -> str:
        """
        Check topics and ACLs; return the cluster's id. Once the service has worked, a topic that got partitions does not end it: the ones
        that it uses are the same.

        Raises:
            TopicsMissing, KafkaUnavailable: try again; TopicMismatch: end.
        """
        settings, client_id = self._settings, admin_client_id(self.group)
        acls = required_acls(self._projection, self._topics)
        if not self._was_member:
            return await check_cluster(settings, self._topics, acls, client_id)
        await check_access(settings, acls, client_id)
        for fault in await self._watch.look():
            if fault.kind == "missing":
                raise topics_missing(self._watch.missing())
            if fault.kind == "shrunk":
                raise TopicMismatch(fault.message)
        return (await describe_cluster(settings, client_id=client_id)).cluster_id

    def _rejoin(self, restored: Sequence[str]) -> None:
        """Start a new session when deleted topics are there again: the client's metadata is old."""
        if self._session is not None:
            self._session.end(KafkaUnreachable(f"{', '.join(restored)} did not exist for a while"))

    @property
    def ready(self) -> bool:
        """Joined, every assigned task is running, and no topic is missing."""
        session = self._session
        return (
            session is not None
            and session.joined
            and set(session.states()) <= {TaskState.RUNNING.value}
            and not self._watch.missing()
        )

    @property
    def stalled_because(self) -> str | None:
        """Why only a restart may help, for the liveness probe: a disk that does not answer, or a bug. An outage of Kafka is no reason."""
        limit_s = max(STALL_LIMIT_S, 4 * self._settings.transaction_timeout_s)
        return self._session.stalled_because(limit_s) if self._session is not None else None

    def describe(self) -> Mapping[str, Any]:
        """Return what `/ready` shows."""
        session = self._session
        return {
            "group": self.group,
            "joined": session is not None and session.joined,
            "partitions": session.states() if session is not None else {},
            "halted": session.halted() if session is not None else {},
            "waiting": session.waiting() if session is not None else {},
            "topics": self._watch.describe(),
            "cause": self._cause,
        }

    def snapshot(self) -> ServiceSnapshot:
        """Return what the metrics show."""
        session = self._session
        runners = list(session.runners.values()) if session is not None else []
        stores = [(runner.task_id.pbx, runner.task.store) for runner in runners if runner.task is not None]
        keys: dict[tuple[str, str], int] = {}
        for pbx, store in stores:
            for status, number in store.status_counts.items():
                keys[pbx, status] = keys.get((pbx, status), 0) + number
        now_us = self._now_us()
        due_us = [store.next_due_us for _, store in stores if store.next_due_us is not None]
        return ServiceSnapshot(
            service=self.service,
            group=self.group,
            lag=session.lag() if session is not None else {},
            partitions=session.states() if session is not None else {},
            keys=keys,
            partitions_with_due_timers=sum(1 for each in due_us if each <= now_us),
            store_bytes=sum(store.size_bytes for _, store in stores),
            topic_faults=self._watch.counts(),
        )
