"""
The composition root of the bridge: it makes spool, publisher and servers from the settings, starts them, supervises them and drains (ADR 6).

Start: credentials, spool (scan and recover), topics, ports, then ready. An unreachable Kafka stops nothing: events are accepted and wait.
Stop (SIGTERM, SIGINT): (1) become unready, (2) close each connection with its next response until none is left, (3) stop accepting, finish
the requests in flight and seal the spool, (4) publish what waits, (5) close. (2) to (4) take at most `drain_s` and a moment; a second
signal ends them. The rest waits on disk for the next start. A failed publisher or disk stops the process the same way, but without (2),
and run() raises its error.
"""

import asyncio
import contextlib
import gc
import signal
import socket
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any, Final

import uvloop

from bridge.auth.attempts import WrongPasswords, networks
from bridge.auth.authenticate import authenticate
from bridge.auth.store import CredentialStore, Reload
from bridge.http.fairness import Turns
from bridge.http.ingress import TOKEN_PATH, WEBHOOK_PATHS, Ingress, WebhookEndpoint
from bridge.http.protocol import Limits
from bridge.http.receipts import ReceiptClock
from bridge.http.retries import Probe, Retries
from bridge.http.senders import Senders
from bridge.http.server import HttpServer, raise_file_limit
from bridge.http.survey_routes import survey_routes
from bridge.http.tls import Certificate
from bridge.http.tls import Reload as CertificateReload
from bridge.http.token_endpoint import TokenEndpoint
from bridge.metrics import Metrics
from bridge.publisher.producer import KafkaProducer
from bridge.publisher.publisher import Producer, Publisher
from bridge.settings import Settings
from bridge.spool.inspect import free_bytes, lacks_room
from bridge.spool.memory import MemorySpool
from bridge.spool.spool import Spool
from bridge.spool.tuning import SpoolTuning
from voipex.errors import BridgeError, KafkaUnavailable, SpoolFailed, TopicsMissing
from voipex.kafka.admin import BRIDGE_ADMIN
from voipex.kafka.topics import check_topics
from voipex.kafka.watch import TopicWatch
from voipex.service.logging import cause_of, get_logger
from voipex.service.management import Readiness, build_management
from voipex.service.server import Server, listening, server_config, started
from voipex.timestamps import format_rfc3339

_TOPIC_CHECK_S: Final = 3.0  # a restart during an outage must not delay the start by more
_CONNECT_S: Final = 15.0
_KAFKA_DOWN_S: Final = 10.0  # longer than a leader election; a balancer should not flap
_WATCH_S: Final = 1.0
_SET_BACK_S: Final = 1.0  # less is a correction of the clock, made up for within ten seconds
_LAST_RECORDS_S: Final = 1.0  # to publish what the last connections sent, if they lasted for the whole drain

log = get_logger("bridge")


def run(settings: Settings, version: str) -> None:
    """Serve until SIGTERM or SIGINT. Raises BridgeError if the bridge cannot start, and the error of a part that failed."""
    # Imported modules stay for ever, and an event leaves few reference cycles: with the default thresholds the garbage collector took a
    # fifth of the time per event.
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(Bridge(settings, version).serve())


