"""
Worker: one service as a member of its consumer group.

It runs one session after another. A session ends when Kafka becomes unreachable; the worker then starts a new one with a new client, until
it is stopped.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from consumers.engine.access import admin_client_id, check_cluster, group_of, required_acls, used_topics
from consumers.engine.group import GroupConsumer
from consumers.engine.metrics import Metrics, ServiceSnapshot
from consumers.engine.projection import Projection
from consumers.engine.runner import STABLE_AFTER_S, backoff_s
from consumers.engine.session import GroupSession
from consumers.engine.stopping import sleep_unless_stopped, unless_stopped
from consumers.engine.task import TaskConfig
from consumers.engine.task_state import TaskState
from consumers.settings import Settings
from voipex.errors import KafkaAccessDenied, KafkaUnavailable
from voipex.service.logging import get_logger

State = TypeVar("State")

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

    async def run(self) -> None:
        """
        Be a member until stopped; retry while Kafka is unreachable.

        Raises:
            TopicMismatch: records would go to the wrong partitions (I7).
        """
        attempt = 0
        while not self._stopping.is_set():
            started_s = time.monotonic()
            try:
                await self._run_session()
            except KafkaUnavailable as error:
                attempt = 0 if time.monotonic() - started_s > STABLE_AFTER_S else attempt + 1
                warn = log.error if isinstance(error, KafkaAccessDenied) else log.warning
                warn("Kafka unreachable", service=self.service, cause=str(error), attempt=attempt)
                await sleep_unless_stopped(self._stopping, backoff_s(attempt))

    def stop(self) -> None:
        self._stopping.set()

    async def _run_session(self) -> None:
        settings, projection = self._settings, self._projection
        self._session = None
        topics = used_topics(projection, settings.topics())
        cluster_id = await unless_stopped(
            self._stopping,
            check_cluster(settings, topics, required_acls(projection, topics), admin_client_id(self.group)),
        )
        if cluster_id is None:
            return
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
        )
        self._session = GroupSession(projection, settings, self._metrics, config, consumer)
        await self._session.run(self._stopping)

    @property
    def ready(self) -> bool:
        """Joined, and every assigned task is running."""
        session = self._session
        return session is not None and session.joined and set(session.states()) <= {TaskState.RUNNING.value}

    def describe(self) -> Mapping[str, Any]:
        """Return what `/ready` shows."""
        session = self._session
        return {
            "group": self.group,
            "joined": session is not None and session.joined,
            "partitions": session.states() if session is not None else {},
            "halted": session.halted() if session is not None else {},
            "waiting": session.waiting() if session is not None else {},
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
        )
