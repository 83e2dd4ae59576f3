"""
Dead letters, for an operator: list them, show one, publish them again (contract 7).

A replay goes straight to Kafka, so a bridge may run meanwhile or not. What it publishes depends on the letter and the credentials file
only: the same letter read by the same mapping gives the same bytes, whenever and however often. Its event has the `received_at` and
`event_id` of the receipt, so a reader that takes copies of one event id once sees nothing new in a second replay. The letter stays.

Two kinds of letters, told apart by whether they name the topic of a record:

- **A webhook** (`InvalidJson`, `InvalidEvent`): the body is parsed again, with the key names and region that its credential has *now*.
- **A record** (`Undeliverable`; the stages `timelines` and `agents`): it goes back to its topic as it was, without the headers that the
  dead letter added.

Both get the header `bridge-replays`: 1, or one more than the letter's own, when what was replayed became a dead letter again.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Final, Literal, NamedTuple, get_args

from bridge.auth.authenticate import Principal
from bridge.ops.reader import Consumed, read
from bridge.publisher.faults import Fault
from bridge.publisher.producer import KafkaProducer
from voipex.errors import BridgeError, InvalidWebhook, KafkaUnreachable
from voipex.kafka.settings import KafkaSettings
from voipex.normalize import Receipt, normalize
from voipex.partitioner import partition_of
from voipex.records import SEQ_HEADER, SPOOL_ID_HEADER, TRACEPARENT_HEADER, Record, encode
from voipex.timestamps import microseconds, rfc3339
from voipex.topics import DEAD_LETTERS, TOPIC_KINDS, topic_name
from voipex.webhook import parse

REPLAYS_HEADER: Final = "bridge-replays"
_SHORTENED_HEADER: Final = "bridge-shortened-from"
_SOURCE: Final = "__dlq.errors."
_ADDED: Final = frozenset(
    {
        "bridge-error-class",
        "bridge-error-message",
        "bridge-stage",
        "bridge-received-at",
        "bridge-pbx",
        REPLAYS_HEADER,
    }
)
"""Headers that a dead letter adds to those of its record, beside all that begin with `_SOURCE`."""

_LATEST_MS: Final = 253_402_300_799_000  # the last second that RFC 3339 can write
_AT_ONCE: Final = 20_000  # with bodies of events some 60 MB
_DELIVERY_S: Final = 30.0
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")
_SPAN_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_POSITION: Final = re.compile(r"(\d{1,9}):(\d{1,18})")


class NoSuchLetter(BridgeError):
    """Nothing lies at that position: it was never written, or its retention is over."""


class Position(NamedTuple):
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


def position_of(text: str) -> Position:
    """`3:17` -> partition 3, offset 17. Raises ValueError."""
    match = _POSITION.fullmatch(text)
    if match is None:
        raise ValueError("a position is PARTITION:OFFSET, as `dead-letters list` prints it")
    return Position(int(match[1]), int(match[2]))


def moment_of(text: str, now_us: int) -> int:
    """
    Microseconds since 1970 of `2026-03-02T08:00:00Z` (UTC when it names no offset), or of `90s`, `30m`, `2h`, `7d` before now.

    Raises:
        ValueError: it is neither.
    """
    span = _SPAN.fullmatch(text)
    if span is not None:
        return now_us - round(float(span[1]) * _SPAN_S[span[2]] * 1_000_000)
    for attempt in (text, f"{text}Z", f"{text}T00:00:00Z"):
        try:
            return microseconds(attempt)
        except ValueError:
            continue
    raise ValueError("a time is 2026-03-02T08:00:00Z, or 90s, 30m, 2h, 7d ago")


def printable(text: str, keep: Iterable[str] = ()) -> str:
    """Without what a terminal would obey: what came from outside must not move its cursor."""
    kept = frozenset(keep)
    return "".join(
        sign if sign.isprintable() or sign in kept else sign.encode("unicode_escape").decode()
        for sign in text
    )


# ---------------------------------------------------------------- a letter


@dataclass(frozen=True)
class Letter:
    """A dead letter as it lies in `<pbx>.dead-letters.v1`."""

    pbx: str
    position: Position
    timestamp_ms: int
    key: bytes | None
    body: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    size_bytes: int

    @cached_property
    def _texts(self) -> Mapping[str, str]:
        return {name: _text(value) for name, value in self.headers}  # of two of one name the later counts

    def header(self, name: str) -> str | None:
        return self._texts.get(name)

    @property
    def error_class(self) -> str:
        return self.header("bridge-error-class") or "?"

    @property
    def message(self) -> str:
        return self.header("bridge-error-message") or ""

    @property
    def stage(self) -> str:
        return self.header("bridge-stage") or "?"

    @property
    def source_topic(self) -> str | None:
        """Of the record that this was; None: it was a webhook. A webhook's own letter that Kafka refused at first is a webhook too."""
        topic = self.header(f"{_SOURCE}topic")
        return None if topic == topic_name(self.pbx, DEAD_LETTERS) else topic

    @property
    def at_us(self) -> int:
        """When it was received; a record of another stage is of the time that Kafka shows."""
        try:
            return microseconds(self.header("bridge-received-at") or "")
        except ValueError:
            return min(max(0, self.timestamp_ms), _LATEST_MS) * 1000  # others may write any number

    @property
    def at(self) -> str:
        return rfc3339(self.at_us)

    def described(self) -> dict[str, str | int | None]:
        """All but headers and body: nothing personal."""
        return {
            "pbx": self.pbx,
            "position": str(self.position),
            "received_at": self.at,
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


def letter_of(pbx: str, record: Consumed) -> Letter:
    return Letter(
        pbx,
        Position(record.partition, record.offset),
        record.timestamp_ms,
        record.key,
        record.value,
        record.headers,
        len(record.value or b""),
    )


@dataclass(frozen=True, slots=True)
class Selection:
    """Which letters are meant; None: all. `since_us <= received < until_us`."""

    since_us: int | None = None
    until_us: int | None = None
    error_class: str | None = None
    stage: str | None = None
    position: Position | None = None

    def takes(self, letter: Letter) -> bool:
        return (
            (self.since_us is None or letter.at_us >= self.since_us)
            and (self.until_us is None or letter.at_us < self.until_us)
            and (self.error_class is None or letter.error_class.casefold() == self.error_class.casefold())
            and (self.stage is None or letter.stage == self.stage)
            and (self.position is None or letter.position == self.position)
        )


# ---------------------------------------------------------------- what is published for it


Result = Literal["replayed", "unusable", "skipped", "refused"]
RESULTS: Final[tuple[Result, ...]] = get_args(Result)


class NotReplayed(BridgeError):
    """Why a letter was not published; it stays in any case."""

    result: ClassVar[Result]


class StillUnusable(NotReplayed):
    """Reading it again ends as it did before, or worse."""

    result = "unusable"


class Skipped(NotReplayed):
    """It cannot be said how to read it; something must be given or mended first."""

    result = "skipped"


class Refused(NotReplayed):
    """Kafka did not take it. `place`: nothing can be written there; else it is for the sake of one of the records."""

    result = "refused"

    def __init__(self, why: str, *, place: bool) -> None:
        super().__init__(why)
        self.place = place


PrincipalOf = Callable[[str], Principal | None]
"""Credential's name -> how to read what it sends, by the credentials file as it is now."""


def revived(
    letter: Letter, principal_of: PrincipalOf, partitions: int, instead: Principal | None = None
) -> Record:
    """
    The record to publish for *letter* (pure: the same bytes every time).

    `instead`: how to read webhooks whose own credential is gone.

    Raises:
        StillUnusable: it is no event, or the record is not whole.
        Skipped: its credential is gone, or is another PBX's now.
    """
    if letter.body is None:
        raise StillUnusable("it has no value")
    if letter.header(_SHORTENED_HEADER) is not None:
        raise StillUnusable("Kafka refused the whole of it, so only its beginning was kept")
    if letter.header("bridge-pbx") != letter.pbx:
        raise StillUnusable("its bridge-pbx is not the PBX of its topic")
    if letter.source_topic is None:
        return _read_again(letter, letter.body, principal_of, partitions, instead)
    return _sent_back(letter, letter.body, letter.source_topic, partitions)


def _read_again(
    letter: Letter, body: bytes, principal_of: PrincipalOf, partitions: int, instead: Principal | None
) -> Record:
    event_id, received_at = letter.header("bridge-event-id"), letter.header("bridge-received-at")
    if not event_id or not received_at:
        raise StillUnusable("it lacks bridge-event-id or bridge-received-at")
    try:
        received_at_us = microseconds(received_at)
    except ValueError:
        raise StillUnusable("its bridge-received-at is no time") from None
    if rfc3339(received_at_us) != received_at:
        raise StillUnusable("its bridge-received-at is not as a bridge writes it")
    caller = _reader(letter, principal_of, instead)
    receipt = Receipt(received_at_us, received_at, event_id, letter.header(TRACEPARENT_HEADER))
    try:
        event = normalize(parse(body, caller.keys), letter.pbx, receipt, caller.region)
    except InvalidWebhook as fault:
        raise StillUnusable(f"{type(fault).__name__}: {fault}") from fault
    record = encode(event, received_at_us // 1000, partitions, receipt.traceparent)
    kept = [
        (name, value)
        for name, value in letter.headers
        if name in (SPOOL_ID_HEADER, SEQ_HEADER) and value is not None
    ]
    return record._replace(headers=(*record.headers, *kept, _replays(letter)))


def _reader(letter: Letter, principal_of: PrincipalOf, instead: Principal | None) -> Principal:
    name = letter.header("bridge-credential") or ""
    own = principal_of(name)
    if own is None and instead is None:
        raise Skipped(
            f"its credential {name!r} is not in the credentials file any more; --credential NAME reads it by another one's key names"
        )
    caller = own or instead
    assert caller is not None  # noqa: S101 - one of them is there
    if caller.pbx != letter.pbx:
        raise Skipped(f"credential {caller.name!r} is of PBX {caller.pbx!r}, not {letter.pbx!r}")
    return caller


def _sent_back(letter: Letter, value: bytes, topic: str, partitions: int) -> Record:
    if topic not in {topic_name(letter.pbx, kind) for kind in TOPIC_KINDS}:
        raise StillUnusable("the topic that it names is none of its PBX")
    headers = tuple(
        (name, value if value is not None else b"")
        for name, value in letter.headers
        if name not in _ADDED and not name.startswith(_SOURCE)
    )
    told = letter.header(f"{_SOURCE}partition") or ""
    # A key alone tells the partition; a record of another's without one goes back to where it lay.
    partition = int(told) if told.isdecimal() else partition_of(letter.key or b"", partitions)
    if partition >= partitions:
        raise StillUnusable("the partition that it names is not there")
    return Record(topic, partition, letter.key, value, (*headers, _replays(letter)), letter.timestamp_ms)


def _replays(letter: Letter) -> tuple[str, bytes]:
    before = letter.header(REPLAYS_HEADER) or ""
    return REPLAYS_HEADER, b"%d" % ((int(before) if before.isdecimal() else 0) + 1)


# ---------------------------------------------------------------- over Kafka


async def letters(settings: KafkaSettings, pbx: str, selection: Selection) -> AsyncGenerator[Letter, None]:
    """
    Those of one PBX that are there now and selected; each partition in order.

    Raises:
        TopicMismatch: no such topic.
        NoSuchLetter: one position was selected, of a partition that is not there.
        KafkaUnreachable: with the cause.
    """
    position = selection.position

    def partition(partitions: int) -> int:
        assert position is not None  # noqa: S101 - only asked then
        if position.partition >= partitions:
            raise NoSuchLetter(f"no partition {position.partition}: the topic has {partitions}")
        return position.partition

    records = read(
        settings,
        topic_name(pbx, DEAD_LETTERS),
        partition_of=None if position is None else partition,
        from_offset=0 if position is None else position.offset,
    )
    try:
        async for record in records:
            letter = letter_of(pbx, record)
            if selection.takes(letter):
                yield letter
            if position is not None:
                return
    finally:
        await records.aclose()


async def listed(settings: KafkaSettings, pbxs: Iterable[str], selection: Selection) -> list[Letter]:
    """The selected letters of all *pbxs* without their bodies, oldest first. Raises as `letters`."""
    found = [replace(letter, body=None) for pbx in pbxs async for letter in letters(settings, pbx, selection)]
    return sorted(found, key=lambda letter: (letter.at_us, letter.pbx, letter.position))


async def shown(settings: KafkaSettings, pbx: str, position: Position) -> Letter:
    """One letter, with its body. Raises as `letters`; NoSuchLetter when none lies there."""
    async with contextlib.aclosing(letters(settings, pbx, Selection(position=position))) as found:
        async for letter in found:
            return letter
    raise NoSuchLetter(
        f"no dead letter at {position} of {topic_name(pbx, DEAD_LETTERS)}: never written, or its retention is over"
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one letter."""

    letter: Letter
    result: Result
    topic: str | None = None
    why: str | None = None


async def replay(
    settings: KafkaSettings,
    pbxs: Iterable[str],
    selection: Selection,
    principal_of: PrincipalOf,
    partitions: int,
    *,
    instead: Principal | None = None,
    dry_run: bool = False,
) -> AsyncGenerator[Outcome, None]:
    """
    Publish the selected letters again and yield what became of each; with `dry_run` what would.

    (1) Read some, and take them in the order of their receipt: of a call its first event comes first. Across more than `_AT_ONCE`
    letters of a PBX that order is not kept; folds do not need it. (2) Make their records. (3) Publish these, and wait until all in-sync
    replicas have them. (4) Say so; go on.

    Raises:
        KafkaUnreachable: no answer; what was yielded before is done, of the rest some may be. Replaying all again does no harm.
        TopicMismatch: no such topic.
    """
    async with contextlib.aclosing(_Line(settings)) as line:
        for pbx in pbxs:
            async with contextlib.aclosing(_chunks(letters(settings, pbx, selection))) as chunks:
                async for chunk in chunks:  # 1
                    chunk.sort(key=lambda letter: (letter.at_us, letter.position))
                    made: dict[int, Record] = {}
                    why: dict[int, NotReplayed] = {}
                    for number, letter in enumerate(chunk):
                        try:
                            made[number] = revived(letter, principal_of, partitions, instead)  # 2
                        except (StillUnusable, Skipped) as fault:
                            why[number] = fault
                    if not dry_run:
                        why |= await line.publish(made)  # 3
                    for number, letter in enumerate(chunk):  # 4
                        bodiless = replace(letter, body=None)
                        topic = made[number].topic if number in made else None
                        if number in why:
                            yield Outcome(bodiless, why[number].result, topic, str(why[number]))
                        else:
                            yield Outcome(bodiless, "replayed", topic)


async def _chunks(found: AsyncGenerator[Letter, None]) -> AsyncGenerator[list[Letter], None]:
    some: list[Letter] = []
    try:
        async for letter in found:
            some.append(letter)
            if len(some) == _AT_ONCE:
                yield some
                some = []
    finally:
        await found.aclose()
    if some:
        yield some


_AGAIN: Final = "Replay again: that does no harm"
_OF_PLACE: Final[Mapping[Fault, str]] = {
    "topic": "its topic or partition is not there: voipex-bridge topics apply",
    "rights": "Kafka refuses us the right to write there",
}


class _Line:
    """A producer, and another one after each failure."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._producer: KafkaProducer | None = None

    async def publish(self, records: Mapping[int, Record]) -> dict[int, NotReplayed]:
        """Publish all that Kafka takes, in order; return why not, of those that it refuses. Raises KafkaUnreachable."""
        places: dict[tuple[str, int], list[int]] = {}
        for number, record in records.items():
            places.setdefault((record.topic, record.partition), []).append(number)
        refusals: dict[int, NotReplayed] = {}
        for (topic, partition), numbers in places.items():
            waiting, most = numbers, len(numbers)
            while waiting:
                try:
                    sent = await self._send(topic, partition, [records[number] for number in waiting[:most]])
                except Refused as refused:
                    if refused.place:
                        refusals.update(dict.fromkeys(waiting, refused))
                        waiting = []
                    elif most > 1:
                        most = min(most, len(waiting)) // 2 or 1  # one of them is to blame
                    else:
                        refusals[waiting[0]] = refused
                        waiting = waiting[1:]
                else:
                    waiting = waiting[sent:]
                    most *= 2
        return refusals

    async def _send(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        """How many of them are in Kafka now, at least one."""
        if self._producer is None:
            producer = KafkaProducer(self._settings)
            await producer.start()
            self._producer = producer
        try:
            async with asyncio.timeout(_DELIVERY_S):
                sent, future = await self._producer.send(topic, partition, records)
                await asyncio.shield(future)
        except TimeoutError:
            raise KafkaUnreachable(f"no answer for {_DELIVERY_S:.0f} s. {_AGAIN}") from None
        except Exception as error:
            fault = self._producer.fault_of(error)
            await self.aclose()  # its sequence numbers may have a gap
            if fault == "retry":
                raise KafkaUnreachable(f"Kafka did not take it: {type(error).__name__}. {_AGAIN}") from error
            if fault in _OF_PLACE:
                raise Refused(_OF_PLACE[fault], place=True) from error
            raise Refused(f"Kafka refuses it: {type(error).__name__}", place=False) from error
        return sent

    async def aclose(self) -> None:
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await producer.stop(2.0)
