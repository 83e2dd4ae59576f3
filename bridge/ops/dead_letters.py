"""
Dead letters for an operator: list them, show one, publish them again.

A replay writes to Kafka directly, whether or not a bridge is running. The record it publishes depends on the dead letter and on the
credentials file only, so replaying a dead letter again publishes the same bytes. The event keeps the `received_at` and `event_id` of its
receipt: a reader that counts each event id once sees no change after a second replay. The dead letter stays where it is.

There are two kinds; only the second names a source topic:

- **A webhook** (stage `ingress`): the body is parsed again with the key names and the region that its credential has *now*.
- **A record** (rejected by Kafka, or not foldable by a consumer): it returns to its topic unchanged, without the headers that made it
  a dead letter.

Both get the header `bridge-replays`: 1, or one more than the header of the dead letter, if a replayed record became a dead letter again.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Final, Literal, NamedTuple, Self, get_args

from bridge.auth.authenticate import Principal
from bridge.ops.reader import ConsumerRecord, read
from bridge.publisher.faults import DeliveryFault
from bridge.publisher.producer import KafkaProducer
from voipex.errors import BridgeError, InvalidWebhook, KafkaUnreachable
from voipex.kafka.settings import KafkaSettings
from voipex.normalize import Receipt, normalize
from voipex.partitioner import partition_for_key
from voipex.records import SEQ_HEADER, SPOOL_ID_HEADER, TRACEPARENT_HEADER, Record, encode
from voipex.timestamps import format_rfc3339, parse_rfc3339
from voipex.topics import DEAD_LETTERS, TOPIC_SPECS, topic_name
from voipex.webhook import parse

REPLAYS_HEADER: Final = "bridge-replays"
_SOURCE_PREFIX: Final = "__dlq.errors."
_ADDED_HEADERS: Final = frozenset(
    {
        "bridge-error-class",
        "bridge-error-message",
        "bridge-stage",
        "bridge-received-at",
        "bridge-pbx",
        REPLAYS_HEADER,
    }
)
"""Headers that a dead letter adds to those of its record, besides all that begin with `_SOURCE_PREFIX`."""

_LATEST_MS: Final = 253_402_300_799_000  # the last second that RFC 3339 can express
_BATCH: Final = 20_000  # dead letters in memory at a time: with bodies of events some 60 MB
_DELIVERY_TIMEOUT_S: Final = 30.0


class DeadLetterNotFound(BridgeError):
    """There is no record at that position: it was never written, or its retention is over."""


class Position(NamedTuple):
    """Where a dead letter lies in its topic; as text `PARTITION:OFFSET`."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