class Bridge:
    """One process: public port, spool, publisher, management port."""

    def __init__(self, settings: Settings, version: str) -> None:
        self._settings = settings
        self._version = version
        self._metrics = Metrics(version)
        self._receipts = ReceiptClock()
        self._wrong_passwords = WrongPasswords(networks(settings.trusted_proxies))
        self._retries = Retries(_log_end_of_probe)
        self._senders = Senders(self._retries, self._wrong_passwords.client)
        self._started_at = format_rfc3339(time.time_ns() // 1000)
        self._metrics.watch_probe(lambda: self._retries.is_probing)
        self._topic_watch = TopicWatch(settings, settings.topics(), BRIDGE_ADMIN)
        self._metrics.watch_topics(self._topic_watch.counts)
        self._credentials = CredentialStore(settings.credentials_file, settings.pbxs)
        self._certificate = (
            Certificate(settings.tls_cert_file, settings.tls_key_file)
            if settings.tls_cert_file is not None and settings.tls_key_file is not None
            else None
        )
        if (certificate := self._certificate) is not None:
            self._metrics.watch_certificate(lambda: certificate.until_s)
        self._stopping = asyncio.Event()
        self._force_stop = asyncio.Event()
        self._ready = False
        self._fault: BaseException | None = None

    async def serve(self) -> None:
        settings = self._settings
        if self._credentials.readable_by != "owner":
            log.warning("credentials file exposed", readable_by=self._credentials.readable_by)
        self._spool: Spool | MemorySpool = (
            self._open_disk_spool() if settings.ack == "spool" else self._open_memory_spool()
        )
        await self._check_topics_if_reachable()
        self._publisher = Publisher(
            self._spool, self._make_producer, self._metrics, partitions_of=settings.partitions_of
        )
        self._metrics.watch_clock(lambda: self._receipts.ahead_s, lambda: self._publisher.clock_skew_s)
        management_host = settings.management_host or settings.host
        with (
            listening(settings.host, settings.port, "port") as public_socket,
            listening(management_host, settings.management_port, "management_port") as management_socket,
        ):
            turns = Turns(asyncio.get_running_loop().call_soon) if len(settings.pbxs) > 1 else None
            server = HttpServer(
                self._ingress(turns),
                self._limits(),
                self._tls(),
                self._senders,
                None if turns is None else turns.schedule,
            )
            routes = survey_routes(self._retries, settings.pbxs, lambda: self._survey(server))
            management = Server(
                server_config(build_management(self._readiness, self._metrics.registry, more_routes=routes))
            )
            with self._signals():
                serving = [
                    self._supervise(management.serve([management_socket]), "management server"),
                    self._supervise(server.serve(public_socket), "ingress"),
                ]
                publishing = self._supervise(self._publisher.run(), "publisher")
                watching = self._supervise(self._watch(), "watch")
                watching_topics = asyncio.create_task(self._topic_watch.run())
                await server.started.wait()
                await started(management)
                self._log_started(public_socket, management_socket)
                self._ready = True
                await self._stopping.wait()
                await self._stop(server, publishing)
                watching.cancel()
                watching_topics.cancel()
                management.should_exit = True
                await asyncio.wait({*serving, publishing, watching, watching_topics})
        if self._fault is not None:
            raise self._fault
        log.info("stopped", waiting=self._spool.stats().waiting_records)

    def _ingress(self, turns: Turns | None) -> Ingress:
        tokens = TokenEndpoint(lambda: self._credentials.credentials)
        return Ingress(
            {**dict.fromkeys(WEBHOOK_PATHS, self._webhooks(turns)), TOKEN_PATH: tokens},
            self._metrics,
            wrong_passwords=self._wrong_passwords,
            retries=self._retries,
            log_requests=self._settings.log_level == "debug",
        )

    def _webhooks(self, turns: Turns | None) -> WebhookEndpoint:
        settings = self._settings
        return WebhookEndpoint(
            self._spool,
            lambda header: authenticate(header, self._credentials.credentials, time.time()),
            self._receipts,
            self._metrics,
            partitions_of=settings.partitions_of,
            max_body_bytes=settings.max_body_bytes,
            accepted=(settings.accepted_status, settings.accepted_body.encode()),
            retries=self._retries,
            turns=turns,
        )

    def _survey(self, server: HttpServer) -> dict[str, Any]:
        """Make the body of `/survey`: how the senders use HTTP."""
        answers: Counter[str] = Counter()
        for (route, _, status), count in self._metrics.http_requests.counts().items():
            if route == "/voipex":
                answers[str(status)] += count
        return {
            "since": self._started_at,
            "answers": answers,
            "slowest_answer_s": self._metrics.http_request_duration.highest(),
            **self._senders.to_json(server.describe()),
        }

    def _tls(self) -> Callable[[], ssl.SSLContext] | None:
        certificate = self._certificate
        return None if certificate is None else lambda: certificate.context

    def _limits(self) -> Limits:
        settings = self._settings
        limit = raise_file_limit(settings.max_connections)
        if limit < settings.max_connections:
            log.warning("connection limit lowered", max_connections=limit, cause="limit of open files")
        return Limits(
            max_connections=limit,
            max_body_bytes=settings.max_body_bytes,
            request_timeout_s=settings.request_timeout_s,
            idle_timeout_s=settings.idle_timeout_s,
        )

    # ---------------------------------------------------------------- parts

    def _open_memory_spool(self) -> MemorySpool:
        spool = MemorySpool(self._settings.ack_timeout_s, pbxs=self._settings.pbxs)
        self._metrics.watch_spool(spool.stats, lambda: time.time_ns() // 1_000_000)
        return spool

    def _open_disk_spool(self) -> Spool:
        settings = self._settings
        spool = Spool.open(
            settings.spool_dir,
            limit_bytes=settings.spool_limit_bytes,
            pbxs=settings.pbxs,
            # The newest segment is kept even when Kafka has all of it: with large segments a small disk would stay full.
            tuning=SpoolTuning(segment_bytes=max(1 << 20, min(32 << 20, settings.spool_limit_bytes // 8))),
            on_commit=lambda seconds, _: self._metrics.spool_commit_duration.observe(seconds),
            on_failed=self._on_spool_failed,
            on_corrupt=lambda path, records: log.error(
                "spool corrupt", file=path.name, missing_records=records
            ),
        )
        self._metrics.watch_spool(
            spool.stats, lambda: time.time_ns() // 1_000_000, lambda: free_bytes(settings.spool_dir)
        )
        stats = spool.stats()
        free = free_bytes(settings.spool_dir)
        if free is not None and lacks_room(free, stats.bytes, settings.spool_limit_bytes):
            log.warning(
                "disk smaller than the spool's limit",
                free_bytes=free,
                limit_bytes=settings.spool_limit_bytes,
                remedy="free some space, or lower VOIPEX_SPOOL_LIMIT_BYTES",
            )
        if stats.waiting_records:
            log.info("spool recovered", waiting=stats.waiting_records, bytes=stats.bytes)
        return spool

    def _on_spool_failed(self, fault: SpoolFailed) -> None:
        """Stop: what is still in memory is published first, the rest is on the disk, if that can be read."""
        log.error("spool failed", fault=str(fault), waiting=self._spool.stats().waiting_records)
        self._fail(fault)

    async def _check_topics_if_reachable(self) -> None:
        """
        Check the topics; missing ones are waited for, as an unreachable Kafka is.

        Raises:
            TopicMismatch: a bridge that does not start is better than events in the wrong partition.
        """
        settings = self._settings
        try:
            async with asyncio.timeout(_TOPIC_CHECK_S):
                differences = await check_topics(settings, settings.topics())
        except (KafkaUnavailable, TimeoutError) as error:
            self._topics_checked = False
            log.warning("kafka unreachable", cause=type(error).__name__)
        except TopicsMissing as error:
            self._topics_checked = False
            log.error("topics missing", cause=str(error))
            with contextlib.suppress(KafkaUnavailable):
                await self._topic_watch.look()
        else:
            self._topics_checked = True
            self._log_topic_differences(differences)

    def _make_producer(self) -> Producer:
        return _CheckedProducer(self._settings, self._check_topics_once)

    async def _check_topics_once(self) -> None:
        """Check the topics before anything is published, if Kafka was unreachable at the start."""
        if not self._topics_checked:
            differences = await check_topics(self._settings, self._settings.topics())
            self._topics_checked = True
            self._log_topic_differences(differences)

    @staticmethod
    def _log_topic_differences(differences: Sequence[str]) -> None:
        if differences:
            remedy = "voipex-bridge topics check lists them, topics apply sets the declared values"
            log.warning("topics differ", differences=len(differences), first=differences[0], remedy=remedy)

    async def _watch(self) -> None:
        """Look once a second at what may change beneath the bridge: its disk, its clock, its files."""
        set_back = False
        while True:
            await asyncio.sleep(_WATCH_S)
            self._retries.expire()
            if isinstance(self._spool, Spool):
                self._spool.check()
            ahead_s = self._receipts.ahead_s
            if ahead_s > _SET_BACK_S and not set_back:
                remedy = "restart the bridge once the clock is right"
                log.warning("clock set back", received_at_ahead_s=round(ahead_s), remedy=remedy)
            set_back = ahead_s > _SET_BACK_S
            self._log_credentials_reload(self._credentials.reload_if_changed())
            if self._certificate is not None:
                self._log_certificate_reload(self._certificate.reload_if_changed())

    def _reload(self) -> None:
        self._log_credentials_reload(self._credentials.reload())
        if self._certificate is not None:
            self._log_certificate_reload(self._certificate.reload())

    def _log_certificate_reload(self, reload: CertificateReload | None) -> None:
        if reload is None:
            return
        if reload.fault is None:
            log.info("certificate reloaded", file=str(self._settings.tls_cert_file))
        else:
            log.error("certificate reload failed", fault=reload.fault, in_force="the previous certificate")

    def _log_credentials_reload(self, reload: Reload | None) -> None:
        if reload is None:
            return
        if reload.fault is None:
            log.info("credentials reloaded", names=",".join(reload.names))
        else:
            log.error("credentials reload failed", fault=reload.fault, in_force="the previous credentials")

    def _readiness(self) -> Readiness:
        stats = self._spool.stats()
        accepting = not (stats.full or stats.failed or self._stopping.is_set())
        return Readiness(
            self._ready and accepting and not self._kafka_required_but_down(),
            {
                "stopping": self._stopping.is_set(),
                "spool": {
                    "id": self._spool.spool_id,
                    "full": stats.full,
                    "failed": stats.failed,
                    "bytes": stats.bytes,
                    "limit_bytes": stats.limit_bytes,
                    "waiting_records": stats.waiting_records,
                    "bytes_by_pbx": stats.used_bytes_by_pbx,
                },
                "kafka": self._publisher.state,
                "clock": {
                    "received_at_ahead_s": round(self._receipts.ahead_s, 3),
                    "skew_s": self._publisher.clock_skew_s,
                },
                "topics": self._topic_watch.describe(),
                "retry_probe": self._retries.describe_probe() if self._retries.is_probing else None,
            },
        )

    def _kafka_required_but_down(self) -> bool:
        """With `ack=kafka` nothing can be accepted without Kafka; with a spool, events can wait."""
        state = self._publisher.state
        if self._settings.ack == "spool" or state.reachable:
            return False
        return state.since is None or self._publisher.unreachable_s > _KAFKA_DOWN_S

    # ---------------------------------------------------------------- start, watch, stop

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """The first SIGTERM or SIGINT drains; a second one does not wait for Kafka. SIGHUP reloads credentials and certificate."""
        loop = asyncio.get_running_loop()
        handlers: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGTERM: self._request_stop,
            signal.SIGINT: self._request_stop,
            signal.SIGHUP: self._reload,
        }
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)

    def _request_stop(self) -> None:
        if self._stopping.is_set():
            self._force_stop.set()
        self._stopping.set()

    def _fail(self, fault: BaseException) -> None:
        self._fault = self._fault or fault
        self._stopping.set()

    def _supervise(self, part: Coroutine[None, None, None], name: str) -> "asyncio.Task[None]":
        """Run a part as a task. If it returns or fails before the bridge stops, the bridge stops gracefully with its error."""

        def ended(done: "asyncio.Task[None]") -> None:
            if done.cancelled():
                return
            fault = done.exception()
            if fault is not None:
                log.error("part failed", part=name, fault=cause_of(fault))
                self._fail(fault)
            elif not self._stopping.is_set():
                self._fail(BridgeError(f"the {name} stopped unexpectedly"))

        task = asyncio.create_task(part, name=name)
        task.add_done_callback(ended)
        return task

    def _log_started(self, public: socket.socket, management: socket.socket) -> None:
        host, port = public.getsockname()[:2]
        log.info(
            "started",
            version=self._version,
            ingress=f"{'http' if self._certificate is None else 'https'}://{host}:{port}/voipex",
            management_port=management.getsockname()[1],
            pbxs=",".join(self._settings.pbxs),
            spool=self._spool.spool_id,
        )

    async def _stop(self, server: HttpServer, publishing: "asyncio.Task[None]") -> None:
        """Steps (1) to (5) of the module's docstring; (1) is `_stopping` itself."""
        log.info("stopping", waiting=self._spool.stats().waiting_records)
        drain_s = self._settings.drain_s
        deadline = time.monotonic() + drain_s
        force_stop = asyncio.create_task(self._force_stop.wait())
        if self._fault is None:
            draining = asyncio.create_task(server.drain())  # (2)
            await asyncio.wait(
                {draining, publishing, force_stop}, timeout=drain_s, return_when=asyncio.FIRST_COMPLETED
            )
            draining.cancel()
        server.stop()  # (3)
        await server.stopped.wait()
        self._spool.seal()
        await asyncio.wait(  # (4)
            {publishing, force_stop},
            timeout=max(min(_LAST_RECORDS_S, drain_s), deadline - time.monotonic()),
            return_when=asyncio.FIRST_COMPLETED,
        )
        force_stop.cancel()
        if not publishing.done():
            log.warning("drain incomplete", waiting=self._spool.stats().waiting_records)
            publishing.cancel()
            await asyncio.wait({publishing})
        await self._spool.close()  # (5)


def _log_end_of_probe(probe: Probe) -> None:
    log.warning(
        "retry probe ended", pbx=probe.pbx, cause=probe.ended, refused=probe.refused, answers=probe.answers
    )


class _CheckedProducer(KafkaProducer):
    """A producer that starts only once the topics have been checked."""

    def __init__(self, settings: Settings, check: Callable[[], Awaitable[None]]) -> None:
        super().__init__(settings)
        self._check = check

    async def start(self, timeout_s: float = _CONNECT_S) -> None:
        await self._check()
        await super().start(timeout_s)