@dataclass(frozen=True)
class DeadLetter:
    """A record of `<pbx>.dead-letters.v1`. `body` is None if the record has no value, or was left out on purpose (`without_body`)."""

    pbx: str
    position: Position
    timestamp_ms: int
    key: bytes | None
    body: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    size_bytes: int

    @classmethod
    def from_record(cls, pbx: str, record: ConsumerRecord) -> Self:
        """Take over a record that was read from the topic."""
        return cls(
            pbx,
            Position(record.partition, record.offset),
            record.timestamp_ms,
            record.key,
            record.value,
            record.headers,
            len(record.value or b""),
        )

    def without_body(self) -> Self:
        """Return a copy that keeps the size but not the body."""
        return replace(self, body=None)

    @cached_property
    def _header_texts(self) -> Mapping[str, str]:
        return {name: _text(value) for name, value in self.headers}  # the last of equal names wins

    def header(self, name: str) -> str | None:
        """Return a header as text, or None if it is missing."""
        return self._header_texts.get(name)

    @property
    def error_class(self) -> str:
        """Class of the error, `?` if it is missing."""
        return self.header("bridge-error-class") or "?"

    @property
    def message(self) -> str:
        """Message of the error."""
        return self.header("bridge-error-message") or ""

    @property
    def stage(self) -> str:
        """`ingress`, `timelines` or `agents`; `?` if it is missing."""
        return self.header("bridge-stage") or "?"

    @property
    def source_topic(self) -> str | None:
        """
        Topic of the record that became a dead letter; None for a webhook.

        A webhook's dead letter that Kafka rejected at first names the topic of dead letters; it counts as a webhook.
        """
        topic = self.header(f"{_SOURCE_PREFIX}topic")
        return None if topic == topic_name(self.pbx, DEAD_LETTERS) else topic

    @property
    def received_at_us(self) -> int:
        """When the webhook was received, else the timestamp of the record."""
        try:
            return parse_rfc3339(self.header("bridge-received-at") or "")
        except ValueError:
            return min(max(0, self.timestamp_ms), _LATEST_MS) * 1000  # a timestamp may be any number

    @property
    def received_at(self) -> str:
        """The same in RFC 3339."""
        return format_rfc3339(self.received_at_us)

    def summary(self) -> dict[str, str | int | None]:
        """Everything but headers and body: no personal data."""
        return {
            "pbx": self.pbx,
            "position": str(self.position),
            "received_at": self.received_at,
            "class": self.error_class,
            "message": self.message,
            "stage": self.stage,
            "credential": self.header("bridge-credential"),
            "event_id": self.header("bridge-event-id") or self.header("ce_id"),
            "source_topic": self.source_topic,
            "size_bytes": self.size_bytes,
        }


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Which dead letters to select; None: no condition. `since_us <= received < until_us`."""

    since_us: int | None = None
    until_us: int | None = None
    error_class: str | None = None
    stage: str | None = None
    position: Position | None = None

    def matches(self, dead_letter: DeadLetter) -> bool:
        """Whether *dead_letter* meets all conditions. The case of the class does not matter."""
        return (
            (self.since_us is None or dead_letter.received_at_us >= self.since_us)
            and (self.until_us is None or dead_letter.received_at_us < self.until_us)
            and (
                self.error_class is None or dead_letter.error_class.casefold() == self.error_class.casefold()
            )
            and (self.stage is None or dead_letter.stage == self.stage)
            and (self.position is None or dead_letter.position == self.position)
        )


# ---------------------------------------------------------------- the record to publish


Outcome = Literal["replayed", "unusable", "skipped", "refused"]
OUTCOMES: Final[tuple[Outcome, ...]] = get_args(Outcome)


class NotReplayed(BridgeError):
    """Why a dead letter was not published. It stays in its topic, as all dead letters do."""

    outcome: ClassVar[Outcome]


class StillInvalid(NotReplayed):
    """The body is still no event, or the dead letter itself is damaged."""

    outcome = "unusable"


class Skipped(NotReplayed):
    """How to read the body is unknown. Operator: name a credential, or correct the credentials file."""

    outcome = "skipped"


class Rejected(NotReplayed):
    """Kafka does not accept the record."""

    outcome = "refused"


PrincipalOf = Callable[[str], Principal | None]
"""Map a credential's name to its key names and region, from the current credentials file."""


def to_record(
    dead_letter: DeadLetter, principal_of: PrincipalOf, partitions: int, fallback: Principal | None = None
) -> Record:
    """
    Return the record to publish for *dead_letter* (pure: the same bytes every time).

    `fallback`: the credential to read webhooks with whose own credential no longer exists.

    Raises:
        StillInvalid: the body is no event, or headers are missing or wrong.
        Skipped: the credential no longer exists, or belongs to another PBX now.
    """
    if dead_letter.body is None:
        raise StillInvalid("it has no value")
    if dead_letter.header("bridge-pbx") != dead_letter.pbx:
        raise StillInvalid("its bridge-pbx is not the PBX of its topic")
    if dead_letter.source_topic is None:
        return _parse_again(dead_letter, dead_letter.body, principal_of, partitions, fallback)
    return _source_record(dead_letter, dead_letter.body, dead_letter.source_topic, partitions)


def _parse_again(
    dead_letter: DeadLetter,
    body: bytes,
    principal_of: PrincipalOf,
    partitions: int,
    fallback: Principal | None,
) -> Record:
    receipt = _receipt(dead_letter)
    principal = _credential(dead_letter, principal_of, fallback)
    try:
        event = normalize(parse(body, principal.keys), dead_letter.pbx, receipt, principal.region)
    except InvalidWebhook as error:
        raise StillInvalid(f"{type(error).__name__}: {error}") from error
    record = encode(event, receipt.received_at_us // 1000, partitions, receipt.traceparent)
    spool_headers = [
        (name, value)
        for name, value in dead_letter.headers
        if name in (SPOOL_ID_HEADER, SEQ_HEADER) and value is not None
    ]
    return record._replace(headers=(*record.headers, *spool_headers, _replays_header(dead_letter)))


def _receipt(dead_letter: DeadLetter) -> Receipt:
    """Return the receipt of the webhook. Nothing is made up: a time that no bridge wrote is an error."""
    event_id, received_at = dead_letter.header("bridge-event-id"), dead_letter.header("bridge-received-at")
    if not event_id or not received_at:
        raise StillInvalid("it lacks bridge-event-id or bridge-received-at")
    try:
        received_at_us = parse_rfc3339(received_at)
    except ValueError:
        raise StillInvalid("its bridge-received-at is not a time") from None
    if format_rfc3339(received_at_us) != received_at:
        raise StillInvalid("its bridge-received-at is not in the form that a bridge writes")
    return Receipt(received_at_us, received_at, event_id, dead_letter.header(TRACEPARENT_HEADER))


def _credential(dead_letter: DeadLetter, principal_of: PrincipalOf, fallback: Principal | None) -> Principal:
    name = dead_letter.header("bridge-credential") or ""
    principal = principal_of(name) or fallback
    if principal is None:
        raise Skipped(
            f"its credential {name!r} is no longer in the credentials file; --credential NAME reads it with the key names of another one"
        )
    if principal.pbx != dead_letter.pbx:
        raise Skipped(
            f"credential {principal.name!r} belongs to PBX {principal.pbx!r}, not {dead_letter.pbx!r}"
        )
    return principal


def _source_record(dead_letter: DeadLetter, value: bytes, topic: str, partitions: int) -> Record:
    if topic not in {topic_name(dead_letter.pbx, kind) for kind in TOPIC_SPECS}:
        raise StillInvalid("the topic that it names is not one of its PBX")
    headers = tuple(
        (name, value if value is not None else b"")
        for name, value in dead_letter.headers
        if name not in _ADDED_HEADERS and not name.startswith(_SOURCE_PREFIX)
    )
    # The key determines the partition; a foreign record without a key returns to the partition that it was in.
    source_partition = dead_letter.header(f"{_SOURCE_PREFIX}partition") or ""
    partition = (
        int(source_partition)
        if source_partition.isdecimal()
        else partition_for_key(dead_letter.key or b"", partitions)
    )
    if partition >= partitions:
        raise StillInvalid("the partition that it names does not exist")
    return Record(
        topic,
        partition,
        dead_letter.key,
        value,
        (*headers, _replays_header(dead_letter)),
        dead_letter.received_at_us // 1000,
    )


def _replays_header(dead_letter: DeadLetter) -> tuple[str, bytes]:
    before = dead_letter.header(REPLAYS_HEADER) or ""
    return REPLAYS_HEADER, b"%d" % ((int(before) if before.isdecimal() else 0) + 1)


# ---------------------------------------------------------------- read


async def read_dead_letters(
    settings: KafkaSettings, pbx: str, selection: DeadLetterFilter
) -> AsyncGenerator[DeadLetter, None]:
    """
    Yield the dead letters of one PBX that exist now and match; each partition in order.

    Raises:
        TopicMismatch: the topic does not exist.
        DeadLetterNotFound: one position was selected, of a partition that does not exist.
        KafkaUnreachable: with the cause.
    """
    position = selection.position

    def choose_partition(partitions: int) -> int:
        assert position is not None  # noqa: S101 - called only if there is one
        if position.partition >= partitions:
            raise DeadLetterNotFound(f"no partition {position.partition}: the topic has {partitions}")
        return position.partition

    records = read(
        settings,
        topic_name(pbx, DEAD_LETTERS),
        choose_partition=None if position is None else choose_partition,
        from_offset=0 if position is None else position.offset,
    )
    try:
        async for record in records:
            dead_letter = DeadLetter.from_record(pbx, record)
            if selection.matches(dead_letter):
                yield dead_letter
            if position is not None:
                return
    finally:
        await records.aclose()


async def list_dead_letters(
    settings: KafkaSettings, pbxs: Iterable[str], selection: DeadLetterFilter
) -> list[DeadLetter]:
    """Return the matching dead letters of all *pbxs* without their bodies, oldest first. Raises as `read_dead_letters` does."""
    found = [
        dead_letter.without_body()
        for pbx in pbxs
        async for dead_letter in read_dead_letters(settings, pbx, selection)
    ]
    return sorted(found, key=lambda each: (each.received_at_us, each.pbx, each.position))


async def get_dead_letter(settings: KafkaSettings, pbx: str, position: Position) -> DeadLetter:
    """Return one dead letter, with its body. Raises as `read_dead_letters` does, and DeadLetterNotFound if there is none."""
    selection = DeadLetterFilter(position=position)
    async with contextlib.aclosing(read_dead_letters(settings, pbx, selection)) as found:
        async for dead_letter in found:
            return dead_letter
    raise DeadLetterNotFound(
        f"no dead letter at {position} of {topic_name(pbx, DEAD_LETTERS)}: never written, or its retention is over"
    )


# ---------------------------------------------------------------- replay


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What a replay did with one dead letter. `topic`: of the record to publish, if there is one; `reason`: why it was not published."""

    dead_letter: DeadLetter
    outcome: Outcome
    topic: str | None = None
    reason: str | None = None


async def replay(
    settings: KafkaSettings,
    pbxs: Iterable[str],
    selection: DeadLetterFilter,
    principal_of: PrincipalOf,
    partitions_of: Callable[[str], int],
    on_result: Callable[[ReplayResult], None],
    *,
    fallback: Principal | None = None,
    dry_run: bool = False,
) -> dict[Outcome, int]:
    """
    Publish the matching dead letters again, one at a time; with `dry_run` only find out what would happen. Return the number of each outcome.

    (1) Read up to `_BATCH` dead letters of a PBX, and sort them by the time of their receipt, so that the events of a call keep their
    order. Across batches they may not, which folds tolerate. (2) Make the record of each. (3) Publish it, and wait until all in-sync
    replicas have it. (4) Call `on_result`, with the body left out.

    Raises:
        DeadLetterNotFound: one position was selected, and there is no match.
        KafkaUnreachable: what was reported is done; the next record may be published or not. It is safe to replay everything again.
        TopicMismatch: a topic of dead letters does not exist.
    """
    counts: Counter[Outcome] = Counter()
    async with contextlib.aclosing(_RecordPublisher(settings)) as publisher:
        for pbx in pbxs:
            async with contextlib.aclosing(_batches(read_dead_letters(settings, pbx, selection))) as batches:
                async for batch in batches:  # 1
                    batch.sort(key=lambda each: (each.received_at_us, each.position))
                    for dead_letter in batch:
                        topic: str | None = None
                        try:
                            record = to_record(dead_letter, principal_of, partitions_of(pbx), fallback)  # 2
                            topic = record.topic
                            if not dry_run:
                                await publisher.publish(record)  # 3
                            result = ReplayResult(dead_letter.without_body(), "replayed", topic)
                        except NotReplayed as error:
                            result = ReplayResult(
                                dead_letter.without_body(), error.outcome, topic, str(error)
                            )
                        counts[result.outcome] += 1
                        on_result(result)  # 4
    if selection.position is not None and not counts:
        raise DeadLetterNotFound(f"no dead letter at {selection.position}, or the other filters exclude it")
    return {outcome: counts[outcome] for outcome in OUTCOMES}


async def _batches(found: AsyncGenerator[DeadLetter, None]) -> AsyncGenerator[list[DeadLetter], None]:
    batch: list[DeadLetter] = []
    try:
        async for dead_letter in found:
            batch.append(dead_letter)
            if len(batch) == _BATCH:
                yield batch
                batch = []
    finally:
        await found.aclose()
    if batch:
        yield batch


_SAFE_TO_REPEAT: Final = "It is safe to replay everything again"
_PARTITION_FAULTS: Final[Mapping[DeliveryFault, str]] = {
    DeliveryFault.UNKNOWN_TOPIC: "its topic or partition does not exist: voipex-bridge topics apply",
    DeliveryFault.UNAUTHORIZED: "the ACL for Write on its topic is missing",
}


class _RecordPublisher:
    """Publishes one record at a time."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._producer: KafkaProducer | None = None
        self._unwritable: dict[tuple[str, int], str] = {}

    async def publish(self, record: Record) -> None:
        """
        Publish *record*; return once all in-sync replicas have it.

        Raises:
            Rejected: Kafka does not accept this record, or no record for this partition.
            KafkaUnreachable: no answer; the record may be published or not.
        """
        partition = (record.topic, record.partition)
        if partition in self._unwritable:
            raise Rejected(self._unwritable[partition])
        producer = await self._started_producer()
        try:
            async with asyncio.timeout(_DELIVERY_TIMEOUT_S):
                _, acknowledged = await producer.send(*partition, [record])
                await asyncio.shield(acknowledged)
        except TimeoutError:
            raise KafkaUnreachable(
                f"no answer from Kafka for {_DELIVERY_TIMEOUT_S:.0f} s. {_SAFE_TO_REPEAT}"
            ) from None
        except Exception as error:
            await self.aclose()  # a producer with a failed delivery has a gap in its sequence numbers
            fault = producer.fault_of(error)
            if fault is DeliveryFault.RETRIABLE:
                raise KafkaUnreachable(
                    f"Kafka did not accept a record: {type(error).__name__}. {_SAFE_TO_REPEAT}"
                ) from error
            if fault in _PARTITION_FAULTS:
                self._unwritable[partition] = _PARTITION_FAULTS[fault]
            raise Rejected(
                _PARTITION_FAULTS.get(fault, f"Kafka rejects it: {type(error).__name__}")
            ) from error

    async def _started_producer(self) -> KafkaProducer:
        if self._producer is None:
            producer = KafkaProducer(self._settings)
            await producer.start()
            self._producer = producer
        return self._producer

    async def aclose(self) -> None:
        """Close the producer, if there is one."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await producer.stop(2.0)
